"""A tiny data set from drawn pictures, runs on it, their export, and a server of it."""

import fcntl
import json
import os
import types

import cv2
import grpc
import numpy as np
import pytest
import tf_keras

from data_prep import prepare
from kaleido_tf import files
from kaleido_tf.config import KaleidoConfig
from kaleido_tf.data.dataset_info import DatasetInfo
from kaleido_tf.modeling import build_captioner, build_classifier, build_pretrainer
from kaleido_tf.serving import export, loaded, server
from kaleido_tf.training import checkpoints

CLASSES = ["bags", "dresses", "shoes"]
ENDINGS = (".png", ".jpg", ".webp")
STEP = 7


def write_catalogue(folder, draw_picture):
    """Eight pictures of six products, of three formats and uneven sizes.

    Returns:
      Path of the manifest.
    """
    folder.mkdir()
    rows = []
    for n in range(8):
        box = (20 + n, 30, 130, 90 + n)
        picture = draw_picture(160 + 3 * n, 140, box, (20 * n, 80, 200 - 10 * n))
        name = f"v{n}{ENDINGS[n % 3]}"
        cv2.imwrite(str(folder / name), picture[..., ::-1])
        product = n % 6
        rows.append(
            {
                "product_id": f"p{product}",
                "image_id": f"v{n}",
                "image": name,
                "title": "Navy shirt" if product % 2 else "Red dress",
                "description": f"Long sleeve, number {product}, " + "soft " * product,
                "category": CLASSES[product % 3],
                "subcategory": "tops" if product % 2 else "gowns",
                "split": "validation" if product == 5 else "train",
            }
        )
    manifest = folder / "manifest.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(manifest)


def save_run(folder, config, model, task=None):
    """A model with its random weights, as a run leaves it."""
    checkpoints.CheckpointKeeper(str(folder), model).save(STEP)
    config.save(f"{folder}/config.json")
    if task:
        files.write_json(task, f"{folder}/task.json")


def prepare_data(folder, draw_picture):
    """Draws the catalogue and prepares it; returns the data set's info."""
    prepare.prepare(
        write_catalogue(folder / "catalogue", draw_picture),
        str(folder / "data"),
        backbone_weights="random",
        patch_size=32,
        coarse_patch_size=40,
        canvas_size=64,
        vocab_size=300,
        images_per_batch=3,
        saliency="unet",
    )
    return DatasetInfo.load(str(folder / "data"))


def save_runs(folder, info):
    """A run for each model but that of sub-categories."""
    config = KaleidoConfig.preset(
        "tiny",
        vocab_size=info.vocab_size,
        patch_feature_size=info.feature_size,
        hidden_size=32,
        num_heads=2,
        intermediate_size=48,
        text_length=20,
        contrastive_size=12,
    )
    tf_keras.utils.set_random_seed(3)
    save_run(folder / "checkpoint", config, build_pretrainer(config))
    notes = {"task": "category", "class_names": CLASSES}
    model = build_classifier(config, len(CLASSES))
    save_run(folder / "category_checkpoint", config, model, notes)
    notes = {"task": "captioning", "objective": "next_word"}
    save_run(folder / "captioning_checkpoint", config, build_captioner(config), notes)


def settings_of(folder):
    """The flags of the export."""
    runs = {path.name: str(path) for path in folder.glob("*checkpoint")}
    return export.flag_page().defaults() | {
        **runs,
        "data_info": str(folder / "data" / "dataset_info.json"),
        "output_dir": str(folder / "served"),
        "beam_size": 3,
        "max_length": 5,
    }


@pytest.fixture(scope="session")
def workshop(tmp_path_factory, draw_picture):
    """Data set, runs and export, made once for all processes of a test run.

    Attributes: `folder`, `rows` (the manifest's), `pictures` (dict image_id -> bytes),
    `info` (`DatasetInfo`), `config`, `settings` (of `export`).
    """
    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root
    folder, done = root / "serving", root / "serving.done"
    with open(root / "serving.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            folder.mkdir()
            save_runs(folder, prepare_data(folder, draw_picture))
            export.export(settings_of(folder))
            done.touch()
    lines = (folder / "catalogue" / "manifest.jsonl").read_text().splitlines()
    files = (folder / "catalogue").glob("v*")
    return types.SimpleNamespace(
        folder=folder,
        rows=[json.loads(line) for line in lines],
        pictures={path.stem: path.read_bytes() for path in files},
        info=DatasetInfo.load(str(folder / "data")),
        config=KaleidoConfig.from_json(folder / "checkpoint" / "config.json"),
        settings=settings_of(folder),
    )


@pytest.fixture(scope="session")
def exported(workshop):
    """Folder of the export's first version."""
    return str(workshop.folder / "served" / "1")


@pytest.fixture(scope="session")
def model(workshop):
    """The export, loaded."""
    return loaded.LoadedModel(workshop.settings["output_dir"])


@pytest.fixture(scope="session")
def port(model):
    """Port of a gRPC server of the export."""
    running, bound = server.start(model, 0, max_message_mb=8)
    yield bound
    running.stop(grace=0)


@pytest.fixture(scope="session")
def channel(port):
    size = [("grpc.max_receive_message_length", 8 << 20)]
    with grpc.insecure_channel(f"localhost:{port}", options=size) as opened:
        yield opened


@pytest.fixture(scope="session")
def ask(channel):
    """Function (signature, **inputs) -> dict of arrays, through a real client."""
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_service_pb2_grpc

    from kaleido_tf.serving import warmup

    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)

    def call(signature, **inputs):
        for name, value in inputs.items():
            if name in ("image_bytes", "text"):
                encoded = [v.encode() if isinstance(v, str) else v for v in value]
                inputs[name] = np.array(encoded, object)
        response = stub.Predict(warmup.make_request(signature, inputs), timeout=60)
        return {k: tf.make_ndarray(v) for k, v in response.outputs.items()}

    return call
