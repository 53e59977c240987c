"""From a drawn catalogue to the report, by the commands of scripts/demo.sh."""

import base64
import io
import json
import math
import pathlib
import re
import subprocess
import sys

import pytest
from PIL import Image

from kaleido_tf.config import LOSS_NAMES
from kaleido_tf.data import candidate_lists
from kaleido_tf.training import callbacks

ROOT = pathlib.Path(__file__).resolve().parents[1]
HEADINGS = [
    "What was trained",
    "Losses",
    "Accuracies of the tasks with classes",
    "Start and end",
    "Retrieval",
    "Text queries and the top pictures",
    "Image queries and the top texts",
]


def run(*words, **values):
    """Runs a command of the project with flags, which should end well: its log."""
    given = [f"--{name}={value}" for name, value in values.items()]
    done = subprocess.run(
        [sys.executable, *words, *given], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{words}: {done.stderr[-3000:]}"
    return done.stderr


def make_demo(folder):
    """A small demo: catalogue, data, run, lists, retrieval, report, all in `folder`."""
    manifest = folder / "catalogue" / "manifest.jsonl"
    data = {"data_dir": folder / "data"}
    run(
        *("-m", "data_prep.catalogue"),
        output_dir=manifest.parent,
        num_products=100,
    )
    run(
        *("-m", "data_prep.prepare"),
        manifest=manifest,
        output_dir=folder / "data",
        backbone_weights="random",
        patch_size=32,
        coarse_patch_size=32,
        canvas_size=128,
        saliency="opencv",
    )
    run(
        "run_pretrain.py",
        **data,
        run_dir=folder / "run",
        model="tiny",
        text_length=32,
        batch_size=8,
        num_steps=4,
        steps_per_round=2,
        validation_examples=16,
    )
    run(
        *("-m", "data_prep.retrieval_lists"),
        **data,
        output_dir=folder / "lists",
        num_queries=10,
        num_candidates=8,
        num_lists=2,
    )
    run(
        "run_finetune.py",
        **data,
        task="retrieval",
        mode="evaluate",
        checkpoint=folder / "run",
        lists_dir=folder / "lists",
        num_lists=2,
        score="both",
        max_full_pairs=100,
        rerank=5,
        output_dir=folder / "retrieval",
    )
    log = run(
        *("-m", "kaleido_tf.report"),
        run_dir=folder / "run",
        retrieval=folder / "retrieval" / "retrieval.json",
        manifest=manifest,
        output_dir=folder / "report",
    )
    assert "shown as grey tiles" not in log


def check_run(folder, info):
    """Every loss at the start and after every round, all finite."""
    rows = callbacks.read_metrics(folder / "run")
    assert [(row["step"], row["split"]) for row in rows] == [
        (0, "validation"),
        *((step, split) for step in (2, 4) for split in ("train", "validation")),
    ]
    names = {f"loss/{name}" for name in (*LOSS_NAMES, "contrastive", "total")}
    for row in rows:
        assert names <= set(row)
        assert all(math.isfinite(row[name]) for name in names)
        assert ("samples_per_second" in row) == (row["split"] == "train")
    config = json.loads((folder / "run" / "config.json").read_text())
    assert config["vocab_size"] == info["vocab_size"]


def check_retrieval(folder, info):
    """The protocol: whose lists, how large, and what was ranked how."""
    found = json.loads((folder / "retrieval" / "retrieval.json").read_text())
    assert (found["task"], found["score"], found["split"]) == (
        "retrieval",
        "match + cosine",
        "validation",
    )
    assert found["trained"] == "zero-shot, pre-trained only"
    assert found["checkpoint"].startswith(str(folder / "run" / "checkpoints"))
    for direction in ("itr", "tir"):
        figures = found["sampled"][direction]
        for seed, one in enumerate(figures["lists"]):
            path = folder / "lists" / candidate_lists.file_name(direction, seed)
            listed = json.loads(path.read_text())
            assert one["sha256"] == listed["sha256"]
            assert found["dataset_sha256"] == listed["dataset_sha256"]
            assert (one["seed"], one["num_queries"]) == (seed, 10)
            assert one["num_candidates"] == 8
        assert len(figures["lists"]) == 2
        assert figures["chance"]["rank@1"] == pytest.approx(100 / 8)
        assert 0 <= figures["rank@1"]["mean"] <= figures["rank@5"]["mean"] <= 100
    gallery = found["full_gallery"]
    assert gallery["num_images"] == info["splits"]["validation"]["num_examples"]
    assert gallery["num_pairs"] == gallery["num_texts"] * gallery["num_images"] > 100
    assert gallery["first_stage"]["score"] == "cosine"
    assert gallery["first_stage"]["rerank"] == 5
    return found


def check_report(folder, ranked):
    """All sections, and every picture in the page itself."""
    page = (folder / "report" / "report.html").read_text()
    assert re.findall("<h2>(.*?)</h2>", page) == HEADINGS
    sources = re.findall(r'\b(?:src|srcset|href)="([^"]*)"', page)
    pictures = [
        re.fullmatch(r"data:image/(png|jpeg);base64,(.+)", source) for source in sources
    ]
    # In a megabyte of base64 the letters "http" come by chance, one time in ten.
    assert all(pictures) and "http" not in re.sub(';base64,[^"]*', "", page)
    for kind, data in (match.groups() for match in pictures):
        with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
            assert picture.format.lower() == kind
    shown = [match for match in pictures if match[1] == "jpeg"]
    assert len(shown) >= sum(len(row["ranked"]) for row in ranked["tir"]) > 0
    assert "Kaleido-BERT on catalogue" in page
    names = ("losses", "accuracies", "retrieval", "ranked_images", "ranked_texts")
    for name in names:
        with Image.open(folder / "report" / f"{name}.png") as picture:
            assert picture.width > 300


@pytest.mark.long
def test_from_catalogue_to_report(tmp_path):
    make_demo(tmp_path)
    info = json.loads((tmp_path / "data" / "dataset_info.json").read_text())
    lines = (tmp_path / "catalogue" / "manifest.jsonl").read_text().splitlines()
    assert sum(s["num_examples"] for s in info["splits"].values()) == len(lines)
    assert info["backbone"]["patch_size"] == 32
    check_run(tmp_path, info)
    found = check_retrieval(tmp_path, info)
    check_report(tmp_path, found["top_ranked"])
