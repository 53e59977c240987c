import contextlib
import os
import resource

import numpy as np
import pytest
import tensorflow as tf

from kaleido_tf.config import KaleidoConfig
from kaleido_tf.modeling import build_matcher, build_pretrainer
from kaleido_tf.training import checkpoints, optimization

CONFIG = KaleidoConfig(
    vocab_size=19,
    hidden_size=8,
    num_layers=1,
    num_heads=2,
    intermediate_size=8,
    text_length=5,
    patch_feature_size=3,
    max_position_embeddings=6,
)


def make_keeper(folder, keep=3):
    model = build_pretrainer(CONFIG)
    optimizer = optimization.make_optimizer(0.1, 10, 0)
    optimizer.build(model.trainable_variables)
    return model, checkpoints.CheckpointKeeper(str(folder), model, optimizer, keep)


def set_all(model, value):
    for variable in model.trainable_variables:
        variable.assign(tf.fill(variable.shape, float(value)))


def values_of(model):
    return {float(np.unique(v)[0]) for v in model.trainable_variables}


def test_the_last_checkpoints_are_kept_and_restored(tmp_path):
    model, keeper = make_keeper(tmp_path, keep=2)
    for step in (5, 10, 15):
        set_all(model, step)
        keeper.save(step)
    found = checkpoints.whole_checkpoints(keeper.folder)
    assert [step for step, _ in found] == [10, 15]
    names = {name.split(".")[0] for name in os.listdir(keeper.folder)}
    assert names == {"ckpt-10", "ckpt-15"}
    fresh, keeper = make_keeper(tmp_path)
    assert keeper.restore_state()[0] == 15
    assert values_of(fresh) == {15.0}


def test_an_empty_folder_starts_at_zero(tmp_path):
    assert make_keeper(tmp_path)[1].restore_state()[0] == 0


@pytest.mark.parametrize("damage", ["no done file", "cut data", "no index"])
def test_a_half_written_checkpoint_is_passed_by(tmp_path, damage):
    model, keeper = make_keeper(tmp_path)
    set_all(model, 1)
    keeper.save(1)
    set_all(model, 2)
    prefix = keeper.save(2)
    if damage == "no done file":
        os.remove(prefix + ".done")
    elif damage == "no index":
        os.remove(prefix + ".index")
    else:
        os.truncate(prefix + ".data-00000-of-00001", 100)
    fresh, keeper = make_keeper(tmp_path)
    assert keeper.restore_state()[0] == 1
    assert values_of(fresh) == {1.0}


def test_a_matcher_takes_what_it_shares_with_the_pretrainer(tmp_path):
    model, keeper = make_keeper(tmp_path)
    prefix = keeper.save(3)
    matcher = build_matcher(CONFIG)
    for path in (str(tmp_path), keeper.folder, prefix, prefix + ".index"):
        set_all(matcher, 7)
        assert checkpoints.load_weights(matcher, path) == prefix
        head = model.get_layer("itm_head").kernel
        np.testing.assert_array_equal(matcher.get_layer("itm_head").kernel, head)
    table = model.get_layer("encoder").get_layer("text_embedding").word.embeddings
    loaded = matcher.get_layer("encoder").get_layer("text_embedding").word.embeddings
    np.testing.assert_array_equal(loaded, table)


def test_a_missing_head_and_another_config_are_errors(tmp_path):
    matcher = build_matcher(CONFIG)
    optimizer = optimization.make_optimizer(0.1, 10, 0)
    optimizer.build(matcher.trainable_variables)
    checkpoints.CheckpointKeeper(str(tmp_path), matcher, optimizer).save(1)
    with pytest.raises(ValueError, match="Missing.*blank_head"):
        checkpoints.load_weights(build_pretrainer(CONFIG), str(tmp_path))
    with pytest.raises(ValueError, match="same sizes, whole"):
        checkpoints.load_weights(
            build_matcher(CONFIG.replace(hidden_size=16)), str(tmp_path)
        )
    with pytest.raises(FileNotFoundError, match="nowhere"):
        checkpoints.load_weights(matcher, str(tmp_path / "nowhere"))


@pytest.mark.parametrize(("stored", "wanted"), [(0, 4), (4, 0)])
def test_alignment_before_fusion_on_one_side_only(tmp_path, stored, wanted):
    source = build_matcher(CONFIG.replace(contrastive_size=stored))
    set_all(source, 2)
    CONFIG.replace(contrastive_size=stored).save(tmp_path / "config.json")
    checkpoints.CheckpointKeeper(str(tmp_path), source).save(1)
    model = build_matcher(CONFIG.replace(contrastive_size=wanted))
    checkpoints.load_weights(model, str(tmp_path))
    encoder = model.get_layer("encoder")
    vectors = encoder.get_layer("vector_projection").weights if wanted else []
    loaded = [v for v in model.weights if not any(v is w for w in vectors)]
    assert all(np.all(v == 2.0) for v in loaded if v.dtype == tf.float32)
    assert not any(np.all(v == 2.0) for v in vectors)


def test_truncated_files_are_named(tmp_path):
    model, keeper = make_keeper(tmp_path)
    prefix = keeper.save(3)
    os.truncate(f"{prefix}.data-00000-of-00001", 100)
    with pytest.raises(ValueError, match="ckpt-3 should hold .*truncated or damaged"):
        checkpoints.load_weights(model, prefix)
    os.truncate(f"{prefix}.index", 20)
    with pytest.raises(ValueError, match="ckpt-3 should hold .*truncated or damaged"):
        checkpoints.load_weights(model, prefix)


