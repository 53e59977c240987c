"""BERT's weights in our text side, against BERT written out in numpy."""

import json

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import save_file
from scipy.special import erf

from kaleido_tf.config import KaleidoConfig
from kaleido_tf.modeling import build_matcher, build_pretrainer
from kaleido_tf.port import bert, easytransfer
from kaleido_tf.port.report import PortError
from kaleido_tf.training import checkpoints

HIDDEN, HEADS, LAYERS, INNER, WORDS, POSITIONS = 12, 3, 2, 20, 9, 10
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcd"]
CONFIG = {
    "vocab_size": WORDS,
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": INNER,
    "max_position_embeddings": POSITIONS,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "model_type": "bert",
}
IDS = np.array([[2, 5, 6, 3, 0, 0], [2, 8, 7, 5, 6, 3], [2, 3, 0, 0, 0, 0]])
MASK = (IDS > 0).astype(int)
TYPES = np.array([[0, 0, 1, 1, 0, 0], [0, 0, 0, 1, 1, 1], [0] * 6])


def google_shapes():
    def layer(i):
        root = f"bert/encoder/layer_{i}/"
        dense = {
            **{f"attention/self/{n}": (HIDDEN, HIDDEN) for n in ("query", "key")},
            "attention/self/value": (HIDDEN, HIDDEN),
            "attention/output/dense": (HIDDEN, HIDDEN),
            "intermediate/dense": (HIDDEN, INNER),
            "output/dense": (INNER, HIDDEN),
        }
        norms = ("attention/output/LayerNorm", "output/LayerNorm")
        return {
            **{f"{root}{n}/kernel": shape for n, shape in dense.items()},
            **{f"{root}{n}/bias": shape[1:] for n, shape in dense.items()},
            **{f"{root}{n}/{v}": (HIDDEN,) for n in norms for v in ("gamma", "beta")},
        }

    shapes = {
        "bert/embeddings/word_embeddings": (WORDS, HIDDEN),
        "bert/embeddings/position_embeddings": (POSITIONS, HIDDEN),
        "bert/embeddings/token_type_embeddings": (2, HIDDEN),
        "bert/embeddings/LayerNorm/gamma": (HIDDEN,),
        "bert/embeddings/LayerNorm/beta": (HIDDEN,),
        "bert/pooler/dense/kernel": (HIDDEN, HIDDEN),
        "bert/pooler/dense/bias": (HIDDEN,),
        "cls/predictions/output_bias": (WORDS,),
        "cls/predictions/transform/dense/kernel": (HIDDEN, HIDDEN),
        "cls/predictions/transform/dense/bias": (HIDDEN,),
        "cls/predictions/transform/LayerNorm/gamma": (HIDDEN,),
        "cls/predictions/transform/LayerNorm/beta": (HIDDEN,),
        "cls/seq_relationship/output_weights": (2, HIDDEN),
        "cls/seq_relationship/output_bias": (2,),
    }
    for i in range(LAYERS):
        shapes |= layer(i)
    return shapes


@pytest.fixture(scope="module")
def weights():
    rng = np.random.default_rng(3)
    shapes = google_shapes()
    return {n: rng.normal(0, 0.5, s).astype(np.float32) for n, s in shapes.items()}


def hugging_face_weights(weights, root="bert."):
    """The same numbers under Hugging Face's names, linear weights as [out, in]."""
    renamed = {}
    for name, value in weights.items():
        name = name.removeprefix("bert/").replace("/", ".").replace("layer_", "layer.")
        if name.endswith("kernel"):
            name, value = name.replace("kernel", "weight"), value.T
        elif "LayerNorm" in name:
            name = name.replace("gamma", "weight").replace("beta", "bias")
        elif name.endswith("_embeddings"):
            name += ".weight"
        name = name.replace("output_weights", "weight").replace("output_bias", "bias")
        name = name if name.startswith("cls.") else root + name
        renamed[name] = np.ascontiguousarray(value)
    return renamed


