"""Port: the files around the weights: config, vocabulary, the run folder it writes."""

import contextlib
import json
import os
import shutil
import tempfile

from kaleido_tf.data.tokenization import read_vocabulary
from kaleido_tf.training import checkpoints

TABLE_NAME = "port.txt"
VOCAB_NAME = "vocab.txt"


@contextlib.contextmanager
def new_folder(path):
    """Yields a temporary folder that becomes `path` if the block raises nothing.

    Args:
      path: the folder to make: new, or empty.

    Raises:
      FileExistsError: it has content.
      PermissionError, NotADirectoryError: it can't be made there.
    """
    path = os.path.realpath(path)
    if os.path.isdir(path) and os.listdir(path):
        raise FileExistsError(
            f"`output_dir` should be a new or an empty folder. Received: {path}, which "
            f"holds {sorted(os.listdir(path))[:5]} (name another)"
        )
    if os.path.lexists(path) and not os.path.isdir(path):
        raise FileExistsError(
            f"`output_dir` should be a new folder. Received: {path}, which is a file"
        )
    parent = os.path.dirname(path)
    made = _missing_folders(parent)
    temporary = None
    try:
        temporary = _make_beside(path, parent)
        yield temporary
        os.chmod(temporary, 0o755)
        os.replace(temporary, path)
    except BaseException:
        if temporary:
            shutil.rmtree(temporary, ignore_errors=True)
        for folder in made:
            with contextlib.suppress(OSError):
                os.rmdir(folder)
        raise


def _missing_folders(folder):
    """`folder` and those above it that aren't there yet, the deepest first."""
    missing = []
    while not os.path.lexists(folder):
        missing.append(folder)
        folder = os.path.dirname(folder)
    return missing


def _make_beside(path, parent):
    try:
        os.makedirs(parent, exist_ok=True)
        return tempfile.mkdtemp(prefix=".port-", dir=parent)
    except OSError as error:
        raise type(error)(
            f"`output_dir` should be a folder that can be written. Received: {path}: "
            f"{error.strerror} (name another, or change the rights of {parent})"
        ) from error


def write_run(folder, model, config, report):
    """Writes what every command that takes a run folder needs.

    Args:
      folder: an existing folder.
      model: the model with the ported weights.
      config: its `KaleidoConfig`.
      report: `PortReport`; its `vocab_file` is copied.
    """
    config.save(os.path.join(folder, checkpoints.CONFIG_NAME))
    checkpoints.CheckpointKeeper(folder, model).save(0)
    with open(os.path.join(folder, TABLE_NAME), "w", encoding="utf-8") as file:
        file.write(report.table())
    if report.vocab_file:
        shutil.copyfile(report.vocab_file, os.path.join(folder, VOCAB_NAME))


def check_vocabulary(vocab_file, vocab_size):
    """Raises ValueError for a vocab.txt without a piece for every embedding."""
    pieces = len(read_vocabulary(vocab_file))
    if pieces != vocab_size:
        raise ValueError(
            f"{vocab_file} should have the {vocab_size} word pieces of the "
            f"embeddings. Received: {pieces}"
        )


def _folder(path):
    path = os.fspath(path)
    return path if os.path.isdir(path) else os.path.dirname(os.path.abspath(path))


def vocab_beside(path):
    """The vocab.txt in the folder of a file (or in the folder itself), or None."""
    vocab_file = os.path.join(_folder(path), VOCAB_NAME)
    return vocab_file if os.path.isfile(vocab_file) else None


def config_beside(path):
    """Where the config of weights should be: config.json or bert_config.json."""
    names = (checkpoints.CONFIG_NAME, "bert_config.json")
    paths = [os.path.join(_folder(path), name) for name in names]
    return next((p for p in paths if os.path.isfile(p)), paths[0])


def read_json(path, what):
    """The dict in a JSON file.

    Args:
      path: the file.
      what: what it should be, for the error.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f"{path} should be {what}. Received: no such file (it belongs "
            "beside the weights; the commands of kaleido_tf.port have --config)"
        )
    try:
        with open(path, encoding="utf-8") as file:
            values = json.load(file)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} should be {what}. Received: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(
            f"{path} should be {what}. Received: a {type(values).__name__}"
        )
    return values
