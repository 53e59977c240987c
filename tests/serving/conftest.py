"""A tiny data set from drawn pictures, runs on it, their export, and a server of it."""

import json
import types

import cv2
import grpc
import numpy as np
import pytest
import tf_keras

from data_prep import prepare
from kaleido_tf.config import KaleidoConfig
from kaleido_tf.data.dataset_info import DatasetInfo
from kaleido_tf.modeling import build_captioner, build_classifier, build_pretrainer
from kaleido_tf.serving import export, loaded, server
from kaleido_tf.training import checkpoints, run_folder

CLASSES = ["bags", "dresses", "shoes"]
ENDINGS = (".png", ".jpg", ".webp")
STEP = 7


def write_catalogue(folder, draw_picture):
    """Eight pictures of six products, of three formats and uneven sizes."""
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
    return str(manifest), rows


def save_run(folder, config, model, task=None):
    """A model with its random weights, as a run leaves it; returns the folder."""
    checkpoints.CheckpointKeeper(str(folder), model).save(STEP)
    config.save(f"{folder}/config.json")
    if task:
        run_folder.write_json(task, f"{folder}/task.json")
    return str(folder)


@pytest.fixture(scope="session")
def workshop(tmp_path_factory, draw_picture):
    """Data set, runs, and the settings to export them.

    Attributes: `folder`, `rows` (the manifest's), `pictures` (dict image_id -> bytes),
    `info` (`DatasetInfo`), `config`, `settings` (of `export`).
    """
    folder = tmp_path_factory.mktemp("serving")
    manifest, rows = write_catalogue(folder / "catalogue", draw_picture)
    data = folder / "data"
    prepare.prepare(
        manifest,
        str(data),
        backbone_weights="random",
        patch_size=32,
        coarse_patch_size=40,
        canvas_size=64,
        vocab_size=300,
        images_per_batch=3,
        saliency="unet",
    )
    info = DatasetInfo.load(str(data))
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
    runs = {"checkpoint": save_run(folder / "run", config, build_pretrainer(config))}
    for task, names in (("category", CLASSES),):
        notes = {"task": task, "class_names": names}
        model = build_classifier(config, len(names))
        runs[f"{task}_checkpoint"] = save_run(folder / task, config, model, notes)
    notes = {"task": "captioning", "objective": "next_word"}
    model = build_captioner(config)
    runs["captioning_checkpoint"] = save_run(folder / "captions", config, model, notes)
    settings = export.flag_page().defaults() | runs
    settings |= {
        "data_info": str(data / "dataset_info.json"),
        "output_dir": str(folder / "served"),
        "beam_size": 3,
        "max_length": 5,
    }
    pictures = {
        row["image_id"]: (folder / "catalogue" / row["image"]).read_bytes()
        for row in rows
    }
    return types.SimpleNamespace(
        folder=folder,
        rows=rows,
        pictures=pictures,
        info=info,
        config=config,
        settings=settings,
    )


@pytest.fixture(scope="session")
def exported(workshop):
    """Folder of the export's first version."""
    return export.export(workshop.settings)


@pytest.fixture(scope="session")
def model(exported, workshop):
    """The export, loaded; its warm-up requests were replayed."""
    found = loaded.LoadedModel(workshop.settings["output_dir"])
    found.num_warm = found.warm_up()
    return found


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