def write_hugging_face(folder, tensors, config=None, vocabulary=VOCABULARY):
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config or CONFIG))
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    return str(folder)


def write_google(folder, release, tensors):
    folder.mkdir()
    (folder / "bert_config.json").write_text(json.dumps(CONFIG))
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    return release.write(folder / "bert_model.ckpt", tensors)


def reference_states(weights, gelu):
    """BERT's forward pass on `IDS` in float64: [B, T, H]."""

    def norm(x, name):
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-12)
        return x * weights[f"{name}/gamma"] + weights[f"{name}/beta"]

    def dense(x, name):
        return x @ weights[f"{name}/kernel"].astype(float) + weights[f"{name}/bias"]

    def heads(x):
        return x.reshape(*x.shape[:2], HEADS, -1).transpose(0, 2, 1, 3)

    x = weights["bert/embeddings/word_embeddings"][IDS].astype(float)
    x = x + weights["bert/embeddings/position_embeddings"][: IDS.shape[1]]
    x = x + weights["bert/embeddings/token_type_embeddings"][TYPES]
    x = norm(x, "bert/embeddings/LayerNorm")
    for i in range(LAYERS):
        layer = f"bert/encoder/layer_{i}"
        q, k, v = (
            heads(dense(x, f"{layer}/attention/self/{n}"))
            for n in ("query", "key", "value")
        )
        scores = q @ k.transpose(0, 1, 3, 2) / np.sqrt(HIDDEN // HEADS)
        scores = np.where(MASK[:, None, None], scores, -1e9)
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        context = scores / scores.sum(-1, keepdims=True) @ v
        context = context.transpose(0, 2, 1, 3).reshape(x.shape)
        x = x + dense(context, f"{layer}/attention/output/dense")
        x = norm(x, f"{layer}/attention/output/LayerNorm")
        inner = gelu(dense(x, f"{layer}/intermediate/dense"))
        x = norm(x + dense(inner, f"{layer}/output/dense"), f"{layer}/output/LayerNorm")
    return x


def exact(x):
    return 0.5 * x * (1 + erf(x / np.sqrt(2)))


def approximate(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def ported_states(output_dir):
    """States of a ported run folder, read as any command reads it."""
    config = KaleidoConfig.from_json(f"{output_dir}/config.json")
    model = build_pretrainer(config)
    checkpoints.load_weights(model, str(output_dir))
    inputs = [tf.constant(x, tf.int32) for x in (IDS, MASK, TYPES)]
    return model, bert.text_states(model.get_layer("encoder"), *inputs)[-1].numpy()


def port(checkpoint, output_dir, **settings):
    settings = {"text_length": 6, "patch_feature_size": 4, **settings}
    return bert.port(str(checkpoint), str(output_dir), **settings)


def used_rows(states):
    return states[MASK.astype(bool)]


def test_google_and_hugging_face_give_berts_own_states(tmp_path, release, weights):
    google = write_google(tmp_path / "google", release, weights)
    hugging = write_hugging_face(tmp_path / "hf", hugging_face_weights(weights))
    for checkpoint, gelu in ((google, approximate), (hugging, exact)):
        output = tmp_path / "out" / gelu.__name__
        report = port(checkpoint, output)
        assert len(report.loaded) == len(weights) == 14 + 16 * LAYERS
        assert not report.unused and not report.misfits
        model, states = ported_states(output)
        expected = reference_states(weights, gelu)
        difference = np.abs(used_rows(states) - used_rows(expected)).max()
        assert difference < 1e-5
        assert_heads(model, weights)
        assert (output / "vocab.txt").read_text().split() == VOCABULARY
    other = np.abs(
        used_rows(expected) - used_rows(reference_states(weights, approximate))
    )
    assert other.max() > 1e-4  # so the two GELUs can be told apart here


def test_the_releases_loader_takes_googles_bert_too(tmp_path, release, weights):
    google = write_google(tmp_path / "google", release, weights)
    output = tmp_path / "out"
    port(google, output)
    config = KaleidoConfig.from_json(f"{output}/config.json")
    found, expected = build_pretrainer(config), build_pretrainer(config)
    before = [v.numpy() for v in found.get_layer("grey_head").weights]
    report = easytransfer.load_checkpoint(found, google)
    bert.load_checkpoint(expected, google)
    assert len(report.loaded) == len(weights)
    assert {entry.note for entry in report.missing} == {"patch side: fresh"}
    for name in ("mlm_head", "itm_head"):
        for a, b in zip(
            found.get_layer(name).weights, expected.get_layer(name).weights, strict=True
        ):
            np.testing.assert_array_equal(a, b)
    for a, b in zip(found.get_layer("grey_head").weights, before, strict=True):
        np.testing.assert_array_equal(a, b)


def assert_heads(model, weights):
    mlm, itm = model.get_layer("mlm_head"), model.get_layer("itm_head")
    transform = weights["cls/predictions/transform/dense/kernel"]
    np.testing.assert_array_equal(mlm.dense.kernel.numpy(), transform)
    np.testing.assert_array_equal(mlm.bias, weights["cls/predictions/output_bias"])
    # BERT's class 0 is "belongs together", ours is class 1.
    next_sentence = weights["cls/seq_relationship/output_weights"]
    np.testing.assert_array_equal(itm.kernel.numpy()[:, 1], next_sentence[0])
    np.testing.assert_array_equal(itm.kernel.numpy()[:, 0], next_sentence[1])
    bias = weights["cls/seq_relationship/output_bias"]
    np.testing.assert_array_equal(itm.bias, bias[::-1])


def test_patch_side_is_fresh_listed_and_seeded(tmp_path, weights):
    folder = write_hugging_face(tmp_path / "hf", hugging_face_weights(weights))
    reports = [port(folder, tmp_path / f"out{seed}", seed=seed) for seed in (1, 2)]
    fresh = {entry.ours for entry in reports[0].missing}
    assert len(fresh) == 1 + 5 * 4 + 3 * 2 + 2
    assert {entry.note for entry in reports[0].missing} == {"patch side: fresh"}
    assert "encoder.camouflage_embedding.type_table" in fresh
    port(folder, tmp_path / "again", seed=1)
    one, again, other = (
        next((tmp_path / name / "checkpoints").glob("*.data-*")).read_bytes()
        for name in ("out1", "again", "out2")
    )
    assert one == again != other


def test_bare_bert_without_heads_and_pooler(tmp_path, weights):
    tensors = {
        name: value
        for name, value in hugging_face_weights(weights, root="").items()
        if not name.startswith(("cls.", "pooler."))
    }
    tensors["embeddings.position_ids"] = np.arange(POSITIONS)[None]
    folder = write_hugging_face(tmp_path / "hf", tensors)
    report = port(folder, tmp_path / "out")
    assert [entry.note for entry in report.skipped] == [
        "counts the positions, no weight"
    ]
    optional = {e.ours for e in report.missing if e.note == "not in this BERT: fresh"}
    assert {name.split(".")[0] for name in optional} == {
        "encoder",
        "mlm_head",
        "itm_head",
    }
    _, states = ported_states(tmp_path / "out")
    difference = used_rows(states) - used_rows(reference_states(weights, exact))
    assert np.abs(difference).max() < 1e-5


def test_old_norm_names_and_tied_decoder(tmp_path, weights):
    tensors = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): value
        for name, value in hugging_face_weights(weights).items()
    }
    words = weights["bert/embeddings/word_embeddings"]
    tensors["cls.predictions.decoder.weight"] = words.copy()
    folder = write_hugging_face(tmp_path / "hf", tensors)
    report = port(folder, tmp_path / "out")
    assert len(report.loaded) == len(weights) and len(report.skipped) == 1
    tensors["cls.predictions.decoder.weight"] = words + 0.1
    folder = write_hugging_face(tmp_path / "untied", tensors)
    with pytest.raises(ValueError, match="should be the word embeddings, as BERT ties"):
        port(folder, tmp_path / "no")
    allowed = r"cls\.predictions\.decoder\.weight"
    assert port(folder, tmp_path / "yes", allow_unused=[allowed]).loaded


