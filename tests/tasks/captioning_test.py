"""Captioning as the command runs it: which images, what figures, which files."""

import json

import numpy as np
import pytest
import tf_keras

import run_finetune
from kaleido_tf import files
from kaleido_tf.data import candidate_lists
from kaleido_tf.modeling import build_captioner
from kaleido_tf.tasks import caption_metrics, captioning, captioning_table
from kaleido_tf.training import checkpoints, finetuning

# What the stand-in for a decoder says of an image.
CAPTIONS = {
    "i0": "a b",
    "i1": "",
    "i2": "c",
    "i3": "d e h",
    "i4": "a b c d",
    "i5": "h",
    "i6": "a",
    "i7": "b a",
    "i8": "f",
}


class TableDecoder:
    """Tells images apart by their features; remembers how many it was asked at once."""

    def __init__(self, split, tokenizer, num_captions=1):
        self.num_captions, self.max_length = num_captions, 5
        self.asked = []
        self._names = split.image_ids
        self._features = split.patch_features[:, 0].astype(np.float32)
        self._tokenizer = tokenizer

    def decode(self, features, locations):
        assert features.shape[0] == locations.shape[0]
        self.asked.append(features.shape[0])
        distance = np.abs(features[:, None, 0] - self._features[None]).sum(axis=-1)
        names = [self._names[place] for place in distance.argmin(axis=1)]
        shape = (len(names), self.num_captions, self.max_length)
        ids = np.full(shape, self._tokenizer.pad_id, np.int32)
        scores = np.full(shape[:2], -np.inf, np.float32)
        for row, name in enumerate(names):
            words = CAPTIONS[name].split()
            ids[row, 0, : len(words)] = [
                self._tokenizer.vocabulary.index(w) for w in words
            ]
            scores[row, 0] = -float(name[1:])
        return {"caption_ids": _Tensor(ids), "caption_scores": _Tensor(scores)}


class _Tensor:
    def __init__(self, values):
        self._values = values

    def numpy(self):
        return self._values


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory, tiny):
    """A captioner with random weights, as a fine-tuned run leaves it."""
    folder = str(tmp_path_factory.mktemp("run"))
    config = tiny.make_config(contrastive_size=0)
    tf_keras.utils.set_random_seed(3)
    keeper = checkpoints.CheckpointKeeper(folder, build_captioner(config))
    keeper.save(7)
    config.save(f"{folder}/config.json")
    task = {"task": "captioning", "objective": "next_word"}
    files.write_json(task, f"{folder}/task.json")
    return folder


@pytest.fixture
def settings(data_dir, run_dir, tmp_path):
    return run_finetune.flag_page().defaults() | {
        "task": "captioning",
        "mode": "evaluate",
        "data_dir": str(data_dir),
        "checkpoint": run_dir,
        "output_dir": str(tmp_path / "out"),
        "eval_batch_size": 4,
        "beam_size": 2,
        "max_length": 4,
    }


@pytest.fixture
def table(monkeypatch, split):
    """Puts a `TableDecoder` in the model's place; returns it."""
    made = []

    def open_run(settings):
        context = finetuning.open_run(settings)
        made.append(TableDecoder(split, context.tokenizer, settings["beam_size"]))
        return context, made[-1]

    monkeypatch.setattr(captioning, "_open", open_run)
    return made


@pytest.fixture(autouse=True)
def no_java(monkeypatch):
    """METEOR's program takes its time to start; `caption_metrics_test` starts it."""
    monkeypatch.setattr(caption_metrics, "has_java", lambda: False)


