"""The release's text shards -> records and frozen examples -> batches."""

import base64
import json

import numpy as np
import pytest

from data_prep import convert_release
from data_prep.release import release_examples, release_lines
from kaleido_tf.config import KALEIDO_LEVELS, KaleidoConfig
from kaleido_tf.data import patches, records
from kaleido_tf.data.dataset_info import DatasetInfo
from kaleido_tf.data.finetuning_data import FinetuningData
from kaleido_tf.data.input_pipeline import PretrainingData

F, T, M = 3, 10, 4
COUNTS = {"rotation": 1, "jigsaw": 4, "camouflage": 9, "grey_mask": 16}
COUNTS["blank_mask"] = 25


def small_schema(kind, camouflage=35):
    """The release's schema with small sizes."""
    sizes = {"input_ids": T, "input_mask": T, "segment_ids": T}
    sizes |= dict.fromkeys(
        ("masked_lm_positions", "masked_lm_ids", "masked_lm_weights"), M
    )
    sizes |= {f"img_feature_convert_{k}": F * n for k, n in COUNTS.items()}
    sizes |= {"img_grey_mask_gt": 2 * F, "img_loc_position_camouflage": camouflage}
    columns = release_lines.parse_schema(release_lines.SCHEMAS[kind])
    return ",".join(f"{c.name}:{c.type}:{sizes.get(c.name, c.length)}" for c in columns)


def box_locations(x1=10, y1=20, width=60, height=120):
    """Integers of the levels' rectangles in a box of the picture: dict by column."""
    levels = {}
    for level, name in zip(KALEIDO_LEVELS, COUNTS, strict=True):
        top, left, bottom, right = patches.level_rectangles(level.grid).T
        sides = [x1 + width * left, x1 + width * right]
        sides += [y1 + height * top, y1 + height * bottom]
        x, xx, y, yy = np.round(sides).astype(int)
        rows = np.stack([x, xx, y, yy, (xx - x) * (yy - y)], axis=1)
        levels[f"img_loc_position_{name}"] = rows.reshape(-1)
    return levels


@pytest.fixture
def make_line(vocabulary):
    """Makes a line of a kind: function(kind, n, changes) -> (bytes, dict of values)."""

    def make(kind, n=0, camouflage=35, **changes):
        rng = np.random.default_rng(n)
        at = vocabulary.index
        text = [at("[CLS]"), at("navy"), at("[MASK]"), at("shirt"), at("##s")]
        ids = np.array([*text, at("[SEP]"), *[at("[PAD]")] * (T - 6)])
        features = rng.normal(size=(55, F)).astype(np.float32)
        parts = np.split(features, np.cumsum(list(COUNTS.values()))[:-1])
        values = {
            "input_ids": ids,
            "input_mask": (np.arange(T) < 6).astype(int),
            "segment_ids": np.zeros(T, int),
            "masked_lm_positions": [2, 3, 0, 0],
            "masked_lm_ids": [at("cotton"), at("shirt"), 0, 0],
            "masked_lm_weights": [1.0, 1.0, 0.0, 0.0],
            "image_mask": np.ones(55, int),
            "img_subtasks_flag": [1],
            "img_grey_lm_ids": [5, 8],
            "img_blank_lm_ids": [0, 20, 24],
            "img_rotate_gt": [n % 4],
            "img_jigsaw_gt": [23],
            "img_camouflage_gt": [8],
            "img_grey_mask_gt": rng.normal(size=2 * F).astype(np.float32),
            "nx_sent_labels": [1],
            "text_prod_id": f"p{n}",
            "image_prod_id": f"p{n}",
            "prod_img_id": f"p{n}_0",
            "prod_desc": "Navy cotton shirts",
            "img_category": "TOPS",
            "img_category_id": [4],
            "img_subcategory": "SHIRTS",
            "img_subcategory_id": [11],
            **box_locations(),
        }
        names = [f"img_feature_convert_{name}" for name in COUNTS]
        values |= {k: v.reshape(-1) for k, v in zip(names, parts, strict=True)}
        values["img_loc_position_camouflage"] = values["img_loc_position_camouflage"][
            :camouflage
        ]
        values |= changes
        columns = release_lines.parse_schema(small_schema(kind, camouflage))
        fields = []
        for column in columns:
            value = values[column.name]
            if not isinstance(value, (str, bytes)):
                value = ",".join(str(x) for x in np.asarray(value).tolist())
            fields.append(value if isinstance(value, bytes) else value.encode())
        return b"\t".join(fields) + b"\n", {**values, "features": features}

    return make


