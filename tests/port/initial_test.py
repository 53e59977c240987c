"""`--init_checkpoint`: four kinds, recognised by what is in them."""

import json
import os
import shutil

import numpy as np
import pytest
from safetensors.numpy import save_file

from kaleido_tf.config import KaleidoConfig
from kaleido_tf.data.dataset_info import DatasetInfo
from kaleido_tf.modeling import build_classifier, build_matcher, build_pretrainer
from kaleido_tf.port import easytransfer, initial
from kaleido_tf.port.report import PortError
from kaleido_tf.training import checkpoints, run_data

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VOCABULARY += [f"w{i}" for i in range(115)]
BERT_CONFIG = {
    "vocab_size": 120,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 40,
    "type_vocab_size": 2,
}


@pytest.fixture(scope="module")
def bert_values(release):
    """The text side of the golden checkpoint, under BERT's names."""
    text = {"embeddings", "encoder", "pooler", "predictions"}
    values = release.read(release.prefix)
    names = {name: name.removeprefix(release.root) for name in values}
    return {s: values[n] for n, s in names.items() if s.split("/")[1] in text}


@pytest.fixture(scope="module")
def kinds(tmp_path_factory, release, bert_values):
    """A checkpoint of each kind with the same text side: dict kind -> path."""
    folder = tmp_path_factory.mktemp("kinds")
    run = folder / "run"
    easytransfer.port(release.prefix, release.config_path, str(run))
    google, hugging = folder / "google", folder / "hugging"
    google.mkdir()
    (google / "bert_config.json").write_text(json.dumps(BERT_CONFIG))
    release.write(google / "bert_model.ckpt", bert_values)
    hugging.mkdir()
    (hugging / "config.json").write_text(json.dumps(BERT_CONFIG))
    save_file(_hugging_face(bert_values), hugging / "model.safetensors")
    return {
        "ours": str(run),
        "easytransfer": release.prefix,
        "google_bert": str(google / "bert_model.ckpt"),
        "hugging_face": str(hugging),
    }


def _hugging_face(values):
    tensors = {}
    for name, value in values.items():
        kernel = name.endswith("/kernel")
        for old, new in (("/", "."), ("layer_", "layer."), ("kernel", "weight")):
            name = name.replace(old, new)
        if name.endswith("_embeddings"):
            name += ".weight"
        name = name.replace("predictions.output_bias", "predictions.bias")
        # gamma and beta stay: the names of the oldest files.
        tensors[name] = np.ascontiguousarray(value.T if kernel else value)
    return tensors


def encoder_weights(model, *layers):
    encoder = model.get_layer("encoder")
    return [w for name in layers for w in encoder.get_layer(name).get_weights()]


