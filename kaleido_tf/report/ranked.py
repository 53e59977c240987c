"""The ranked pictures and texts of some queries, as HTML."""

from kaleido_tf.report import markup

_WHAT = {"tir": "picture", "itr": "text"}


def ranked(retrieval, thumbnails, label):
    """Both directions' queries with what the model ranks first.

    Args:
      retrieval: dict of `task_inputs.load_retrieval`.
      thumbnails: `pictures.Thumbnails`.
      label: of these results among the arms of the retrieval section.
    """
    tops = retrieval["top_ranked"]
    size = retrieval["sampled"]["tir"]["lists"][0]["num_candidates"]
    return (
        "<h2>Text queries and the top pictures</h2>"
        f'<p class="note">The first queries of the first list, {size} candidates each, '
        "not chosen by hand; ranked by: "
        f"{markup.text(label)}. Green: the right picture, at the end of the row where "
        "it is not among the first. Under each: rank and score.</p>"
        + "".join(_text_query(row, thumbnails) for row in tops["tir"])
        + "<h2>Image queries and the top texts</h2>"
        + "".join(_image_query(row, thumbnails) for row in tops["itr"])
    )


def _rank_line(row, direction):
    kind = "rank hit" if row["rank"] == 1 else "rank"
    return f'<p class="{kind}">the right {_WHAT[direction]} has rank {row["rank"]}</p>'


def _text_query(row, thumbnails):
    tiles = []
    for place, item in enumerate(row["ranked"], start=1):
        caption = f"{place} · {item['score']:.3f}"
        tiles.append(_tile(item, caption, "right" * item["right"], thumbnails))
    if not any(item["right"] for item in row["ranked"]):
        # A query names its right answer: both are the same record.
        right = {"image_id": row["query"], "text": row["text"]}
        tiles.append(_tile(right, f"{row['rank']}", "right beyond", thumbnails))
    return (
        f'<div class="card"><p class="query">“{markup.text(row["text"])}”</p>'
        f'{_rank_line(row, "tir")}<div class="ranked">{"".join(tiles)}</div></div>'
    )


def _tile(item, caption, kind, thumbnails):
    picture = markup.image(thumbnails.jpeg(item["image_id"]), "jpeg", item["text"])
    attribute = f' class="{kind}"' if kind else ""
    return f"<figure{attribute}>{picture}{markup.text(caption)}</figure>"


def _image_query(row, thumbnails):
    picture = markup.image(thumbnails.jpeg(row["query"]), "jpeg", row["text"])
    lines = [_line(item["text"], item["right"]) for item in row["ranked"]]
    if not any(item["right"] for item in row["ranked"]):
        lines.append(_line(row["text"], True, row["rank"]))
    return (
        f'<div class="card answer">{picture}<div>{_rank_line(row, "itr")}'
        f"<ol>{''.join(lines)}</ol></div></div>"
    )


def _line(words, right, place=None):
    attributes = ' class="right"' * right
    if place is not None:
        attributes += f' value="{int(place)}"'
    return f"<li{attributes}>{markup.text(words)}</li>"
