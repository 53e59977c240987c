"""Port: BERT's weights, Google's (TensorFlow 1) or Hugging Face's -> our text side.

The patch side starts fresh, and the report lists it. CLI: writes a run folder with
config.json, checkpoints/, vocab.txt and port.txt with the table.
"""

import os
import re

import numpy as np
import tensorflow as tf
import tf_keras

from kaleido_tf import cli
from kaleido_tf.config import PATCH_ARMS, KaleidoConfig
from kaleido_tf.modeling import build_pretrainer
from kaleido_tf.port import easytransfer, files, mapping, readers
from kaleido_tf.port.names import EASYTRANSFER_NAMES

# The text side has the same names in BERT and in the release. Its next-sentence head
# judged whether two sentences belong together, class 0 for yes; our class 1 is yes.
_GOOGLE_NAMES = tuple(
    (
        ours,
        name,
        f"swap {change}" if name.startswith("cls/seq_relationship") else change,
    )
    for ours, name, change in EASYTRANSFER_NAMES
    if easytransfer.is_text_side(name)
)
# A linear layer's weight is [out, in] there.
_HUGGING_FACE_NAMES = tuple(
    (ours, name, f"transpose {change}" if name.endswith("/kernel") else change)
    for ours, name, change in _GOOGLE_NAMES
)
# Hugging Face's names -> Google's, applied in this order, before "." becomes "/".
_RENAMES = (
    (r"^((model|module)\.)+", ""),
    (r"^(bert\.)?(?!cls\.)", "bert."),
    (r"\.encoder\.layer\.(\d+)\.", r".encoder.layer_\1."),
    (r"LayerNorm\.weight$", "LayerNorm.gamma"),
    (r"LayerNorm\.bias$", "LayerNorm.beta"),
    (r"_embeddings\.weight$", "_embeddings"),
    (r"^cls\.predictions\.bias$", "cls.predictions.output_bias"),
    (r"^cls\.seq_relationship\.weight$", "cls.seq_relationship.output_weights"),
    (r"^cls\.seq_relationship\.bias$", "cls.seq_relationship.output_bias"),
    (r"\.weight$", ".kernel"),
)
_WORDS = "embeddings.word_embeddings.weight"
_FRESH = (
    (r"encoder\.position_projection\.", "patch side: fresh"),
    (
        r"(rotation|jigsaw|camouflage|grey|blank)_(embedding|head)\.",
        "patch side: fresh",
    ),
    (r"encoder\.vector_projection\.", "alignment before fusion: fresh"),
)
_OPTIONAL = tuple(
    (rf"{part}\.", "not in this BERT: fresh")
    for part in (r"encoder\.pooler", "mlm_head", "itm_head")
)
# Which GELU a config.json means; Google's code has the tanh approximation.
_GELU = {
    "gelu": "exact",
    "gelu_python": "exact",
    "gelu_new": "tanh",
    "gelu_fast": "tanh",
    "gelu_pytorch_tanh": "tanh",
}
# BERT's config keys -> ours; the first block is needed.
_NEEDED_KEYS = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "num_hidden_layers": "num_layers",
    "num_attention_heads": "num_heads",
    "intermediate_size": "intermediate_size",
    "max_position_embeddings": "max_position_embeddings",
    "type_vocab_size": "type_vocab_size",
}
_OTHER_KEYS = {
    "hidden_dropout_prob": "hidden_dropout",
    "attention_probs_dropout_prob": "attention_dropout",
    "initializer_range": "initializer_range",
    "layer_norm_eps": "layer_norm_epsilon",
}


def google_name(name):
    """`encoder.layer.0.files.dense.weight` -> `bert/encoder/layer_0/.../kernel`."""
    for pattern, replacement in _RENAMES:
        name = re.sub(pattern, replacement, name)
    return name.replace(".", "/")


GOOGLE = mapping.Format(
    kind="Google BERT checkpoint",
    rows=_GOOGLE_NAMES,
    canonical=easytransfer.strip_root,
    skip=easytransfer.OPTIMIZER_NAMES,
    fresh=_FRESH,
    optional=_OPTIONAL,
)
HUGGING_FACE = mapping.Format(
    kind="Hugging Face BERT weights",
    rows=_HUGGING_FACE_NAMES,
    canonical=google_name,
    skip=(
        (r"embeddings\.position_ids$", "counts the positions, no weight"),
        (r"^cls\.predictions\.decoder\.weight$", "tied to the word embeddings"),
        (r"^cls\.predictions\.decoder\.bias$", "the same as cls.predictions.bias"),
    ),
    fresh=_FRESH,
    optional=_OPTIONAL,
)


