"""Wrong inputs of the command: each has its own error, and nothing is written."""

import contextlib
import functools
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from kaleido_tf.modeling import build_pretrainer
from kaleido_tf.port import easytransfer, files
from kaleido_tf.port.report import PortError


@pytest.fixture
def copy(tmp_path, release):
    """A folder with the golden checkpoint, to be damaged."""
    folder = tmp_path / "in"
    shutil.copytree(release.folder, folder)
    return folder


@pytest.fixture(scope="module")
def build_once():
    """The builder with a memory: what is refused leaves a model as it was."""
    return functools.cache(build_pretrainer)


@pytest.fixture
def refuses(tmp_path, copy, build_once, monkeypatch):
    """Checks that porting raises `error` with a text, and leaves no trace."""
    monkeypatch.setattr(easytransfer, "build_pretrainer", build_once)

    def check(error, match, checkpoint=None, config=None, output=None):
        before = set(tmp_path.rglob("*"))
        with pytest.raises(error, match=match):
            easytransfer.port(
                checkpoint=str(checkpoint or copy / "kaleidobert.ckpt"),
                config=str(config or copy / "config.json"),
                output_dir=str(output or tmp_path / "a" / "out"),
            )
        assert set(tmp_path.rglob("*")) == before

    return check


def data_file(copy):
    return copy / "kaleidobert.ckpt.data-00000-of-00001"


def replace_in_config(copy, old, new):
    path = copy / "config.json"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def test_vocabulary_of_other_words(copy, refuses):
    (copy / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n")
    refuses(ValueError, "word pieces of the embeddings. Received: 5")


def test_truncated_data_file(copy, refuses):
    os.truncate(data_file(copy), 100_000)
    refuses(ValueError, "truncated or damaged")


def test_damaged_data_file(copy, refuses):
    content = bytearray(data_file(copy).read_bytes())
    content[70_000] ^= 1
    data_file(copy).write_bytes(content)
    refuses(ValueError, "[Cc]hecksum.*truncated or damaged")


def test_truncated_index(copy, refuses):
    os.truncate(copy / "kaleidobert.ckpt.index", 2000)
    refuses(ValueError, "should be a whole checkpoint index")


def test_missing_index(copy, refuses):
    os.remove(copy / "kaleidobert.ckpt.index")
    refuses(FileNotFoundError, r"kaleidobert\.ckpt\.index\. Received: its data without")


def test_missing_data(copy, refuses):
    os.remove(data_file(copy))
    refuses(FileNotFoundError, r"its index without them")


def test_nothing_of_that_name(copy, refuses):
    missing = copy / "other.ckpt"
    refuses(FileNotFoundError, "nothing of that name", checkpoint=missing)


def test_folder_with_two_checkpoints(copy, release, refuses):
    release.write(copy / "second.ckpt", {"a": np.ones(2, np.float32)})
    refuses(ValueError, "should hold one checkpoint", checkpoint=copy)


@pytest.mark.parametrize(
    "names, hint",
    [
        (["resnet/conv1/kernel", "resnet/fc/bias"], "another architecture"),
        (["bert/embeddings/word_embeddings"], "use kaleido_tf.port.bert"),
        (["_CHECKPOINTABLE_OBJECT_GRAPH", "encoder/x"], "ours need no port"),
    ],
)
def test_checkpoint_of_another_architecture(tmp_path, release, refuses, names, hint):
    values = {name: np.ones([3, 2], np.float32) for name in names}
    prefix = release.write(tmp_path / "other.ckpt", values)
    refuses(ValueError, hint, checkpoint=prefix)


@pytest.mark.parametrize(
    "old, new, match",
    [
        ('"hidden_size": 32', '"hidden_size": 36', r"\[120, 32\].*\[120, 36\]"),
        ('"num_hidden_layers": 2', '"num_hidden_layers": 1', "layer_1/attention"),
        ('"num_hidden_layers": 2', '"num_hidden_layers": 3', r"\(no bert/encoder/la"),
        ('"vocab_size": 120,', '"vocab_size": 121,', r"\[120, 32\].*\[121, 32\]"),
    ],
)
def test_config_that_contradicts_the_shapes(copy, refuses, old, new, match):
    replace_in_config(copy, old, new)
    refuses(PortError, match)


@pytest.mark.parametrize(
    "old, new, match",
    [
        ('label_num": 24', 'label_num": 12', r"img_jigsaw_label_num': \(12, 24\)"),
        ('"img_jigsaw_seq_len": 4', '"img_jigsaw_seq_len": 5', r"seq_len': \(5, 4\)"),
        ('"kaleidobert"', '"roberta"', "model_type"),
        ('"vocab_size": 120,', "", r"Missing keys: \['vocab_size'\]"),
        ('"num_attention_heads": 4', '"num_attention_heads": 5', "multiple of"),
        ("{", "[", "the config.json of the checkpoint. Received:"),
    ],
)
def test_config_that_is_not_the_releases(copy, refuses, old, new, match):
    replace_in_config(copy, old, new)
    refuses(ValueError, match)


def test_missing_config(copy, refuses):
    missing = copy / "none.json"
    refuses(FileNotFoundError, "no such file", config=missing)


def test_values_that_are_not_finite(tmp_path, copy, release, refuses):
    values = release.read(release.prefix)
    values[f"{release.root}cls/predictions/output_bias"][3] = np.nan
    prefix = release.write(tmp_path / "diverged.ckpt", values)
    refuses(ValueError, "output_bias .*finite numbers", checkpoint=prefix)


def test_two_models_in_one_file(tmp_path, release, refuses):
    values = release.read(release.prefix)
    values |= {name.removeprefix(release.root): v for name, v in values.items()}
    prefix = release.write(tmp_path / "twice.ckpt", values)
    refuses(ValueError, "every variable once", checkpoint=prefix)


@contextlib.contextmanager
def without_root():
    """Root may write everywhere: its rights are laid down for a moment."""
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


def test_folder_without_rights(tmp_path, release):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    error = "`output_dir` should be a folder that can be written.*Permission denied"
    with without_root(), pytest.raises(PermissionError, match=error):
        easytransfer.port(release.prefix, release.config_path, str(locked / "out"))
    assert list(tmp_path.rglob("*")) == [locked]


def test_output_that_is_a_file_or_below_one(copy, refuses):
    refuses(FileExistsError, "which is a file", output=copy / "config.json")
    refuses(FileExistsError, "can be written", output=copy / "config.json" / "out")


def test_output_folder_with_content(tmp_path, refuses):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious.txt").write_text("keep")
    refuses(FileExistsError, "precious.txt", output=tmp_path / "full")
    assert (tmp_path / "full" / "precious.txt").read_text() == "keep"


def test_failure_while_writing_leaves_nothing(tmp_path, refuses, monkeypatch):
    def full_disk(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(files, "write_run", full_disk)
    refuses(OSError, "No space left")


def test_command_prints_the_table_and_ends_with_status_1(tmp_path, copy):
    replace_in_config(copy, '"num_hidden_layers": 2', '"num_hidden_layers": 1')
    result = subprocess.run(
        [
            *(sys.executable, "-m", "kaleido_tf.port.easytransfer"),
            f"--checkpoint={copy / 'kaleidobert.ckpt'}",
            f"--config={copy / 'config.json'}",
            f"--output_dir={tmp_path / 'out'}",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert "left over in the file (16)" in result.stdout
    assert "error: " in result.stderr and "16 differences" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()
