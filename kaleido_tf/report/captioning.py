"""The captioning section of a report: figures, and captions beside their pictures."""

from kaleido_tf.report import markup
from kaleido_tf.tasks import captioning_table


def captioning(results, baseline, thumbnails):
    """Figures beside baseline and published ones; generated and reference texts.

    Args:
      results: dict of `task_inputs.load_captioning`.
      baseline: the same of another way to decode, or None.
      thumbnails: `pictures.Thumbnails`.
    """
    arms = [results] + ([baseline] if baseline else [])
    lines = captioning_table.reference_lines(results)
    for arm in arms:
        lines += captioning_table.remarks(arm)
    notes = "".join(f'<p class="note">{markup.text(line)}</p>' for line in lines)
    cards = [_example(row, thumbnails) for row in results["examples"]]
    return (
        f'<h2>Captioning</h2><p class="note">{markup.text(_note(results))}</p>'
        f'<div class="card">{_figures(arms)}{notes}</div>'
        f"{_attributes(arms)}"
        "<h3>Captions beside their pictures</h3>"
        '<p class="note">The first products by id, not chosen by hand.'
        f"{_colours(results)}</p>{''.join(cards)}"
    )


def _note(results):
    return (
        f"A text from the image alone, {results['split']} split: "
        f"{results['num_products']:,} products, one image each, the first by id. "
        f"Checkpoint {results.get('checkpoint')}."
    )


def _title(arm):
    return f"{captioning_table.decoding_title(arm)}; objective: {arm.get('trained')}"


def _figures(arms):
    rows = [
        ("" if place else "ours", (_title(arm), *_cells(arm)))
        for place, arm in enumerate(arms)
    ]
    if published := arms[0].get("published"):
        title = f"theirs, on another data set: {published['source']}"
        rows.append(("faint", (title, *_cells(published))))
    head = ("", *captioning_table.TITLES.values())
    return markup.table(head, rows)


def _cells(figures):
    return [
        captioning_table.figure(figures.get(key)) for key in captioning_table.TITLES
    ]


def _attributes(arms):
    """The card of the figures against the drawn truth, where there is one."""
    known = [arm for arm in arms if arm["attributes"]]
    if not known:
        return ""
    first = known[0]["attributes"]
    rows = [
        ("ours" if arm is arms[0] else "", (_title(arm), *_shares(arm["attributes"])))
        for arm in known
    ]
    rows.append(("", ("the references themselves", *_shares(first["references"]))))
    head = ("", "precision", "recall", "garment", "unread")
    note = (
        "Precision: of the attribute values that the captions name, the share that is "
        "true of the product. Recall: of the attributes seen in the picture, the share "
        "named with their value. Garment: products whose kind is named. Unread: "
        "sentences that are none of the catalogue’s."
    )
    return (
        '<div class="card"><h3>Against the drawn truth</h3>'
        f'{markup.table(head, rows)}<p class="note">{note}</p>'
        f"{markup.details('Every attribute', _each(first))}</div>"
    )


def _shares(figures):
    values = (
        figures["precision"],
        figures["recall"],
        figures["garment"]["recall"],
        captioning_table.unread(figures),
    )
    return [captioning_table.share(value) for value in values]


def _each(figures):
    rows = [
        (
            "",
            (
                name,
                captioning_table.share(row["precision"]),
                captioning_table.share(row["recall"]),
                row["num_named"],
                row["num_visible"],
            ),
        )
        for name, row in figures["attributes"].items()
    ]
    return markup.table(("", "precision", "recall", "named", "seen"), rows)


def _colours(results):
    if not results["attributes"]:
        return ""
    return " Under a caption: what it says of the product, wrong ones struck through."


def _example(row, thumbnails):
    picture = markup.image(thumbnails.jpeg(row["image_id"]), "jpeg", row["caption"])
    caption = markup.text(row["caption"]) or "<em>(empty)</em>"
    references = "".join(
        f'<p class="reference">{markup.text(text)}</p>' for text in row["references"]
    )
    claims = "".join(_claim(claim) for claim in row["claims"] or ())
    return (
        f'<div class="card answer">{picture}<div><p class="query">{caption}</p>'
        f'{f"<p>{claims}</p>" if claims else ""}<p class="rank">reference</p>'
        f"{references}</div></div>"
    )


def _claim(claim):
    kind = "claim" if claim["right"] else "claim false"
    words = f"{claim['attribute'].replace('_', ' ')}: {claim['value']}"
    return f'<span class="{kind}">{markup.text(words)}</span> '
