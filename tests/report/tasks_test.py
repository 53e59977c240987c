"""The sections that the fine-tuned tasks' results grow on a report's page."""

import json
import re

from PIL import Image

from kaleido_tf.tasks import captioning_table


def _words(made, text):
    return [word.strip() for word in made.Page(text).words if word.strip()]


def test_sections_of_all_tasks(
    write, made, category, class_baseline, captioning, mask_all, tmp_path
):
    subcategory = tmp_path / "subcategory.json"
    results = json.loads(category.read_text())
    results["published"]["subcategory"] = {"accuracy": 0.8807, "macro_f": 0.636}
    subcategory.write_text(json.dumps(results | {"task": "subcategory"}))
    paths, text = write(
        category=str(category),
        subcategory=str(subcategory),
        captioning=str(captioning),
        captioning_baseline=str(mask_all),
    )
    words = _words(made, text)
    headings = [
        "Retrieval",
        "Category recognition",
        "Sub-category recognition",
        "Captioning",
    ]
    places = [words.index(heading) for heading in headings]
    assert places == sorted(places)
    for name, *values in (
        ("66.7%", "Category, accuracy", "macro-F 0.508"),
        ("11.5", "Captioning, BLEU-4", "CIDEr 88.8"),
        ("this run", "0.6667", "0.508"),
        ("always the most frequent class", "0.5000"),
        ("theirs, on another data set: Theirs", "0.9507", "0.714"),
        ("theirs, on another data set: Theirs", "0.8807", "0.636"),
    ):
        found = [words[i + 1 : i + 1 + len(values)] for i in _places(words, name)]
        assert values in found, name
    assert not any(word.startswith("baseline: ") for word in words)
    names = {path.rsplit("/", 1)[1] for path in paths}
    assert {"category_confusion.png", "subcategory_confusion.png"} < names
    # 6 charts and 2 confusions in two colours; 6 ranked, 2 captioned pictures.
    assert len(made.Page(text).sources) == 2 * 8 + 6 + 2
    assert Image.open(str(tmp_path / "out" / "captions.png")).width == 1000
    words = re.sub(';base64,[^"]*', "", text)  # letters come by chance in there
    assert "<script" not in text and "http" not in words


def _places(words, name):
    return [place for place, word in enumerate(words) if word == name]


def test_classification(write, made, no_charts, category, class_baseline):
    _, text = write(category=str(category), class_baseline=str(class_baseline))
    words = _words(made, text)
    start = words.index("Category recognition")
    assert words[start + 1].startswith("Fine-tuned, validation split: 12 records")
    (place,) = _places(words, "baseline: logistic regression")
    assert words[place + 1 : place + 3] == ["0.5833", "0.444"]
    assert "Labels unseen in training, counted as errors: hats (2)." in words
    worst = words.index("Worst classes")
    table = words[worst + 1 : worst + 1 + 6 * 4]
    assert table[6::6] == ["hats", "dresses <3", "bags"]
    assert table[6:12] == ["hats", "200", "2", "0.000", "0.000", "0.000"]
    place = words.index("hats → bags")
    assert words[place + 1 : place + 3] == ["2", "bags → dresses <3"]


def test_captioning(write, made, no_charts, captioning, mask_all):
    _, text = write(captioning=str(captioning), captioning_baseline=str(mask_all))
    words = _words(made, text)
    title = "beam of 3, penalty 0.6, at most 31 pieces; objective: next_word"
    ours, truth = _places(words, title)
    row = ["41.25", "31.00", "21.00", "11.50", "-", "35.00", "88.75"]
    assert words[ours + 1 : ours + 8] == row
    (other,) = _places(words, "mask_all, at most 31 pieces; objective: next_word")
    assert words[other + 4] == "1.75"
    (theirs,) = _places(words, "theirs, on another data set: Theirs")
    assert words[theirs + 1 : theirs + 8] == [*"---", "5.70", "-", "-", "32.60"]
    assert words[truth + 1 : truth + 5] == ["0.750", "0.250", "0.500", "0.250"]
    place = words.index("the references themselves")
    assert words[place + 1 : place + 3] == ["1.000", "0.875"]
    place = words.index("neckline")
    assert words[place + 1 : place + 5] == ["0.625", "-", "8", "0"]
    for line in (
        "References: 3, field: title + description; truncation: none, 1 of them longer "
        "than a caption can be.",
        "Compared in lower case; tokenizer: PTB.",
        "Words on average: captions 7.2, references 9.5.",
        "CIDEr's document frequencies are over these 2 products.",
        "METEOR is left out: no java.",
        "4 products without a reference text, left out.",
        "a note.",
    ):
        assert line in words
    start = words.index("Captions beside their pictures")
    shown = words[start + 2 :]
    assert shown[0] == made.nasty
    assert shown[1:5] == ["trim colour: red", "print: bolt", "reference", "A red one."]
    assert shown[-3:] == ["(empty)", "reference", "x"]
    assert '<span class="claim false">print: bolt</span>' in text
    assert '<span class="claim">trim colour: red</span>' in text


def test_fine_tuned_retrieval(write, made, no_charts, retrieval, tmp_path):
    results = json.loads(retrieval.read_text()) | made.make_results(rank1=62.5)
    results["top_ranked"]["tir"][0] |= {"rank": 17}
    gallery = {"rank@1": 11.0, "rank@5": 22.0, "rank@10": 33.0}
    first = {"rank@1": 4.5, "rank@5": 5.5, "rank@10": 6.5, "found": 87.654}
    full = {**gallery, "num_queries": 9, "chance": gallery}
    stages = {"score": "cosine", "rerank": 40, "itr": first, "tir": first}
    results["full_gallery"] = {"itr": full, "tir": full, "first_stage": stages}
    path = tmp_path / "finetuned.json"
    path.write_text(json.dumps(results))
    _, text = write(finetuned=str(path))
    words = _words(made, text)
    group = words.index("Image to text (ITR)", words.index("Rank@10"))
    rows = words[group + 1 : group + 9]
    assert rows[0] == "zero-shot" and rows[1] == "25.00 ±\u00a05.00"
    assert rows[4] == "fine-tuned" and rows[5] == "62.50 ±\u00a05.00"
    place = words.index("fine-tuned / chance")
    assert words[place + 1] == "12.5 ×"
    place = words.index("fine-tuned, first stage alone")
    assert words[place + 1 : place + 4] == ["4.50", "5.50", "6.50"]
    joined = " ".join(words)
    assert "cosine chooses 40, which are ranked anew" in joined and "ITR 87.7" in joined
    # Its ranked pictures are shown, not those from before.
    assert "rank 17" in joined and "ranked by: fine-tuned" in joined
    place = words.index("62.5%")
    assert words[place + 1 : place + 3] == ["ITR Rank@1", "fine-tuned"]


def test_another_run_is_never_shown_as_ours(
    write, made, no_charts, captioning, tmp_path
):
    results = json.loads(captioning.read_text())
    other = {**results["attributes"], "precision": 0.111}
    path = tmp_path / "other.json"
    path.write_text(json.dumps({**results, "attributes": other}))
    _, text = write(captioning=str(captioning), captioning_baseline=str(path))
    words = _words(made, text)
    rows = words[words.index("Against the drawn truth") :]
    first, second = (captioning_table.share(value) for value in (0.75, 0.111))
    assert rows.index(first) < rows.index(second)
    ours = [part for part in text.split("<tr") if part.startswith(' class="ours"')]
    assert any(first in part for part in ours)
    assert not any(second in part for part in ours)
