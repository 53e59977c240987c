"""Two stages over a catalogue whose answers can be reckoned by hand."""

import concurrent.futures
import dataclasses
import os

import numpy as np
import pytest

from kaleido_tf.search import words
from kaleido_tf.search.builder import build_index
from kaleido_tf.search.engine import SearchEngine
from kaleido_tf.search.exported import Export

TEMPERATURE = 0.5  # of the tests' export


def ids(hits):
    return [hit.image_id for hit in hits]


def picture(engine, image_id):
    with open(engine.image_path(image_id), "rb") as file:
        return file.read()


def test_score_is_log_odds_and_cosine(engine):
    found = engine.search_text("  a red dress ", top_k=3)
    assert ids(found.hits) == ["a", "b", "g"]
    for hit, red in zip(found.hits, (250, 200, 120), strict=True):
        assert hit.margin == pytest.approx(10 * red / 255, abs=0.03)
        assert hit.score == pytest.approx(hit.margin + hit.cosine / TEMPERATURE)
        assert hit.probability == pytest.approx(1 / (1 + np.exp(-hit.score)))
    assert found.hits[1].cosine == pytest.approx(200 / np.hypot(200, 90), abs=1e-3)
    assert (found.hits[0].category, found.hits[0].product_id) == ("gowns", "p1")
    assert found.num_candidates == 7


def test_products_are_shown_once_by_their_best_view(engine):
    hits = engine.search_text("green").hits
    assert ids(hits)[0] == "c" and hits[0].num_views == 2
    products = [hit.product_id for hit in hits]
    assert sorted(products) == sorted(set(products)) and len(products) == 6


def test_only_candidates_are_ranked_anew(engine):
    """The head alone would put the brightest first, the cosine the purest."""
    found = engine.search_text("blue", top_k=1, candidates=2)
    assert found.num_candidates == 2 and ids(found.hits) == ["e"]
    first_stage = engine.search_text("blue", top_k=3, candidates=0)
    assert ids(first_stage.hits) == ["e", "f", "g"]
    assert first_stage.hits[0].margin is None
    assert first_stage.hits[0].score == pytest.approx(1 / TEMPERATURE, abs=1e-3)


def test_a_picture_finds_texts_and_what_looks_alike(engine):
    found = engine.search_image(picture(engine, "f"), top_k=3)
    # "blue boots" is said of two products: the one that looks like the query first.
    assert ids(found.hits)[:2] == ["f", "e"]
    assert found.hits[0].score == found.hits[1].score
    assert found.hits[0].margin == pytest.approx(10 * 200 / 255, abs=0.03)
    assert ids(found.look_alikes) == ["f", "e", "g"]
    assert found.look_alikes[0].score == pytest.approx(1, abs=1e-3)
    assert found.look_alikes[0].probability is None
    assert found.num_candidates == 5  # distinct texts


def test_a_product_finds_others(engine):
    found = engine.search_like("c", top_k=6)
    for hits in (found.hits, found.look_alikes):
        assert "p3" not in [hit.product_id for hit in hits] and hits
    with_bytes = engine.search_image(picture(engine, "c"), top_k=6, exclude="p3")
    assert ids(with_bytes.hits) == ids(found.hits)


def test_the_answer_depends_on_the_query_alone(engine, tmp_path):
    """The picture's bytes under another name, asked twice, after another query."""
    first = engine.search_image(picture(engine, "b"))
    engine.search_text("green")
    assert [dataclasses.astuple(hit) for hit in first.hits] == [
        dataclasses.astuple(hit)
        for hit in engine.search_image(picture(engine, "b")).hits
    ]


def test_searches_at_once_dont_mix(engine):
    queries = ["red", "green", "blue", "red and blue", "dress"] * 6
    alone = [ids(engine.search_text(query).hits) for query in queries]
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        found = list(pool.map(engine.search_text, queries))
    assert [ids(each.hits) for each in found] == alone


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("", "should hold a word"),
        (" \n", "should hold a word"),
        ("...", "should hold a word"),
        ("x" * 1_000_000, "at most 10000 bytes. Received: 1000000"),
        ("caf\ud800", "should be UTF-8"),
        (None, "should be text. Received: NoneType"),
        (b"red", "should be text. Received: bytes"),
        ("x" * 6000, "under 5000 bytes"),
    ],
)
def test_queries_that_cant_be_searched(engine, query, said):
    with pytest.raises(ValueError, match=said):
        engine.search_text(query)


