"""The input pipeline's benchmark on a few small records."""

import json

import pytest

from benchmarks import input_pipeline, step_data


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(step_data, "FEATURES", 4)


def test_measures_every_kind(small, tmp_path, capsys):
    steps = tmp_path / "steps.json"
    rows = [
        {"workload": name, "samples_per_second": {"ours": rate}}
        for name, rate in (("train-full", 0.5), ("score-full", 9.0), ("train-x", 0.25))
    ]
    steps.write_text(json.dumps({"rows": rows}))
    page = input_pipeline.flag_page()
    page.flags(
        f"x --records=64 --lines=1 --batch_size=8 --rounds=1 --seconds=0 "
        f"--train_step={steps}".split()
    )
    content = input_pipeline.run(page.values())
    rates = content["records_per_second"]
    assert set(rates) == {"reading", "decoding", "training batches", "text lines"}
    assert all(rate > 0 for rate in rates.values())
    # 74 vectors of 4 float16, 55 places of 5 float32, and the rest.
    assert 74 * 8 + 55 * 20 < content["bytes_per_record"]["record"] < 3000
    assert content["fastest_step"] == 0.5
    assert "The fastest step takes 0.5 records/s" in capsys.readouterr().out