def _predictions(settings):
    with open(f"{settings['output_dir']}/predictions.jsonl", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def test_one_image_a_product_with_all_its_texts(info):
    items = candidate_lists.read_items(info, "validation")
    asked = captioning.choose_images(items[::-1])
    assert [(a.product_id, a.image_id, a.references) for a in asked] == [
        ("p0", "i0", ["a b"]),
        ("p1", "i1", ["c"]),
        ("p2", "i3", ["d e f g h"]),
        ("p3", "i4", ["a b c d"]),
        ("p4", "i5", ["h", "h g"]),
        ("p5", "i7", ["A  B"]),
    ]
    assert asked[0].subcategory == "s0"


def test_evaluation_counts_and_figures(settings, table, capsys):
    content = run_finetune.main(settings)
    # Of the 4 + 4 + 1 records 3, 3 and 0 are asked, no more than 4 captions at once.
    assert table[0].asked == [2, 1, 2, 1]
    asked = ("i0", "i1", "i3", "i4", "i5", "i7")
    rows = _predictions(settings)
    assert [row["image_id"] for row in rows] == list(asked)
    assert rows[2] == {
        "image_id": "i3",
        "product_id": "p2",
        "caption": "D e h",
        "score": -3.0,
        "captions": [{"caption": "D e h", "score": -3.0}],
    }
    expected = caption_metrics.caption_figures(
        {f"p{n}": CAPTIONS[i] for n, i in enumerate(asked)},
        {
            "p0": ["a b"],
            "p1": ["c"],
            "p2": ["d e f g h"],
            "p3": ["a b c d"],
            "p4": ["h", "h g"],
            "p5": ["a b"],
        },
    )
    assert {key: content[key] for key in caption_metrics.FIGURES} == {
        key: expected[key] for key in caption_metrics.FIGURES
    }
    assert content["num_products"] == 6 and content["num_references"] == 7
    assert content["num_without_reference"] == 1  # p6
    assert content["num_empty_captions"] == content["num_one_word_captions"] == 1
    # Five pieces at most, [SEP] among them: "d e f g h" can't be said.
    assert content["num_references_longer"] == 1 and content["max_length"] == 5
    assert content["trained"] == "next_word" and content["decoding"] == "beam"
    assert content["attributes"] is None and len(content["examples"]) == 6
    assert content["examples"][4]["references"] == ["h", "h g"]
    with open(f"{settings['output_dir']}/captioning.json", encoding="utf-8") as file:
        assert json.load(file) == content
    printed = capsys.readouterr().out
    for words in (
        "6 products, one image each",
        "beam of 2, penalty 0.6, at most 5 pieces. Objective: next_word",
        "Theirs (Kaleido-BERT, CVPR 2021, on Fashion-Gen)",
        "12.80",
        "field: text of the prepared records; truncation: none",
        "tokenizer: at white space",
        "document frequencies are over these 6 products",
        "METEOR is left out: METEOR is a program in Java",
        "1 empty captions",
        "1 captions of one word",
        "1 products without a reference text",
    ):
        assert words in printed


def test_attributes_against_the_truth(settings, table, tmp_path, capsys):
    row = {"attributes": {"colour": {"value": "red", "box": [0, 0, 1, 1]}}}
    lines = [json.dumps(row | {"image_id": f"i{n}"}) + "\n" for n in range(9)]
    (tmp_path / "attributes.jsonl").write_text("".join(lines))
    phrases = {
        "slots": [],
        "sentences": [
            {"template": "a b", "attribute": "colour", "values": ["red"]},
            {"template": "d [f] h", "attribute": "colour", "values": ["blue"]},
            {"template": "d e h", "attribute": "colour", "values": ["navy"]},
            {"template": "h", "attribute": "subcategory", "values": ["s1"]},
        ],
    }
    (tmp_path / "phrases.json").write_text(json.dumps(phrases))
    content = run_finetune.main(settings | {"truth": str(tmp_path)})
    found = content["attributes"]
    # Of i0 right, of i3 wrong, of i5 the garment; the others can't be read.
    assert (found["num_named"], found["num_right"], found["num_visible"]) == (2, 1, 6)
    assert (found["garment"]["num_right"], found["garment"]["num_visible"]) == (1, 3)
    assert (found["num_sentences"], found["num_unread_sentences"]) == (5, 2)
    assert found["references"]["num_right"] == 2  # p0 and p5, "A  B"
    claims = [example["claims"] for example in content["examples"]]
    assert claims[0] == [{"attribute": "colour", "value": "red", "right": True}]
    assert claims[2] == [{"attribute": "colour", "value": "navy", "right": False}]
    assert "0.500   0.167    0.333   0.400" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "`split` should have records. Received: 'validation'"),
        ([("p0", ""), ("p1", " ")], "with 2 products, none of which has one"),
    ],
)
def test_nothing_to_compare_to(
    settings, table, write_data_set, tiny, tmp_path, rows, message
):
    def make(shapes):
        for record, (product, text) in zip(
            tiny.make_records(shapes), rows, strict=False
        ):
            yield record | {"product_id": product, "text": text, "token_ids": []}

    info = write_data_set(
        tmp_path / "data",
        {("validation", "a"): make},
        vocabulary=tiny.vocabulary,
        feature_size=tiny.features,
    )
    with pytest.raises(ValueError, match=message):
        run_finetune.main(settings | {"data_dir": info.directory})


