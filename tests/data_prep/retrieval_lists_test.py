"""Frozen candidate lists: what may be in them, their seeds and their files."""

import collections
import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from data_prep import retrieval_lists
from kaleido_tf.config import PATCH_ARMS
from kaleido_tf.data import candidate_lists, records
from kaleido_tf.data.candidate_lists import Item
from kaleido_tf.data.dataset_info import DatasetInfo, file_sha256, record_shapes


def _catalogue(num_products=60, num_views=3):
    """Products in 4 sub-categories of 2 categories; every fifth text is shared."""
    items = []
    for p in range(num_products):
        text = "Red  Shirt" if p % 5 == 0 else f"shirt number {p}"
        for v in range(1 + p % num_views):
            shown = text.upper() if v % 2 else text
            items.append(
                Item(f"i{p}_{v}", f"p{p}", f"c{p % 2}", f"s{p % 4}", f"{shown} ")
            )
    return items


def _build(items, direction="tir", seed=0, **kwargs):
    return retrieval_lists.build_lists(items, direction, seed, **kwargs)


@pytest.mark.parametrize("direction", ["itr", "tir"])
@pytest.mark.parametrize("num_candidates", [5, 25, 101])
def test_every_candidate_is_allowed(direction, num_candidates):
    items = _catalogue()
    by_id = {item.image_id: item for item in items}
    made = _build(items, direction, num_candidates=num_candidates)
    # 12 of the 60 products share a text: 48 negatives for these, 59 for the others.
    size = min(num_candidates, 49)
    assert made["num_candidates"] == size
    assert made["requested_candidates"] == num_candidates
    outside = collections.Counter()
    for row in made["queries"]:
        query = by_id[row["query"]]
        assert row["positive"] == row["query"]
        assert row["candidates"].count(row["positive"]) == 1
        chosen = [by_id[c] for c in row["candidates"]]
        assert len({c.product_id for c in chosen}) == len(chosen) == size
        negatives = [c for c in chosen if c is not query]
        folded = candidate_lists.fold_text(query.text)
        assert folded not in {candidate_lists.fold_text(c.text) for c in negatives}
        same = [c.subcategory == query.subcategory for c in negatives]
        shares = folded == "red shirt"
        assert sum(same) == min(size - 1, 12 if shares else 14)
        for other in (c for c in negatives if c.subcategory != query.subcategory):
            near = other.category == query.category
            outside["category" if near else "anywhere"] += 1
    assert made["filled"] == {k: outside[k] for k in ("category", "anywhere")}
    assert len(made["queries"]) == 60
    assert len({by_id[r["query"]].product_id for r in made["queries"]}) == 60


def test_positives_stand_anywhere_and_views_vary():
    items = _catalogue()
    made = [_build(items, seed=s, num_candidates=5) for s in range(8)]
    rows = [row for one in made for row in one["queries"]]
    places = collections.Counter(r["candidates"].index(r["positive"]) for r in rows)
    assert set(places) == set(range(5)) and min(places.values()) > 480 / 5 / 2
    views = collections.Counter(c for row in rows for c in row["candidates"])
    assert set(views) == {item.image_id for item in items}


def test_seeds_and_directions_differ_and_order_does_not_matter():
    items = _catalogue()
    shuffled = [items[i] for i in np.random.default_rng(3).permutation(len(items))]
    one = _build(items, seed=4, num_queries=7)
    assert _build(shuffled, seed=4, num_queries=7) == one
    assert len(one["queries"]) == 7
    hashes = {
        _build(items, d, s)["sha256"]
        for d in candidate_lists.DIRECTIONS
        for s in (0, 1)
    }
    assert len(hashes) == 4


def test_small_split_takes_what_there_is():
    items = [Item(f"i{n}", f"p{n}", "c", "s", f"text {n}") for n in range(4)]
    made = _build(items)
    assert made["num_candidates"] == 4
    assert len(made["queries"]) == 4
    message = retrieval_lists.describe(made, 1000)
    assert "no more than 4 candidates for every query, not 101" in message
    assert "chance of Rank@1 25.00 %" in message
    assert "the split has 4 products, not 1000" in message


def test_nameless_categories_and_empty_texts():
    items = [Item(f"i{n}", f"p{n}", "", "", f"text {n}") for n in range(6)]
    items.append(Item("i6", "p6", "c", "s", "  "))
    made = _build(items, num_candidates=4)
    # Nothing is known to be alike, so every negative comes from anywhere.
    assert made["filled"] == {"category": 0, "anywhere": 6 * 3}
    assert made["without_text"] == 1
    assert "i6" not in {c for row in made["queries"] for c in row["candidates"]}


@pytest.mark.parametrize(
    ("items", "kwargs", "message"),
    [
        (_catalogue()[:1], {}, "at least one other product"),
        ([], {}, "at least one other product"),
        (_catalogue()[:1] * 2, {}, r"Doubled: \['i0_0'\]"),
        (
            [Item("a", "p", "", "", "same"), Item("b", "q", "", "", "Same")],
            {},
            "another text. Received: 2 products",
        ),
        (_catalogue(), {"direction": "both"}, "`direction` should be one of"),
        (_catalogue(), {"num_candidates": 1}, "`num_candidates` at least 2"),
        (_catalogue(), {"num_queries": 0}, "`num_queries` should be at least 1"),
    ],
)
def test_refusals(items, kwargs, message):
    with pytest.raises(ValueError, match=message):
        _build(items, **kwargs)


