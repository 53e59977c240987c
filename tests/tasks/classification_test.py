"""Category and sub-category: figures by name, the command from training to files."""

import json
import os

import cv2
import numpy as np
import pytest
import tf_keras
from sklearn import metrics as sklearn_metrics

import run_finetune
from kaleido_tf import files
from kaleido_tf.data.dataset_info import DatasetInfo
from kaleido_tf.modeling import build_matcher
from kaleido_tf.tasks import classification, confusion_picture
from kaleido_tf.tasks import classification_metrics as metrics
from kaleido_tf.training import checkpoints

NAMES = ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize("seed", range(3))
def test_figures_equal_scikit_learns(seed):
    rng = np.random.default_rng(seed)
    truth = rng.choice([*NAMES, "new", ""], 40).tolist()
    predicted = rng.choice([*NAMES, "f"], 40).tolist()
    got = metrics.figures(truth, predicted, dict.fromkeys([*NAMES, "f"], 3))
    named = [(t, p) for t, p in zip(truth, predicted, strict=True) if t]
    t, p = zip(*named, strict=True)
    labels = sorted(set(t))
    assert got["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(t, p))
    expected = sklearn_metrics.f1_score(
        t, p, labels=labels, average="macro", zero_division=0
    )
    assert got["macro_f"] == pytest.approx(expected)
    columns = sklearn_metrics.precision_recall_fscore_support(
        t, p, labels=labels, zero_division=0
    )
    rows = got["classes"]
    assert [row["name"] for row in rows] == labels and got["num_classes"] == len(labels)
    keys = ("precision", "recall", "f", "support")
    for key, column in zip(keys, columns, strict=True):
        assert [row[key] for row in rows] == pytest.approx(column)
    assert got["unseen_labels"] == {"new": t.count("new")}
    none_trained = metrics.figures(
        truth, predicted, {**dict.fromkeys(NAMES, 3), "new": 0}
    )
    assert none_trained["unseen_labels"] == got["unseen_labels"]
    assert got["num_without_label"] == 40 - len(t) == 40 - got["num_examples"]
    majority = max(t.count(name) for name in labels) / len(t)
    assert got["majority_accuracy"] == pytest.approx(majority)
    assert sum(n for _, _, n in got["confusions"]) == sum(x != y for x, y in named)


def test_confusion_matrix_folds_rare_classes():
    truth = ["a"] * 5 + ["b"] * 3 + ["c"] * 2 + ["d", ""]
    predicted = ["a"] * 4 + ["z"] + ["b"] * 3 + ["a", "d"] + ["d", "a"]
    names, counts = metrics.confusion_matrix(truth, predicted)
    assert names == ["a", "b", "c", "d", "z"] and counts.sum() == 11
    assert counts[0].tolist() == [4, 0, 0, 0, 1] and counts[2, 3] == 1
    names, counts = metrics.confusion_matrix(truth, predicted, most=3)
    assert names == ["a", "b", "(others)"]
    # "d" for "c" is right among the others, yet no class of its own.
    assert counts.tolist() == [[4, 0, 1], [0, 3, 0], [1, 0, 2]]


def test_figures_need_a_label():
    with pytest.raises(ValueError, match="records with a label.*2 records, none"):
        metrics.figures(["", ""], ["a", "b"], {})
    with pytest.raises(ValueError, match="same length"):
        metrics.class_table([], [])


def test_picture_is_written(tmp_path):
    counts = np.array([[3, 1], [0, 0]])
    path = str(tmp_path / "picture.png")
    names = ["Gifts $10_$20^$", "A / very / long / path " * 8]  # no formula, no sprawl
    confusion_picture.draw(names, counts, "title", path)
    picture = cv2.imread(path)
    assert min(picture.shape[:2]) > 200 and np.ptp(picture) > 200


def write_data(folder, write_data_set, splits, classes):
    """A data set whose features tell the category.

    Args:
      splits: dict split -> list of categories, a product each.
      classes: the class table.
    """

    def rows(split, names):
        def build(shapes):
            rng = np.random.default_rng(len(names))
            for n, name in enumerate(names):
                arrays = {k: rng.normal(size=s) for k, s in shapes.arrays.items()}
                arrays["patch_features"] += 4 * np.eye(6)[len(name) % 6]
                yield {
                    "product_id": f"{split}{n}",
                    "image_id": f"{split}-{n}",
                    "category": name,
                    "subcategory": "",
                    "text": "red dress",
                    "token_ids": [7, 8],
                    "box": [0, 0, 1, 1],
                    **arrays,
                }

        return build

    shards = {(s, s): rows(s, names) for s, names in splits.items()}
    info = write_data_set(folder, shards)
    path = folder / "dataset_info.json"
    values = json.loads(path.read_text()) | {"categories": classes}
    path.write_text(json.dumps(values))
    return DatasetInfo.load(info.directory)


@pytest.fixture(scope="module")
def trained(write_data_set, tmp_path_factory):
    """Settings to evaluate a run that learnt three classes, one from one example."""
    folder = tmp_path_factory.mktemp("classes")
    splits = {
        "train": ["bag", "dress"] * 12 + ["trousers", ""],
        "validation": ["dress", "bag", "hat", "bag", "", "dress", "trousers"],
    }
    classes = ["bag", "dress", "trousers"]
    info = write_data(folder / "data", write_data_set, splits, classes)
    sizes = {"hidden_size": 16, "num_layers": 1, "intermediate_size": 16}
    sizes |= {"text_length": 6, "contrastive_size": 0, "feature_dropout": 0.0}
    (folder / "sizes.json").write_text(json.dumps(sizes))
    settings = run_finetune.flag_page().defaults() | {
        "task": "category",
        "mode": "train",
        "data_dir": info.directory,
        "run_dir": str(folder / "run"),
        "checkpoint": str(folder / "run"),
        "model": "tiny",
        "config": str(folder / "sizes.json"),
        "dev_fraction": 0.2,
        "num_steps": 20,
        "batch_size": 8,
        "learning_rate": 2e-2,
        "warmup_steps": 0,
        "steps_per_round": 10,
        "eval_batch_size": 3,
        "top_k": 2,
    }
    result = run_finetune.main(settings)
    assert result["num_left_out"] == 1 and result["best"]["value"] == 1.0
    yield settings
    tf_keras.mixed_precision.set_global_policy("float32")


@pytest.fixture
def settings(trained, tmp_path):
    return trained | {"mode": "evaluate", "output_dir": str(tmp_path / "out")}


def test_evaluation_and_predictions_agree(settings, capsys):
    done = run_finetune.main(settings | {"mode": "predict"})
    with open(done["path"], encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    assert [row["image_id"] for row in rows] == [f"validation-{n}" for n in range(7)]
    assert rows[0]["product_id"] == "validation0"
    assert all(len(row["labels"]) == 2 for row in rows) and "truth" not in rows[4]
    pairs = [[one["probability"] for one in row["labels"]] for row in rows]
    assert all(first >= second for first, second in pairs)
    named = [(r["truth"], r["labels"][0]["label"]) for r in rows if "truth" in r]
    content = run_finetune.main(settings)
    hits = sum(t == p for t, p in named)
    assert content["accuracy"] == pytest.approx(hits / 6) and hits >= 4
    with open(f"{settings['output_dir']}/category.json", encoding="utf-8") as file:
        assert json.load(file) == json.loads(json.dumps(content))
    assert content["unseen_labels"] == {"hat": 1}
    by_name = {row["name"]: row for row in content["classes"]}
    assert by_name["hat"]["f"] == 0 and by_name["hat"]["trained"] == 0
    # A class with one example: it is said how many there were.
    assert by_name["trousers"]["trained"] == 1 < by_name["bag"]["trained"]
    assert (content["num_examples"], content["num_without_label"]) == (6, 1)
    assert "best" in content["checkpoint"]
    assert os.path.getsize(f"{settings['output_dir']}/category_confusion.png") > 1000
    printed = capsys.readouterr().out
    assert "Theirs (Kaleido-BERT, CVPR 2021, on Fashion-Gen)" in printed
    assert "0.9507    0.714" in printed and f"{content['accuracy']:.4f}" in printed
    assert "Unseen in training, counted as errors: hat (1)" in printed


def test_another_data_set_is_compared_by_name(settings, write_data_set, tmp_path):
    names = ["trousers", "dress", "bag"] * 2
    info = write_data(
        tmp_path / "other", write_data_set, {"test": names, "train": names}, names[::-1]
    )
    changes = {"data_dir": info.directory, "split": "test"}
    content = run_finetune.main(settings | changes)
    recalls = {row["name"]: row["recall"] for row in content["classes"]}
    assert recalls["bag"] == recalls["dress"] == 1.0
    none = write_data(tmp_path / "none", write_data_set, {"test": ["x", "y"]}, ["x"])
    with pytest.raises(ValueError, match=r"compared by name.*\['x', 'y'\] \(2 in all"):
        run_finetune.main(settings | changes | {"data_dir": none.directory})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split": "test"}, "`split` should be one of .*validation"),
        ({"task": "subcategory"}, "fine-tuned for subcategory.*fine-tuned for cat"),
        ({"checkpoint": "nowhere"}, "should be a run folder"),
        ({"output_dir": None}, "`--output_dir` should be given for --mode=evaluate"),
        # No record of these data has a sub-category that a run could learn.
        ({"mode": "train", "task": "subcategory"}, "examples that are left .*lack one"),
    ],
)
def test_says_what_is_wrong(settings, changes, message, tmp_path):
    changes = {"run_dir": str(tmp_path / "run"), **changes}
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        run_finetune.main(settings | changes)


