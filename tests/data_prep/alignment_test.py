"""Tests of the alignment generator on hand-made heat maps, and through a captioner."""

import dataclasses
import json

import numpy as np
import pytest
import tf_keras

from data_prep import alignment
from data_prep.alignment import Description
from data_prep.sat import captioner, sat_grids, sat_model, sat_words
from kaleido_tf.config import KALEIDO_LEVELS
from kaleido_tf.data import patches, tokenization

FINE = KALEIDO_LEVELS[2:]


def _map(*cells, grid=6):
    """Attention that is shared evenly by some cells (row, column)."""
    values = np.zeros((grid, grid), np.float32)
    for row, column in cells:
        values[row, column] += 1 / len(cells)
    return values.ravel()


# --- Words ----------------------------------------------------------------------------


def test_words_of_pieces(tokenizer, vocabulary):
    pieces = ["un", "##button", "##ed", "navy", "cafe", "-", "##s", "[UNK]", "!"]
    ids = [vocabulary.index(piece) for piece in pieces]
    assert alignment.words_of_pieces(ids, tokenizer) == [
        ("unbuttoned", 0),
        ("navy", 3),
        ("cafe", 4),
        ("-s", 5),
        ("[UNK]", 7),
        ("!", 8),
    ]
    # A text that was cut never starts inside a word, but nothing breaks if it does.
    assert alignment.words_of_pieces(ids[1:3], tokenizer) == [("##buttoned", 0)]


@pytest.mark.parametrize(
    "word, named",
    [
        ("pocket", True),
        ("café", True),
        ("3d", False),
        ("t2k", True),
        ("with", False),
        ("a", False),
        ("x", False),
        ("90", False),
        (".", False),
        ("[UNK]", False),
        ("裙", True),  # a skirt
        ("的", False),  # of
        ("。", False),
    ],
)
def test_which_words_are_aligned(word, named):
    assert alignment.is_named(word) == named


def test_stop_words_can_be_others():
    assert alignment.is_named("mit") and not alignment.is_named("mit", {"mit"})
    said, written = ["mit", "with"], ["with", "mit"]
    assert alignment.shared_words(said, written) == [(1, 0)]
    assert alignment.shared_words(said, written, {"mit"}) == [(0, 1)]


def test_shared_words_follow_the_phrase():
    said = ["white", "coat", ".", "black", "buttons", ",", "white", "collar"]
    written = ["black", "coat", ",", "white", "collar", "and", "white", "cuffs"]
    found = {place: i for place, i in alignment.shared_words(said, written)}
    assert found == {0: 3, 1: 1, 3: 6, 4: 7, 6: 6}
    assert alignment.shared_words([], written) == []


# --- Heat maps and patches ------------------------------------------------------------


def test_patch_masses_of_whole_and_halved_cells():
    attention = np.stack([_map((0, 0), (5, 5)), np.full(36, 1 / 36)])
    rectangles = np.array([[0, 0, 1, 1], [0, 0, 0.5, 0.5], [0, 0, 1 / 12, 1 / 6]])
    masses = alignment.patch_masses(attention, rectangles)
    np.testing.assert_allclose(masses[0], [1, 0.5, 0.25], rtol=1e-6)
    np.testing.assert_allclose(masses[1], [1, 0.25, 1 / 72], rtol=1e-5)


def test_patch_masses_add_up_over_levels():
    rng = np.random.default_rng(0)
    attention = rng.dirichlet(np.ones(196), 4).astype(np.float32)
    masses = alignment.patch_masses(attention, patches.patch_rectangles(KALEIDO_LEVELS))
    assert masses.shape == (4, 55)
    start = 0
    for level in KALEIDO_LEVELS:  # 14 cells divide by neither 3, 4 nor 5
        part = masses[:, start : start + level.num_patches]
        np.testing.assert_allclose(part.sum(axis=1), 1.0, rtol=1e-6)
        start += level.num_patches


