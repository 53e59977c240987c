"""Port: checkpoints of the original release (TensorFlow 1.15, EasyTransfer) -> ours.

CLI: writes a run folder (config.json, checkpoints/, port.txt with the table) which
every command that takes a run folder accepts.
"""

import os
import re

from kaleido_tf import cli
from kaleido_tf.config import KaleidoConfig
from kaleido_tf.files import write_json
from kaleido_tf.modeling import build_pretrainer
from kaleido_tf.port import files, mapping, readers
from kaleido_tf.port.names import EASYTRANSFER_NAMES
from kaleido_tf.port.report import PortError
from kaleido_tf.training import run_data

# One root scope, whose first part differs between versions of the release.
_ROOT = re.compile(r"^(.*/)?[^/]*pre_trained_model/")
# What a training checkpoint holds besides the model, by any component of the name.
OPTIMIZER_NAMES = (
    (r"(^|/)(Adam\w*|adam_[mv])(/|$)", "optimizer slot"),
    (r"(^|/)beta[12]_power(_\d+)?(/|$)", "optimizer slot"),
    (r"(^|/)global_step(/|$)", "step counter"),
)
ALIGNMENT = (
    r"encoder\.vector_projection\.",
    "the alignment before fusion is not in the release: fresh",
)


def strip_root(name):
    """A stored name without its root scope, if it has one."""
    return _ROOT.sub("", name)


FORMAT = mapping.Format(
    kind="release checkpoint",
    rows=EASYTRANSFER_NAMES,
    canonical=strip_root,
    skip=OPTIMIZER_NAMES,
    fresh=(ALIGNMENT,),
)


def load_checkpoint(model, checkpoint_path, allow_missing=(), allow_unused=()):
    """Loads a checkpoint of the release into any model that contains the encoder.

    Google's BERT, the release's own starting point, is loaded too: its text side, the
    patch side stays as it is (`bert.load_checkpoint`, which also takes Hugging Face's).

    Args:
      model: of `kaleido_tf.modeling`: pre-trainer, matcher, classifier, captioner or
        the encoder alone. Heads of its own task stay as they are.
      checkpoint_path: prefix of the checkpoint, one of its files or its folder.
      allow_missing, allow_unused: see `mapping.load`.

    Returns:
      `PortReport`: what was loaded, skipped by rule and left over on either side.

    Raises:
      FileNotFoundError: no such checkpoint, or a file of it is missing.
      PortError: file and model differ; the model is as before.
      ValueError: a damaged file, or a checkpoint of another architecture.

    Example:
      >>> config = KaleidoConfig.from_easytransfer("config.json")
      >>> matcher = build_matcher(config)
      >>> print(load_checkpoint(matcher, "kaleidobert.ckpt").summary())
    """
    from kaleido_tf.port import bert  # which itself needs this module's names

    reader = readers.CheckpointReader(checkpoint_path)
    if bert.is_bert(reader.shapes, bert.GOOGLE):
        return bert.load_checkpoint(model, checkpoint_path, allow_missing, allow_unused)
    check_kind(reader)
    mapping.check_heads(model, files.config_beside(reader.path))
    report = mapping.load(model, reader, FORMAT, allow_missing, allow_unused)
    report.vocab_file = files.vocab_beside(reader.path)
    return report


def is_release(names):
    """True if any of the stored names is of the release's patch side or heads."""
    own = {row[1] for row in EASYTRANSFER_NAMES if not is_text_side(row[1])}
    return any(strip_root(name) in own for name in names)


def is_text_side(name):
    """True for names that BERT has, too."""
    text = ("embeddings", "encoder", "pooler")
    scopes = tuple(f"bert/{scope}/" for scope in text)
    return name.startswith((*scopes, "cls/predictions/", "cls/seq_relationship/"))


def check_kind(reader):
    """Raises ValueError for a checkpoint that isn't the release's."""
    if is_release(reader.shapes):
        return
    hint = "this is another architecture"
    if readers.OBJECT_GRAPH in reader.shapes:
        hint = "this is a TensorFlow 2 checkpoint; ours need no port"
    elif any(is_text_side(strip_root(name)) for name in reader.shapes):
        hint = "this looks like BERT; use kaleido_tf.port.bert"
    raise ValueError(
        f"{reader.path} should be a checkpoint of the Kaleido-BERT release, with names "
        "as PREFIX_pre_trained_model/bert/rotation_embeddings/rotation_projector. "
        f"Received: {len(reader.shapes)} variables such as {list(reader.shapes)[:3]} "
        f"({hint})"
    )


def read_config(path):
    """The release's config.json -> `KaleidoConfig`."""
    files.read_json(path, "the config.json of the checkpoint")  # its errors say more
    return KaleidoConfig.from_easytransfer(path)


def port(checkpoint, config, output_dir, allow_missing=(), allow_unused=()):
    """Writes a checkpoint of the release as a run folder of ours.

    Args:
      checkpoint: see `load_checkpoint`.
      config: path of the release's config.json.
      output_dir: a new folder.
      allow_missing, allow_unused: see `mapping.load`.

    Returns:
      `PortReport`. Errors as `load_checkpoint`; then nothing is written.
    """
    with files.new_folder(output_dir) as folder:
        kaleido_config = read_config(config)
        reader = readers.CheckpointReader(checkpoint)
        check_kind(reader)
        model = build_pretrainer(kaleido_config)
        report = load_checkpoint(model, checkpoint, allow_missing, allow_unused)
        if report.vocab_file:
            files.check_vocabulary(report.vocab_file, kaleido_config.vocab_size)
        files.write_run(folder, model, kaleido_config, report)
        # Its weights expect the integers of the release's lines.
        note = {"location rule": "stored"}
        write_json(note, os.path.join(folder, run_data.FILE_NAME))
    return report


def flag_page():
    """The command's flags; defined on the call, so that importing defines none."""
    page = cli.FlagPage(
        "Ports a checkpoint of the original Kaleido-BERT release (TensorFlow 1)."
    )
    page.heading("What to port")
    page.string(
        "checkpoint",
        None,
        "Prefix of the checkpoint (PREFIX.index, PREFIX.data-00000-of-00001), or the "
        "folder that holds it. A vocab.txt beside it is taken along.",
        required=True,
    )
    page.string("config", None, "The config.json that belongs to it.", required=True)
    page.string("output_dir", None, "New folder for the result.", required=True)
    allow_flags(page)
    return page


def allow_flags(page):
    """Adds --allow_missing and --allow_unused to a page."""
    page.heading("Differences that are meant")
    page.list(
        "allow_missing",
        [],
        "Regular expressions, comma-separated: variables of the model, by our whole "
        "name or the file's, that may be missing in the file and start fresh.",
    )
    page.list(
        "allow_unused",
        [],
        "Regular expressions, comma-separated: variables of the file, by their whole "
        "name, that the model may have no place for.",
    )


def run(port_function, settings):
    """Ports with a dict of flags; prints the table, also where it ends in an error."""
    try:
        report = port_function(**settings)
    except PortError as error:
        print(error.report.table())
        raise
    print(report.table())
    print(f"{report.summary()}\nWritten to {settings['output_dir']}")


if __name__ == "__main__":
    _PAGE = flag_page()
    cli.run(lambda: run(port, _PAGE.values()), _PAGE)