def test_names_and_words_as_some_files_have_them(tmp_path, weights):
    tensors = {f"model.{n}": v for n, v in hugging_face_weights(weights).items()}
    vocabulary = [*VOCABULARY[:-1], "\u2028"]
    config = {**CONFIG, "hidden_act": "gelu_python"}
    folder = write_hugging_face(tmp_path / "hf", tensors, config, vocabulary)
    assert len(port(folder, tmp_path / "out").loaded) == len(weights)


@pytest.mark.parametrize("name", ["model.safetensors.index.json", "pytorch_model.bin"])
def test_weights_that_are_not_read(tmp_path, name):
    (tmp_path / name).write_text("{}")
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    for path in (tmp_path, tmp_path / name):
        with pytest.raises(ValueError, match=f"{name} .*max_shard_size"):
            port(str(path), tmp_path / "out")


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_half_precision_file(tmp_path, weights, dtype):
    tensors = {k: v.astype(dtype) for k, v in hugging_face_weights(weights).items()}
    folder = write_hugging_face(tmp_path / "hf", tensors)
    config = KaleidoConfig(
        **{**bert.read_sizes(f"{folder}/config.json", True), "text_length": 6},
        patch_feature_size=4,
    )
    matcher = build_matcher(config)
    report = bert.load_checkpoint(matcher, f"{folder}/model.safetensors")
    words = matcher.get_layer("encoder").get_layer("text_embedding").word.embeddings
    expected = tensors["bert.embeddings.word_embeddings.weight"].astype(np.float32)
    np.testing.assert_array_equal(words.numpy(), expected)
    assert {entry.note for entry in report.unused} == {"the model has no mlm_head"}