def test_one_class_is_nothing_to_learn(settings, write_data_set, tmp_path):
    info = write_data(tmp_path / "one", write_data_set, {"train": ["x"] * 9}, ["x"])
    changes = {"mode": "train", "data_dir": info.directory}
    changes["run_dir"] = str(tmp_path / "run")
    with pytest.raises(ValueError, match=r"at least two values .*Received: \['x'\]"):
        run_finetune.main(settings | changes)


def test_an_empty_split(settings, write_data_set, tmp_path):
    splits = {"train": ["bag", "dress"], "empty": [], "unnamed": ["", ""]}
    info = write_data(tmp_path / "data", write_data_set, splits, ["bag", "dress"])
    changes = {"data_dir": info.directory}
    with pytest.raises(ValueError, match="`split` should have records.*'empty'"):
        run_finetune.main(settings | changes | {"split": "empty"})
    with pytest.raises(ValueError, match="records with a label.*2 records"):
        run_finetune.main(settings | changes | {"split": "unnamed"})


def test_a_checkpoint_with_another_number_of_classes(settings, tmp_path):
    config = checkpoints.run_config(settings["checkpoint"])
    run = tmp_path / "run"
    run.mkdir()
    config.save(run / "config.json")
    model = classification.build_classifier(config, 3)
    checkpoints.CheckpointKeeper(str(run), model).save(1)
    names = ["bag", "dress", "hat", "trousers"]
    task = {"task": "category", "class_names": names, "class_examples": {}}
    files.write_json(task, run / "task.json")
    with pytest.raises(ValueError, match="should hold a model of the same sizes"):
        run_finetune.main(settings | {"checkpoint": str(run)})


def test_a_pretraining_run_is_no_classifier(settings, tmp_path):
    config = checkpoints.run_config(settings["checkpoint"])
    (tmp_path / "run").mkdir()
    config.save(tmp_path / "run" / "config.json")
    checkpoints.CheckpointKeeper(str(tmp_path / "run"), build_matcher(config)).save(1)
    with pytest.raises(ValueError, match="a pre-training run .*--task=category"):
        run_finetune.main(settings | {"checkpoint": str(tmp_path / "run")})
