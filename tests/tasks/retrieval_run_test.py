"""The retrieval task as the command runs it, end to end on a saved model."""

import json

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import run_finetune
from data_prep import retrieval_lists
from kaleido_tf.data import candidate_lists
from kaleido_tf.data.tokenization import Tokenizer
from kaleido_tf.modeling import build_pretrainer
from kaleido_tf.tasks import retrieval, retrieval_run
from kaleido_tf.training import checkpoints


@pytest.fixture(scope="module")
def run(tiny, tmp_path_factory):
    """A run folder with one checkpoint of a pre-trainer, and the pre-trainer."""
    folder = tmp_path_factory.mktemp("run")
    config = tiny.make_config()
    model = build_pretrainer(config)
    for variable in model.trainable_variables:  # away from the constant start
        noise = tf.random.stateless_normal(variable.shape, [1, 2], stddev=0.2)
        variable.assign_add(noise)
    config.save(folder / "config.json")
    optimizer = tf_keras.optimizers.SGD()
    checkpoints.CheckpointKeeper(str(folder), model, optimizer).save(3)
    return folder, model


@pytest.fixture
def settings(run, data_dir, tmp_path):
    retrieval_lists.make_lists(
        data_dir,
        tmp_path / "lists",
        split="validation",
        num_queries=100,
        num_candidates=4,
        num_lists=2,
    )
    yield run_finetune.flag_page().defaults() | {
        "task": "retrieval",
        "mode": "evaluate",
        "data_dir": str(data_dir),
        "checkpoint": str(run[0]),
        "output_dir": str(tmp_path / "out"),
        "lists_dir": str(tmp_path / "lists"),
        "num_lists": 2,
        "max_full_pairs": 100,
        "eval_batch_size": 8,
    }
    tf_keras.mixed_precision.set_global_policy("float32")


def _pretrainer_scores(tiny, model, split):
    """Match probabilities [texts, images] by the pre-trainer itself."""
    config, size = tiny.make_config(), len(tiny.rows)
    texts, images = np.divmod(np.arange(size * size), size)
    inputs = Tokenizer(tiny.vocabulary).encode(tf.constant(split.texts), 16)
    inputs = {key: tf.gather(value, texts) for key, value in inputs.items()}
    inputs["patch_features"] = split.patch_features[images].astype(np.float32)
    inputs["patch_locations"] = split.patch_locations[images]
    zeros = {"masked_lm_positions": config.max_predictions}
    zeros |= {"grey_positions": 2, "blank_positions": 3}
    inputs |= {k: np.zeros((size * size, n), np.int32) for k, n in zeros.items()}
    logits = model(inputs, training=False)["itm_logits"]
    return tf.nn.softmax(logits)[:, 1].numpy().reshape(size, size)


def test_command_measures_the_saved_model(tiny, settings, run, split, capsys):
    run_finetune.main(settings)
    with open(f"{settings['output_dir']}/retrieval.json", encoding="utf-8") as file:
        results = json.load(file)
    table = _pretrainer_scores(tiny, run[1], split)
    assert np.ptp(table) > 0.02  # scores that can be told apart
    lists = candidate_lists.load_lists(settings["lists_dir"], 2)
    plan = retrieval.GalleryPlan(tiny.TableScorer(table), max_pairs=100)
    expected = retrieval_run.measure(plan, split, lists)
    for key in ("sampled", "full_gallery"):
        assert results[key] == expected[key]
    assert results["pairs"] == pytest.approx(expected["pairs"])
    assert results["score"] == "match" and results["split"] == "validation"
    assert results["checkpoint"].endswith("ckpt-3")
    assert results["trained"].startswith("zero-shot")
    shown = [
        [[e["image_id"] for e in row["ranked"]] for row in tops["top_ranked"]["tir"]]
        for tops in (results, expected)
    ]
    assert shown[0] == shown[1]
    printed = capsys.readouterr().out
    sampled = results["sampled"]["tir"]["rank@1"]
    assert f"{sampled['mean']:.2f} +- {sampled['std']:.2f}" in printed
    assert (
        "TIR text -> image, 6 x 4" in printed
        and lists["itr"][1]["sha256"][:8] in printed
    )
    assert "Theirs, on another data set" in printed and "27.99" in printed


