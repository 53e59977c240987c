"""The step benchmark: batches, counts of operations, turns, and our side's process."""

import json

import numpy as np
import pytest

from benchmarks import step_data, step_process, step_trace, train_step
from kaleido_tf.config import KaleidoConfig


def test_batches_have_the_lengths_of_their_kind():
    full = step_data.make_batch(step_data.FULL, 3, seed=1)
    assert (full["input_mask"] == 1).all()
    batch = step_data.make_batch(step_data.CATALOGUE, 50, seed=1)
    lengths = batch["input_mask"].sum(1)
    assert 20 <= lengths.min() < 25 and 55 < lengths.max() <= 60
    places = batch["masked_lm_positions"]
    assert (places >= 1).all() and (places < lengths[:, None] - 1).all()
    masked = np.take_along_axis(batch["input_word_ids"], places, 1)
    assert (masked == 103).all() and (batch["masked_lm_ids"] >= 999).all()
    assert (batch["input_word_ids"][batch["input_mask"] == 0] == 0).all()


def test_operations_are_counted():
    config = KaleidoConfig(
        vocab_size=10,
        hidden_size=2,
        num_layers=2,
        num_heads=1,
        intermediate_size=3,
        patch_feature_size=5,
        max_predictions=1,
        text_length=5,
    )
    # Layer: 2*4 + 2*6 + 2*2 = 28 weights; 5 + 55 positions; 30 - 9 of them read.
    layer = 2 * 60 * 28 + 4 * 60 * 60 * 2
    project = 2 * 55 * 5 * 2
    assert step_trace.step_flops(config, [5] * 3, "score") == 3 * (
        project + layer + 4 * 60 * 2 * 2
    )
    read = 1 + 1 + 4 + 9 + 2 + 3 + 1
    last = 4 * 60 * 4 + 2 * read * (28 - 8) + 4 * read * 60 * 2
    heads = 2 * 2 * (2 + 10) + 2 * 5 * 2 * 5
    assert step_trace.step_flops(config, [5] * 3, "train") == 3 * (
        2 * project + 3 * (layer + last + heads)
    )


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a/MatMul_1:_MklMatMul", "matrix products"),
        ("AdamW/x:ResourceApplyAdam", "optimizer"),
        ("a/Cast_3:Cast", "changes of number format"),
        ("a/b:Softplus", step_trace.OTHER),
        ("multiply_convert_fusion.clone", step_trace.CHAINS),
        ("ExecutorState::Process", None),
    ],
)
def test_kinds(name, kind):
    assert step_trace.kind_of(name) == kind


class _FakeSide:
    """Answers with given seconds; notes what was asked."""

    def __init__(self, name, log, seconds):
        self._name, self._log, self._seconds = name, log, seconds

    def ask(self, do, **request):
        self._log.append((self._name, do, request.get("batch")))
        if do == "rate":
            return {"gigaflops": 7.0}
        return {"seconds": self._seconds, "value": self._seconds}


def test_sides_take_turns():
    log = []
    sides = {n: _FakeSide(n, log, s) for n, s in (("ours", 1.0), ("peer", 3.0))}
    seconds, rates = train_step.in_turns(sides, ["a", "b"], steps=3, rows=5)
    assert log[:4] == [(n, "step", b) for n in ("ours", "peer") for b in "ab"]
    turns = [(who, batch) for who, do, batch in log[4:] if do == "step"]
    assert turns == [
        *(("peer", "a"), ("ours", "a")),
        *(("ours", "b"), ("peer", "b")),
        *(("peer", "a"), ("ours", "a")),
    ]
    assert seconds["peer"].tolist() == [3.0] * 3 and rates.tolist() == [7.0] * 3


def test_a_value_that_is_no_number_is_an_error():
    sides = {"ours": _FakeSide("ours", [], np.nan)}
    with pytest.raises(ValueError, match="finite. Received: nan of ours"):
        train_step.in_turns(sides, ["a"], steps=1, rows=5)


def test_a_side_that_ends_says_why():
    with (
        step_process.Side(["sh", "-c", "echo 'no such thing' >&2; exit 3"], 1) as side,
        pytest.raises(ValueError, match="(?s)ended with 3.*no such thing"),
    ):
        side.ask("make")


def test_wrong_workloads_are_named():
    page = train_step.flag_page()
    page.flags(["x", "--workloads=train-full,eat"])
    with pytest.raises(ValueError, match="Received: eat"):
        train_step.read_settings(page)


@pytest.mark.long
def test_our_side_steps_and_scores(tmp_path, monkeypatch, capsys):
    """A layer of base width, in its own process."""
    monkeypatch.setattr(step_data, "FEATURES", 16)
    monkeypatch.setattr(step_data, "VOCABULARY", 1100)
    page, output = train_step.flag_page(), str(tmp_path / "out.json")
    page.flags(
        "x --workloads=train-catalogue --precisions=float32 --batch_sizes=2 --steps=1 "
        f"--num_layers=1 --nopeer --breakdown --output={output}".split()
    )
    train_step.run(train_step.read_settings(page))
    with open(output, encoding="utf-8") as file:
        (row,) = json.load(file)["rows"]
    assert row["samples_per_second"]["ours"] > 0 and "ratio" not in row
    assert 0 < row["share"] < 2
    assert {"matrix products", "optimizer"} <= set(row["kinds"])
    assert row["peak_megabytes"]["ours"] > 500
    assert "train-catalogue" in capsys.readouterr().out
