"""Tests of the picture of alignments."""

import cv2
import numpy as np
import pytest

from data_prep import show_alignments
from data_prep.alignment import Description


def _description():
    attention = np.full((4, 36), 0.1 / 36, np.float32)
    attention[0, 0] += 0.9  # upper left
    attention[1, 35] += 0.9  # lower right
    attention[2] = 1 / 36
    attention[3, 5] += 0.9
    words = ["navy", "shirt", "with", "navy"]
    return Description(words, attention, np.array([0.5, 0.75, 0.1, 0.2], np.float32))


def test_find_words():
    words = ["navy", "dress", "with", "shirt"]
    navy, shirt = show_alignments.find_words(_description(), words, 2.0)
    assert (navy.word, shirt.word) == ("navy", "shirt")
    assert shirt.gate == 0.75
    assert [level for level, _, _ in shirt.pairs] == [3, 4, 5]
    corners = {3: 2 / 3, 4: 3 / 4, 5: 4 / 5}
    for level, rectangle, score in shirt.pairs:
        low = corners[level]
        np.testing.assert_allclose(rectangle, [low, low, 1, 1], rtol=1e-5)
        assert score == pytest.approx(0.75 * (0.9 + 0.1 / level**2), rel=1e-4)
    assert [level for level, _, _ in navy.pairs] == [3, 4, 5]
    navy, shirt = show_alignments.find_words(_description(), words, 12.0)
    # What an even map gives is a 25th at level 5: 0.5 x 0.9 is 11 times that.
    assert navy.pairs == [] and [level for level, _, _ in shirt.pairs] == [5]


def test_heat_picture():
    locked = np.zeros((60, 60, 3), np.uint8)
    locked[..., 0] = 150  # red, which becomes grey where nothing is looked at
    attention = np.zeros(36, np.float32)
    attention[7] = 1.0
    shown = show_alignments.heat_picture(locked, attention)
    assert shown.shape == (60, 60, 3) and shown.dtype == np.uint8
    np.testing.assert_array_equal(shown[50, 50], [50, 50, 50])
    spread = shown.astype(int).max(axis=2) - shown.astype(int).min(axis=2)
    row, column = np.unravel_index(spread.argmax(), spread.shape)
    assert 10 <= row < 20 and 10 <= column < 20  # the cell of row 1, column 1


def test_figure(tmp_path, draw_picture):
    picture = draw_picture(64, 64, (10, 20, 50, 40))
    description = _description()
    words = show_alignments.find_words(description, ["navy", "shirt"], 1.0)
    figure = show_alignments.make_figure(
        picture,
        np.array([0.1, 0.2, 0.8, 0.7]),
        picture,
        description,
        "Navy shirt at $5 or $6.",
        words,
    )
    figure.savefig(tmp_path / "figure.png")
    assert cv2.imread(str(tmp_path / "figure.png")).std() > 10
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles == ["image and locked box", "navy  (gate 0.50)", "shirt  (gate 0.75)"]
    assert [len(axes.patches) for axes in figure.axes[:3]] == [1, 3, 3]
    caption = figure.get_suptitle()
    assert "text: NAVY SHIRT at" in caption and "generated: NAVY SHIRT with" in caption


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"output": "figure.jpg"}, "should end with .png"),
        ({"image": "missing.png"}, "should be a readable"),
    ],
)
def test_errors(tmp_path, changes, message, draw_picture):
    image = tmp_path / "image.png"
    cv2.imwrite(str(image), draw_picture(64, 64, (10, 20, 50, 40)))
    settings = {"image": str(image), "text": "x", "sat": str(tmp_path)}
    settings["output"] = str(tmp_path / "figure.png")
    with pytest.raises(ValueError, match=message):
        show_alignments.show_alignments(**{**settings, **changes})
    with pytest.raises(FileNotFoundError, match="captioner's folder"):
        show_alignments.show_alignments(**settings)
