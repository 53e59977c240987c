"""Pieces of the search page as HTML: cards, facts of a picture, a product's panel."""

import html
import json
import time

import numpy as np

from kaleido_tf.search import page_pictures as pictures
from kaleido_tf.tasks.caption_text import readable

_TITLE_LENGTH = 90


def escaped(text):
    """Text for HTML; braces and dollars too, which mean something to gr.HTML."""
    text = html.escape(str(text))
    return text.replace("{", "&#123;").replace("$", "&#36;")


def title_of(text):
    """The first sentence of a text, cut where it is long: str."""
    first = text.split(". ")[0].strip()
    if len(first) <= _TITLE_LENGTH:
        return first.rstrip(".")
    return first[: _TITLE_LENGTH - 1].rsplit(" ", 1)[0] + " ..."


def header(num_products, num_images):
    return (
        '<div class="k-head"><h1>Catalogue search</h1>'
        f"<p>{num_products:,} products, {num_images:,} pictures. A text or a picture "
        "finds products by what can be seen on them.</p></div>"
    )


def alert(message):
    return f'<p class="k-alert" role="alert">{escaped(message)}</p>'


def chips(texts):
    """Example queries as buttons."""
    buttons = "".join(
        f'<button type="button" class="k-chip" data-query="{escaped(text)}">'
        f"{escaped(text)}</button>"
        for text in texts
    )
    return f'<div class="k-chips"><span>Try</span>{buttons}</div>'


def strip(hits):
    """Pictures of the catalogue to search with: (image_id, path, text) each."""
    buttons = "".join(
        f'<button type="button" data-image="{escaped(image_id)}" '
        f'aria-label="Search with the picture of {escaped(title_of(text))}">'
        f'<img src="{pictures.thumbnail(path, 120)}" alt=""></button>'
        for image_id, path, text in hits
    )
    return (
        '<p class="k-strip-title">or one of the catalogue\'s</p>'
        f'<div class="k-strip">{buttons}</div>'
    )


def _meta(hit):
    parts = [part for part in (hit.category, hit.subcategory) if part]
    return " · ".join(dict.fromkeys(parts))


def card(hit, best):
    """One result as a button.

    Args:
      hit: `Hit`.
      best: the answer's highest score, to which its bar is relative.
    """
    name, digits = ("alike", 2) if hit.probability is None else ("score", 1)
    shown = f"{name} <b>{hit.score:.{digits}f}</b>"
    share = min(max(hit.score, 0.0) / max(best, 1e-6), 1.0)
    label = f"{title_of(hit.text)}. {_meta(hit)}. Show which words and patches match"
    return (
        f'<li><button type="button" class="k-card" data-image="{escaped(hit.image_id)}"'
        f' aria-label="{escaped(label)}">'
        f'<span class="k-shot"><img src="{pictures.thumbnail(hit.image_path)}" alt="">'
        f'</span><span class="k-text"><span class="k-title">'
        f"{escaped(title_of(hit.text))}</span>"
        f'<span class="k-meta">{escaped(_meta(hit))}</span>'
        f'<span class="k-score">{shown}<span class="k-bar"><i style="width:'
        f'{100 * share:.0f}%"></i></span></span></span></button></li>'
    )


def grid(title, note, hits):
    """A section of cards."""
    if not hits:
        return ""
    cards = "".join(card(hit, hits[0].score) for hit in hits)
    return (
        f'<h2 class="k-section">{escaped(title)}</h2>'
        f'<p class="k-note">{escaped(note)}</p><ul class="k-grid">{cards}</ul>'
    )


def results_of_text(query, found):
    """Answer to a query by text."""
    seconds = sum(found.seconds.values())
    note = (
        f"{found.num_candidates} pictures nearest by vectors, ranked anew by the "
        f"matching head, in {1000 * seconds:.0f} ms. Choose one to see why."
    )
    return grid(f"Products for “{title_of(query)}”", note, found.hits)


def results_of_picture(found):
    """Answer to a query by picture."""
    seconds = sum(found.seconds.values())
    note = (
        f"{found.num_candidates} texts nearest by vectors, ranked anew by the matching "
        f"head, in {1000 * seconds:.0f} ms."
    )
    return grid("Products whose text fits the picture", note, found.hits) + grid(
        "Products that look alike",
        "Nearest pictures by their vectors alone.",
        found.look_alikes,
    )


def _ranking(title, rows, count=3):
    items = "".join(
        f"<li><span>{escaped(label)}</span><span>{100 * share:.0f} %</span>"
        f'<span class="k-bar"><i style="width:{100 * share:.0f}%"></i></span></li>'
        for label, share in rows[:count]
    )
    return f"<div><h3>{title}</h3><ol>{items}</ol></div>"


TASKS = {"category": "Category", "subcategory": "Sub-category", "captions": "Caption"}


