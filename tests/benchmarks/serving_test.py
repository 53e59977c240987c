"""The serving benchmark on the smallest model: its figures and its table."""

import os

import numpy as np
import pytest

from benchmarks import serving, serving_load


def test_times():
    calls = []
    times = serving_load.time_calls(lambda: calls.append(1), most=5, seconds=60)
    assert len(times) == 5 and len(calls) == 6 and (times >= 0).all()
    assert len(serving_load.time_calls(lambda: None, most=5, seconds=0)) == 0
    found = serving_load.percentiles(np.arange(101.0))
    assert found == {"p50": 50.0, "p99": 99.0, "calls": 101}


def test_memory_of_this_process():
    assert 50 < serving_load.resident_mb(os.getpid()) < 20_000


def test_a_model_has_to_be_named():
    settings = serving.flag_page().defaults()
    with pytest.raises(ValueError, match="Either `--model_dir` or `--size`"):
        serving.run(settings)
    with pytest.raises(ValueError, match="`--work_dir` should be given"):
        serving.run(settings | {"size": "tiny"})


def test_table():
    row = {"signature": "match", "batch": 32, "p50": 1.25, "p99": 20.0, "calls": 9}
    content = {
        "model": "size tiny",
        "latency": [row],
        "breakdown": {1: {"decode": 1.0, "model": 3.0}},
        "throughput": {
            "clients": 8,
            "seconds": 2.0,
            "per_second": 12.5,
            "p50": 80.0,
            "p99": 90.0,
            "errors": 0,
            "rss_start_mb": 900.0,
            "rss_end_mb": 910.0,
        },
        "environment": {"processors": 2},
    }
    lines = serving.format_table(content).splitlines()
    assert lines[2].split() == ["match", "32", "1.2", "20.0", "9"]
    assert "decode 1.0 (25%), model 3.0 (75%)" in lines[3]
    assert "12.50 requests/s" in lines[4] and "900 -> 910 MB" in lines[4]
    assert lines[5] == "processors 2"


@pytest.mark.long
def test_a_random_export_is_measured(tmp_path):
    settings = serving.flag_page().defaults() | {
        "size": "tiny",
        "work_dir": str(tmp_path),
        "vocab_size": 60,
        "patch_size": 32,
        "canvas_size": 64,
        "backbone_weights": "random",
        "tasks": [],
        "signatures": ["match_features", "text_vectors"],
        "batch_sizes": ["2"],
        "requests": 2,
        "output_json": str(tmp_path / "out.json"),
    }
    content = serving.run(settings)
    assert [row["signature"] for row in content["latency"]] == settings["signatures"]
    assert all(row["calls"] == 2 and row["p50"] > 0 for row in content["latency"])
    parts = content["breakdown"][2]
    assert list(parts)[:2] == ["decode", "canvas"] and len(parts) == 5
    assert "random weights" in content["model"] and (tmp_path / "out.json").exists()
