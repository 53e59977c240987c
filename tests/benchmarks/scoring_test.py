"""The scoring benchmark on a tiny model: the arms agree, the table has the figures."""

import json

import numpy as np
import pytest
import tf_keras

from benchmarks import scoring


@pytest.fixture
def settings(tmp_path):
    yield {
        "data_dir": None,
        "split": "validation",
        "text_length": 40,
        "model": "tiny",
        "feature_size": 12,
        "precisions": ["float32"],
        "batch_size": 3,
        "num_batches": 2,
        "seed": 0,
        "output": str(tmp_path / "out" / "scoring.json"),
    }
    tf_keras.mixed_precision.set_global_policy("float32")


def test_arms_agree_and_are_written(settings, capsys):
    content = scoring.run(settings)
    with open(settings["output"], encoding="utf-8") as file:
        assert json.load(file) == content
    assert [row["arm"] for row in content["rows"]] == list(scoring.ARMS)
    padded, trimmed, scorer = content["rows"]
    assert padded["speedup"] == 1.0 and padded["difference"] == 0.0
    assert 0 < trimmed["difference"] < 1e-4 and 0 < scorer["difference"] < 1e-4
    printed = capsys.readouterr().out
    assert f"{scorer['pairs_per_second']:7.1f}" in printed
    assert f"texts of {content['pieces']['mean']:.1f} pieces" in printed


def test_lengths_are_those_of_the_data(settings, make_data_set, tmp_path):
    info = make_data_set(tmp_path / "data")
    settings |= {"data_dir": info.directory, "text_length": 8}
    lengths, source = scoring.draw_lengths(settings, 200)
    # Validation holds p5, p6, p0, p1 and p2, which is cut to 8.
    assert set(lengths) == {5, 6, 7, 8} and "validation" in source
    drawn, _ = scoring.draw_lengths(settings | {"data_dir": None}, 500)
    assert drawn.max() == 8 and drawn.min() >= 2
    again, _ = scoring.draw_lengths(settings | {"data_dir": None}, 500)
    np.testing.assert_array_equal(drawn, again)


def test_seconds_are_counted_by_batch_and_arm():
    arms = {"padded": lambda p: p * 1.0, "trimmed": lambda p: p + 0.25}
    seconds, apart = scoring.measure(arms, [np.arange(3), np.arange(3) + 1])
    assert {name: len(each) for name, each in seconds.items()} == {
        "padded": 2,
        "trimmed": 2,
    }
    assert apart == {"padded": 0.0, "trimmed": 0.25}
