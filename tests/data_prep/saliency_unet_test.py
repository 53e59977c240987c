"""The small U-Net: its training, its folder, and one box in graph and out of it."""

import json
import pathlib
import shutil

import cv2
import numpy as np
import pytest
import tensorflow as tf

from data_prep import saliency, saliency_unet, sources
from data_prep.saliency_parts import saliency_data
from kaleido_tf.data import patches, saliency_net

SIDE = 32
SETTINGS = {
    "max_images": 100,
    "max_validation_images": 10,
    "validation_fraction": 0.1,
    "side": SIDE,
    "widths": ["6", "10"],
    "margin": 0.0,
    "num_steps": 40,
    "batch_size": 8,
    "learning_rate": 0.02,
    "steps_per_checkpoint": 40,
    "seed": 3,
}


def save_png(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), pixels[..., ::-1] if pixels.ndim == 3 else pixels)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory, draw_picture):
    """A catalogue of 20 drawn pictures with masks: its path."""
    folder = tmp_path_factory.mktemp("masked")
    rng, rows = np.random.default_rng(0), []
    for n in range(20):
        y1, x1 = rng.integers(4, 20, 2)
        box = (y1, x1, y1 + 20 + n, x1 + 40 - n)
        colour = tuple(int(v) for v in rng.integers(0, 140, 3))
        picture = draw_picture(64, 60, box, colour, background=235)
        save_png(folder / f"v{n}.png", picture)
        mask = np.zeros((64, 60), np.uint8)
        mask[box[0] : box[2], box[1] : box[3]] = 255
        row = {"product_id": f"p{n}", "image": f"v{n}.png"}
        row["split"] = "validation" if n % 5 == 4 else "train"
        if n % 2:  # as the embedded catalogue keeps them
            save_png(folder / "truth" / "masks" / f"v{n}.png", mask)
        else:
            save_png(folder / f"m{n}.png", mask)
            row["mask"] = f"m{n}.png"
        rows.append(row)
    path = folder / "manifest.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture(scope="module")
def trained(manifest, tmp_path_factory):
    """(folder, metrics) of a short training."""
    folder = str(tmp_path_factory.mktemp("net"))
    settings = {**SETTINGS, "manifest": [manifest], "output_dir": folder}
    return folder, saliency_unet.run(settings)


@pytest.fixture(scope="module")
def locker(trained):
    return saliency.make_locker("unet", trained[0])


def test_training_finds_the_held_back_objects(trained):
    folder, metrics = trained
    assert metrics["images"] == 4 and metrics["train_images"] == 16
    assert metrics["steps"] == 40
    assert metrics["found"] == 1.0
    assert metrics["mask_iou"] > 0.6
    assert metrics["box_iou"] > 0.6
    with open(f"{folder}/{saliency_unet.METRICS_NAME}") as file:
        assert json.load(file) == metrics


def test_loss_falls_and_a_stopped_training_goes_on_alike(manifest, tmp_path):
    settings = {**SETTINGS, "manifest": [manifest], "output_dir": str(tmp_path)}
    canvases = saliency_unet.load_splits(settings, SIDE)["train"]
    config = saliency_net.SaliencySettings(SIDE, (4, 6))
    trainer = saliency_unet.Trainer(config, 0.02, 24, seed=1)
    losses = [trainer.train_step(canvases, 8) for _ in range(16)]
    saved = trainer.checkpoint.save(str(tmp_path / "half"))
    losses += [trainer.train_step(canvases, 8) for _ in range(8)]
    assert np.mean(losses[-4:]) < 0.75 * np.mean(losses[:4])
    finished = [value.copy() for value in trainer.model.get_weights()]
    trainer.checkpoint.restore(saved).assert_consumed()
    assert trainer.step == 16
    again = [trainer.train_step(canvases, 8) for _ in range(8)]
    np.testing.assert_allclose(again, losses[16:], rtol=1e-4)
    for value, expected in zip(trainer.model.get_weights(), finished, strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-2, atol=1e-4)


def test_loss_by_hand():
    truth = tf.constant([[[1.0, 0.0], [0.0, 0.0]]])
    logits = tf.zeros([1, 2, 2])  # probability 0.5 everywhere
    dice = (2 * 0.5 + 1) / (1 + 2 + 1)
    expected = np.log(2) + 1 - dice
    loss = saliency_unet.mask_loss(truth, logits)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    assert saliency_unet.mask_loss(truth, 40 * truth - 20) < 1e-6


def test_finished_folder_of_another_training_is_refused(trained, manifest):
    folder, _ = trained
    settings = {**SETTINGS, "manifest": [manifest], "output_dir": folder}
    with pytest.raises(ValueError, match="should be new or hold a training"):
        saliency_unet.run({**settings, "seed": 4})


