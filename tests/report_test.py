"""The report: its inputs' checks, its charts' values, and the page it writes."""

import base64
import csv
import html.parser
import io
import json
import re
import shlex
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from PIL import Image

from kaleido_tf.config import KaleidoConfig
from kaleido_tf.data import records
from kaleido_tf.data.dataset_info import file_sha256
from kaleido_tf.report import __main__ as command_line
from kaleido_tf.report import build, curves, inputs, pictures, sections

NASTY = "Dress <script>alert(\"x\")</script> & </p> 'co'"
# step, split, loss/itm, loss/blank, accuracy/itm, accuracy/rotation
METRICS = [
    (0, "validation", 0.7, 2.5, 0.4, 0.25),
    (10, "train", 0.69, 2.25, 0.5, 0.5),
    (10, "validation", 0.65, 2.125, 0.55, 0.625),
    (20, "train", 0.5, 1.75, 0.75, 0.75),
    (20, "validation", 0.5, 1.5, 0.8125, 0.875),
]
NAMES = ("loss/itm", "loss/blank", "accuracy/itm", "accuracy/rotation")


@pytest.fixture
def data_dir(tmp_path):
    folder = tmp_path / "prepared"
    folder.mkdir()
    (folder / "vocab.txt").write_text("[PAD]\n")
    info = {
        "schema_version": records.SCHEMA_VERSION,
        "patch_arm": "kaleido",
        "feature_size": 5,
        "vocab_size": 1,
        "vocab_sha256": file_sha256(folder / "vocab.txt"),
        "backbone": {"name": "lite<0>", "patch_size": 64, "weights_hash": "abc"},
        "splits": {
            "train": {"num_examples": 1234},
            "validation": {"num_examples": 56},
        },
        "skipped": 3,
    }
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return folder


@pytest.fixture
def run_dir(tmp_path, data_dir):
    folder = tmp_path / "run"
    folder.mkdir()
    flags = {
        "data_dir": str(data_dir),
        "run_dir": str(folder),
        "model": "tiny",
        "config": None,
        "batch_size": 8,
        "mismatch_rate": 0.25,
        "matched_only_losses": ["mlm", "grey"],
        "resume": True,
    }
    (folder / "flags.json").write_text(json.dumps(flags))
    (folder / "versions.json").write_text(json.dumps({"python": "3.x"}))
    KaleidoConfig.preset("tiny", patch_arm="kaleido").save(folder / "config.json")
    lines = []
    for step, split, *values in METRICS:
        row = {"step": step, "split": split, **dict(zip(NAMES, values, strict=True))}
        if split == "train":
            row["samples_per_second"] = 4.0 * step
        lines.append(json.dumps(row))
    (folder / "metrics.jsonl").write_text("\n".join(lines) + '\n{"step": 3')
    return folder


def make_results(rank1=25.0, sha="ab" * 32):
    """Figures of one list of 4 queries with 20 candidates, both directions."""
    one = {
        "rank@1": {"mean": rank1, "std": 5.0},
        "rank@5": {"mean": 50.0, "std": 0.0},
        "rank@10": {"mean": 75.0, "std": 2.5},
        "chance": {"rank@1": 5.0, "rank@5": 25.0, "rank@10": 50.0},
        "lists": [
            {
                "seed": 0,
                "sha256": sha,
                "num_queries": 4,
                "num_candidates": 20,
                "rank@1": rank1,
            }
        ],
    }
    return {
        "score": "match",
        "split": "validation",
        "checkpoint": "elsewhere/ckpt-1",
        "sampled": {
            "itr": one,
            "tir": one,
            "sum_of_recalls": {"mean": 300.0, "std": 1.0},
        },
        "pairs": {"num_pairs": 8, "auc": 0.75, "pair_accuracy": None},
        "full_gallery": {"num_texts": 9, "skipped": "9 x 9 <pairs> are too many"},
    }


def _item(image_id, right=False):
    return {"image_id": image_id, "text": f"a {image_id}", "score": 0.5, "right": right}