@pytest.fixture
def convert(tmp_path, vocabulary):
    """Converts lines with small sizes; returns (info, `DatasetInfo`)."""
    vocab = tmp_path / "given_vocab.txt"
    vocab.write_text("\n".join(vocabulary) + "\n")

    def run(kind, train, validation=(), camouflage=35, **options):
        names = {}
        for split, lines in (("train", train), ("validation", validation)):
            if lines:
                (tmp_path / f"{split}.tsv").write_bytes(b"".join(lines))
                names[split] = str(tmp_path / f"{split}.tsv")
        out = str(tmp_path / "data")
        settings = {"lines_per_shard": 2, "max_bad_fraction": 0.0, **options}
        schema = settings.pop("schema", small_schema(kind, camouflage))
        info = convert_release.convert(
            out, str(vocab), schema=schema, **names, **settings
        )
        return info, DatasetInfo.load(out)

    return run


def rows_of(info, split="train"):
    return [
        row
        for path in info.shard_paths(split)
        for row in records.read_shard(path, info.shapes)
    ]


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ("input_ids:int", r"name:type:length .* Received: 'input_ids:int'"),
        ("input_ids:double:64", "types out of"),
        ("a:int:1,a:int:2", "name a column once. Twice: {'a'}"),
        ("input_ids:int:64", r"columns of a retrieval file. Missing: \['image_mask'"),
        (small_schema("retrieval").replace("mask:int:10", "mask:int:9"), "input_mask"),
        (
            small_schema("pretrain").replace(f"jigsaw:float:{4 * F}", "jigsaw:float:7"),
            r"img_feature_convert_jigsaw': '7, should be 12'",
        ),
    ],
)
def test_schemas_that_do_not_fit(convert, make_line, schema, message):
    with pytest.raises(ValueError, match=message):
        convert("pretrain", [make_line("pretrain")[0]], schema=schema)


def test_frozen_examples_reach_the_model_as_they_are(convert, make_line, tokenizer):
    mismatch = {"nx_sent_labels": [0], "img_subtasks_flag": [0]}
    made = [make_line("pretrain", n, **(mismatch if n == 2 else {})) for n in range(5)]
    lines = [line for line, _ in made]
    info, loaded = convert("pretrain", lines[:4], lines[4:])
    assert info["frozen"] == {"text_length": T, "max_predictions": M}
    assert (info["feature_size"], info["has_variants"]) == (F, False)
    assert info["camouflage_rebuilt"] == 5
    assert info["subtask_flags"] == {"match 1, flag 1": 4, "match 0, flag 0": 1}
    assert [s["num_examples"] for s in loaded.shards("train")] == [2, 2]
    # What the masks hid stands in the record.
    row = rows_of(loaded)[1]
    assert row["text"] == b"navy cotton shirts"
    assert row["image_id"] == b"train-00000:2"

    config = KaleidoConfig.preset(
        "tiny",
        vocab_size=info["vocab_size"],
        patch_feature_size=F,
        text_length=T,
        max_predictions=M,
    )
    data = PretrainingData(loaded, tokenizer, config, batch_size=4, mismatch_rate=1.0)
    inputs, labels = next(iter(data.training_dataset()))
    by_turn = {int(turn): i for i, turn in enumerate(labels["rotation_labels"])}
    for n, (_, values) in enumerate(made[:4]):
        i = by_turn[n]
        for key, name in (
            ("input_word_ids", "input_ids"),
            ("input_mask", "input_mask"),
            ("input_type_ids", "segment_ids"),
            ("masked_lm_positions", "masked_lm_positions"),
            ("grey_positions", "img_grey_lm_ids"),
            ("blank_positions", "img_blank_lm_ids"),
        ):
            found = inputs[key][i].numpy().tolist()
            # Texts are cut to what the batch needs: behind it is padding.
            assert found == list(values[name])[: len(found)]
            assert not any(values[name][len(found) :])
        # Stored in half precision; blanked by the reader, which keeps the targets.
        features = values["features"].astype(np.float16).astype(np.float32)
        blank = 30 + np.array([0, 20, 24])
        np.testing.assert_array_equal(labels["blank_targets"][i], features[blank])
        features[blank] = 0
        np.testing.assert_array_equal(inputs["patch_features"][i], features)
        grey = values["img_grey_mask_gt"].reshape(2, F)
        np.testing.assert_allclose(labels["grey_targets"][i], grey, rtol=1e-3)
        assert labels["masked_lm_ids"][i].numpy().tolist() == values["masked_lm_ids"]
        weights = labels["masked_lm_weights"][i].numpy().tolist()
        assert weights == values["masked_lm_weights"]
        assert int(labels["jigsaw_labels"][i]) == 23
        assert int(labels["camouflage_labels"][i]) == 8
        matched = n != 2
        assert int(labels["itm_labels"][i]) == matched
        assert float(labels["pair_weights"][i]) == matched
        same = labels["text_groups"].numpy() == labels["image_groups"][i].numpy()
        assert same.any(axis=1).tolist() == [matched and j == i for j in range(4)]
    held, _ = next(iter(data.validation_dataset()))
    assert held["input_word_ids"].shape == (1, 8)  # of T, but for padding
    with pytest.raises(ValueError, match=f"`text_length` should be {T}, as the frozen"):
        PretrainingData(loaded, tokenizer, config.replace(text_length=12), batch_size=2)
    with pytest.raises(ValueError, match="should hold clean records. Received: frozen"):
        FinetuningData(loaded, tokenizer, config, batch_size=2)