@pytest.mark.parametrize("data", [b"", b"no picture", "red", b"\xff\xd8\xff" * 9])
def test_bytes_that_are_no_picture(engine, data):
    with pytest.raises(ValueError):
        engine.search_image(data)


@pytest.mark.parametrize("sizes", [{"top_k": 0}, {"candidates": -1}, {"top_k": 2.5}])
def test_sizes_are_checked(engine, sizes):
    with pytest.raises(ValueError, match=f"`{next(iter(sizes))}` should be from"):
        engine.search_text("red", **sizes)


def test_other_letters_are_searched(engine):
    assert len(engine.search_text("红色连衣裙 🙂 été").hits) == 6


def test_explanation(engine):
    found = engine.explain("dark red dress", "b")
    assert found.words == ["dark", "red", "dress"]
    # Colours look at the last patch of level 2, other words at its first.
    assert found.attention[1, 4] == 7.5 and found.attention[2, 20] == 0.5
    assert found.contrast[1, 4] == pytest.approx(7.5 / ((0.5 + 7.5 + 0.5) / 3))
    assert found.strongest(1, 1) == [(2, 2, 2)]
    assert found.strongest(2, 1) == [(2, 1, 1)]
    alone = engine.explain("red", "b")
    np.testing.assert_array_equal(alone.contrast, alone.attention)
    # That patch in the picture: the box is its middle half.
    np.testing.assert_allclose(found.rectangles[4], [0.5, 0.5, 0.75, 0.75])
    query = engine.search_image(picture(engine, "b"))
    again = engine.explain("dark red dress", features=query.features)
    np.testing.assert_allclose(again.attention, found.attention)


def test_pieces_are_joined_to_words():
    tokens = ["[CLS]", "un", "##button", "##ed", "shirt", "-", "[SEP]", "[PAD]"]
    assert words.words_of(tokens, [1] * 7 + [0]) == [
        ("unbuttoned", [1, 2, 3]),
        ("shirt", [4]),
        ("-", [5]),
    ]


def test_words_are_shown_as_written():
    text = "Café-bar 红色 dress, Größe_9"
    pieces = ["cafe", "[UNK]", "bar", "红", "色", "dress", ",", "große", "_", "9"]
    assert words.as_written(pieces, text) == [
        *("Café", "-", "bar", "红", "色", "dress", ",", "Größe", "_", "9")
    ]
    assert words.as_written(pieces[:3], text) == ["Café", "-", "bar"]  # cut
    assert words.as_written(["other", "-"], text) == ["other", "-"]


def test_what_the_tasks_say(engine):
    found = engine.search_image(picture(engine, "c"))
    said = engine.describe(found.features)
    assert [label for label, _ in said["category"]][0] == "tops"
    assert sum(share for _, share in said["category"]) == pytest.approx(1, abs=1e-5)
    assert said["captions"][0] == ("a red dress .", -1.0)
    assert "subcategory" not in said  # the export has none


def test_a_model_without_vectors(export, catalogue, tmp_path, monkeypatch):
    """All of a small catalogue is scored; a large one is refused."""
    bare = Export(os.path.dirname(export.path))
    bare.vector_size = 0
    build_index(bare, tmp_path / "index", catalogue)
    engine = SearchEngine(bare, tmp_path / "index")
    hits = engine.search_text("red").hits
    assert ids(hits)[:2] == ["a", "b"]
    assert hits[0].cosine is None and hits[0].score == hits[0].margin
    found = engine.search_image(picture(engine, "a"))
    assert found.look_alikes == [] and ids(found.hits)[0] in "abg"
    monkeypatch.setattr("kaleido_tf.search.exported.MAX_WITHOUT_VECTORS", 5)
    for fails in (SearchEngine, lambda *paths: build_index(*paths, catalogue)):
        with pytest.raises(ValueError, match="should have vectors of text and image"):
            fails(bare, tmp_path / "index")
