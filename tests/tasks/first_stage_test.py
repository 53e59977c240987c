"""Exact search against brute force, with many ties; what re-ranking makes of it."""

import numpy as np
import pytest

from kaleido_tf.tasks import first_stage

# Unit vectors whose cosines, 0.5 and the like, are exact in float32.
SIGNS = np.array(np.meshgrid(*[[-0.5, 0.5]] * 4)).reshape(4, -1).T.astype(np.float32)


def _draw(seed, num_queries=23, num_items=17, kinds=16):
    rng = np.random.default_rng(seed)
    queries = SIGNS[rng.integers(16, size=num_queries)]
    items = SIGNS[rng.integers(kinds, size=num_items)]
    right = rng.random((num_queries, num_items)) < 0.15
    right[np.arange(num_queries), rng.integers(num_items, size=num_queries)] = True
    return queries, items, right


def _by_hand(scores, right, top):
    """(best items, their rank) in the worst order that the scores allow."""
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], right[i], i))
    return order[:top], 1 + [right[i] for i in order].index(True)


@pytest.mark.parametrize(
    ("top", "kinds"), [(1, 16), (5, 16), (5, 3), (17, 2), (40, 16)]
)
def test_search_equals_brute_force(top, kinds, monkeypatch):
    monkeypatch.setattr(first_stage, "_BLOCK_SCORES", 100)  # blocks of 5 queries
    queries, items, right = _draw(seed=top, kinds=kinds)
    found = first_stage.search(queries, items, top, lambda a, b: right[a:b])
    scores = queries @ items.T
    assert found.items.shape == (23, min(top, 17))
    for q in range(len(queries)):
        best, rank = _by_hand(scores[q].tolist(), right[q].tolist(), top)
        assert found.items[q].tolist() == best
        assert found.scores[q].tolist() == scores[q][best].tolist()
        assert found.right[q].tolist() == right[q][best].tolist()
        assert found.ranks[q] == rank


def test_search_without_answers_takes_the_first_of_equals():
    queries, items, _ = _draw(seed=1, kinds=3)
    found = first_stage.search(queries, items, 7)
    for query, row in zip(queries @ items.T, found.items, strict=True):
        assert row.tolist() == sorted(range(17), key=lambda i: (-query[i], i))[:7]
    assert found.ranks is None and found.right is None


def test_copies_of_an_item_tie_to_the_last_bit():
    rng = np.random.default_rng(0)
    items = rng.normal(size=(40, 33)).astype(np.float32)
    items = items[rng.integers(40, size=501)]  # copies at every place of a block
    queries = rng.normal(size=(9, 33)).astype(np.float32)
    found = first_stage.search(queries, items, 501)
    for places, scores in zip(found.items, found.scores, strict=True):
        by_vector = {}
        for place, score in zip(places, scores, strict=True):
            by_vector.setdefault(items[place].tobytes(), set()).add(score)
        assert all(len(each) == 1 for each in by_vector.values())


def test_constant_vectors_find_nothing():
    queries, items = SIGNS[[3, 3]], SIGNS[[5] * 6]
    right = np.eye(2, 6, dtype=bool)
    found = first_stage.search(queries, items, 5, lambda a, b: right[a:b])
    assert not found.right.any() and found.ranks.tolist() == [6, 6]
    # And the second stage can't mend what it never sees.
    best = np.full((2, 5), 1.0)
    assert first_stage.ranks_after(found, best).tolist() == [6, 6]


def test_second_stage_ranks_what_was_found():
    queries, items, right = _draw(seed=4)
    found = first_stage.search(queries, items, 6, lambda a, b: right[a:b])
    scores = np.random.default_rng(0).integers(3, size=found.items.shape) / 3
    ranks = first_stage.ranks_after(found, scores)
    hits = found.right.any(axis=1)
    assert 0 < hits.sum() < len(hits)
    for q in range(len(queries)):
        if hits[q]:
            assert ranks[q] == _by_hand(scores[q], found.right[q].tolist(), 6)[1] <= 6
        else:
            assert ranks[q] == found.ranks[q] > 6


def test_no_queries():
    found = first_stage.search(SIGNS[:0], SIGNS, 3, lambda a, b: np.zeros((0, 16)))
    assert found.items.shape == (0, 3) and found.ranks.shape == (0,)


def test_refuses():
    queries, items, right = _draw(seed=0)
    with pytest.raises(ValueError, match="at least one item.*Received: 0 items"):
        first_stage.search(queries, items[:0], 3)
    with pytest.raises(ValueError, match="top=0"):
        first_stage.search(queries, items, 0)
    nobody = np.zeros_like(right)
    with pytest.raises(ValueError, match="`relevant` should have an item in every row"):
        first_stage.search(queries, items, 3, lambda a, b: nobody[a:b])
    with pytest.raises(ValueError, match="NaN"):
        first_stage.search(queries * np.nan, items, 3)
    with pytest.raises(ValueError, match="NaN"):
        first_stage.search(queries * np.nan, items, 3, lambda a, b: right[a:b])