@pytest.fixture
def retrieval(tmp_path):
    top = {
        "tir": [
            {
                "query": "red",
                "text": NASTY,
                "rank": 2,
                "ranked": [_item("blue"), _item("red", right=True)],
            },
            {
                "query": "lost",
                "text": "a lost one",
                "rank": 9,
                "ranked": [_item("broken"), _item("unnamed")],
            },
        ],
        "itr": [
            {
                "query": "blue",
                "text": NASTY,
                "rank": 7,
                "ranked": [_item("red"), _item("broken")],
            }
        ],
    }
    published = {
        "source": "Theirs",
        **{d: {"rank@1": 27.99, "rank@5": 60.09, "rank@10": 68.37} for d in top},
    }
    path = tmp_path / "retrieval.json"
    results = {**make_results(), "top_ranked": top, "published": published}
    path.write_text(json.dumps(results))
    return path


@pytest.fixture
def manifest(tmp_path):
    folder = tmp_path / "shop"
    folder.mkdir()
    for name, colour in (("red", (250, 0, 0)), ("blue", (0, 0, 250))):
        Image.new("RGB", (40, 20), colour).save(folder / f"{name}.png")
    (folder / "broken.png").write_bytes(b"no picture")
    rows = [
        {"image_id": "red", "image": "red.png"},
        {"image": "blue.png"},
        {"image": "broken.png"},
        {"image": "lost.png"},
    ]
    lines = [json.dumps(row) for row in rows]
    path = folder / "manifest.jsonl"
    path.write_text("\n".join([lines[0], "no JSON", *lines[1:]]) + "\n")
    return path


