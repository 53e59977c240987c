"""The export's files, what it refuses, and that the same weights give the same hash."""

import json
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from kaleido_tf.data.dataset_info import DatasetInfo
from kaleido_tf.data.saliency_net import SaliencyNet, SaliencySettings, build_unet
from kaleido_tf.serving import export, load, loaded, server

SIGNATURES = {
    "caption",
    "caption_features",
    "category",
    "category_features",
    "explain",
    "image_features",
    "image_vectors",
    "info",
    "match",
    "match_features",
    "serving_default",
    "text_vectors",
}


def test_layout(exported, workshop):
    assert exported == os.path.join(workshop.settings["output_dir"], "1")
    # Nothing half-written.
    assert set(os.listdir(workshop.settings["output_dir"])) == {".lock", "1"}
    assert {"saved_model.pb", "variables", "assets.extra"} <= set(os.listdir(exported))
    assert export.next_version(workshop.settings["output_dir"]) == 2
    signatures = server.signature_map(exported).signature_def
    # No run was fine-tuned for sub-categories.
    assert set(signatures) - {"__saved_model_init_op"} == SIGNATURES
    match = signatures["serving_default"]
    assert set(match.inputs) == {"image_bytes", "text"}
    assert set(match.outputs) == {"score", "margin"}
    names = [v for v, _ in tf.train.list_variables(f"{exported}/variables/variables")]
    assert not [name for name in names if "optimizer" in name.lower()]


def test_info_says_what_made_it(exported, workshop):
    with open(f"{exported}/assets.extra/kaleido_info.json", encoding="utf-8") as file:
        info = json.load(file)
    values = workshop.info.values
    assert set(info["signatures"]) == SIGNATURES
    assert info["backbone"] == values["backbone"]
    assert info["vocabulary"]["sha256"] == values["vocab_sha256"]
    assert info["saliency"]["same_as_data"] is True
    assert info["saliency"]["weights_sha256"] == values["saliency"]["weights_sha256"]
    tasks = {name: entry["task"] for name, entry in info["checkpoints"].items()}
    assert tasks == {
        "matching": "pre-training",
        "category": "category",
        "captioning": "captioning",
    }
    assert {entry["step"] for entry in info["checkpoints"].values()} == {7}
    assert info["checkpoints"]["matching"]["config"]["hidden_size"] == 32
    assert info["limits"] == {"max_pixels": 50_000_000, "max_text_bytes": 65_536}
    assert info["versions"]["tensorflow"] == tf.__version__
    assert str(workshop.folder) not in json.dumps(info)


def test_every_warm_up_request_is_valid(exported, model):
    path = f"{exported}/assets.extra/tf_serving_warmup_requests"
    asked = set()
    for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
        log = prediction_log_pb2.PredictionLog.FromString(record)
        assert log.WhichOneof("log_type") == "predict_log"
        request = log.predict_log.request
        asked.add(request.model_spec.signature_name)
        inputs = {k: tf.make_ndarray(v) for k, v in request.inputs.items()}
        outputs = model.predict(request.model_spec.signature_name, inputs)
        for value in outputs.values():
            assert value.dtype.kind in "OSb" or np.isfinite(value[..., 0]).all()
    assert asked == SIGNATURES - {"serving_default"}
    assert model.warm_up() == len(asked)


def test_hash_is_of_weights_and_settings(exported, workshop):
    with open(f"{exported}/assets.extra/kaleido_info.json", encoding="utf-8") as file:
        first = json.load(file)["export_sha256"]

    parts, loader, *others = load.load_parts(workshop.settings)

    def hash_of(settings):
        return export.make_info(settings, parts, loader, *others)["export_sha256"]

    assert hash_of(workshop.settings) == first
    assert hash_of(workshop.settings | {"max_pixels": 10_000}) != first
    assert hash_of(workshop.settings | {"precision": "bfloat16"}) != first
    variable = parts.matching.variables[-1]
    changed = load.weights_sha256([*parts.matching.variables[:-1], variable + 1e-6])
    loader.checkpoints["matching"]["weights_sha256"] = changed
    assert hash_of(workshop.settings) != first


def test_a_version_is_never_overwritten(exported, workshop, model):
    with pytest.raises(ValueError, match="`version` should be a new one. Received: 1"):
        export.write(model, {}, workshop.settings["output_dir"], version=1)


def test_other_runs_are_refused(workshop):
    settings, loader = workshop.settings, load.Loader(workshop.info)
    with pytest.raises(ValueError, match="`category_checkpoint` .* for captioning"):
        loader.classification("category", settings["captioning_checkpoint"])
    with pytest.raises(
        ValueError, match="`captioning_checkpoint`.* a pre-training run"
    ):
        loader.captioning(settings["checkpoint"])
    with pytest.raises(ValueError, match=r"Missing: \['itm_head'\]"):
        loader.matching(settings["category_checkpoint"])
    with pytest.raises(FileNotFoundError, match="finished data set"):
        load.read_info(str(workshop.folder))


def copy_of(workshop, folder, **changes):
    """A copy of the data set's info with changes; its shards aren't needed."""
    for name in ("vocab.txt", "saliency"):
        source = os.path.join(workshop.info.directory, name)
        copy = shutil.copytree if os.path.isdir(source) else shutil.copyfile
        copy(source, folder / name)
    values = {**workshop.info.values, **changes}
    (folder / "dataset_info.json").write_text(json.dumps(values))
    return DatasetInfo.load(str(folder))


def test_another_backbone_is_refused(workshop, tmp_path):
    record = {**workshop.info.values["backbone"], "weights_hash": "0" * 64}
    info = copy_of(workshop, tmp_path, backbone=record)
    with pytest.raises(ValueError, match="hash 000000000000.*Received: random:"):
        load.make_backbone(info)
    record = {"name": "release", "weights": None}
    (tmp_path / "other").mkdir()
    copy_of(workshop, tmp_path / "other", backbone=record)
    with pytest.raises(ValueError, match="prepare the pictures by data_prep.prepare"):
        load.read_info(str(tmp_path / "other" / "dataset_info.json"))


def test_boxes_that_no_graph_can_lock(workshop, tmp_path):
    info = copy_of(workshop, tmp_path, saliency={"method": "opencv"})
    with pytest.raises(ValueError, match="--saliency=opencv.*--saliency_weights"):
        load.make_saliency(info)
    folder = os.path.join(workshop.info.directory, "saliency")
    net, said = load.make_saliency(info, folder)
    assert net is not None and said["method"] == "unet" and not said["same_as_data"]
    for arm, record in (("kaleido", None), ("kaleido+saliency", {"method": "none"})):
        other = DatasetInfo(
            info.directory, {**info.values, "patch_arm": arm, "saliency": record}
        )
        net, said = load.make_saliency(other)
        assert net is None and said == {"method": "none", "same_as_data": True}
        with pytest.raises(ValueError, match="`saliency_weights` should be left out"):
            load.make_saliency(other, folder)


def test_another_saliency_network_is_refused(workshop, tmp_path):
    info = copy_of(workshop, tmp_path)
    settings = SaliencySettings(side=16, widths=(2, 3))
    SaliencyNet(settings, build_unet(settings)).save(tmp_path / "saliency")
    with pytest.raises(ValueError, match="copy it from the data set"):
        load.make_saliency(info)


def test_a_folder_without_versions(tmp_path):
    (tmp_path / "1").mkdir()
    with pytest.raises(FileNotFoundError, match="numbered versions"):
        loaded.LoadedModel(tmp_path)
