"""Steps that are left out, counted over restarts."""

from unittest import mock

import pytest
import tensorflow as tf

from kaleido_tf.training.watch import Watch, read_skipped


class FakeModel:
    """What `Watch` reads of a model."""

    def __init__(self, watch, *steps):
        self.watch, self.steps, self.status = watch, steps, tf.zeros([1])

    def bad_steps(self):
        return [step for step in self.steps if step <= self.watch.step]


def test_steps_that_are_left_out_are_counted_over_restarts(tmp_path):
    def watch(start_step):
        made = Watch(
            mock.Mock(latest=lambda: None),
            mock.Mock(signum=None),
            tf.distribute.get_strategy(),
            100,
            start_step,
            skip_nan_steps=3,
            batch_ids=lambda step: [f"p/{step}"],
            run_dir=str(tmp_path),
        )
        return made

    first = watch(0)
    first.set_model(FakeModel(first, 3, 5, 12))
    for _ in range(20):
        first.on_train_batch_end(0)
    assert [r["step"] for r in read_skipped(str(tmp_path), 99)] == [3, 5, 12]
    again = watch(10)  # from a checkpoint before the third one
    again.set_model(FakeModel(again, 3, 5, 18, 19))
    for _ in range(5):
        again.on_train_batch_end(0)
    again.model.steps = [18, 19]
    with pytest.raises(
        ValueError, match="at step 19, after 3 that were.*pictures p/18"
    ):
        for _ in range(5):
            again.on_train_batch_end(0)
    rows = read_skipped(str(tmp_path), 99)
    assert [(r["step"], r["batch"]) for r in rows] == [
        (3, ["p/2"]), (5, ["p/4"]), (18, ["p/17"])
    ]  # fmt: skip
