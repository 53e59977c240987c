"""A run's folder, retrieval results, a catalogue: what reports are made from."""

import html.parser
import json
import types

import pytest
from PIL import Image

from kaleido_tf.config import KaleidoConfig
from kaleido_tf.data import records
from kaleido_tf.data.dataset_info import file_sha256
from kaleido_tf.report import build, theme

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


@pytest.fixture
def category(tmp_path):
    """category.json of 12 records of three classes, one of them unknown."""
    rows = [
        ("bags", 6, 5 / 7, 5 / 6),
        ("dresses <3", 4, 3 / 4, 3 / 4),
        ("hats", 2, 0, 0),
    ]
    classes = [
        {
            "name": name,
            "support": support,
            "predicted": 7,
            "precision": precision,
            "recall": recall,
            "f": (precision + recall) / 2,
            "trained": 100 * support,
        }
        for name, support, precision, recall in rows
    ]
    results = {
        "task": "category",
        "checkpoint": "runs/category/best/ckpt-5",
        "split": "validation",
        "num_examples": 12,
        "num_classes": 3,
        "accuracy": 8 / 12,
        "macro_f": 0.508,
        "majority_accuracy": 0.5,
        "unseen_labels": {"hats": 2},
        "classes": classes,
        "confusions": [
            ["hats", "bags", 2],
            ["bags", "dresses <3", 1],
            ["dresses <3", "belts", 1],
        ],
        "published": {
            "source": "Theirs",
            "category": {"accuracy": 0.9507, "macro_f": 0.714},
        },
    }
    path = tmp_path / "category.json"
    path.write_text(json.dumps(results))
    return path


@pytest.fixture
def class_baseline(tmp_path):
    figures = {
        "name": "logistic regression",
        "split": "validation",
        "num_examples": 12,
        "accuracy": 0.5833,
        "macro_f": 0.4444,
    }
    path = tmp_path / "class_baseline.json"
    path.write_text(json.dumps({"category": figures}))
    return path


@pytest.fixture
def captioning(tmp_path):
    """captioning.json of two products with a drawn truth."""
    shares = {"num_sentences": 4, "num_unread_sentences": 1, "garment": {"recall": 0.5}}
    row = {"precision": 0.625, "recall": None, "num_named": 8, "num_visible": 0}
    attributes = shares | {"precision": 0.75, "recall": 0.25}
    attributes["attributes"] = {"neckline": row}
    attributes["references"] = shares | {"precision": 1.0, "recall": 0.875}
    claims = [
        {"attribute": "trim_colour", "value": "red", "right": True},
        {"attribute": "print", "value": "bolt", "right": False},
    ]
    results = {
        "task": "captioning",
        "checkpoint": "runs/captioning/best/ckpt-9",
        "trained": "next_word",
        "split": "validation",
        "decoding": "beam",
        "beam_size": 3,
        "length_penalty": 0.6,
        "max_length": 31,
        "text_field": "title + description",
        "truncation": "none",
        "num_references_longer": 1,
        "normalization": "lower case",
        "tokenizer": "PTB",
        "num_products": 2,
        "num_references": 3,
        "num_without_reference": 4,
        "num_empty_captions": 1,
        "num_one_word_captions": 0,
        "mean_caption_words": 7.25,
        "mean_reference_words": 9.5,
        "bleu_1": 41.25,
        "bleu_2": 31.0,
        "bleu_3": 21.0,
        "bleu_4": 11.5,
        "meteor": None,
        "rouge_l": 35.0,
        "cider": 88.75,
        "left_out": {"meteor": "no java"},
        "notes": ["a note"],
        "attributes": attributes,
        "published": {"source": "Theirs", "bleu_4": 5.7, "cider": 32.6},
        "examples": [
            {
                "image_id": "red",
                "caption": NASTY,
                "references": ["A red one.", "Red & new."],
                "claims": claims,
            },
            {"image_id": "gone", "caption": "", "references": ["x"], "claims": None},
        ],
    }
    path = tmp_path / "captioning.json"
    path.write_text(json.dumps(results))
    return path


@pytest.fixture
def mask_all(captioning, tmp_path):
    """captioning.json of another way to decode, without a drawn truth."""
    results = json.loads(captioning.read_text())
    results |= {"decoding": "mask_all", "bleu_4": 1.75, "attributes": None}
    path = tmp_path / "mask_all.json"
    path.write_text(json.dumps(results))
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


@pytest.fixture
def no_charts(monkeypatch):
    """Leaves the charts out, which take most of the time, where no test sees them."""
    monkeypatch.setattr(theme, "png", lambda chart, colours: b"")
    monkeypatch.setattr(theme, "sheet", lambda *_, **__: b"")


@pytest.fixture
def write(run_dir, retrieval, manifest, tmp_path):
    """Function that writes a report of the fixtures: (paths, the page's HTML)."""

    def write(**others):
        arguments = {
            "run_dir": str(run_dir),
            "retrieval": str(retrieval),
            "manifest": str(manifest),
            "output_dir": str(tmp_path / "out"),
        }
        paths = build.write_report(**(arguments | others))
        with open(paths[0], encoding="utf-8") as file:
            return paths, file.read()

    return write


@pytest.fixture(scope="session")
def made():
    """What the tests of this folder share besides the fixtures above."""
    return types.SimpleNamespace(nasty=NASTY, make_results=make_results, Page=Page)
