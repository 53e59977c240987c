"""The picture of an image's box and patches shows what data preparation uses."""

import inspect
import types
from unittest import mock

import cv2
import numpy as np
import pytest

from data_prep import pictures, saliency, show_patches
from data_prep.shards import shard_writer
from kaleido_tf.config import FIXED_LEVELS, KALEIDO_LEVELS
from kaleido_tf.data import patches


@pytest.fixture
def picture(draw_picture):
    """Wide, white, with a red rectangle left of the middle."""
    return draw_picture(60, 120, (12, 24, 48, 60), background=255)


@pytest.mark.parametrize("arm", ["fixed", "kaleido", "kaleido+saliency"])
def test_box_is_the_one_of_the_records(picture, arm, tmp_path):
    path = str(tmp_path / "shirt.png")
    cv2.imwrite(path, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    canvas, box, method = show_patches.lock(picture, arm, 128)
    writer = object.__new__(shard_writer.ShardWriter)
    writer.settings = types.SimpleNamespace(patch_arm=arm)
    writer._to_canvas = lambda image: patches.to_canvas(image, 128)
    writer.lock = saliency.make_locker(saliency.DEFAULT_METHOD).lock
    theirs = writer._load(lambda: pictures.read_picture(path))
    np.testing.assert_array_equal(canvas, theirs[0])
    np.testing.assert_array_equal(box, theirs[1])
    assert method == (theirs[2] or "whole")
    if arm == "kaleido+saliency":
        # The picture fills the middle half of the canvas: y = 0.25 + 0.5 * y'.
        np.testing.assert_allclose(box, [0.35, 0.2, 0.65, 0.5], atol=0.05)
        assert method == "unet"
    else:
        np.testing.assert_allclose(box, [0.25, 0, 0.75, 1])


def test_mosaic_places_patches_row_by_row():
    tiles = np.arange(4, dtype=np.float32)[:, None, None, None] * 50
    tiles = np.broadcast_to(tiles, (4, 10, 10, 3))
    board = show_patches.mosaic(tiles, 2)
    assert board.shape == (21, 21, 3) and board.dtype == np.uint8
    corners = board[[0, 0, -1, -1], [0, -1, 0, -1], 0]
    assert corners.tolist() == [0, 50, 100, 150]
    assert board[10, 3].tolist() == list(show_patches._PAPER)  # the gap


def test_rows_hold_levels_and_variants(picture):
    canvas, box, _ = show_patches.lock(picture, "kaleido", 128)
    cut = patches.generate_patches(canvas[None], box[None], KALEIDO_LEVELS, 16)
    cut = {key: value[0].numpy() for key, value in cut.items()}
    levels, variants = show_patches.tile_rows(cut, KALEIDO_LEVELS)
    labels = [label for label, _ in levels]
    assert labels == ["1 x 1", "2 x 2", "3 x 3", "4 x 4", "5 x 5"]
    assert [label for label, _ in variants] == [
        *("1 x 1, turned 90°", "1 x 1, turned 180°", "1 x 1, turned 270°"),
        "4 x 4, grey",
    ]
    whole = levels[0][1]
    for turns, (_, turned) in enumerate(variants[:3], start=1):
        np.testing.assert_array_equal(turned, np.rot90(whole, turns))
    last = levels[2][1][-16:, -16:]
    np.testing.assert_array_equal(last, np.round(cut["patches"][13]).astype(np.uint8))
    grey = variants[3][1]
    assert (np.ptp(grey[:16, :16].astype(int), axis=2) == 0).all()
    assert np.ptp(levels[3][1].astype(int), axis=2).max() > 100


def test_rows_of_the_fixed_arm():
    cut = {"patches": np.zeros((64, 8, 8, 3), np.float32)}
    rows = show_patches.tile_rows(cut, FIXED_LEVELS)
    assert [[label for label, _ in row] for row in rows] == [["8 x 8"]]


def _flag_names(module, monkeypatch):
    """Names of a command's flags, without defining them in this process."""
    page = mock.MagicMock()
    monkeypatch.setattr(module.cli, "FlagPage", lambda summary: page)
    module.flag_page()
    return [call.args[0] for call in page.method_calls if call[0] != "heading"]


def test_command_draws_a_picture(picture, tmp_path, capsys, monkeypatch):
    path = tmp_path / "shirt $1_2$.png"  # no formula of matplotlib's
    cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    output = tmp_path / "new" / "patches.png"
    flag_of = {"patch_arm": "patches", "saliency_method": "saliency"}
    names = {flag_of.get(name, name) for name in _parameters()}
    assert set(_flag_names(show_patches, monkeypatch)) == names
    show_patches.main(
        {
            "image": str(path),
            "output": str(output),
            "patches": "kaleido+saliency",
            "patch_size": 24,
            "canvas_size": 64,
            "saliency": "opencv",
            "saliency_weights": None,
        }
    )
    drawn = cv2.imread(str(output)).astype(int)
    assert drawn.shape[1] > drawn.shape[0] > 400
    red = (abs(drawn - [60, 30, 200]).max(axis=2) < 12).mean()
    assert red > 0.15  # the rectangle, in the picture and in eight mosaics
    assert "found by: plain" in capsys.readouterr().out


def test_box_by_another_method(picture, tmp_path):
    canvas, box, method = show_patches.lock(
        picture, "kaleido+saliency", 128, saliency.make_locker("none")
    )
    assert method == "none"
    np.testing.assert_allclose(box, [0.25, 0, 0.75, 1])  # the picture on its canvas
    with pytest.raises(ValueError, match="should be the path of the network"):
        show_patches.show_patches(
            *("x.png", str(tmp_path / "y.png"), "kaleido+saliency", 24, 64, "onnx"),
        )


def _parameters():
    return inspect.signature(show_patches.show_patches).parameters


@pytest.mark.parametrize(
    ("image", "output", "message"),
    [
        ("none.jpg", "x.png", "`image` should be a readable .*none.jpg: can't be read"),
        ("x.jpg", "x.gif", "`output` should end with .png. Received: 'x.gif'"),
    ],
)
def test_says_what_is_wrong(image, output, message):
    with pytest.raises(ValueError, match=message):
        show_patches.show_patches(image, output, "kaleido", 32, 64)
