"""Pieces of HTML: escaping, inlined pictures, tables; and the page around them."""

import base64
import html

_STYLE = """
:root { color-scheme: light dark; --ground: #f4f6f8; --card: #ffffff; --ink: #1f2933;
  --faint: #5c6b7a; --line: #dfe5eb; --accent: #1d5fd1; --right: #16944a;
  --false: #c2382f;
  --warn-ground: #fff4e0; --warn: #8a5200; }
@media (prefers-color-scheme: dark) { :root { --ground: #12171d; --card: #1b222b;
  --ink: #dde4ec; --faint: #93a1b1; --line: #303b49; --accent: #79a8ff;
  --right: #3ecf7d; --false: #ff8a80; --warn-ground: #3a2c12; --warn: #f0c27a; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1100px; margin: 0 auto; padding: 20px 16px 60px; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 12px 0 4px; }
h2 { font-size: 1.25rem; margin: 36px 0 10px; }
h3 { font-size: 1rem; margin: 18px 0 6px; }
p { margin: 6px 0 12px; }
.note { color: var(--faint); font-size: .9rem; }
.warn { background: var(--warn-ground); color: var(--warn); padding: 8px 12px;
  border-radius: 8px; font-size: .92rem; }
.card > h3:first-child { margin-top: 0; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 12px;
  padding: 14px 16px; margin: 12px 0; }
.tiles, .panels, .facts { display: grid; gap: 12px; }
.tiles { grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); }
.tiles .card, .panels .card { margin: 0; }
.tile b { display: block; font-size: 1.55rem; line-height: 1.25; }
.tile span { color: var(--faint); font-size: .85rem; display: block; }
.panels { grid-template-columns: repeat(auto-fill, minmax(min(100%, 300px), 1fr)); }
.panels.wide, .facts {
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); }
figure { margin: 0; }
figcaption { font-weight: 600; font-size: .95rem; margin-bottom: 4px; }
figure img { width: 100%; height: auto; display: block; }
.square img { max-width: 760px; margin: 0 auto; }
.facts .card { margin: 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 3px 14px; margin: 0; }
dt { color: var(--faint); }
dd { margin: 0; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 5px 8px; text-align: right; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0;
  white-space: normal; }
thead th { color: var(--faint); font-weight: 600; font-size: .88rem; }
tr.group th { padding-top: 14px; border-bottom: 0; }
tr.ours td { font-weight: 650; }
tr.faint td { color: var(--faint); }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: var(--ground);
  border-radius: 8px; padding: 10px 12px; font-size: .84rem; margin: 6px 0; }
code { font-family: ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
summary { cursor: pointer; color: var(--accent); padding: 4px 0; }
.query { font-weight: 550; margin: 0 0 2px; overflow-wrap: anywhere; }
.rank { font-size: .88rem; color: var(--faint); margin: 0 0 8px; }
.hit { color: var(--right); font-weight: 600; }
.ranked { display: grid; gap: 8px;
  grid-template-columns: repeat(auto-fill, minmax(92px, 1fr)); }
.ranked figure { font-size: .78rem; color: var(--faint); text-align: center; }
.ranked img { border-radius: 8px; border: 1px solid var(--line); background: #fff; }
.ranked .right img { border: 4px solid var(--right); }
.ranked .right { color: var(--right); font-weight: 600; }
.ranked .beyond img { border-style: dashed; }
.answer { display: grid; grid-template-columns: 120px 1fr; gap: 14px; }
.answer > img { width: 100%; border-radius: 8px; border: 1px solid var(--line);
  background: #fff; }
.answer ol { margin: 0; padding-left: 1.5em; }
.answer li { overflow-wrap: anywhere; margin-bottom: 2px; }
.answer li.right { color: var(--right); font-weight: 600; }
.claim { display: inline-block; border: 1px solid var(--right); border-radius: 10px;
  color: var(--right); font-size: .78rem; padding: 0 7px; margin: 0 2px 4px 0; }
.claim.false { border-color: var(--false); color: var(--false);
  text-decoration: line-through; }
.reference { color: var(--faint); font-size: .92rem; margin: 0 0 4px;
  overflow-wrap: anywhere; }
.answer .rank { margin: 6px 0 0; }
@media (max-width: 480px) {
  th, td { padding: 4px 5px; font-size: .86rem; white-space: normal; }
  .answer { grid-template-columns: 84px 1fr; } h1 { font-size: 1.4rem; }
  dl { gap: 3px 10px; font-size: .92rem; } }
@media (min-width: 900px) { .ranked { grid-template-columns: repeat(9, 1fr); } }
"""


def text(value):
    """A value as text that can stand anywhere in HTML, quoted attributes included."""
    return html.escape(str(value), quote=True)


def data_uri(content, kind):
    """Bytes as a data: address of image/KIND."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def image(content, kind, label):
    """An <img> that holds its picture itself."""
    return f'<img src="{data_uri(content, kind)}" alt="{text(label)}">'


def themed_image(light, dark, label):
    """A PNG chart in the colours of the reader's light or dark page."""
    return (
        '<picture><source media="(prefers-color-scheme: dark)" '
        f'srcset="{data_uri(dark, "png")}">{image(light, "png", label)}</picture>'
    )


def figure(content, caption):
    """A card with a caption above ready HTML."""
    return (
        f'<figure class="card"><figcaption>{text(caption)}</figcaption>'
        f"{content}</figure>"
    )


def facts(title, pairs):
    """A card with a list of (name, value); values are escaped, None left out."""
    rows = "".join(
        f"<dt>{text(name)}</dt><dd>{text(value)}</dd>"
        for name, value in pairs
        if value is not None
    )
    return f'<div class="card"><h3>{text(title)}</h3><dl>{rows}</dl></div>'


def table(head, rows):
    """A table that scrolls sideways on its own where the screen is too narrow.

    Args:
      head: column names.
      rows: list of (class or "", cells); a row of class "group" is a heading over all
        columns. Cells are escaped.
    """
    columns = "".join(f"<th>{text(name)}</th>" for name in head)
    lines = []
    for kind, cells in rows:
        attribute = f' class="{kind}"' if kind else ""
        if kind == "group":
            inner = f'<th colspan="{len(head)}">{text(cells[0])}</th>'
        else:
            inner = "".join(f"<td>{text(cell)}</td>" for cell in cells)
        lines.append(f"<tr{attribute}>{inner}</tr>")
    return (
        f'<div class="scroll"><table><thead><tr>{columns}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def details(summary, content):
    """Something folded away, opened without a script; `content` is ready HTML."""
    return f"<details><summary>{text(summary)}</summary>{content}</details>"


def page(title, body):
    """The whole document: nothing in it points outside."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{text(title)}</title><style>{_STYLE}</style></head>\n"
        f"<body><main>\n{body}\n</main></body></html>\n"
    )