def test_command_in_two_stages(settings, capsys):
    settings |= {"score": "both", "precision": "mixed_bfloat16", "max_full_pairs": 53}
    results = run_finetune.main(settings | {"num_queries": 5, "rerank": 2})
    assert results["pairs"]["pair_accuracy"] is None
    assert results["sampled"]["itr"]["lists"][0]["num_queries"] == 5
    full = results["full_gallery"]
    assert full["first_stage"]["rerank"] == 2
    for direction in ("itr", "tir"):
        found = full["first_stage"][direction]["found"]
        assert full[direction]["rank@1"] <= found <= full[direction]["rank@5"]
    printed = capsys.readouterr().out
    assert "Full gallery in two stages: cosine finds 2" in printed
    assert "1 images have no text" in printed


def test_command_takes_a_checkpoint_within_the_run(settings, run, tmp_path):
    prefix = f"{run[0]}/checkpoints/ckpt-3"
    results = run_finetune.main(settings | {"checkpoint": prefix, "score": "cosine"})
    assert results["checkpoint"] == prefix and results["score"] == "cosine"
    (tmp_path / "other").mkdir()
    for name in ("config.json", "checkpoints"):
        (tmp_path / "other" / name).symlink_to(run[0] / name)
    (tmp_path / "other" / "task.json").write_text('{"task": "category"}')
    with pytest.raises(ValueError, match="fine-tuned for category"):
        run_finetune.main(settings | {"checkpoint": str(tmp_path / "other")})


def test_predictions(tiny, settings, run, split):
    settings |= {"mode": "predict", "lists_dir": None, "top_k": 3}
    result = run_finetune.main(settings)
    with open(result["path"], encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    assert len(rows) == result["num_queries"] == 9 + 6
    table = _pretrainer_scores(tiny, run[1], split)
    texts = [0, 1, 3, 4, 5, 6]  # the first record of each
    for row in rows:
        query = int(row["query"][1:])
        assert row["text"] == tiny.rows[query][2] and row["score"] == "match"
        if row["direction"] == "itr":
            scores = {text: table[text, query] for text in texts}
        else:
            scores = dict(enumerate(table[query]))
        best = sorted(scores, key=lambda i: -scores[i])[:3]
        assert [entry["image_id"] for entry in row["ranked"]] == [f"i{i}" for i in best]
        for entry, place in zip(row["ranked"], best, strict=True):
            assert entry["score"] == pytest.approx(scores[place], abs=1e-5)
            assert entry["product_id"] == tiny.rows[place][0]
            assert entry["text"] == tiny.rows[place][2]
    assert [row["direction"] for row in rows] == ["itr"] * 9 + ["tir"] * 6


def test_predictions_of_a_split_without_texts(tiny, settings, write_data_set, tmp_path):
    def rows(shapes):
        return [{**r, "text": "", "token_ids": []} for r in tiny.make_records(shapes)]

    write_data_set(
        tmp_path / "mute", {("validation", "a"): rows}, tiny.vocabulary, tiny.features
    )
    for mode in ("predict", "evaluate"):
        with pytest.raises(ValueError, match="'validation' of .*mute, which has none"):
            run_finetune.main(
                settings | {"mode": mode, "data_dir": str(tmp_path / "mute")}
            )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lists_dir": None}, "python -m data_prep.retrieval_lists"),
        ({"lists_dir": "nowhere"}, "itr_seed0.json should be a frozen .*make the lis"),
        ({"num_lists": 3}, "itr_seed2.json should be a frozen candidate list"),
        ({"num_lists": 0}, "`num_lists` should be at least 1"),
        ({"num_queries": -1}, "`num_queries` at least 0"),
        ({"split": "test"}, "`split` should be that of the candidate lists, 'valid"),
        ({"checkpoint": "nowhere"}, "checkpoint should be a run folder"),
        ({"data_dir": "nowhere"}, "python -m data_prep.prepare"),
    ],
)
def test_command_says_what_is_wrong(settings, changes, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        run_finetune.main(settings | changes)


def test_model_of_another_data_set(tiny, settings, run, tmp_path):
    tiny.make_config(patch_feature_size=6).save(tmp_path / "config.json")
    (tmp_path / "checkpoints").symlink_to(run[0] / "checkpoints")
    with pytest.raises(ValueError, match="`patch_feature_size` of the config"):
        run_finetune.main(settings | {"checkpoint": str(tmp_path)})
