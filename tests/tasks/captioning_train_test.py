import json
import os

import numpy as np
import pytest
import tensorflow as tf

import run_finetune
from kaleido_tf.config import KaleidoConfig
from kaleido_tf.modeling import build_captioner
from kaleido_tf.tasks import captioning_train
from kaleido_tf.training import checkpoints
from kaleido_tf.training.task_context import Context

# [CLS] navy cotton shirt [SEP] and [CLS] dress [SEP] with one word of the vocabulary
# each as the numbers 5 to 8.
IDS = np.array([[2, 5, 6, 7, 3, 0], [2, 8, 3, 0, 0, 0]], np.int32)


def make_text(ids=IDS):
    ids = tf.constant(ids)
    mask = tf.cast(ids != 0, tf.int32)
    return {
        "input_word_ids": ids,
        "input_mask": mask,
        "input_type_ids": tf.zeros_like(ids),
    }


def make(name, tokenizer, ids=IDS, seed=(0, 1)):
    row = captioning_train.OBJECTIVES[name]
    return row.make(make_text(ids), tf.constant(seed), tokenizer)


def test_next_word_predicts_the_following_token_up_to_sep(tokenizer):
    inputs, labels = make("next_word", tokenizer)
    np.testing.assert_array_equal(inputs["input_word_ids"], IDS)
    np.testing.assert_array_equal(
        labels["caption_ids"], [[5, 6, 7, 3, 0, 0], [8, 3, 0, 0, 0, 0]]
    )
    np.testing.assert_array_equal(
        labels["caption_weights"], [[1, 1, 1, 1, 0, 0], [1, 1, 0, 0, 0, 0]]
    )


def test_masked_hides_seven_tenths_of_a_text_with_sep(tokenizer):
    ids = np.tile([[2, *range(5, 14), 3, 0]], [200, 1])
    ids[0, 1:] = [3, *[0] * 10]  # an empty text: [SEP] alone can be asked for
    inputs, labels = make("masked", tokenizer, ids)
    weights = labels["caption_weights"].numpy()
    assert weights[0].tolist() == [0, 1] + [0] * 10
    assert np.all(weights[1:].sum(axis=1) == 7)
    assert not weights[:, [0, 11]].any()
    assert 0.55 < weights[1:, 10].mean() < 0.85  # [SEP] as often as any
    np.testing.assert_array_equal(labels["caption_ids"], ids)
    np.testing.assert_array_equal(
        inputs["input_word_ids"], np.where(weights > 0, tokenizer.mask_id, ids)
    )
    np.testing.assert_array_equal(inputs["input_mask"], ids != 0)
    again, _ = make("masked", tokenizer, ids)
    other, _ = make("masked", tokenizer, ids, seed=(0, 2))
    assert np.array_equal(again["input_word_ids"], inputs["input_word_ids"])
    assert not np.array_equal(other["input_word_ids"], inputs["input_word_ids"])


def test_mask_all_shows_nothing_of_the_text(tokenizer):
    full = np.array([[2, 5, 6, 7, 8, 3]], np.int32)
    inputs, labels = make("mask_all", tokenizer, np.concatenate([IDS, full]))
    row = [tokenizer.cls_id, *[tokenizer.mask_id] * 4, tokenizer.sep_id]
    assert inputs["input_word_ids"].numpy().tolist() == [row] * 3
    assert inputs["input_mask"].numpy().all()
    np.testing.assert_array_equal(
        labels["caption_weights"],
        [[0, 1, 1, 1, 1, 0], [0, 1, 1, 0, 0, 0], [0, 1, 1, 1, 1, 0]],
    )
    np.testing.assert_array_equal(labels["caption_ids"][:2], IDS)


def test_loss_and_accuracy_are_means_over_the_counted_tokens():
    logits = np.random.default_rng(0).normal(size=(2, 3, 5)).astype(np.float32)
    ids = np.array([[1, 2, 0], [4, 0, 0]])
    labels = {
        "caption_ids": tf.constant(ids, tf.int32),
        "caption_weights": tf.constant([[1.0, 1, 0], [1, 0, 0]]),
    }
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    counted = [(0, 0), (0, 1), (1, 0)]
    expected = -np.mean([log_probs[i, j, ids[i, j]] for i, j in counted])
    hits = np.mean([logits[i, j].argmax() == ids[i, j] for i, j in counted])
    for dtype, tolerance in ((tf.float32, 1e-6), (tf.bfloat16, 1e-2)):
        outputs = {"caption_logits": tf.cast(logits, dtype)}
        loss = captioning_train.caption_losses(labels, outputs)["caption"]
        assert loss.dtype == tf.float32
        assert float(loss) == pytest.approx(expected, rel=tolerance)
    accuracy, weight = captioning_train.caption_accuracies(labels, outputs)["caption"]
    assert (float(accuracy), float(weight)) == (pytest.approx(hits), 3)