def test_clean_records_of_a_classification_file(convert, make_line, tokenizer):
    changes = [
        {"prod_desc": "Caf\xe9 shirt".encode("latin-1")},
        {"img_subcategory": "SKIRTS", "img_subcategory_id": [2]},
        {"prod_img_id": "p0_0"},  # seen before
        {"img_subcategory": "GOWNS"},
    ]
    made = [make_line("classification", n, 45, **c) for n, c in enumerate(changes)]
    lines = [line for line, _ in made]
    info, loaded = convert("classification", lines[:3], lines[3:], camouflage=45)
    assert info["left_out"] == {"train": {"image seen before": 1}, "validation": {}}
    assert info["camouflage_rebuilt"] == 0
    assert info["categories"] == ["TOPS"]
    assert info["subcategories"] == ["SHIRTS", "SKIRTS"]
    assert info["unseen_labels"]["subcategory"] == {"GOWNS": 1}
    assert info["release_ids"]["subcategory"] == {
        "GOWNS": [11],
        "SHIRTS": [11],
        "SKIRTS": [2],
    }
    first, second = rows_of(loaded)
    assert first["text"].decode() == "Café shirt"
    assert first["token_ids"].tolist() == made[0][1]["input_ids"][1:5].tolist()
    assert (second["product_id"], second["image_id"]) == (b"p1", b"p1_0")
    np.testing.assert_allclose(
        first["patch_features"], made[0][1]["features"], atol=2e-3
    )
    np.testing.assert_allclose(
        first["patch_locations"], patches.patch_locations(KALEIDO_LEVELS), atol=0.01
    )
    # What the files can't give: variants, so two of the tasks have nothing.
    config = KaleidoConfig.preset(
        "tiny", vocab_size=info["vocab_size"], patch_feature_size=F, text_length=T
    )
    with pytest.raises(ValueError, match="`akpm_tasks` should leave out grey and rot"):
        PretrainingData(loaded, tokenizer, config, batch_size=2)
    some = config.replace(akpm_tasks=("jigsaw", "camouflage", "blank"))
    data = PretrainingData(loaded, tokenizer, some, batch_size=2)
    inputs, labels = next(iter(data.training_dataset()))
    assert inputs["patch_features"].shape == (2, 55, F)
    assert "grey_targets" not in labels


def test_retrieval_lines_become_images_with_their_own_text(convert, make_line):
    lines = [
        make_line("retrieval", 0)[0],
        make_line("retrieval", 1, nx_sent_labels=[0], text_prod_id="p0")[0],
        make_line("retrieval", 1)[0],
        make_line("retrieval", 0)[0],
    ]
    info, loaded = convert("retrieval", lines, lines[:1], max_lines=4)
    assert info["left_out"]["train"] == {
        "text and image of different products": 1,
        "image seen before": 1,
    }
    assert [row["image_id"] for row in rows_of(loaded)] == [b"p0_0", b"p1_0"]
    assert (info["categories"], info["unseen_labels"]["category"]) == ([], {})


def test_base64_features(convert, make_line, vocabulary):
    line, values = make_line("retrieval")
    column = "img_feature_convert_jigsaw"
    schema = small_schema("retrieval").replace(f"{column}:float", f"{column}:base64")
    names = [c.name for c in release_lines.parse_schema(schema)]
    fields = line.rstrip(b"\n").split(b"\t")
    fields[names.index(column)] = base64.b64encode(values[column].tobytes())
    _, loaded = convert("retrieval", [b"\t".join(fields) + b"\n"], schema=schema)
    (row,) = rows_of(loaded)
    np.testing.assert_allclose(row["patch_features"], values["features"], atol=2e-3)