def equal(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


TEXT_LAYERS = ("text_embedding", "layer_0", "layer_1", "pooler")


@pytest.mark.parametrize("kind", initial.KINDS)
def test_each_kind_is_recognised_and_loaded(kinds, config, pretrainer, kind):
    assert initial.kind_of(kinds[kind]) == kind
    model = build_pretrainer(config)
    fresh = model.get_layer("grey_head").get_weights()
    report = initial.load_any(model, kinds[kind])
    expected = encoder_weights(pretrainer, *TEXT_LAYERS)
    assert equal(encoder_weights(model, *TEXT_LAYERS), expected)
    mlm, expected = model.get_layer("mlm_head"), pretrainer.get_layer("mlm_head")
    assert equal(mlm.get_weights(), expected.get_weights())
    patch_side = pretrainer if kind in ("ours", "easytransfer") else None
    expected = patch_side.get_layer("grey_head").get_weights() if patch_side else fresh
    assert equal(model.get_layer("grey_head").get_weights(), expected)
    assert len(report.loaded) + len(report.missing) == 75
    assert len(report.missing) == (0 if patch_side else 31)


def test_other_paths_that_mean_the_same(kinds, release):
    run = kinds["ours"]
    for path in (f"{run}/checkpoints", f"{run}/checkpoints/ckpt-0"):
        assert initial.kind_of(path) == "ours"
    assert initial.kind_of(str(release.folder)) == "easytransfer"
    assert initial.kind_of(f"{release.prefix}.index") == "easytransfer"
    assert initial.kind_of(os.path.dirname(kinds["google_bert"])) == "google_bert"
    file = f"{kinds['hugging_face']}/model.safetensors"
    assert initial.kind_of(file) == "hugging_face"


def test_sizes_of_each_kind(kinds, config):
    for kind, path in kinds.items():
        sizes = initial.read_sizes(path)
        gelu = "exact" if kind == "hugging_face" else "tanh"
        assert sizes.pop("gelu") == gelu
        assert sizes == {name: getattr(config, name) for name in sizes}
        assert {"hidden_size", "num_heads", "vocab_size"} <= set(sizes)


def test_none_of_the_four(tmp_path, release):
    prefix = release.write(tmp_path / "other.ckpt", {"lstm/kernel": np.ones(3)})
    with pytest.raises(ValueError, match=r"Received: 1 variables .*lstm/kernel"):
        initial.kind_of(prefix)
    with pytest.raises(FileNotFoundError):
        initial.kind_of(str(tmp_path / "nothing"))
    with pytest.raises(FileNotFoundError, match="should hold a checkpoint"):
        initial.kind_of(str(tmp_path / ".."))


def test_classifier_starts_from_a_run_of_ours(kinds, config, pretrainer):
    classifier = build_classifier(config, num_classes=3)
    head = classifier.get_layer("class_head").get_weights()
    report = initial.load_any(classifier, kinds["ours"])
    assert equal(
        encoder_weights(classifier, *TEXT_LAYERS),
        encoder_weights(pretrainer, *TEXT_LAYERS),
    )
    assert equal(classifier.get_layer("class_head").get_weights(), head)
    assert [entry.ours for entry in report.missing] == [
        "class_head.kernel",
        "class_head.bias",
    ]
    assert {entry.theirs for entry in report.unused} >= {"mlm_head", "itm_head"}


def test_a_stored_head_of_other_classes_starts_fresh(tmp_path, config):
    source = build_classifier(config, num_classes=4)
    config.save(tmp_path / "config.json")
    checkpoints.CheckpointKeeper(str(tmp_path), source).save(1)
    model = build_classifier(config, num_classes=3)
    report = initial.load_any(model, str(tmp_path), fresh=["class_head"])
    assert {entry.note for entry in report.missing} == {
        "of another set of classes: fresh"
    }
    assert equal(
        encoder_weights(model, *TEXT_LAYERS), encoder_weights(source, *TEXT_LAYERS)
    )
    with pytest.raises(ValueError, match="same sizes"):
        initial.load_any(model, str(tmp_path))


@pytest.mark.parametrize("kind", sorted(set(initial.KINDS) - {"ours"}))
def test_classifier_starts_from_the_other_kinds(kinds, config, kind, pretrainer):
    classifier = build_classifier(config, num_classes=3)
    heads = [r".*_head(\..*)?"]  # as fine-tuning allows
    initial.load_any(classifier, kinds[kind], allow_missing=heads)
    assert equal(
        encoder_weights(classifier, *TEXT_LAYERS),
        encoder_weights(pretrainer, *TEXT_LAYERS),
    )


def test_run_of_ours_without_a_pretraining_head(tmp_path, config):
    matcher = build_matcher(config)
    config.save(tmp_path / "config.json")
    checkpoints.CheckpointKeeper(str(tmp_path), matcher).save(5)
    model = build_pretrainer(config)
    with pytest.raises(PortError, match=r"mlm_head\.dense\.kernel"):
        initial.load_any(model, str(tmp_path))
    report = initial.load_any(
        model, str(tmp_path), allow_missing=["(?!itm|encoder).*_head"]
    )
    assert equal(
        model.get_layer("itm_head").get_weights(),
        matcher.get_layer("itm_head").get_weights(),
    )
    assert {entry.note for entry in report.missing} == {"allowed by allow_missing"}


@pytest.mark.parametrize("stored, wanted", [(0, 5), (5, 0)])
def test_alignment_before_fusion_on_one_side_only(tmp_path, config, stored, wanted):
    source = build_matcher(config.replace(contrastive_size=stored))
    config.replace(contrastive_size=stored).save(tmp_path / "config.json")
    checkpoints.CheckpointKeeper(str(tmp_path), source).save(1)
    model = build_matcher(config.replace(contrastive_size=wanted))
    report = initial.load_any(model, str(tmp_path))
    names = (*TEXT_LAYERS, "position_projection", "grey_embedding", "blank_embedding")
    assert equal(encoder_weights(model, *names), encoder_weights(source, *names))
    fresh = [entry.ours for entry in report.missing]
    assert fresh == (["encoder.vector_projection.projection.kernel"] if wanted else [])


def test_run_of_ours_of_another_size_or_truncated(tmp_path, kinds, config):
    other = build_matcher(config.replace(hidden_size=16))
    with pytest.raises(ValueError, match="should hold a model of the same sizes"):
        initial.load_any(other, kinds["ours"])
    run = tmp_path / "run"
    shutil.copytree(kinds["ours"], run)
    os.truncate(run / "checkpoints" / "ckpt-0.data-00000-of-00001", 9000)
    prefix = str(run / "checkpoints" / "ckpt-0")
    with pytest.raises(
        ValueError, match="should hold a model of the same sizes, whole"
    ):
        initial.load_any(build_matcher(config), prefix)


def test_vocabulary_of_the_data_must_be_the_checkpoints(tmp_path, kinds, config):
    def write(path, pieces):
        path.write_text("\n".join(pieces) + "\n")
        return str(path)

    hugging = tmp_path / "hugging"
    shutil.copytree(kinds["hugging_face"], hugging)
    write(hugging / "vocab.txt", VOCABULARY)
    same = write(tmp_path / "same.txt", VOCABULARY)
    other = write(tmp_path / "other.txt", VOCABULARY[:6] + ["x"] + VOCABULARY[7:])
    model = build_matcher(config)
    before = encoder_weights(model, "layer_0")
    with pytest.raises(ValueError, match="120 and 120 .* first difference at 6"):
        initial.load_any(model, str(hugging), vocab_file=other)
    assert equal(encoder_weights(model, "layer_0"), before)
    report = initial.load_any(model, str(hugging), vocab_file=same)
    assert report.vocab_file == str(hugging / "vocab.txt")
    # A checkpoint without a vocabulary beside it can't be compared.
    initial.load_any(model, kinds["hugging_face"], vocab_file=other)


@pytest.mark.parametrize("named", ["", "checkpoints", "checkpoints/ckpt-0"])
def test_a_ported_vocabulary_counts_however_its_run_is_named(
    tmp_path, kinds, config, named
):
    run = tmp_path / "run"
    shutil.copytree(kinds["ours"], run)
    (run / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    words = VOCABULARY[:6] + ["x"] + VOCABULARY[7:]
    other = tmp_path / "vocab.txt"
    other.write_text("\n".join(words) + "\n")
    path = str(run / named)
    with pytest.raises(ValueError, match="first difference at 6"):
        initial.load_any(build_matcher(config), path, vocab_file=str(other))
    values = {"splits": {}, "location_rule": "box"}
    info = DatasetInfo(str(tmp_path), values)
    with pytest.raises(ValueError, match="first difference at 6"):
        run_data.check_fits(path, info)


def test_other_locations_than_the_releases_are_said(tmp_path, kinds, caplog):
    for rule, said in (("stored", 0), (None, 1)):
        info = DatasetInfo(str(tmp_path), {"splits": {}, "location_rule": rule})
        run_data.check_fits(kinds["ours"], info)
        assert caplog.text.count("another location rule") == said


def test_what_is_fresh_is_named(kinds, config):
    model = build_classifier(config, 3)
    report = initial.load_any(model, kinds["hugging_face"], allow_unused=[".*"])
    listing = report.listing()
    assert "fresh: " in listing and "class_head.kernel" in listing
    assert "encoder.position_projection" in listing
    assert listing.startswith(report.summary())


def test_a_start_with_few_positions(kinds):
    with pytest.raises(ValueError, match="at least `text_length`. Received: 40 < 64"):
        KaleidoConfig(**initial.read_sizes(kinds["google_bert"]), text_length=64)
