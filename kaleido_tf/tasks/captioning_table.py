"""The captioning figures as lines of text, and the published ones beside them."""

# The paper does not tell the text field, its truncation or the tokenizer.
PUBLISHED = {
    "source": "Kaleido-BERT, CVPR 2021, on Fashion-Gen",
    "bleu_4": 5.7,
    "meteor": 12.8,
    "rouge_l": 32.9,
    "cider": 32.6,
}
_WIDTH = 50  # of a row's title
TITLES = {
    **{f"bleu_{n}": f"BLEU-{n}" for n in range(1, 5)},
    "meteor": "METEOR",
    "rouge_l": "ROUGE-L",
    "cider": "CIDEr",
}


def decoding_title(content):
    """How the captions were made: str."""
    how = content["decoding"]
    if how == "beam":
        how += f" of {content['beam_size']}, penalty {content['length_penalty']:g}"
    return f"{how}, at most {content['max_length']} pieces"


def reference_lines(content):
    """What the references are and how they were compared: list of str."""
    longer = content["num_references_longer"]
    return [
        f"References: {content['num_references']}, field: {content['text_field']}; "
        f"truncation: {content['truncation']}, {longer} of them longer than a caption "
        "can be.",
        f"Compared in {content['normalization']}; tokenizer: {content['tokenizer']}.",
        f"Words on average: captions {content['mean_caption_words']:.1f}, references "
        f"{content['mean_reference_words']:.1f}.",
        f"CIDEr's document frequencies are over these {content['num_products']} "
        "products.",
    ]


def remarks(content):
    """What is left out, and counts that explain a figure: list of str."""
    lines = [
        f"{TITLES[key]} is left out: {reason}."
        for key, reason in content["left_out"].items()
    ]
    for key, what in (
        ("num_without_reference", "products without a reference text, left out"),
        ("num_empty_captions", "empty captions, which count and score 0"),
        ("num_one_word_captions", "captions of one word"),
    ):
        if content[key]:
            lines.append(f"{content[key]} {what}.")
    return lines + [f"{note}." for note in content["notes"]]


def attribute_lines(attributes):
    """Precision and recall against the drawn truth: list of str."""
    lines = [
        f"{'Against the drawn truth':{_WIDTH}}  precision  recall  garment  unread"
    ]
    for title, figures in (
        ("Ours", attributes),
        ("  the references themselves", attributes["references"]),
    ):
        garment = figures["garment"]["recall"]
        cells = [figures["precision"], figures["recall"], garment, unread(figures)]
        widths = (9, 6, 7, 6)
        row = "".join(
            f"  {share(cell):>{width}}"
            for cell, width in zip(cells, widths, strict=True)
        )
        lines.append(f"{title:{_WIDTH}}{row}")
    return [
        *lines,
        "Precision: of the attribute values named, true of the product. Recall: of the "
        "attributes",
        "seen in the picture, named with their value. Garment: products whose kind is "
        "named.",
        "Unread: sentences that are none of the catalogue's.",
    ]


def unread(figures):
    """Share of sentences that no template matches, or None."""
    whole = figures["num_sentences"]
    return figures["num_unread_sentences"] / whole if whole else None


def share(value):
    """A share as text, a dash for None: str."""
    return "-" if value is None else f"{value:.3f}"


def figure(value):
    """A figure as text, a dash for None: str."""
    return "-" if value is None else f"{value:.2f}"


def format_table(content):
    """The results as lines of text, with the published figures marked as theirs."""
    lines = [
        f"captioning, split {content['split']}: {content['num_products']} products, "
        "one image each, the first by id",
        f"Decoding: {decoding_title(content)}. Objective: {content['trained']}.",
        f"{'':{_WIDTH}}" + "".join(f"{title:>8}" for title in TITLES.values()),
        _row("Ours", content),
        _row(f"Theirs ({PUBLISHED['source']})", PUBLISHED),
        *reference_lines(content),
        *remarks(content),
    ]
    if content["attributes"]:
        lines += attribute_lines(content["attributes"])
    return "\n".join(lines)


def _row(title, figures):
    cells = "".join(f"{figure(figures.get(key)):>8}" for key in TITLES)
    return f"{title:{_WIDTH}}{cells}"