def test_a_start_that_fails_does_not_keep_the_folder(manifest, tmp_path):
    settings = {**SETTINGS, "manifest": [manifest], "output_dir": str(tmp_path / "out")}
    with pytest.raises(ValueError, match="multiple of"):
        saliency_unet.run({**settings, "side": 31})
    with pytest.raises(ValueError, match="`widths` should be whole numbers"):
        saliency_unet.run({**settings, "widths": ["8", "wide"]})
    assert not (tmp_path / "out" / saliency_unet.TRAINING_NAME).exists()


def test_locker_and_graphs_lock_the_same_box(locker, draw_picture):
    picture = draw_picture(90, 70, (20, 15, 70, 50), (120, 20, 30))
    box, name = locker.lock(picture)
    assert name == "unet" and box.dtype == np.float32
    # Eagerly, and as a serving graph has it: canvases of a batch.
    net = locker.net
    eager, found = net.lock(tf.constant(picture))
    assert bool(found)
    np.testing.assert_array_equal(eager, box)
    canvas, inside = patches.to_canvas(tf.constant(picture), SIDE)
    boxes, _ = net.lock_canvases(tf.stack([canvas] * 3), tf.stack([inside] * 3))
    np.testing.assert_allclose(boxes, [box] * 3, atol=1e-6)
    # And as the mask says.
    same_box, _, mask = locker.lock_with_mask(picture)
    np.testing.assert_array_equal(same_box, box)
    assert mask.shape == (90, 70)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    ends = [rows[0], columns[0], rows[-1] + 1, columns[-1] + 1]
    np.testing.assert_allclose(box, np.array(ends) / [90, 70, 90, 70], atol=0.04)


def test_picture_without_foreground_is_whole(locker):
    bias = locker.net.model.get_layer("head").bias
    before = bias.numpy()
    bias.assign([-100.0])
    box, name = locker.lock(np.full((20, 50, 3), 200, np.uint8))
    bias.assign(before)
    assert name == "whole" and box.tolist() == [0, 0, 1, 1]


def test_export_is_the_same_network(locker, tmp_path):
    description = json.loads(json.dumps(locker.describe()))
    assert description["method"] == "unet" and description["side"] == SIDE
    assert locker.export(str(tmp_path / "kept")) is True
    kept = saliency_net.SaliencyNet.load(str(tmp_path / "kept"))
    assert {"method": "unet", **kept.describe()} == description
    for ours, theirs in zip(
        locker.net.model.get_weights(), kept.model.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_broken_folders(trained, tmp_path):
    folder = tmp_path / "net"
    folder.mkdir()
    for name in (saliency_net.SETTINGS_NAME, saliency_net.WEIGHTS_NAME):
        shutil.copy(f"{trained[0]}/{name}", folder)
    weights = folder / saliency_net.WEIGHTS_NAME
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1])
    with pytest.raises(ValueError, match="SHA-256"):
        saliency.make_locker("unet", str(folder))
    weights.unlink()
    with pytest.raises(FileNotFoundError, match="the U-Net's weights"):
        saliency.make_locker("unet", str(folder))
    weights.write_bytes(whole)
    settings = folder / saliency_net.SETTINGS_NAME
    values = json.loads(settings.read_text())
    settings.write_text(json.dumps({**values, "widths": [6, 12]}))
    with pytest.raises(ValueError, match="should hold the weights of the U-Net"):
        saliency.make_locker("unet", str(folder))
    settings.write_text(json.dumps({"side": 32}))
    with pytest.raises(ValueError, match="should hold side, widths"):
        saliency.make_locker("unet", str(folder))
    settings.write_text("{")
    with pytest.raises(ValueError, match="should be JSON"):
        saliency.make_locker("unet", str(folder))


def test_side_that_can_not_be_halved():
    with pytest.raises(ValueError, match="multiple of 4"):
        saliency_net.SaliencySettings(30, (4, 4, 4))


def test_manifest_lines_that_do_not_fit(manifest, tmp_path):
    folder = pathlib.Path(manifest).parent
    lines = pathlib.Path(manifest).read_text().splitlines()
    rows = [json.loads(line) for line in lines[:5]]
    for n, row in enumerate(rows):
        row |= {"image": str(folder / f"v{n}.png"), "mask": str(folder / f"m{n}.png")}
    rows[1]["mask"] = "missing.png"
    rows[2]["mask"] = "small.png"
    del rows[3]["image"]
    rows[4]["split"] = "test"
    save_png(tmp_path / "small.png", np.zeros((9, 9), np.uint8))
    path = tmp_path / "manifest.jsonl"
    path.write_text("no JSON\n" + "".join(json.dumps(row) + "\n" for row in rows))
    skipped = sources.SkipList()
    images = saliency_data.read_masked_manifest(str(path), skipped)
    assert [image.product_id for image in images] == ["p0", "p2"]
    assert skipped.counts() == {
        "not JSON": 1,
        "no mask": 2,
        "unknown split": 1,
    }
    canvases = saliency_data.load_canvases(images, 16, skipped)
    assert canvases.shape == (1, 16, 16, 4)
    assert skipped.counts()["unreadable"] == 1
    assert "the mask should be" in skipped.rows[-1]["detail"]
    path.write_text(json.dumps(rows[1]))
    with pytest.raises(ValueError, match="lines with `image` and `mask`"):
        saliency_data.read_masked_manifest(str(path), sources.SkipList())