def test_best_patches():
    attention = np.stack([_map((0, 5)), _map((5, 0), (5, 1), (0, 3))])
    masses = alignment.patch_masses(attention, patches.patch_rectangles(KALEIDO_LEVELS))
    first, second = alignment.best_patches(masses, KALEIDO_LEVELS)
    # Upper right: patch 0; 1 + 1; 5 + 2; 14 + 3; 30 + 4.
    assert [patch for patch, _ in first] == [0, 2, 7, 17, 34]
    np.testing.assert_allclose([mass for _, mass in first], 1.0, rtol=1e-6)
    # Lower left: 1 + 2; 5 + 6; 14 + 12; at level 5 each patch takes 1.2 cells.
    assert [patch for patch, _ in second] == [0, 3, 11, 26, 50]
    np.testing.assert_allclose(
        [mass for _, mass in second], [1, 2 / 3, 2 / 3, 0.5, 0.4], rtol=1e-5
    )


def test_best_patches_stand_out():
    even = np.full(36, 1 / 36)
    half = 0.5 * even + 0.5 * _map((5, 5))  # lifts 5, 8.5 and 13 at the lower right
    attention = np.stack([even, half, 0.1 * half])
    masses = alignment.patch_masses(attention, patches.patch_rectangles(KALEIDO_LEVELS))

    def found(min_lift):
        rows = alignment.best_patches(masses, KALEIDO_LEVELS, min_lift)
        return [[patch for patch, _ in row] for row in rows]

    assert found(2.0) == [[], [0, 4, 13, 29, 54], []]
    # Levels 1 and 2 are not masked: their best patch goes with any of the others'.
    assert found(6.0) == [[], [0, 4, 29, 54], []]
    assert found(12.0) == [[], [0, 4, 54], []]
    assert found(14.0) == [[], [], []]
    assert found(1.2) == [[], [0, 4, 13, 29, 54], [0, 4, 54]]


def test_pairs_of_one_image(tokenizer, vocabulary):
    description = Description(
        words=["red", "shirt", "with", "unbuttoned", "collar"],
        attention=np.stack(
            [_map((r, c)) for r, c in [(0, 0), (2, 2), (1, 1), (5, 5), (0, 5)]]
        ),
        gates=np.array([1.0, 0.5, 1.0, 1.0, 0.1], np.float32),
    )
    pieces = ["un", "##button", "##ed", "navy", "shirt", "!", "collar"]
    ids = [vocabulary.index(piece) for piece in pieces]
    tokens, aligned, scores = alignment.pairs_of(
        description, ids, tokenizer, FINE, 2.0, alignment.STOP_WORDS
    )
    # The gate weighs: of "collar" only level 5's patch holds twice its share.
    assert tokens == [0, 0, 0, 4, 4, 4, 6]
    assert aligned == [8, 24, 49, 4, 14, 37, 29]
    assert scores == pytest.approx([1, 1, 1, 0.5, 0.5, 0.18, 0.1], rel=1e-5)
    assert all(type(value) is int for value in tokens + aligned)
    empty = dataclasses.replace(description, words=["x"] * 5)
    assert alignment.pairs_of(empty, ids, tokenizer, FINE, 1.0, ()) == ([], [], [])


# --- Through a captioner --------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A captioner that was not trained, but says the same words of everything."""
    folder = tmp_path_factory.mktemp("sat")
    table = sat_words.WordTable(
        [*sat_model.SPECIAL_WORDS, "navy", "shirt", ".", "unbuttoned"]
    )
    config = sat_model.SatConfig(
        num_words=len(table),
        annotation_size=8,
        attention_size=6,
        hidden_size=8,
        embedding_size=len(table),
        max_words=7,
    )
    tf_keras.utils.set_random_seed(2)
    model = sat_model.ShowAttendTell(config)
    model.embedding.embeddings.assign(30 * np.eye(8))
    following = np.zeros((8, 8))
    said = [sat_model.START, 4, 5, 7, sat_model.END]
    following[said[:-1], said[1:]] = 1
    model.to_words.kernel.assign(following)
    extractor = sat_grids.GridExtractor()
    values = {
        "model": dataclasses.asdict(config),
        "placing": sat_grids.Placer(canvas_size=96).describe(),
        "backbone": extractor.backbone.describe(),
    }
    (folder / captioner.CONFIG_NAME).write_text(json.dumps(values))
    table.save(folder / captioner.WORDS_NAME)
    model.save(folder / captioner.WEIGHTS_NAME)
    return folder


