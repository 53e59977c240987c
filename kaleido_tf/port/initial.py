"""Port: what `--init_checkpoint` means: recognises a checkpoint and loads it.

Four kinds: ours (a run folder or a prefix), the original release's, Google's BERT, and
Hugging Face's BERT (a folder or a model.safetensors).
"""

from kaleido_tf.data.tokenization import check_same_vocabulary
from kaleido_tf.port import bert, easytransfer, files, ours, readers
from kaleido_tf.training import checkpoints, run_folder

KINDS = ("ours", "easytransfer", "google_bert", "hugging_face")
# `KaleidoConfig` fields that the stored weights decide.
SHAPE_FIELDS = (
    "vocab_size",
    "hidden_size",
    "num_layers",
    "num_heads",
    "intermediate_size",
    "max_position_embeddings",
    "type_vocab_size",
    "patch_type_vocab_size",
    "gelu",
    "layer_norm_epsilon",
)


def kind_of(path):
    """What a checkpoint is: one of `KINDS`.

    Args:
      path: run folder, checkpoint prefix, folder or .safetensors file.

    Raises:
      FileNotFoundError: nothing there.
      ValueError: none of the four.
    """
    if bert.is_safetensors(path):
        return "hugging_face"
    names = readers.CheckpointReader(find_prefix(path)).shapes
    if readers.OBJECT_GRAPH in names:
        if any(name.startswith("encoder/") for name in names):
            return "ours"
    elif easytransfer.is_release(names):
        return "easytransfer"
    elif bert.is_bert(names, bert.GOOGLE):
        return "google_bert"
    raise ValueError(
        f"{path} should be a checkpoint of ours, of the Kaleido-BERT release, or of "
        f"BERT (Google's or Hugging Face's). Received: {len(names)} variables such as "
        f"{list(names)[:3]}"
    )


def find_prefix(path):
    """The checkpoint that `path` means: in a run folder of ours the last whole one."""
    try:
        return checkpoints.checkpoint_prefix(path)
    except FileNotFoundError:
        return readers.checkpoint_prefix(path)


def load_any(model, path, vocab_file=None, allow_missing=(), allow_unused=(), fresh=()):
    """Starts a model's weights from a checkpoint of any of the four kinds.

    Args:
      model: any model of `kaleido_tf.modeling` that contains the encoder.
      path: see `kind_of`.
      vocab_file: the vocabulary of the data; if the checkpoint brings its own
        vocab.txt, both must hold the same word pieces. None: not compared.
      allow_missing, allow_unused: see `mapping.load`; for ours, names of heads.
      fresh: see `ours.load_checkpoint`; the other kinds know the paper's heads alone.

    Returns:
      `PortReport`; its `summary()` is a line, its `table()` has every variable.

    Raises:
      FileNotFoundError: nothing there.
      ValueError: none of the four kinds, damaged, or it doesn't fit the model.
    """
    kind = kind_of(path)
    if kind == "ours":  # a ported one's lies in its run folder
        prefix = checkpoints.checkpoint_prefix(path)
        brought = checkpoints.run_file(prefix, files.VOCAB_NAME)
    else:
        brought = files.vocab_beside(path)
    if vocab_file and brought:
        check_same_vocabulary(vocab_file, brought)
    if kind == "ours":
        return ours.load_checkpoint(model, path, allow_missing, fresh)
    module = easytransfer if kind == "easytransfer" else bert
    return module.load_checkpoint(model, path, allow_missing, allow_unused)


def read_sizes(path, run_dir=None):
    """The `KaleidoConfig` fields that the encoder of a checkpoint decides: dict.

    Args:
      path: see `kind_of`; its config must lie beside it.
      run_dir: of the run that starts from it. One that goes on has them in its own
        config; `path` may be gone by then.
    """
    try:
        return _read_sizes(path)
    except FileNotFoundError:
        own = run_folder.started_config(run_dir)
        if own is None:
            raise
        return {name: getattr(own, name) for name in SHAPE_FIELDS}


def _read_sizes(path):
    kind = kind_of(path)
    if kind in ("google_bert", "hugging_face"):
        sizes = bert.read_sizes(files.config_beside(path), kind == "hugging_face")
        return {name: sizes[name] for name in SHAPE_FIELDS if name in sizes}
    if kind == "ours":
        config = checkpoints.run_config(path)
    else:
        config = easytransfer.read_config(files.config_beside(find_prefix(path)))
    return {name: getattr(config, name) for name in SHAPE_FIELDS}
