"""A tiny prepared data set, its candidate lists, and scorers to measure on it."""

import types

import numpy as np
import pytest

from data_prep import retrieval_lists
from kaleido_tf.config import KaleidoConfig
from kaleido_tf.data import candidate_lists
from kaleido_tf.data.dataset_info import DatasetInfo
from kaleido_tf.tasks import retrieval

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefgh"]
FEATURES = 5
# product, sub-category, text: one view each but for p1 and p4; p0 and p5 share a text.
ROWS = [
    ("p0", "s0", "a b"),
    ("p1", "s0", "c"),
    ("p1", "s0", "c"),
    ("p2", "s0", "d e f g h"),
    ("p3", "s1", "a b c d"),
    ("p4", "s1", "h"),
    ("p4", "s1", "h g"),
    ("p5", "s1", "A  B"),
    ("p6", "s1", ""),
]


def make_records(shapes):
    rng = np.random.default_rng(0)
    for n, (product, subcategory, text) in enumerate(ROWS):
        arrays = {k: rng.normal(size=s) for k, s in shapes.arrays.items()}
        ids = [VOCABULARY.index(word) for word in text.lower().split()]
        yield {
            "product_id": product,
            "image_id": f"i{n}",
            "category": "c",
            "subcategory": subcategory,
            "text": text,
            "token_ids": ids,
            "box": [0, 0, 1, 1],
            **arrays,
        }


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory, write_data_set):
    """A prepared data set of `ROWS` in two shards."""
    folder = tmp_path_factory.mktemp("data")
    shards = {
        ("validation", "a"): lambda shapes: list(make_records(shapes))[:4],
        ("validation", "b"): lambda shapes: list(make_records(shapes))[4:],
    }
    write_data_set(folder, shards, vocabulary=VOCABULARY, feature_size=FEATURES)
    return folder


@pytest.fixture(scope="session")
def info(data_dir):
    return DatasetInfo.load(data_dir)


@pytest.fixture(scope="session")
def split(info):
    return retrieval.RetrievalSplit.load(info, "validation")


@pytest.fixture(scope="session")
def lists(info):
    items = candidate_lists.read_items(info, "validation")
    return {
        direction: [
            retrieval_lists.build_lists(items, direction, seed, num_candidates=4)
            for seed in range(3)
        ]
        for direction in retrieval.DIRECTIONS
    }


class TableScorer:
    """Scores from a matrix [texts, images]; remembers what was asked."""

    name, threshold = "table", 0.5
    shown = staticmethod(np.asarray)

    def __init__(self, table):
        self.table, self.asked = np.asarray(table), []

    def score(self, texts, images):
        self.asked.append((np.array(texts), np.array(images)))
        return self.table[texts, images]


def random_table(levels=4, seed=0):
    size = (len(ROWS), len(ROWS))
    return np.random.default_rng(seed).integers(levels, size=size) / levels


def make_config(**changes):
    return KaleidoConfig.preset(
        "tiny",
        vocab_size=len(VOCABULARY),
        hidden_size=32,
        num_heads=2,
        intermediate_size=48,
        text_length=16,
        patch_arm="kaleido",
        **{"patch_feature_size": FEATURES, "contrastive_size": 12, **changes},
    )


@pytest.fixture(scope="session")
def tiny():
    """What the tests of this folder share besides the fixtures above."""
    return types.SimpleNamespace(
        rows=ROWS,
        vocabulary=VOCABULARY,
        features=FEATURES,
        make_records=make_records,
        make_config=make_config,
        random_table=random_table,
        TableScorer=TableScorer,
    )
