"""`dataset_info.json`: what it says, and what doesn't fit it."""

import json
import pathlib

import pytest

from kaleido_tf.config import KaleidoConfig
from kaleido_tf.data import dataset_info
from kaleido_tf.data.dataset_info import DatasetInfo


@pytest.fixture
def info(tmp_path, make_data_set):
    return make_data_set(tmp_path / "data")


def change(info, **changes):
    path = pathlib.Path(info.directory) / dataset_info.FILE_NAME
    path.write_text(json.dumps({**info.values, **changes}))


def make_config(info, **changes):
    fitting = {"vocab_size": info.vocab_size, "patch_feature_size": info.feature_size}
    return KaleidoConfig.preset("tiny", **{**fitting, **changes})


def test_what_it_says(info, vocabulary):
    assert info.vocab_size == len(vocabulary)
    assert (info.feature_size, info.patch_arm) == (6, "kaleido")
    assert info.shapes == dataset_info.records.RecordShapes(55, 6, 3, 16)
    assert info.categories == ["clothing"]
    assert info.subcategories == ["gowns", "tops"]
    assert (info.num_examples("train"), info.num_examples("validation")) == (12, 5)
    assert [shard["num_examples"] for shard in info.shards("train")] == [5, 4, 3]
    names = [pathlib.Path(path).name for path in info.shard_paths("train")]
    assert names == ["train-0.tfrecord", "train-1.tfrecord", "train-2.tfrecord"]
    assert info.find_damage("train") is None
    with pytest.raises(ValueError, match=r"one of \['train', 'validation'\].*'test'"):
        info.num_examples("test")


def test_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="run `python -m data_prep.prepare`"):
        DatasetInfo.load(str(tmp_path))


def test_another_schema_version(info):
    change(info, schema_version=99)
    with pytest.raises(ValueError, match="schema_version 1. Received: 99 .prepare"):
        DatasetInfo.load(info.directory)


@pytest.mark.parametrize("content", ["[1, 2]", '{"a": 1}'])
def test_json_of_something_else(info, content):
    (pathlib.Path(info.directory) / dataset_info.FILE_NAME).write_text(content)
    with pytest.raises(ValueError, match="schema_version 1. Received: None"):
        DatasetInfo.load(info.directory)


def test_no_json(info):
    (pathlib.Path(info.directory) / dataset_info.FILE_NAME).write_text('{"cut')
    with pytest.raises(ValueError, match="dataset_info.json should be JSON. Received"):
        DatasetInfo.load(info.directory)


def test_another_vocabulary(info, vocabulary):
    path = pathlib.Path(info.vocab_file)
    path.write_text("\n".join(reversed(vocabulary)) + "\n")
    with pytest.raises(ValueError, match="vocab.txt should be .* Received one with"):
        DatasetInfo.load(info.directory)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="vocab.txt .* Received: no such file"):
        DatasetInfo.load(info.directory)


def test_shard_of_another_length(info):
    path = pathlib.Path(info.directory) / "train-1.tfrecord"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    message = f"train-1.tfrecord should have {len(whole)} bytes. .*{len(whole) - 1} "
    with pytest.raises(ValueError, match=message + ".run data preparation again"):
        info.shard_paths("train")
    assert "train-1.tfrecord" in info.find_damage("train")
    path.unlink()
    with pytest.raises(ValueError, match="Received: no such file"):
        info.shard_paths("train")


def test_finding_a_flipped_byte(info):
    path = pathlib.Path(info.directory) / "train-2.tfrecord"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    info.shard_paths("train")  # the length says nothing
    assert "train-2.tfrecord: record 1 can't be read" in info.find_damage("train")
    assert info.find_damage("validation") is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab_size": 99}, r"`vocab_size` of the config should be \d+, .* 99 .an"),
        ({"patch_feature_size": 7}, "`patch_feature_size` .* should be 6.* 7 .another"),
        ({"patch_arm": "fixed"}, "`num_patches` .* should be 55, .* Received: 64"),
    ],
)
def test_config_that_does_not_fit(info, changes, message):
    with pytest.raises(ValueError, match=message):
        info.check_config(make_config(info, **changes))


def test_config_that_fits(info):
    info.check_config(make_config(info))
    info.check_config(make_config(info, patch_arm="kaleido+saliency"))


def test_fixed_arm(tmp_path, make_data_set):
    info = make_data_set(tmp_path / "fixed", patch_arm="fixed")
    assert info.shapes == dataset_info.records.RecordShapes(64, 6, 0, 0)
    assert info.find_damage("train") is None