def test_half_a_head_is_a_difference(tmp_path, weights):
    tensors = hugging_face_weights(weights)
    del tensors["cls.predictions.transform.dense.bias"]
    folder = write_hugging_face(tmp_path / "hf", tensors)
    with pytest.raises(PortError, match=r"mlm_head\.dense\.bias"):
        port(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "change, match",
    [
        ({"model_type": "roberta"}, "should be BERT's"),
        ({"position_embedding_type": "relative_key"}, "absolute positions"),
        ({"hidden_act": "relu"}, "`hidden_act`"),
        ({"vocab_size": WORDS + 1}, "word pieces of the embeddings. Received: 9"),
        ({"intermediate_size": INNER + 1}, r"\[20, 12\].*\[12, 21\]"),
    ],
)
def test_config_that_does_not_fit(tmp_path, weights, change, match):
    tensors = hugging_face_weights(weights)
    folder = write_hugging_face(tmp_path / "hf", tensors, CONFIG | change)
    with pytest.raises(ValueError, match=match):
        port(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_missing_vocabulary_truncated_file_and_other_weights(
    tmp_path, release, weights
):
    folder = write_hugging_face(tmp_path / "hf", hugging_face_weights(weights))
    (tmp_path / "hf" / "vocab.txt").rename(tmp_path / "words.txt")
    with pytest.raises(FileNotFoundError, match="name it by --vocab_file"):
        port(folder, tmp_path / "out")
    vocab_file = str(tmp_path / "words.txt")
    path = tmp_path / "hf" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="whole safetensors file"):
        port(folder, tmp_path / "out", vocab_file=vocab_file)
    save_file({"lstm.kernel": np.ones(3, np.float32)}, path)
    with pytest.raises(ValueError, match="another architecture"):
        port(folder, tmp_path / "out", vocab_file=vocab_file)
    with pytest.raises(ValueError, match="use kaleido_tf.port.easytransfer"):
        port(
            release.prefix,
            tmp_path / "out",
            config=f"{folder}/config.json",
            vocab_file=vocab_file,
        )
    assert not (tmp_path / "out").exists()
