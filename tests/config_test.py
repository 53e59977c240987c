"""The level table and the config: figures of the paper, JSON, and every check."""

import json

import pytest

from kaleido_tf import config
from kaleido_tf.config import KaleidoConfig


def test_levels_are_the_papers():
    levels = config.KALEIDO_LEVELS
    assert [level.grid for level in levels] == [1, 2, 3, 4, 5]
    assert [level.masked for level in levels] == [0, 0, 1, 2, 3]
    assert [level.task for level in levels] == list(config.AKPM_TASKS)
    assert config.level_offsets(levels) == [0, 1, 5, 14, 30]
    assert KaleidoConfig().num_patches == 55


def test_base_preset_is_the_papers_model():
    base = KaleidoConfig.preset("base")
    sizes = (base.num_layers, base.hidden_size, base.num_heads, base.intermediate_size)
    assert sizes == (12, 768, 12, 3072)
    assert (base.text_length, base.max_predictions) == (64, 10)
    assert (base.patch_feature_size, base.layer_norm_epsilon) == (2048, 1e-12)
    assert (base.hidden_dropout, base.contrastive_size) == (0.1, 0)


def test_level_slices_and_tasks_of_an_arm():
    kaleido = KaleidoConfig(akpm_tasks=("blank", "rotation"))
    assert kaleido.level_slice("camouflage") == slice(5, 14)
    assert kaleido.level_slice("blank") == slice(30, 55)
    assert kaleido.active_tasks == ("rotation", "blank")
    assert kaleido.loss_names == ("mlm", "itm", "rotation", "blank")
    fixed = KaleidoConfig(patch_arm="fixed")
    assert (fixed.num_patches, fixed.active_tasks) == (64, ("blank",))
    with pytest.raises(ValueError, match="`task` should be one of .*'blank'.*'jigsaw'"):
        fixed.level_slice("jigsaw")


def test_json_there_and_back(tmp_path):
    path = tmp_path / "config.json"
    written = KaleidoConfig.preset("tiny", akpm_tasks=("grey",), vocab_size=77)
    written.save(path)
    assert KaleidoConfig.from_json(path) == written
    assert [p.name for p in tmp_path.iterdir()] == ["config.json"]


def test_replace_checks_again():
    assert KaleidoConfig().replace(text_length=32).text_length == 32
    with pytest.raises(ValueError, match="Received: hidden_size=770, num_heads=12"):
        KaleidoConfig().replace(hidden_size=770)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 30, "num_heads": 4}, "`hidden_size` should be a multiple"),
        ({"text_length": 600}, "at least `text_length`. Received: 512 < 600"),
        ({"text_length": 2}, "`text_length` should be at least 3. Received: 2"),
        ({"hidden_dropout": 1.0}, "`hidden_dropout` should be a share .* below 1"),
        ({"feature_dropout": float("nan")}, "`feature_dropout` should be a share"),
        ({"contrastive_temperature": 0.0}, "`contrastive_temperature` .* above 0"),
        ({"layer_norm_epsilon": -1.0}, "`layer_norm_epsilon` should be above 0"),
        ({"contrastive_weight": -1.0}, "`contrastive_weight` should be at least 0"),
        ({"akpm_tasks": [["a"]]}, r"names out of .* Received: \[\['a'\]\]"),
        ({"num_heads": 0}, "`num_heads` should be at least 1. Received: 0"),
        ({"patch_type_vocab_size": 5}, "should be at least 6. Received: 5"),
        ({"hidden_size": "768"}, "`hidden_size` should be of type int. .* '768'"),
        ({"akpm_tasks": "grey"}, "`akpm_tasks` should be of type tuple. .* 'grey'"),
        ({"num_layers": True}, "`num_layers` should be of type int. Received: True"),
        ({"hidden_dropout": None}, "`hidden_dropout` should be of type float"),
        ({"akpm_tasks": ("gray",)}, r"names out of .*'grey'.* Received: \['gray'\]"),
        ({"matched_only_losses": ["lm"]}, r"`matched_only_losses`.*Received: \['lm'\]"),
        ({"patch_arm": "round"}, "one of .*'fixed', 'kaleido'.*Received: 'round'"),
    ],
)
def test_wrong_values(changes, message):
    with pytest.raises(ValueError, match=message):
        KaleidoConfig(**changes)


def test_unknown_keys_and_presets():
    with pytest.raises(ValueError, match=r"x.json should hold only.*\['width'\]"):
        KaleidoConfig.from_dict({"width": 3}, source="x.json")
    with pytest.raises(ValueError, match="'base', 'small', 'tiny'.*Received: 'huge'"):
        KaleidoConfig.preset("huge")


@pytest.mark.parametrize(
    ("content", "message"),
    [("{no", "c.json should be JSON"), ("[1]", "c.json should hold a JSON object")],
)
def test_broken_files(tmp_path, content, message):
    path = tmp_path / "c.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        KaleidoConfig.from_json(path)


def test_config_of_the_release(tmp_path):
    released = {
        "vocab_size": 30522,
        "hidden_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 384,
        "text_seq_len": 64,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
        "patch_feature_size": 2048,
        "patch_type_vocab_size": 6,
        "hidden_dropout_prob": 0.2,
        "attention_probs_dropout_prob": 0.3,
        "initializer_range": 0.01,
        "hidden_act": "gelu",
    }
    path = tmp_path / "config.json"
    path.write_text(json.dumps(released))
    ours = KaleidoConfig.from_easytransfer(path)
    assert (ours.num_layers, ours.num_heads, ours.text_length) == (3, 4, 64)
    assert (ours.hidden_dropout, ours.attention_dropout) == (0.2, 0.3)
    assert ours.matched_only_losses == ()
    path.write_text(json.dumps(released | {"img_rotation_label_num": 8}))
    with pytest.raises(ValueError, match=r"rotation_label_num': \(8, 4\)"):
        KaleidoConfig.from_easytransfer(path)
    path.write_text("{}")
    with pytest.raises(ValueError, match="Missing keys: .*'num_hidden_layers'"):
        KaleidoConfig.from_easytransfer(path)