def facts(image, found):
    """What the fine-tuned heads say about a picture.

    Args:
      image: data URI of the picture.
      found: dict of `SearchEngine.describe`.
    """
    parts = [f'<img src="{image}" alt="The picture that was asked with">']
    for task, title in TASKS.items():
        if task == "captions" and task in found:
            lines = "".join(
                f'<p class="k-caption">{escaped(readable(caption))}</p>'
                for caption, _ in found[task][:3]
            )
            parts.append(f"<div><h3>{title}</h3>{lines}</div>")
        elif task in found:
            parts.append(_ranking(title, found[task]))
    missing = [title.lower() for task, title in TASKS.items() if task not in found]
    if missing:
        parts.append(
            f'<div><h3>Left out</h3><p class="k-note">The export has no '
            f"{' and no '.join(missing)}: export a fine-tuned checkpoint with it."
            "</p></div>"
        )
    return (
        f'<section class="k-facts" aria-label="The picture">{"".join(parts)}</section>'
    )


def _heat(explanation, region):
    """What the script draws, as JSON; places in [0, 1] of the shown region."""
    top, left, bottom, right = region
    start = np.array([top, left, top, left])
    scale = np.tile([bottom - top, right - left], 2)
    rectangles = (explanation.rectangles - start) / scale
    box = (explanation.box - start) / scale
    tables = {
        name: [[round(float(v), 3) for v in row] for row in table]
        for name, table in (
            ("attention", explanation.attention),
            ("contrast", explanation.contrast),
        )
    }
    values = {
        **tables,
        "rects": [[round(float(v), 4) for v in r] for r in rectangles],
        "grids": list(explanation.levels),
        "box": [round(float(v), 4) for v in box],
        "words": list(explanation.words),
    }
    return escaped(json.dumps(values, ensure_ascii=True))


def _facts_of(hit):
    """The parts of a score as a list of terms."""
    rows = []
    if hit is not None and hit.probability is not None:
        share = min(hit.probability, 0.999)
        sign = "over " if hit.probability > share else ""
        shown = f"{hit.score:.2f}, as a probability {sign}{100 * share:.1f} %"
        rows.append(("Score", shown))
        if hit.margin is not None:
            rows.append(("Matching head", f"{hit.margin:.2f} log-odds"))
    if hit is not None and hit.cosine is not None:
        rows.append(("Cosine", f"{hit.cosine:.3f} of the vectors before fusion"))
    return rows


def panel(item, picture, explanation, product_picture=None, hit=None):
    """The panel of one product: words and patches.

    Args:
      item: the product's `Item`.
      picture: path or bytes of the picture that is drawn on.
      explanation: `words.Explanation` of a text and that picture.
      product_picture: path of the product's picture, where the other is a visitor's;
        the words are then the product's, else the visitor's.
      hit: its `Hit`, or None.
    """
    region = pictures.region_around(explanation.box)
    image = pictures.shown(picture, 560, region, enlarged=True)
    buttons = "".join(
        f'<button type="button" class="k-word" data-word="{number}" '
        f'aria-pressed="false">{escaped(word)}</button>'
        for number, word in enumerate(explanation.words)
    )
    whose, drawn, mini = "your", "The product's picture", ""
    if product_picture is not None:
        whose, drawn = "the product's", "Your picture"
        mini = f'<img class="k-mini" src="{pictures.thumbnail(product_picture, 120)}" '
        mini += 'alt="The product\'s picture">'
    rows = [*_facts_of(hit), ("Text", item.text), ("Product", item.product_id)]
    terms = "".join(f"<dt>{escaped(k)}</dt><dd>{escaped(v)}</dd>" for k, v in rows)
    return (
        '<section class="k-detail" role="dialog" aria-labelledby="k-detail-title" '
        f'tabindex="-1" data-opened="{time.time_ns()}" '  # opens again where closed
        f'data-heat="{_heat(explanation, region)}"><header>{mini}<div>'
        f'<h2 id="k-detail-title">{escaped(title_of(item.text))}</h2>'
        f"<p>{escaped(_meta(item))}</p></div>"
        '<button type="button" class="k-close" aria-label="Close">×</button></header>'
        '<div class="k-body"><div class="k-frame">'
        f'<img src="{image}" alt="{drawn}">'
        '<canvas width="60" height="60" role="img" aria-label="Heat of the chosen '
        'word"></canvas><div class="k-box"></div></div>'
        f'<p class="k-hint">Choose one of {whose} words to see the patches it answered '
        "to, or a place of the picture to see its words. Dashed: the locked box.</p>"
        f'<div class="k-words" role="group" aria-label="Words">{buttons}</div>'
        f'<p class="k-live" aria-live="polite"></p><dl>{terms}</dl>'
        f'<button type="button" class="k-like" data-image="{escaped(item.image_id)}">'
        "Search with this product's picture</button></div></section>"
    )
