"""A served answer is the training code's, from the same picture and text."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

import run_finetune
from kaleido_tf.data.tokenization import Tokenizer
from kaleido_tf.modeling import build_matcher
from kaleido_tf.serving import export, loaded
from kaleido_tf.tasks import caption_text, scoring
from kaleido_tf.tasks.matcher_parts import EmbeddedSplit, MatcherParts
from kaleido_tf.tasks.retrieval_split import RetrievalSplit
from kaleido_tf.training import checkpoints

HERE = pathlib.Path(__file__).parent
CLOSE = {"atol": 1e-4, "rtol": 0}


@pytest.fixture(scope="module")
def split(workshop):
    return RetrievalSplit.load(workshop.info, "train")


@pytest.fixture(scope="module")
def pictures(workshop, split):
    return [workshop.pictures[name] for name in split.image_ids]


@pytest.fixture(scope="module")
def served(exported, split, pictures, tmp_path_factory):
    """Answers of a process that has TensorFlow alone: dict SIGNATURE/NAME -> array."""
    texts = [text.encode() for text in split.texts]
    both = {"image_bytes": pictures, "text": texts}
    requests = {
        "image_features": {"image_bytes": pictures},
        "match": both,
        "text_vectors": {"text": texts},
        "category": both,
        "caption": {"image_bytes": pictures},
    }
    folder = tmp_path_factory.mktemp("alone")
    paths = [str(folder / name) for name in ("asked.npz", "answered.npz")]
    arrays = {
        f"{signature}/{name}": np.array(value, object)
        for signature, inputs in requests.items()
        for name, value in inputs.items()
    }
    np.savez(paths[0], **arrays)
    command = [sys.executable, str(HERE / "load_alone.py"), exported, *paths]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(np.load(paths[1], allow_pickle=True))


@pytest.fixture(scope="module")
def embedded(workshop, split):
    """What training's own evaluation makes of the records."""
    matcher = build_matcher(workshop.config)
    checkpoints.load_weights(matcher, workshop.settings["checkpoint"])
    tokenizer = Tokenizer.from_file(workshop.info.vocab_file)
    parts = MatcherParts(matcher, workshop.config)
    return EmbeddedSplit(parts, split, tokenizer, batch_size=4)


def test_features_and_boxes_are_the_records(served, split, workshop):
    features = served["image_features/patch_features"]
    # Stored as float16, whose step is a thousandth of the value.
    difference = np.abs(features - split.patch_features.astype(np.float32))
    assert (difference <= 1e-4).mean() > 0.99
    assert (difference <= 2e-3 * np.abs(features) + 1e-3).all()
    assert served["image_features/box_found"].all()
    for box, name in zip(served["image_features/box"], split.image_ids, strict=True):
        n = int(name[1:])
        height = 160 + 3 * n
        drawn = [(20 + n) / height, 30 / 140, 130 / height, (90 + n) / 140]
        np.testing.assert_allclose(box, drawn, atol=0.05)


def test_match_is_the_pair_scorers(served, embedded, split):
    every = np.arange(len(split))
    margins = scoring.PairScorer(embedded, batch_size=4).score(every, every)
    assert np.ptp(margins) > 1e-3  # the pairs differ
    np.testing.assert_allclose(served["match/margin"], margins, **CLOSE)
    np.testing.assert_allclose(
        served["match/score"], scoring.probabilities(margins), **CLOSE
    )


def test_vectors_are_the_evaluations(served, embedded):
    texts, images = embedded.vectors
    np.testing.assert_allclose(served["text_vectors/text_vectors"], texts, **CLOSE)
    np.testing.assert_allclose(served["image_features/image_vectors"], images, **CLOSE)


def predictions(workshop, task, tmp_path, **flags):
    """What `run_finetune.py --mode=predict` writes: dict image_id -> row."""
    settings = run_finetune.flag_page().defaults() | {
        "task": task,
        "mode": "predict",
        "data_dir": workshop.info.directory,
        "checkpoint": workshop.settings[f"{task}_checkpoint"],
        "output_dir": str(tmp_path),
        "split": "train",
        "eval_batch_size": 3,
        **flags,
    }
    run_finetune.main(settings)
    lines = (tmp_path / "predictions.jsonl").read_text().splitlines()
    return {row["image_id"]: row for row in map(json.loads, lines)}


def test_category_is_the_predictions(served, workshop, split, tmp_path):
    rows = predictions(workshop, "category", tmp_path, top_k=3)
    for name, labels, values in zip(
        split.image_ids,
        served["category/labels"],
        served["category/probabilities"],
        strict=True,
    ):
        expected = rows[name]["labels"]
        assert [v.decode() for v in labels] == [row["label"] for row in expected]
        np.testing.assert_allclose(
            values, [r["probability"] for r in expected], **CLOSE
        )


def test_captions_are_the_predictions(served, workshop, split, tmp_path):
    flags = {key: workshop.settings[key] for key in ("beam_size", "max_length")}
    rows = predictions(workshop, "captioning", tmp_path, **flags)
    for name, captions, scores in zip(
        split.image_ids,
        served["caption/captions"],
        served["caption/scores"],
        strict=True,
    ):
        expected = rows[name]["captions"]
        found = [caption_text.readable(text.decode()) for text in captions]
        assert found[: len(expected)] == [row["caption"] for row in expected]
        np.testing.assert_allclose(
            scores[: len(expected)], [row["score"] for row in expected], **CLOSE
        )


@pytest.mark.long
def test_an_export_in_bfloat16_answers_nearly_alike(workshop, model, tmp_path):
    settings = {**workshop.settings, "precision": "bfloat16"}
    export.export({**settings, "output_dir": str(tmp_path)})
    other = loaded.LoadedModel(tmp_path)
    assert set(other.signatures) == set(model.signatures)
    picture, text = [workshop.pictures["v1"]], [b"navy shirt"]
    both = {"image_bytes": np.array(picture, object), "text": np.array(text, object)}
    sides = {key: {key: value} for key, value in both.items()}
    asked = {"match": both, "category": both, "text_vectors": sides["text"]}
    asked |= {name: sides["image_bytes"] for name in ("image_features", "caption")}
    for name, inputs in asked.items():
        answers, expected = other.predict(name, inputs), model.predict(name, inputs)
        for key, value in answers.items():
            if value.dtype == np.float32:
                finite = np.isfinite(value)
                np.testing.assert_allclose(
                    value[finite], expected[key][finite], atol=0.05
                )
    features = {
        "patch_features": model.predict("image_features", sides["image_bytes"])[
            "patch_features"
        ]
    }
    vectors = [
        each.predict("image_vectors", features)["image_vectors"]
        for each in (other, model)
    ]
    assert 0 < np.abs(vectors[0] - vectors[1]).max() < 0.05