def _write_data_set(folder, items):
    """A prepared data set with one shard of these items, 64 patches of 1 feature."""
    shapes = record_shapes(PATCH_ARMS["fixed"], 1)
    (folder / "vocab.txt").write_text("[PAD]\n")
    shard = folder / "validation.tfrecord"
    with tf.io.TFRecordWriter(str(shard)) as writer:
        for item in items:
            arrays = {key: np.zeros(shape) for key, shape in shapes.arrays.items()}
            record = {**item._asdict(), **arrays, "box": [0, 0, 1, 1]}
            record["token_ids"] = [0]
            writer.write(records.encode_record(record, shapes))
    entry = {
        "file": shard.name,
        "num_examples": len(items),
        "bytes": shard.stat().st_size,
    }
    info = {
        "schema_version": records.SCHEMA_VERSION,
        "patch_arm": "fixed",
        "feature_size": 1,
        "vocab_sha256": file_sha256(folder / "vocab.txt"),
        "splits": {"validation": {"num_examples": len(items), "shards": [entry]}},
    }
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return shard


@pytest.fixture
def prepared(tmp_path):
    _write_data_set(tmp_path, _catalogue(300))
    return tmp_path


def test_items_are_read_back(prepared):
    read = candidate_lists.read_items(DatasetInfo.load(prepared), "validation")
    assert read == _catalogue(300)  # more than one batch of them


def test_damaged_shard_names_the_record(prepared):
    shard = prepared / "validation.tfrecord"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 0xFF
    shard.write_bytes(data)
    with pytest.raises(ValueError, match=r"validation.tfrecord: record \d+ can't be"):
        candidate_lists.read_items(DatasetInfo.load(prepared), "validation")


def test_files_of_the_command(prepared, tmp_path):
    out = tmp_path / "lists"
    settings = dict(
        data_dir=prepared,
        output_dir=out,
        split="validation",
        num_queries=9,
        num_candidates=11,
        num_lists=2,
    )
    paths = retrieval_lists.make_lists(**settings)
    first = {path: pathlib.Path(path).read_bytes() for path in paths}
    assert sorted(f.name for f in out.iterdir()) == [
        "itr_seed0.json",
        "itr_seed1.json",
        "tir_seed0.json",
        "tir_seed1.json",
    ]
    retrieval_lists.make_lists(**settings)
    assert {path: pathlib.Path(path).read_bytes() for path in paths} == first
    lists = candidate_lists.load_lists(out, 2)
    assert [one["seed"] for one in lists["itr"]] == [0, 1]
    assert lists["tir"][1] == _build(
        _catalogue(300), "tir", 1, num_queries=9, num_candidates=11
    )
    with pytest.raises(ValueError, match="`num_lists` should be at least 1"):
        retrieval_lists.make_lists(**settings | {"num_lists": 0})
    with pytest.raises(ValueError, match="`split` should be one of"):
        retrieval_lists.make_lists(**settings | {"split": "test"})


def test_changed_list_is_refused(tmp_path):
    made = _build(_catalogue(), num_queries=3)
    path = candidate_lists.save_list(made, tmp_path)
    assert candidate_lists.load_list(path) == made
    made["queries"][1]["candidates"].reverse()
    candidate_lists.save_list(made, tmp_path)
    with pytest.raises(ValueError, match="content hash .* was changed after it was"):
        candidate_lists.load_list(path)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "itr_seed0.json"
    with pytest.raises(FileNotFoundError, match="python -m data_prep.retrieval_lists"):
        candidate_lists.load_list(path)
    for content, message in (
        ("{", "should be JSON"),
        ("[1]", "should hold the keys"),
        ('{"sha256": "0"}', r"should hold the keys .* Received: \['sha256'\]"),
    ):
        path.write_text(content)
        with pytest.raises(ValueError, match=message):
            candidate_lists.load_list(path)
    made = {**_build(_catalogue()), "format": 0}
    path.write_text(json.dumps(made))
    with pytest.raises(ValueError, match="should have format 1. Received: 0"):
        candidate_lists.load_list(path)


def test_lists_of_different_data_sets_are_refused(tmp_path):
    candidate_lists.save_list(_build(_catalogue(), "itr"), tmp_path)
    candidate_lists.save_list(_build(_catalogue(59), "tir"), tmp_path)
    with pytest.raises(ValueError, match="lists of one split of one data set"):
        candidate_lists.load_lists(tmp_path, 1)


def test_hashes():
    pairs = [("i1", "p1"), ("i2", "p1")]
    digest = candidate_lists.split_sha256(pairs)
    assert digest == candidate_lists.split_sha256(reversed(pairs))
    assert digest != candidate_lists.split_sha256([("i1", "p1"), ("i2", "p2")])
    one = {"b": [1, "é"], "a": 2}
    assert candidate_lists.content_sha256(one) == candidate_lists.content_sha256(
        {"a": 2, "b": [1, "é"], "sha256": "x"}
    )
