import json

import pytest

from kaleido_tf.tasks import attribute_metrics
from kaleido_tf.tasks.attribute_lexicon import Claim, Lexicon
from kaleido_tf.tasks.attribute_metrics import Truth


def slot(name, phrase, attribute, *values):
    says = {"attribute": attribute, "values": list(values)}
    return {"slot": name, "phrase": phrase, **says}


def sentence(template, attribute=None, *values):
    values = list(values) or None
    return {"template": template, "attribute": attribute, "values": values}


PHRASES = {
    "slots": [
        slot("colour", "red", "colour", "red"),
        slot("colour", "blue", "colour", "blue"),
        slot("band", "red", "band_colour", "red"),
        slot("band", "blue", "band_colour", "blue"),
        slot("length", "short", "length", "short"),
        slot("sleeve", "short sleeve", "sleeve", "short"),
        slot("noun", "T-shirt", "subcategory", "TEES"),
        slot("noun", "top", "subcategory", "TEES", "TANKS"),
        slot("noun", "short skirt", "subcategory", "MINIS"),
        slot("noun", "skirt", "subcategory", "SKIRTS"),
    ],
    "sentences": [
        sentence("[{colour}] [{length}] [{sleeve}] {noun}"),
        sentence("[{length}] [{sleeve}] {noun} [in {colour}]"),
        sentence("[{band}] V-neck.", "neckline", "v-neck"),
        sentence("Appliqué V-neck [in {band}].", "neckline", "v-neck"),
        sentence("Wide brim.", "brim", "wide"),
        sentence("Wide brim.", "brim", "very wide"),
        sentence("Machine wash."),
    ],
}


@pytest.fixture(scope="module")
def lexicon():
    return Lexicon(PHRASES)


def truth(visible=(), **values):
    return Truth(values, frozenset(visible))


def claims(caption, lexicon, known):
    found, _, unread = attribute_metrics.read_caption(caption, lexicon, known)
    return {(c.attribute, *c.values) for c in found}, unread


def test_readings_are_of_the_whole_sentence(lexicon):
    def read(text):
        return set(map(frozenset, lexicon.readings(tuple(text.split()))))

    red, tee = Claim("colour", ("red",)), Claim("subcategory", ("TEES",))
    assert read("red t shirt") == read("t shirt in red") == {frozenset({red, tee})}
    assert read("red t shirt red") == read("red") == read("") == set()
    assert read("machine wash") == {frozenset()}
    neck = Claim("neckline", ("v-neck",))
    assert read("v neck") == read("applique v neck") == {frozenset({neck})}
    assert read("applique v neck in") == set()
    # "short" may be the skirt's length, or a part of its name.
    assert read("short skirt") == {
        frozenset({Claim("length", ("short",)), Claim("subcategory", ("SKIRTS",))}),
        frozenset({Claim("subcategory", ("MINIS",))}),
    }


def test_the_truth_chooses_between_readings(lexicon):
    for garment in ("MINIS", "SKIRTS"):
        known = truth(subcategory=garment, length="short")
        found, _ = claims("short skirt", lexicon, known)
        assert ("subcategory", garment) in found
    wide = truth(brim="very wide")
    assert claims("Wide brim.", lexicon, wide)[0] == {("brim", "very wide")}
    top = truth(subcategory="TANKS")
    assert claims("Top. Top in blue!", lexicon, top)[0] == {
        ("subcategory", "TANKS"),
        ("colour", "blue"),
    }
    other = truth(subcategory="HATS")  # wrong in whatever way it is meant
    assert claims("top", lexicon, other)[0] == {("subcategory", "TEES", "TANKS")}


def test_figures_by_hand(lexicon):
    truths = {
        # Named: colour right, neckline right but not seen; sleeve missed.
        "a": truth(
            {"colour", "sleeve", "band_colour"},
            subcategory="TEES", colour="red", neckline="v-neck", sleeve="short",
            band_colour="navy",  # no phrase says navy: nothing to be named
        ),
        # Named: colour wrong, colour right; one sentence is none.
        "b": truth({"colour"}, subcategory="SKIRTS", colour="blue"),
        "c": truth({"colour"}, subcategory="MINIS", colour="red"),
    }  # fmt: skip
    captions = {
        "a": "Red t-shirt. V - neck . Machine wash. Red t-shirt",
        "b": "red skirt. skirt in blue. wide wide brim.",
        "c": "",
    }
    figures = attribute_metrics.attribute_figures(captions, truths, lexicon)
    assert (figures["num_images"], figures["num_sentences"]) == (3, 7)
    assert figures["num_unread_sentences"] == 1
    assert (figures["num_named"], figures["num_right"]) == (4, 3)
    assert figures["precision"] == 3 / 4
    assert figures["num_visible"] == 4 and figures["recall"] == 2 / 4
    assert figures["garment"] == {
        "precision": 1.0,
        "recall": 2 / 3,
        "num_named": 2,
        "num_right": 2,
        "num_visible": 3,
    }
    colour = figures["attributes"]["colour"]
    assert (colour["precision"], colour["recall"]) == (2 / 3, 2 / 3)
    assert figures["attributes"]["sleeve"]["precision"] is None
    assert figures["attributes"]["neckline"]["recall"] is None
    assert "band_colour" not in figures["attributes"]


def test_nothing_named_and_nothing_there(lexicon):
    figures = attribute_metrics.attribute_figures({"a": "x"}, {"a": truth()}, lexicon)
    assert figures["precision"] is None and figures["recall"] is None
    assert figures["num_unread_sentences"] == 1 and figures["attributes"] == {}


@pytest.fixture
def folder(tmp_path):
    rows = [
        {
            "image_id": image_id,
            "attributes": {
                "colour": {"value": "red", "box": [0, 0, 9, 9]},
                "sleeve": {"value": "short", "box": None},
            },
        }
        for image_id in ("i1", "i2")
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "attributes.jsonl").write_text(lines)
    (tmp_path / "phrases.json").write_text(json.dumps(PHRASES))
    return tmp_path


def test_judge_of_a_folder(folder):
    judge = attribute_metrics.Judge.load(str(folder), {"i2": "TEES"})
    figures = judge.figures({"i2": "Short sleeve T-shirt in blue."})
    assert (figures["precision"], figures["recall"]) == (1 / 2, 0.0)
    assert figures["garment"]["recall"] == 1.0
    assert judge.claims("i2", "blue top") == [
        {"attribute": "colour", "value": "blue", "right": False},
        {"attribute": "subcategory", "value": "TEES", "right": True},
    ]


def test_says_what_is_wrong_with_a_folder(folder):
    with pytest.raises(ValueError, match=r"Received none for \['i3'\] .*another"):
        attribute_metrics.Judge.load(str(folder), {"i1": "", "i3": ""})
    (folder / "phrases.json").write_text('{"slots": []}')
    with pytest.raises(ValueError, match="`slots` and `sentences`.*KeyError"):
        attribute_metrics.Judge.load(str(folder), {"i1": ""})
    (folder / "phrases.json").unlink()
    with pytest.raises(FileNotFoundError, match="phrases.json.*it adds the file"):
        attribute_metrics.Judge.load(str(folder), {"i1": ""})
    with pytest.raises(FileNotFoundError, match="`truth` should be a catalogue's"):
        attribute_metrics.Judge.load(str(folder / "none"), {"i1": ""})


def test_template_that_could_be_anything():
    values = {"slots": [], "sentences": [sentence("[red]")]}
    with pytest.raises(ValueError, match="a word or a slot that must be there"):
        Lexicon(values)