def is_safetensors(path):
    """True if `path` is a .safetensors file or a folder with model.safetensors."""
    path = os.fspath(path)
    return path.endswith(".safetensors") or os.path.isfile(
        os.path.join(path, "model.safetensors")
    )


def load_checkpoint(model, checkpoint_path, allow_missing=(), allow_unused=()):
    """Loads BERT's weights into the text side of any model with the encoder.

    Args:
      model: of `kaleido_tf.modeling`; its patch side stays as it is.
      checkpoint_path: Google's prefix (or its folder), or Hugging Face's folder or
        model.safetensors.
      allow_missing, allow_unused: see `mapping.load`.

    Returns:
      `PortReport`. Errors as `easytransfer.load_checkpoint`.
    """
    reader, form = _open(checkpoint_path)
    mapping.check_heads(model, files.config_beside(reader.path))
    _check_tied(reader, allow_unused)
    report = mapping.load(model, reader, form, allow_missing, allow_unused)
    report.vocab_file = files.vocab_beside(reader.path)
    return report


def _open(path):
    """(reader, `Format`) of BERT weights; ValueError where they aren't BERT's."""
    if is_safetensors(path):
        reader, form = readers.SafetensorsReader(path), HUGGING_FACE
    else:
        reader, form = readers.CheckpointReader(path), GOOGLE
    _check_kind(reader, form)
    return reader, form


def _check_tied(reader, allow_unused):
    """Raises ValueError where the masked-LM head has a matrix of its own.

    Ours multiplies by the word embeddings, as BERT's does.
    """
    name = "cls.predictions.decoder.weight"
    words = next((n for n in reader.shapes if n.endswith(_WORDS)), None)
    if name not in reader.shapes or words is None:
        return
    if any(re.fullmatch(pattern, name) for pattern in allow_unused):
        return
    own, tied = reader.read(name), reader.read(words)
    if own.shape != tied.shape or not np.array_equal(own, tied):
        raise ValueError(
            f"{name} of {reader.path} should be the word embeddings, as BERT ties "
            "them. Received: another matrix (ours has no place for it; name it in "
            "--allow_unused of kaleido_tf.port.bert to go without)"
        )


def text_states(encoder, word_ids, mask, type_ids):
    """Hidden states of the text alone, as BERT computes them: to check a port.

    Args:
      encoder: of `build_encoder`.
      word_ids, mask, type_ids: int32 [B, T].

    Returns:
      list of float32 [B, T, H]: the embeddings, then each layer's.
    """
    layers = {layer.name: layer for layer in encoder.layers}
    states = [layers["text_embedding"](word_ids, type_ids)]
    attention_mask = layers["attention_mask"](states[0], mask)
    for i in range(sum(name.startswith("layer_") for name in layers)):
        states.append(layers[f"layer_{i}"]([states[-1], attention_mask]))
    return [tf.cast(state, tf.float32) for state in states]


def is_bert(names, form):
    """True if stored names hold BERT's word embeddings, and no patch side."""
    canonical = {form.canonical(name) for name in names}
    words = "bert/embeddings/word_embeddings" in canonical
    return words and not easytransfer.is_release(names)


def _check_kind(reader, form):
    if is_bert(reader.shapes, form):
        return
    hint = "this is another architecture"
    if easytransfer.is_release(reader.shapes):
        hint = "this is of the Kaleido-BERT release; use kaleido_tf.port.easytransfer"
    raise ValueError(
        f"{reader.path} should hold BERT's variables, with names as "
        "bert/embeddings/word_embeddings or bert.embeddings.word_embeddings.weight. "
        f"Received: {len(reader.shapes)} such as {list(reader.shapes)[:3]} ({hint})"
    )