def test_config_of_a_run_and_what_a_path_means(tmp_path):
    keeper = make_keeper(tmp_path)[1]
    prefix = keeper.save(3)
    with pytest.raises(FileNotFoundError, match="ckpt-3 should lie in its run folder"):
        checkpoints.run_config(prefix)
    CONFIG.save(tmp_path / "config.json")
    for path in (str(tmp_path), keeper.folder, prefix):
        assert checkpoints.run_config(path) == CONFIG


@contextlib.contextmanager
def files_of_at_most(size):
    """A bound on a file's size, bytes, which stands for the end of the disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_the_last_whole_checkpoint(tmp_path):
    model, keeper = make_keeper(tmp_path)
    set_all(model, 1)
    keeper.save(1)
    set_all(model, 2)
    with (
        files_of_at_most(2000),
        pytest.raises(OSError, match=r"should have room.*ckpt-1; make room"),
    ):
        keeper.save(2)
    assert {name.split(".")[0] for name in os.listdir(keeper.folder)} == {"ckpt-1"}
    fresh, keeper = make_keeper(tmp_path)
    assert keeper.restore_state()[0] == 1 and values_of(fresh) == {1.0}


def test_the_state_of_a_round_comes_back_with_its_checkpoint(tmp_path):
    model, keeper = make_keeper(tmp_path)
    set_all(model, 1)
    state = {"loss/total": [2.5, 4.0]}
    keeper.save(6, state)
    assert make_keeper(tmp_path)[1].restore_state() == (6, state)
    keeper.save(6)  # the round's end at the same step
    assert make_keeper(tmp_path)[1].restore_state() == (6, None)


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    model, keeper = make_keeper(tmp_path)
    set_all(model, 1)
    keeper.save(1)
    set_all(model, float("nan"))
    with pytest.raises(ValueError, match="NaN or infinity after step 2.*ckpt-1"):
        keeper.save(2)
    assert make_keeper(tmp_path)[1].restore_state()[0] == 1


def test_what_a_killed_process_left_half_written_is_removed(tmp_path):
    keeper = make_keeper(tmp_path)[1]
    keeper.save(4)
    folder = tmp_path / "checkpoints"
    (folder / "ckpt-8_temp").mkdir()
    (folder / "ckpt-8_temp" / "part-00000-of-00001.index").write_text("half")
    (folder / "ckpt-12.index").write_text("half")
    (folder / "ckpt-2.index").write_text("of an earlier step: not ours to judge")
    reader = make_keeper(tmp_path)[1]
    reader.writes = False
    reader.remove_half_written(after=4)
    assert len(os.listdir(folder)) == 6
    assert reader.save(5) is None and len(os.listdir(folder)) == 6
    keeper.remove_half_written(after=4)
    names = {name.split(".")[0] for name in os.listdir(folder)}
    assert names == {"ckpt-4", "ckpt-2"}


def test_damage_that_does_not_show_in_the_sizes_is_named(tmp_path):
    keeper = make_keeper(tmp_path)[1]
    prefix = keeper.save(4)
    with open(f"{prefix}.data-00000-of-00001", "r+b") as file:
        file.seek(2000)
        content = file.read(8)
        file.seek(2000)
        file.write(bytes(byte ^ 255 for byte in content))
    with pytest.raises(ValueError, match="ckpt-4 should be readable.*before it"):
        make_keeper(tmp_path)[1].restore_state()[0]
    prefix = keeper.save(6)
    with open(f"{prefix}.index", "r+b") as file:
        content = bytearray(file.read())
        file.seek(0)
        file.write(bytes(byte ^ 255 for byte in content))
    with pytest.raises(ValueError, match="ckpt-6 should be readable.*before it"):
        make_keeper(tmp_path)[1].restore_state()[0]


def test_a_round_that_ends_at_a_whole_checkpoint_never_undoes_it(tmp_path):
    """Neither without room nor killed at any moment: each call here may be the last."""
    model, keeper = make_keeper(tmp_path)
    state = {"loss/total": [2.5, 4.0]}
    set_all(model, 1)
    keeper.keep = 1
    prefix = keeper.save(4, state)
    with (
        files_of_at_most(0),
        pytest.raises(OSError, match=r"should have room.*ckpt-4; make room"),
    ):
        keeper.save(4)
    assert make_keeper(tmp_path)[1].restore_state() == (4, state)
    fresh, other = make_keeper(tmp_path)
    seen = []

    class Killed(Exception):
        pass

    for last in range(2):  # calls of `os` that rewriting makes: replace, remove
        for name in ("replace", "remove"):
            calls = iter(range(100))
            whole = getattr(os, name)

            def call(*paths, whole=whole, calls=calls, last=last):
                if next(calls) == last:
                    raise Killed
                whole(*paths)

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(os, name, call)
                with contextlib.suppress(Killed):
                    keeper.save(4)
            set_all(fresh, 0)
            step, found = other.restore_state()
            assert step == 4 and found in (state, None) and values_of(fresh) == {1.0}
            seen.append(found)
            keeper.save(4, state)
            assert other.restore_state() == (4, state)
    assert state in seen and None in seen
    assert os.path.exists(f"{prefix}.round")