def test_beam_search_of_a_real_run(settings):
    content = run_finetune.main(settings)
    assert content["checkpoint"].endswith("ckpt-7")
    rows = _predictions(settings)
    assert len(rows) == 6
    for row in rows:
        words = row["caption"].split()
        assert 1 <= len(words) <= 4 and set(row["caption"].lower()) <= set("abcdefgh ")
        scores = [each["score"] for each in row["captions"]]
        assert scores == sorted(scores, reverse=True) and len(scores) <= 2
        assert (row["caption"], row["score"]) == tuple(row["captions"][0].values())
    assert content["beam_size"] == 2 and content["max_length"] == 4


def test_prediction_of_every_image(settings, capsys):
    changes = {"mode": "predict", "decoding": "greedy", "eval_batch_size": 5}
    done = run_finetune.main(settings | changes)
    rows = _predictions(settings)
    assert done["num_examples"] == len(rows) == 9
    assert [row["image_id"] for row in rows] == [f"i{n}" for n in range(9)]
    assert rows[6]["product_id"] == "p4" and "captions" not in rows[0]
    assert all(row["score"] < 0 for row in rows)
    assert "9 captions written to" in capsys.readouterr().out


def test_mask_all_needs_no_fine_tuning(settings, run_dir, tmp_path):
    prefix = checkpoints.checkpoint_prefix(run_dir)
    folder = tmp_path / "pretrained"
    (folder / "checkpoints").mkdir(parents=True)
    for ending in ("index", "data-00000-of-00001", "done"):
        copy = folder / "checkpoints" / f"ckpt-7.{ending}"
        with open(f"{prefix}.{ending}", "rb") as file:
            copy.write_bytes(file.read())
    with open(f"{run_dir}/config.json", "rb") as file:
        (folder / "config.json").write_bytes(file.read())
    changes = {"checkpoint": str(folder), "decoding": "mask_all"}
    content = run_finetune.main(settings | changes)
    assert content["decoding"] == "mask_all" and "beam_size" not in content
    assert content["trained"] == "pre-training alone"
    task = {"task": "category", "class_names": ["a", "b"]}
    files.write_json(task, f"{folder}/task.json")
    with pytest.raises(ValueError, match="fine-tuned for captioning. .*for category"):
        run_finetune.main(settings | changes)


def test_table_has_a_dash_for_what_is_left_out():
    assert captioning_table.figure(None) == captioning_table.share(None) == "-"
    assert captioning_table.unread({"num_sentences": 0}) is None
    titles = list(captioning_table.TITLES)
    assert titles == list(caption_metrics.FIGURES)
    assert set(captioning_table.PUBLISHED) <= {"source", *titles}