def read_sizes(path, hugging_face):
    """What BERT's config decides of ours: dict of `KaleidoConfig` fields.

    Args:
      path: its config.json or bert_config.json.
      hugging_face: True for Hugging Face's, whose "gelu" is the exact one.
    """
    values = files.read_json(path, "the config of the BERT weights")
    missing = [key for key in _NEEDED_KEYS if key not in values]
    kind = values.get("model_type", "bert")
    positions = values.get("position_embedding_type", "absolute")
    if missing or kind != "bert" or positions != "absolute":
        raise ValueError(
            f"{path} should be BERT's, with absolute positions. Received: model_type="
            f"{kind!r}, position_embedding_type={positions!r}, missing keys: {missing}"
        )
    activation = values.get("hidden_act", "gelu")
    if activation not in _GELU:
        raise ValueError(
            f"`hidden_act` of {path} should be one of {sorted(_GELU)}. Received: "
            f"{activation!r}"
        )
    keys = _NEEDED_KEYS | {k: v for k, v in _OTHER_KEYS.items() if k in values}
    sizes = {ours: values[theirs] for theirs, ours in keys.items()}
    return {**sizes, "gelu": _GELU[activation] if hugging_face else "tanh"}


def port(checkpoint, output_dir, config=None, vocab_file=None, seed=0, **settings):
    """Writes BERT's weights, with a fresh patch side, as a run folder of ours.

    Args:
      checkpoint: see `load_checkpoint`.
      output_dir: a new folder.
      config: path of its config; None: beside the weights.
      vocab_file: its vocab.txt; None: beside the weights.
      seed: of the patch side.
      **settings: `KaleidoConfig` fields that BERT has not (text_length,
        patch_feature_size, patch_arm), and allow_missing, allow_unused.

    Returns:
      `PortReport`. Errors as `load_checkpoint`; then nothing is written.
    """
    allowed = {
        name: settings.pop(name, ()) for name in ("allow_missing", "allow_unused")
    }
    with files.new_folder(output_dir) as folder:
        path = config or files.config_beside(checkpoint)
        _open(checkpoint)  # what it isn't shows before a model is built
        sizes = read_sizes(path, is_safetensors(checkpoint))
        kaleido_config = KaleidoConfig(**{**sizes, **settings})
        vocab_file = _check_vocabulary(vocab_file, checkpoint, kaleido_config)
        tf_keras.utils.set_random_seed(seed)
        model = build_pretrainer(kaleido_config)
        report = load_checkpoint(model, checkpoint, **allowed)
        report.vocab_file = vocab_file
        files.write_run(folder, model, kaleido_config, report)
    return report


def _check_vocabulary(vocab_file, checkpoint, config):
    """The vocabulary's path; it must have a piece for every row of the embeddings."""
    vocab_file = vocab_file or files.vocab_beside(checkpoint)
    if vocab_file is None or not os.path.isfile(vocab_file):
        raise FileNotFoundError(
            "BERT's vocab.txt should lie beside its weights. Received: "
            f"{vocab_file or 'none there'} (name it by --vocab_file)"
        )
    files.check_vocabulary(vocab_file, config.vocab_size)
    return vocab_file


def flag_page():
    """The command's flags; defined on the call, so that importing defines none."""
    page = cli.FlagPage(
        "Ports BERT weights, Google's or Hugging Face's, as a start for pre-training."
    )
    page.heading("What to port")
    page.string(
        "checkpoint",
        None,
        "Google's PREFIX (PREFIX.index, PREFIX.data-00000-of-00001), or Hugging Face's "
        "folder or model.safetensors.",
        required=True,
    )
    page.string(
        "config",
        None,
        "Its config. Default: config.json or bert_config.json beside the weights.",
    )
    page.string("vocab_file", None, "Default: vocab.txt beside the weights.")
    page.string("output_dir", None, "New folder for the result.", required=True)
    page.heading("What BERT does not decide")
    page.integer("text_length", 64, "Word pieces of a text.", lower_bound=3)
    page.integer(
        "patch_feature_size",
        2048,
        "Numbers per patch of the data set's backbone (2048 ResNet-50, 1280 "
        "EfficientNet-Lite0).",
        lower_bound=1,
    )
    page.enum("patch_arm", "kaleido+saliency", list(PATCH_ARMS), "Patches of an image.")
    page.integer("seed", 0, "Of the patch side's fresh weights.")
    easytransfer.allow_flags(page)
    return page


if __name__ == "__main__":
    _PAGE = flag_page()
    cli.run(lambda: easytransfer.run(port, _PAGE.values()), _PAGE)
