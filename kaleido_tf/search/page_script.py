"""What runs in the browser: clicks on cards, and the heat of a word on a picture.

Each script is a gr.HTML's `js_on_load`: it gets `element`, `trigger` and `watch`, and
stays while the HTML inside is replaced, so clicks are caught at the element.
"""

# Anything with data-image or data-query sends it to Python.
PICK = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('[data-image],[data-query]');
  if (!button) return;
  trigger('select', {image_id: button.dataset.image || '',
                     query: button.dataset.query || ''});
});
"""

# The panel of one product. data-heat holds {attention, contrast [W][P], rects [P][4] of
# the picture, grids [P], box [4], words [W]}, see words.Explanation; drawn is the mean
# over the levels above 1 of what a place's patches have.
DETAIL = """
const SIDE = 60;  // divides by every level's grid
let data = null, heats = null, opener = null;

function place(node, [y1, x1, y2, x2]) {
  Object.assign(node.style, {left: 100 * x1 + '%', top: 100 * y1 + '%',
    width: 100 * (x2 - x1) + '%', height: 100 * (y2 - y1) + '%'});
}
function heatOf(row) {
  const heat = new Float32Array(SIDE * SIDE), [top, left, bottom, right] = data.box;
  const levels = new Set(data.grids.filter(g => g > 1)).size || 1;
  data.rects.forEach(([y1, x1, y2, x2], patch) => {
    if (data.grids[patch] === 1) return;
    const at = (value, low, high) => Math.round(SIDE * (value - low) / (high - low));
    for (let y = at(y1, top, bottom); y < at(y2, top, bottom); y++)
      for (let x = at(x1, left, right); x < at(x2, left, right); x++)
        heat[y * SIDE + x] += row[patch] / levels;
  });
  return heat;
}
function mean(rows) {
  return rows[0].map((_, i) =>
    rows.reduce((sum, row) => sum + row[i], 0) / rows.length);
}
function draw(heat) {
  // What gets little lies in the dark: that shows on a picture of any colour.
  const context = element.querySelector('canvas').getContext('2d');
  const low = Math.min(...heat), high = Math.max(...heat);
  const image = context.createImageData(SIDE, SIDE);
  heat.forEach((value, i) => {
    const share = high > low ? (value - low) / (high - low) : 1;
    image.data.set([15, 23, 42, 190 * Math.pow(1 - share, 1.2)], 4 * i);
  });
  context.putImageData(image, 0, 0);
}
function say(text) { element.querySelector('.k-live').textContent = text; }
function tint(values) {
  const high = Math.max(...values, 1e-6), low = Math.min(...values);
  element.querySelectorAll('.k-word').forEach((button, i) => {
    const share = high > low ? (values[i] - low) / (high - low) : 0;
    button.style.setProperty('--k-heat', (0.08 + 0.5 * share).toFixed(3));
  });
}
function peaks(list) {
  element.querySelectorAll('.k-peak').forEach(node => node.remove());
  const frame = element.querySelector('.k-frame');
  for (const patch of list) {
    const node = document.createElement('div');
    node.className = 'k-peak';
    place(node, data.rects[patch]);
    frame.appendChild(node);
  }
}
function press(word) {
  element.querySelectorAll('.k-word').forEach((button, i) =>
    button.setAttribute('aria-pressed', String(i === word)));
}
function all() {
  press(-1); peaks([]);
  draw(heatOf(mean(data.attention)));
  tint(data.contrast.map(row => Math.max(...row.filter((_, p) => data.grids[p] > 1))));
  say('All words together. A darker word has a place of the picture to itself.');
}
function show(word) {
  press(word);
  draw(heats[word]);
  const row = data.contrast[word];
  const order = row.map((v, p) => [v, p]).filter(([, p]) => data.grids[p] > 1)
    .sort((a, b) => b[0] - a[0]).slice(0, 2);
  peaks(order.map(([, p]) => p));
  const first = data.grids.reduce((at, g, p) => (at[g] ??= p, at), {});
  const quoted = '\\u201c' + data.words[word] + '\\u201d';
  say(quoted + ' answered most to ' + order.map(([v, p]) => {
    const grid = data.grids[p], number = p - first[grid];
    return `row ${Math.floor(number / grid) + 1}, column ${number % grid + 1} of ` +
      `${grid} \\u00d7 ${grid} (${v.toFixed(1)} times the words\\u2019 mean)`;
  }).join(' and ') + '.');
}
function ask(event) {
  const box = event.currentTarget.getBoundingClientRect();
  const y = (event.clientY - box.top) / box.height;
  const x = (event.clientX - box.left) / box.width;
  const inside = data.rects.map(([y1, x1, y2, x2], p) =>
    data.grids[p] > 1 && y >= y1 && y < y2 && x >= x1 && x < x2);
  if (!inside.some(Boolean)) { all(); return; }
  const values = data.contrast.map(row =>
    row.reduce((sum, v, p) => sum + (inside[p] ? v : 0), 0) /
      inside.filter(Boolean).length);
  const best = values.indexOf(Math.max(...values));
  press(-1); tint(values);
  peaks([inside.map((v, p) => v ? p : -1).filter(p => p >= 0).pop()]);
  say('This place answered most to \\u201c' + data.words[best] + '\\u201d (' +
    values[best].toFixed(1) + ' times the words\\u2019 mean).');
}
function close() {
  const panel = element.querySelector('.k-detail');
  if (!panel) return;
  panel.remove();
  if (opener && opener.isConnected) opener.focus();
}
function open() {
  const panel = element.querySelector('.k-detail');
  if (!panel) return;
  panel.focus();
  if (!panel.dataset.heat) return;
  data = JSON.parse(panel.dataset.heat);
  heats = data.contrast.map(heatOf);
  place(element.querySelector('canvas'), data.box);
  place(element.querySelector('.k-box'), data.box);
  element.querySelector('.k-frame').addEventListener('click', ask);
  if (data.words.length) all();
}
element.addEventListener('click', (event) => {
  const word = event.target.closest('.k-word');
  if (word) {
    const pressed = word.getAttribute('aria-pressed') === 'true';
    return pressed ? all() : show(Number(word.dataset.word));
  }
  if (event.target.closest('.k-close')) return close();
  const like = event.target.closest('.k-like');
  if (like) {
    const image_id = like.dataset.image;
    close();
    trigger('like', {image_id});
  }
});
document.addEventListener('keydown', (event) => {
  if (event.key === 'Escape') close();
});
document.addEventListener('click', (event) => {
  const card = event.target.closest('.k-card');
  if (card) opener = card;
}, true);
watch('value', open);
"""
