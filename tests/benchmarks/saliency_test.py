"""Scores by hand, and the comparison of methods on a tiny catalogue."""

import json

import cv2
import numpy as np
import pytest

from benchmarks import saliency
from benchmarks.saliency_scores import box_iou, is_plain, mask_iou, true_box


def test_scores_by_hand():
    truth = np.zeros((8, 16), bool)
    truth[2:6, 4:12] = True
    np.testing.assert_allclose(true_box(truth), [0.25, 0.25, 0.75, 0.75])
    half = np.array([0.25, 0.25, 0.75, 0.5])
    assert box_iou(half, true_box(truth)) == pytest.approx(0.5)
    assert box_iou(half, np.array([0.8, 0.8, 0.9, 0.9])) == 0.0
    mask = truth.copy()
    mask[2:4] = False
    assert mask_iou(mask, truth) == pytest.approx(0.5)
    assert mask_iou(truth[::2, ::2], truth) == pytest.approx(1.0, abs=0.3)
    assert mask_iou(None, truth) == pytest.approx(truth.mean())


def test_plain_and_cluttered(draw_picture):
    mask = np.zeros((120, 120), bool)
    mask[50:70, 50:70] = True
    picture = draw_picture(120, 120, (50, 50, 70, 70))
    assert is_plain(picture, mask)
    gradient = np.linspace(0, 60, 120)[:, None, None]
    assert is_plain(np.clip(picture - gradient, 0, 255).astype(np.uint8), mask)
    picture[:, ::3] = 90
    assert not is_plain(picture, mask)


def test_comparison(draw_picture, tmp_path, capsys):
    folder, rows = tmp_path / "catalogue", []
    (folder / "truth" / "masks").mkdir(parents=True)
    for n in range(3):
        box = (20, 10 + 5 * n, 60, 50)
        mask = np.zeros((80, 80), np.uint8)
        mask[20:60, 10 + 5 * n : 50] = 255
        cv2.imwrite(str(folder / f"v{n}.png"), draw_picture(80, 80, box)[..., ::-1])
        cv2.imwrite(str(folder / "truth" / "masks" / f"v{n}.png"), mask)
        row = {"product_id": f"p{n}", "image": f"v{n}.png", "split": "validation"}
        rows.append(json.dumps(row) + "\n")
    manifest = folder / "manifest.jsonl"
    manifest.write_text("".join(rows))
    settings = {
        "methods": ["opencv", "none"],
        "reference": None,
        "manifest": str(manifest),
        "num_images": 3,
        "photographs": str(manifest),
        "num_photographs": 2,
        "output_dir": str(tmp_path / "out"),
    }
    results = saliency.main(settings)
    truth = results["truth"]["opencv"]
    assert truth["plain"]["images"] == truth["all"]["images"] == 3
    assert truth["cluttered"] == {"images": 0}
    assert truth["all"]["mask_iou"] > 0.9
    # The margin, 2.4 of 80 pixels on each side, is what the box loses.
    assert truth["all"]["box_iou_without_margin"] > 0.9 > truth["all"]["box_iou"] > 0.7
    areas = [40 * 40 / 6400, 40 * 35 / 6400, 40 * 30 / 6400]
    none = results["truth"]["none"]["all"]
    assert none["mask_iou"] == none["box_iou"] == pytest.approx(np.mean(areas))
    assert results["agreement"]["none"]["names"] == {"none": 2}
    assert results["agreement"]["opencv"]["share_above_0.8"] == 0.0
    sheet = cv2.imread(str(tmp_path / "out" / saliency.SHEET_NAME))
    assert sheet.shape[1] == 20 * 120
    saved = json.loads((tmp_path / "out" / saliency.RESULTS_NAME).read_text())
    assert saved["methods"] == {
        "opencv": {"method": "opencv"},
        "none": {"method": "none"},
    }
    assert "against drawn masks" in capsys.readouterr().out
    with pytest.raises(ValueError, match="`reference` should be one of"):
        saliency.main({**settings, "reference": "onnx"})
