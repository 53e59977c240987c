"""The golden files, and a writer of checkpoints in the release's own format."""

import json
import pathlib
import types

import numpy as np
import pytest
import tensorflow as tf

from kaleido_tf.modeling import build_pretrainer
from kaleido_tf.port import easytransfer

GOLDEN = pathlib.Path(__file__).parents[1] / "testdata" / "easytransfer_tiny"
LEVELS = ("rotation", "jigsaw", "camouflage", "grey", "blank")
ROOT = "kaleido_bert_pre_trained_model/"


def write_checkpoint(prefix, values):
    """Writes arrays by name, as TensorFlow 1's Saver does."""
    names = list(values)
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=names,
        shape_and_slices=[""] * len(names),
        tensors=[tf.constant(values[name]) for name in names],
    )
    return str(prefix)


def read_checkpoint(prefix):
    reader = tf.train.load_checkpoint(str(prefix))
    return {
        name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()
    }


def release_shapes(config):
    """Names and shapes as the format's description lists them, from a config.json."""
    hidden, features = config["hidden_size"], config["patch_feature_size"]
    inner, words = config["intermediate_size"], config["vocab_size"]
    types_ = config["patch_type_vocab_size"]

    def dense(name, rows, columns):
        return {f"{name}/kernel": (rows, columns), f"{name}/bias": (columns,)}

    def norm(name):
        return {f"{name}/beta": (hidden,), f"{name}/gamma": (hidden,)}

    shapes = {
        "bert/position_dense": (5, hidden),
        "bert/embeddings/word_embeddings": (words, hidden),
        "bert/embeddings/position_embeddings": (
            config["max_position_embeddings"],
            hidden,
        ),
        "bert/embeddings/token_type_embeddings": (2, hidden),
        **norm("bert/embeddings/LayerNorm"),
    }
    for scope, stem in (
        ("rotation", "rotation"),
        ("jigsaw", "jigsaw"),
        ("camouflage", "camouflage"),
        ("greymask", "greymask"),
        ("blank", "blankmask"),
    ):
        shapes[f"bert/{scope}_embeddings/{stem}_projector"] = (features, hidden)
        shapes[f"bert/{scope}_embeddings/{stem}_type_embeddings"] = (types_, hidden)
        shapes |= norm(f"bert/{scope}_embeddings/{stem}EmbLayerNorm")
    for i in range(config["num_hidden_layers"]):
        layer = f"bert/encoder/layer_{i}"
        for name in ("query", "key", "value"):
            shapes |= dense(f"{layer}/attention/self/{name}", hidden, hidden)
        shapes |= dense(f"{layer}/attention/output/dense", hidden, hidden)
        shapes |= norm(f"{layer}/attention/output/LayerNorm")
        shapes |= dense(f"{layer}/intermediate/dense", hidden, inner)
        shapes |= dense(f"{layer}/output/dense", inner, hidden)
        shapes |= norm(f"{layer}/output/LayerNorm")
    return shapes | {
        **dense("bert/pooler/dense", hidden, hidden),
        "cls/predictions/output_bias": (words,),
        **dense("cls/predictions/transform/dense", hidden, hidden),
        **norm("cls/predictions/transform/LayerNorm"),
        "cls/seq_relationship/output_weights": (2, hidden),
        "cls/seq_relationship/output_bias": (2,),
        "cls/img_rotation/rotation_output_weights": (4, hidden),
        "cls/img_rotation/rotation_output_bias": (4,),
        "cls/img_jigsaw/jiasaw_output_weights": (24, 4 * hidden),
        "cls/img_jigsaw/jigsaw_output_bias": (24,),
        "cls/img_camouflage/camouflage_output_weights": (9, 9 * hidden),
        "cls/img_camouflage/camouflage_output_bias": (9,),
        "cls/img_greymask/greymask_output_weights": (hidden, features),
        "cls/img_blankmask/blanmask_output_weights": (hidden, features),
    }


def random_values(shapes, seed=0, root=ROOT):
    """Arrays of the shapes, each different from every other."""
    rng = np.random.default_rng(seed)
    return {
        root + name: rng.standard_normal(shape, np.float32) * np.float32(0.02)
        for name, shape in shapes.items()
    }


def golden_batch(arrays):
    """(inputs, labels) of our models from the golden file's arrays."""
    rows = len(arrays["in/input_ids"])
    width = arrays["in/rotation"].shape[1]
    parts = {name: arrays[f"in/{name}"].reshape(rows, -1, width) for name in LEVELS}
    # The release's graph zeroes the blank patches itself; the grey ones come greyed.
    blank = parts["blank"].copy()
    np.put_along_axis(blank, arrays["in/blank_ids"][:, :, None], 0.0, axis=1)
    parts["blank"] = blank
    locations = [arrays[f"in/{name}_pos"].reshape(rows, -1, 5) for name in LEVELS]
    inputs = {
        "input_word_ids": arrays["in/input_ids"],
        "input_mask": arrays["in/input_mask"],
        "input_type_ids": arrays["in/segment_ids"],
        "patch_features": np.concatenate(list(parts.values()), axis=1),
        "patch_locations": np.concatenate(locations, axis=1).astype(np.float32),
        "masked_lm_positions": arrays["in/masked_lm_positions"],
        "grey_positions": arrays["in/grey_ids"],
        "blank_positions": arrays["in/blank_ids"],
    }
    labels = {
        "masked_lm_ids": arrays["label/masked_lm_ids"],
        "masked_lm_weights": arrays["label/masked_lm_weights"],
        "itm_labels": arrays["label/itm"][:, 0],
        **{f"{n}_labels": arrays[f"label/{n}_gt"][:, 0] for n in LEVELS[:3]},
        "grey_targets": arrays["label/grey_gt"].reshape(rows, 2, width),
        "blank_targets": arrays["out/blank_target_raw"].reshape(rows, 3, width),
    }
    return _tensors(inputs), _tensors(labels)


def _tensors(arrays):
    return {
        name: tf.constant(a, tf.float32 if a.dtype.kind == "f" else tf.int32)
        for name, a in arrays.items()
    }


@pytest.fixture(scope="session")
def release():
    """What the tests of this folder share: the golden folder, the format's writer."""
    return types.SimpleNamespace(
        folder=GOLDEN,
        prefix=str(GOLDEN / "kaleidobert.ckpt"),
        config_path=str(GOLDEN / "config.json"),
        config_values=json.loads((GOLDEN / "config.json").read_text()),
        root=ROOT,
        write=write_checkpoint,
        read=read_checkpoint,
        shapes=release_shapes,
        random_values=random_values,
    )


@pytest.fixture(scope="session")
def golden():
    """The golden arrays, and the batch in our names."""
    with np.load(GOLDEN / "golden.npz") as file:
        arrays = {name: file[name] for name in file.files}
    inputs, labels = golden_batch(arrays)
    return types.SimpleNamespace(arrays=arrays, inputs=inputs, labels=labels)


@pytest.fixture(scope="session")
def config(release):
    return easytransfer.read_config(release.config_path)


@pytest.fixture(scope="session")
def pretrainer(release, config):
    """A pre-trainer with the golden weights, to be read only."""
    model = build_pretrainer(config)
    easytransfer.load_checkpoint(model, release.prefix)
    return model