@pytest.mark.parametrize("rule", release_examples.LOCATION_RULES)
def test_locations(convert, make_line, rule):
    """35 numbers say where 7 of 9 rectangles are: all 9 are rebuilt."""
    line, values = make_line("retrieval")
    info, loaded = convert("retrieval", [line], locations=rule)
    assert info["location_rule"] == rule
    (row,) = rows_of(loaded)
    places = row["patch_locations"]
    if rule == "stored":
        whole = box_locations()
        expected = np.concatenate(list(whole.values())).reshape(-1, 5)
        np.testing.assert_array_equal(places, expected)
    else:
        expected = patches.patch_locations(KALEIDO_LEVELS)
        np.testing.assert_allclose(
            places, expected, atol=1e-6 if rule == "grid" else 0.01
        )


MALFORMED = [
    ("columns", lambda line: line.replace(b"\t", b" ", 1), "25 wanted, "),
    ("numbers", {"img_rotate_gt": ["x"]}, "`img_rotate_gt`"),
    ("numbers", {"masked_lm_weights": [1.0, "nan", 0.0, 0.0]}, "should be finite"),
    ("length", {"img_blank_lm_ids": [1, 2]}, "should have 3 values, received 2"),
    ("range", {"img_jigsaw_gt": [24]}, "`img_jigsaw_gt` should be from 0 to 23"),
    ("range", {"masked_lm_positions": [2, 9, 0, 0]}, "from 0 to 5"),
    ("input_ids", {"input_ids": [9] * T}, "is it the release's vocabulary?"),
    ("input_mask", {"input_mask": [1, 0] * 5}, "ones, at least three, then zeros"),
    (
        "locations",
        {"img_loc_position_rotation": [10, 10, 20, 140, 0]},
        "level 1's rectangle is",
    ),
    (
        "locations",
        {"img_loc_position_jigsaw": [10, 40, 20, 80, 0] * 3 + [90, 99, 80, 140, 0]},
        "patch 4 at [90.0, 99.0",
    ),
    (
        "blank targets",
        {"img_feature_convert_blank_mask": [0.0] * 75},
        "is zero already",
    ),
    ("range", {"segment_ids": np.full(T, 7)}, "`segment_ids` should be from 0 to 1"),
    ("values", {"img_feature_convert_rotation": [1e9, 0, 0]}, "finite in float16"),
]


def test_malformed_lines_are_listed(convert, make_line, tmp_path):
    lines = [make_line("pretrain")[0]]
    for _, change, _ in MALFORMED:
        if callable(change):
            lines.append(change(make_line("pretrain")[0]))
        else:
            lines.append(make_line("pretrain", **change)[0])
    count = len(MALFORMED)
    with pytest.raises(
        ValueError, match=rf"At most 50.0% of the files' {count + 1} .* {count}, listed"
    ):
        convert("pretrain", lines, max_bad_fraction=0.5)
    listed = [
        json.loads(line)
        for line in (tmp_path / "data" / "skipped.jsonl").read_text().splitlines()
    ]
    assert [row["line"] for row in listed] == list(range(2, count + 2))
    for row, (reason, _, detail) in zip(listed, MALFORMED, strict=True):
        assert row["reason"] == reason
        assert detail in row["detail"]
        assert row["file"] == "train.tsv"
    info, loaded = convert("pretrain", lines, max_bad_fraction=0.99)
    assert info["skipped"] == count
    assert loaded.num_examples("train") == 1


def test_a_split_without_lines_is_an_error(convert):
    with pytest.raises(ValueError, match="files of 'train' should hold lines"):
        convert("pretrain", [b""])


def test_only_what_is_missing_is_converted_again(convert, make_line, tmp_path):
    lines = [make_line("retrieval", n)[0] for n in range(5)]
    first, _ = convert("retrieval", lines)
    out = tmp_path / "data"
    times = {p.name: p.stat().st_mtime_ns for p in out.glob("*.tfrecord")}
    assert len(times) == 3
    (out / "train-00001-of-00003.tfrecord").unlink()
    second, _ = convert("retrieval", lines)
    assert second == first
    changed = {
        p.name for p in out.glob("*.tfrecord") if p.stat().st_mtime_ns != times[p.name]
    }
    assert changed == {"train-00001-of-00003.tfrecord"}
    third, loaded = convert("retrieval", lines, locations="grid")
    assert third != first
    assert loaded.num_examples("train") == 5