def test_unknown_objective_is_an_error():
    assert captioning_train.find_objective(None)[0] == "next_word"
    with pytest.raises(ValueError, match="`objective` should be one of"):
        captioning_train.find_objective("copy")


def test_dropped_words_are_hidden_and_still_foretold(tokenizer):
    ids = np.tile([[2, *range(5, 14), 3, 0]], [300, 1])
    inputs, labels = make("next_word", tokenizer, ids)
    seed = tf.constant([0, 1])
    dropped = captioning_train.drop_words(inputs, seed, tokenizer, 0.3)
    hidden = dropped["input_word_ids"].numpy() == tokenizer.mask_id
    assert not hidden[:, [0, 10, 11]].any()  # [CLS], [SEP], padding
    assert hidden[:, 1:10].mean() == pytest.approx(0.3, abs=0.04)
    np.testing.assert_array_equal(
        dropped["input_word_ids"].numpy()[~hidden], ids[~hidden]
    )
    np.testing.assert_array_equal(labels["caption_ids"][:, :-1], ids[:, 1:])
    same = captioning_train.drop_words(inputs, seed, tokenizer, 0.0)
    np.testing.assert_array_equal(same["input_word_ids"], ids)


@pytest.mark.parametrize("objective", ["next_word", "masked"])
def test_only_training_by_next_word_drops_words(objective, tokenizer):
    sizes = dict(hidden_size=8, num_layers=1, num_heads=2, intermediate_size=8)
    config = KaleidoConfig(vocab_size=tokenizer.vocab_size, **sizes)
    settings = {"objective": objective, "word_dropout": 1.0}
    context = Context(settings, None, tokenizer, config, None)
    job = captioning_train.make_job(context)
    batch = {**make_text(), "patch_features": None, "patch_locations": None}
    seed = tf.constant([0, 1])
    clean, labels = job.make_batch(batch, seed)
    inputs, same = job.make_training_batch(batch, seed)
    words = inputs["input_word_ids"].numpy()
    if objective == "masked":
        np.testing.assert_array_equal(words, clean["input_word_ids"])
    else:
        np.testing.assert_array_equal(words, [[2, 4, 4, 4, 3, 0], [2, 4, 3, 0, 0, 0]])
    for name in labels:
        np.testing.assert_array_equal(labels[name], same[name])


def test_a_run_learns_and_its_weights_fit_both_captioners(make_data_set, tmp_path):
    make_data_set(tmp_path / "data")
    config = tmp_path / "config.json"
    sizes = dict(hidden_size=32, num_layers=1, num_heads=2, intermediate_size=48)
    config.write_text(json.dumps({**sizes, "contrastive_size": 0}))
    run_dir = tmp_path / "run"
    settings = run_finetune.flag_page().defaults() | {
        "task": "captioning",
        "mode": "train",
        "data_dir": str(tmp_path / "data"),
        "run_dir": str(run_dir),
        "model": "tiny",
        "config": str(config),
        "text_length": 10,
        "num_steps": 60,
        "batch_size": 4,
        "learning_rate": 1e-2,
        "warmup_steps": 2,
        "dev_fraction": 0.6,  # one of the seven products
        "steps_per_round": 30,
    }
    captioning_train.train(settings)
    with open(run_dir / "metrics.jsonl", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    losses = [row["loss/caption"] for row in rows if row["split"] == "train"]
    # Guessing at 28 pieces costs 3.3; the grammar of seven texts is soon known.
    assert losses[-1] < 1.5 < losses[0]
    with open(run_dir / "task.json", encoding="utf-8") as file:
        task = json.load(file)
    assert task["objective"] == "next_word"
    assert task["attention"] == "sequence_to_sequence"
    loaded = checkpoints.run_config(str(run_dir))
    for attention in ("sequence_to_sequence", "bidirectional"):
        prefix = checkpoints.load_weights(
            build_captioner(loaded, attention), str(run_dir)
        )
        assert os.path.basename(prefix).startswith("ckpt-")