class Page(html.parser.HTMLParser):
    """What a page shows and what it points to."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.sources, self.words, self.right = [], [], [], []
        self._skip = 0
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append(tag)
        self._skip += tag == "style"
        for key in ("src", "srcset", "href"):
            if key in attributes:
                self.sources.append(attributes[key])
        if "right" in attributes.get("class", "").split():
            self.right.append(tag)

    def handle_endtag(self, tag):
        self._skip -= tag == "style"

    def handle_data(self, data):
        if not self._skip:
            self.words.append(data)


def _write(run_dir, retrieval, manifest, folder, **others):
    paths = build.write_report(
        str(run_dir), str(retrieval), str(manifest), str(folder), **others
    )
    with open(paths[0], encoding="utf-8") as file:
        return paths, file.read()


def test_page_is_whole_in_itself(run_dir, retrieval, manifest, tmp_path):
    baseline = tmp_path / "baseline.json"
    gallery = {"rank@1": 12.34, "rank@5": 2.0, "rank@10": 3.0}
    gallery = {**gallery, "num_queries": 9, "chance": gallery}
    full = {"itr": gallery, "tir": gallery}
    baseline.write_text(json.dumps(make_results(rank1=31.5) | {"full_gallery": full}))
    paths, text = _write(
        run_dir, retrieval, manifest, tmp_path / "out", baseline=str(baseline)
    )
    page = Page(text)
    # 2 losses, 2 accuracies and 2 bar charts, light and dark; 2 ranked rows of 2
    # pictures, one with its right picture besides; 1 image query.
    assert len(page.sources) == 2 * 6 + (2 + 3) + 1
    for source in page.sources:
        kind, data = re.fullmatch(r"data:image/(png|jpeg);base64,(.+)", source).groups()
        picture = Image.open(io.BytesIO(base64.b64decode(data)))
        assert picture.format.lower() == kind and min(picture.size) >= 100
    assert "http" not in text and "url(" not in text and "script" not in page.tags
    assert "@import" not in text and 'name="viewport"' in text
    words = " ".join(page.words)
    assert words.count(NASTY) == 2  # the text query; the right text beyond the top
    assert "<script" not in text
    # The right ones: framed in place, framed at the end of the row, the seventh text.
    assert page.right == ["figure", "figure", "li"]
    assert (
        "rank 2" in words
        and "rank 9" in words
        and '<li class="right" value="7">' in text
    )
    for value in ("25.00 ±\u00a05.00", "31.50 ±\u00a05.00", "12.34", "5.0 ×", "27.99"):
        assert value in words
    assert "9 x 9 <pairs> are too many" in words and "lite<0>" in words
    assert "does not lie in the run folder" in words and "ab" * 8 in words
    assert [path.rsplit("/", 1)[1] for path in paths] == [
        "report.html",
        "losses.png",
        "accuracies.png",
        "retrieval.png",
        "ranked_images.png",
        "ranked_texts.png",
    ]
    assert all(Image.open(path).width > 300 for path in paths[1:])


def test_header_and_table(run_dir, retrieval, manifest, tmp_path):
    _, text = _write(run_dir, retrieval, manifest, tmp_path / "out", title="A & B")
    words = [word.strip() for word in Page(text).words]
    assert words.count("A & B") == 2  # of the window, and the heading
    for name, value in (
        ("Catalogue", "shop"),
        ("Images", "1,234 train, 56 validation"),
        ("Steps", "20 of 8 pairs"),
        ("Speed", "80 samples/s (median of the rounds)"),
        ("Time", "0 min 03 s without validation"),  # 80 / 40 + 80 / 80
        ("python", "3.x"),
        ("Left out", "3 lines"),
    ):
        assert words[words.index(name) + 1] == value
    start = words.index("Losses", words.index("Start and end"))
    end = words.index("Start: step 0. End: step 20.")
    assert [word for word in words[start:end] if word] == [
        *("Losses", "Matching (ITM)", "0.700", "0.500"),
        *("V Blank to colour", "2.500", "1.500"),
        *("Accuracies", "Matching (ITM)", "40.0%", "81.2%", "75.0%"),
        *("I Rotation", "25.0%", "87.5%", "25.0%"),
    ]
    assert "baseline" not in words and "Parameters" not in words


def test_command_gives_the_same_flags(run_dir):
    flags = inputs.load_run(run_dir).flags | {"init": "a b", "akpm_tasks": []}
    assert shlex.split(sections.command(flags))[2:] == [
        f"--data_dir={flags['data_dir']}",
        f"--run_dir={run_dir}",
        "--model=tiny",
        "--batch_size=8",
        "--mismatch_rate=0.25",
        "--matched_only_losses=mlm,grey",
        "--resume=true",
        "--init=a b",
        "--akpm_tasks=",
    ]


def test_panels_and_their_lines(run_dir):
    run = inputs.load_run(run_dir)
    assert [panel.name for panel in curves.panels(run, "loss")] == ["itm", "blank"]
    itm, rotation = curves.panels(run, "accuracy")
    assert itm.chance == 0.75  # always "match" at a mismatch rate of a quarter
    assert rotation.validation == [(0, 0.25), (10, 0.625), (20, 0.875)]
    assert rotation.train == [(5, 0.5), (15, 0.75)]  # in the middle of its round
    axes = Figure().subplots()
    curves.draw_panel(axes, rotation, curves.LIGHT)
    lines = {line.get_label(): line for line in axes.get_lines()}
    assert list(lines["validation"].get_ydata()) == [0.25, 0.625, 0.875]
    assert list(lines["training"].get_xdata()) == [5, 15]
    assert set(lines["chance"].get_ydata()) == {0.25}
    assert lines["chance"].is_dashed()
    assert lines["training"].get_zorder() <= lines["validation"].get_zorder()
    assert axes.texts[0].get_text() == "87.5%"


def test_bars_show_the_recalls():
    bars = curves.recall_bars(make_results(), make_results(rank1=31.5))
    axes = Figure().subplots()
    curves.draw_bars(axes, bars[1], curves.DARK)
    heights = {
        group.get_label(): [bar.get_height() for bar in group]
        for group in axes.containers
        if isinstance(group, BarContainer)
    }
    assert heights == {
        "this run": [25.0, 50.0, 75.0],
        "baseline": [31.5, 50.0, 75.0],
        "chance": [5.0, 25.0, 50.0],
    }
    without = curves.recall_bars(make_results(), None)
    assert [row[0] for row in without[0].rows] == ["this run", "chance"]


def test_thumbnails(manifest):
    ids = ["red", "blue", "broken", "lost", "unnamed"]
    thumbnails = pictures.Thumbnails(inputs.picture_paths(str(manifest), ids), side=60)
    red = np.asarray(thumbnails.image("red"))
    assert red.shape == (60, 60, 3)
    assert (red[30, 30] == (250, 0, 0)).all()
    assert (red[10, 30] == 255).all()  # its aspect is kept, on white
    for image_id in ("broken", "lost", "unnamed"):
        grey = np.asarray(thumbnails.image(image_id))
        assert (grey[0, 0] == grey[0, 0, 0] - np.array([0, -5, -11])).all()
        assert len(np.unique(grey.reshape(-1, 3), axis=0)) > 5  # words are on it
    assert thumbnails.missing == {"broken", "lost", "unnamed"}


def test_sheet_frames_the_right_picture(manifest, retrieval):
    rows = json.loads(retrieval.read_text())["top_ranked"]["tir"][:1]
    paths = inputs.picture_paths(str(manifest), ["red", "blue"])
    thumbnails = pictures.Thumbnails(paths, side=60)
    sheet = Image.open(io.BytesIO(pictures.images_sheet(rows, thumbnails)))
    sheet = np.asarray(sheet.convert("RGB")).astype(int)
    rows_, columns = np.nonzero((sheet == pictures.RIGHT).all(axis=2))
    # Around the second tile: 60 + 12 to the right of the first, which starts at 12.
    assert columns.min() == 84 - 4 and columns.max() == 84 + 60 + 3
    assert rows_.max() - rows_.min() == 60 + 7


def test_csv_manifest(tmp_path):
    path = tmp_path / "catalogue.csv"
    with open(path, "w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file).writerows([("image", "image_id"), ("a/x.png", ""), ("y", "7")])
    assert inputs.picture_paths(str(path), ["x", "7"]) == {
        "x": str(tmp_path / "a/x.png"),
        "7": str(tmp_path / "y"),
    }


def test_parameters_of_a_checkpoint(tmp_path):
    checkpoint = tf.train.Checkpoint(
        encoder=tf.train.Checkpoint(a=tf.Variable(tf.zeros([3, 5]))),
        itm_head=tf.train.Checkpoint(b=tf.Variable(tf.zeros([7]))),
        optimizer=tf.train.Checkpoint(m=tf.Variable(tf.zeros([100]))),
    )
    prefix = checkpoint.write(str(tmp_path / "ckpt-3"))
    assert inputs.count_parameters(prefix) == 22
    assert inputs.count_parameters(tmp_path / "none") is None


def _without(path, *keys):
    values = json.loads(path.read_text())
    inner = values
    for key in keys[:-1]:
        inner = inner[key]
    del inner[keys[-1]]
    path.write_text(json.dumps(values))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda r, t, m: (r / "flags.json").unlink(), "flags.json should be the flags"),
        (lambda r, t, m: (r / "versions.json").write_text("{"), "as JSON. Received"),
        (lambda r, t, m: (r / "metrics.jsonl").unlink(), "finish a round"),
        (lambda r, t, m: t.unlink(), "no such file .*run_finetune.py"),
        (lambda r, t, m: t.write_text("[1]"), "hold a JSON object. Received: list"),
        (lambda r, t, m: _without(t, "sampled", "tir", "lists"), "sampled.tir.lists"),
        (lambda r, t, m: _without(t, "top_ranked", "itr"), "top_ranked.itr"),
        (lambda r, t, m: m.unlink(), "`manifest` should be the catalogue's"),
        (lambda r, t, m: m.write_text('{"image": "z.png"}'), "names none of them"),
        (
            lambda r, t, m: (r.parent / "prepared/dataset_info.json").unlink(),
            "not a finished data set",
        ),
    ],
)
def test_says_what_is_wrong(run_dir, retrieval, manifest, tmp_path, spoil, message):
    spoil(run_dir, retrieval, manifest)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        _write(run_dir, retrieval, manifest, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_baseline_of_other_lists(run_dir, retrieval, manifest, tmp_path):
    baseline = tmp_path / "baseline.json"
    baseline.write_text(json.dumps(make_results(sha="cd" * 32)))
    with pytest.raises(ValueError, match="same lists .*abababab, 4 x 20.*cdcdcdcd"):
        _write(run_dir, retrieval, manifest, tmp_path, baseline=str(baseline))


def _flag_names(module, monkeypatch):
    """Names of a command's flags, without defining them in this process."""
    page = mock.MagicMock()
    monkeypatch.setattr(module.cli, "FlagPage", lambda summary: page)
    module.flag_page()
    return [call.args[0] for call in page.method_calls if call[0] != "heading"]


def test_command_line(run_dir, retrieval, manifest, tmp_path, capsys, monkeypatch):
    names = _flag_names(command_line, monkeypatch)
    settings = dict.fromkeys(names) | {
        "run_dir": str(run_dir),
        "retrieval": str(retrieval),
        "manifest": str(manifest),
        "output_dir": str(tmp_path / "report"),
    }
    command_line.main(settings)
    assert f"{tmp_path}/report/report.html" in capsys.readouterr().out