IDS_OF = {
    "Navy shirt, unbuttoned collar": "navy shirt [UNK] un ##button ##ed collar",
    "dress": "dress",
}


@pytest.fixture(scope="module")
def batch(vocabulary):
    """images, boxes, texts and token ids."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 96, 96, 3)).astype(np.uint8)
    boxes = np.array([[0, 0, 1, 1], [0.2, 0.1, 0.9, 0.7]], np.float32)
    ids = [[vocabulary.index(p) for p in row.split()] for row in IDS_OF.values()]
    return images, boxes, list(IDS_OF), ids


def test_aligner(folder, tokenizer, batch):
    aligner = alignment.Aligner(folder, min_lift=0.0)
    found = aligner.align(*batch, tokenizer, KALEIDO_LEVELS)
    said = aligner.describe(*batch[:2])
    assert said[0].words == ["navy", "shirt", "unbuttoned"]
    assert len(found) == 2 and found[1] == ([], [], [])
    tokens, aligned, scores = found[0]
    # Each word has a patch of every level; the first level's holds all of its map.
    assert tokens == [0] * 5 + [1] * 5 + [3] * 5
    level_of = patches.level_of_patch(KALEIDO_LEVELS)
    assert [level_of[patch] for patch in aligned] == [0, 1, 2, 3, 4] * 3
    np.testing.assert_allclose(scores[::5], said[0].gates, rtol=1e-5)
    for word, gate in enumerate(said[0].gates):
        shares = np.array(scores[5 * word : 5 * word + 5]) / gate
        least = [1 / level.num_patches for level in KALEIDO_LEVELS]
        assert np.all(shares >= np.array(least) - 1e-6)
        assert np.all(np.diff(shares) <= 1e-6)  # smaller patches hold less
    assert aligner.align(*batch, tokenizer, KALEIDO_LEVELS) == found
    assert aligner.settings()["captioner_sha256"] == captioner.captioner_sha256(folder)


def test_aligner_that_reads_the_texts(folder, tokenizer, batch):
    aligner = alignment.Aligner(folder, words="text", min_lift=0.0)
    found = aligner.align(*batch, tokenizer, FINE)
    assert [set(tokens) for tokens, _, _ in found] == [{0, 1, 3, 6}, {0}]
    read = aligner.describe(*batch[:3])
    assert read[0].words == ["navy", "shirt", ",", "unbuttoned", "collar"]
    # The words so far are those of the generated text, and so are the heat maps.
    said = aligner.describe(*batch[:2])[0]
    np.testing.assert_allclose(read[0].attention[:2], said.attention[:2], rtol=1e-5)
    with pytest.raises(ValueError, match="`words` should be one of"):
        alignment.Aligner(folder, words="both")


def test_words_that_do_not_fit_the_weights(folder, tmp_path):
    for name in captioner.FILES:
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    with open(tmp_path / captioner.WORDS_NAME, "a") as file:
        file.write("more\n")
    with pytest.raises(ValueError, match="should hold 8 words"):
        alignment.Aligner(tmp_path)
    assert captioner.captioner_sha256(tmp_path) != captioner.captioner_sha256(folder)


def test_unknown_pieces_are_not_aligned(tokenizer):
    description = Description([tokenization.UNKNOWN], _map((0, 0))[None], np.ones(1))
    ids = [tokenizer.unknown_id]
    found = alignment.pairs_of(description, ids, tokenizer, FINE, 1.0, ())
    assert found == ([], [], [])