def test_a_csv_of_pictures_and_masks(manifest, tmp_path):
    """Its lines are read as those of any manifest: a stray quote costs one line."""
    folder = pathlib.Path(manifest).parent
    lines = [f"p{n},{folder}/v{n}.png,{folder}/m{n}.png,Bag" for n in range(0, 20, 2)]
    lines[3] = lines[3].replace("Bag", '"14 inch bag')
    lines[4] += ",and,more"
    lines[5] = "p10,,,Bag,and,more"
    lines[6] = "p\udce9" + lines[6]
    path = tmp_path / "manifest.csv"
    text = "\n".join(["product_id,image,mask,title", *lines])
    path.write_bytes(text.encode(errors="surrogateescape"))
    skipped = sources.SkipList()
    images = saliency_data.read_masked_manifest(str(path), skipped)
    assert [i.product_id for i in images] == [
        "p0",
        "p2",
        "p4",
        "p8",
        "p14",
        "p16",
        "p18",
    ]
    assert [(row["line"], row["reason"]) for row in skipped.rows] == [
        (5, "unclosed quote"),
        (7, "no mask"),
        (8, "not UTF-8"),
    ]


def test_augmented_masks_follow_their_pictures():
    canvases = np.full((6, 40, 40, 4), 230, np.uint8)
    canvases[..., 3] = 0
    canvases[:, 8:24, 10:20] = (20, 20, 20, 255)
    pictures, masks = saliency_data.augment(tf.constant(canvases), (1, 5))
    pictures, masks = pictures.numpy(), masks.numpy()
    assert pictures.min() >= 0 and pictures.max() <= 255
    assert masks.min() >= 0 and masks.max() <= 1
    for picture, mask in zip(pictures, masks, strict=True):
        assert picture[mask > 0.9].mean() < picture[mask < 0.1].mean() - 80
    # No two alike, and the same again for the same seed.
    assert len({mask.tobytes() for mask in masks}) == 6
    again, _ = saliency_data.augment(tf.constant(canvases), (1, 5))
    np.testing.assert_array_equal(again, pictures)
    other, _ = saliency_data.augment(tf.constant(canvases), (1, 6))
    assert np.abs(other - pictures).max() > 10


def _shirts(count):
    """(pictures uint8 [n, 200, 160, 3], their boxes): shirts before noisy walls."""
    rng = np.random.default_rng(3)
    outline = np.array(
        [(3, 0), (7, 0), (10, 3), (8, 5), (8, 10), (2, 10), (2, 5), (0, 3)]
    )
    pictures, boxes = [], []
    for _ in range(count):
        wall = rng.integers(150, 240, (25, 20, 3)).astype(np.float32)
        picture = cv2.resize(wall, (160, 200), interpolation=cv2.INTER_CUBIC)
        size, corner = rng.integers(70, 110), rng.integers(15, 40, 2)
        points = (outline * size / 10 + corner).astype(np.int32)
        cv2.fillPoly(picture, [points], rng.integers(0, 110, 3).tolist())
        pictures.append(picture.clip(0, 255).astype(np.uint8))
        (left, top), (right, bottom) = points.min(0), points.max(0) + 1
        boxes.append([top / 200, left / 160, bottom / 200, right / 160])
    return pictures, np.array(boxes, np.float32)


def test_packaged_network_locks_what_stands_out():
    locker = saliency.make_locker("unet")
    assert saliency.DEFAULT_METHOD == "unet"
    pictures, boxes = _shirts(8)
    found, names = zip(*(locker.lock(picture) for picture in pictures), strict=True)
    assert set(names) == {"unet"}
    assert saliency_unet.box_iou(np.stack(found), boxes).numpy().mean() > 0.85
    box, name = locker.lock(np.full((60, 90, 3), 200, np.uint8))
    assert name == "whole" and box.tolist() == [0, 0, 1, 1]


def test_data_set_keeps_the_packaged_network(tmp_path):
    locker = saliency.make_locker("unet")
    assert locker.export(str(tmp_path))
    kept = saliency.make_locker("unet", str(tmp_path))
    assert kept.describe() == locker.describe()
