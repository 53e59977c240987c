"""Ranking metrics against brute force, with many ties."""

import itertools
import math

import numpy as np
import pytest

from kaleido_tf.tasks import ranking


def _worst_rank(scores, relevant):
    """Rank of the best relevant item in the worst order that the scores allow."""
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], relevant[i]))
    return 1 + [relevant[i] for i in order].index(True)


@pytest.mark.parametrize("levels", [1, 2, 5, 1000])
def test_ranks_equal_brute_force(levels):
    rng = np.random.default_rng(levels)
    scores = rng.integers(levels, size=(200, 13)) / levels
    relevant = rng.random((200, 13)) < 0.2
    relevant[np.arange(200), rng.integers(13, size=200)] = True
    expected = [_worst_rank(*row) for row in zip(scores, relevant, strict=True)]
    np.testing.assert_array_equal(ranking.pessimistic_ranks(scores, relevant), expected)


def test_constant_scores_rank_last():
    relevant = np.eye(4, 7, dtype=bool)
    ranks = ranking.pessimistic_ranks(np.zeros((4, 7)), relevant)
    assert ranks.tolist() == [7] * 4


def test_infinite_scores():
    scores = [[-np.inf, -np.inf, 1.0], [np.inf, 0.0, 1.0]]
    ranks = ranking.pessimistic_ranks(scores, [[1, 0, 0], [1, 0, 0]])
    assert ranks.tolist() == [3, 1]


@pytest.mark.parametrize(
    ("scores", "relevant", "message"),
    [
        ([[1.0, np.nan]], [[True, False]], "1 NaN of 2"),
        ([[1.0, 2.0]], [[False, False]], r"none in \[0\]"),
        ([[1.0, 2.0]], [[True]], "same shape"),
        ([1.0, 2.0], [True, False], "same shape"),
    ],
)
def test_ranks_refuse(scores, relevant, message):
    with pytest.raises(ValueError, match=message):
        ranking.pessimistic_ranks(scores, relevant)


def test_recalls_and_their_sum():
    ranks = [1, 1, 2, 5, 6, 10, 11, 101]
    recalls = ranking.recall_at(ranks)
    assert recalls == {1: 25.0, 5: 50.0, 10: 75.0}
    assert ranking.recall_at(ranks, (2,)) == {2: 37.5}
    assert ranking.sum_of_recalls(recalls, {1: 1.0, 5: 2.0, 10: 4.5}) == 157.5
    with pytest.raises(ValueError, match="at least one"):
        ranking.recall_at([])


def test_chance_recall_equals_enumeration():
    for num_items, num_relevant, k in itertools.product((3, 6), (1, 2, 3), (1, 2, 5)):
        cut = min(k, num_items)
        drawn = list(itertools.combinations(range(num_items), cut))
        hits = sum(any(i < num_relevant for i in chosen) for chosen in drawn)
        chance = ranking.chance_recall(num_relevant, num_items, (k,))[k]
        assert math.isclose(chance, 100 * hits / len(drawn), abs_tol=1e-9)


def test_chance_recall_of_the_sampled_protocol():
    chance = ranking.chance_recall(1, 101)
    assert chance == pytest.approx({1: 100 / 101, 5: 500 / 101, 10: 1000 / 101})
    mixed = ranking.chance_recall([1, 3], 4, (1, 2))
    assert mixed == pytest.approx({1: 50.0, 2: 75.0})


@pytest.mark.parametrize("levels", [1, 3, 10_000])
def test_auc_equals_brute_force(levels):
    rng = np.random.default_rng(levels)
    scores, labels = rng.integers(levels, size=90), rng.random(90) < 0.3
    true, false = scores[labels][:, None], scores[~labels][None]
    expected = np.mean((true > false) + 0.5 * (true == false))
    assert ranking.roc_auc(scores, labels) == pytest.approx(expected, abs=1e-12)


def test_auc_refuses_one_kind_and_nan():
    for scores, labels in (([0.1, 0.2], [1, 1]), ([0.1, np.nan], [0, 1])):
        with pytest.raises(ValueError, match="no NaN and `labels` both"):
            ranking.roc_auc(scores, labels)
    with pytest.raises(ValueError, match="same shape"):
        ranking.roc_auc([0.1], [0, 1])


def test_pair_accuracy():
    scores = np.array([0.9, 0.5, 0.2, 0.6])
    assert ranking.pair_accuracy(scores, [1, 1, 0, 0]) == 0.5
    assert ranking.pair_accuracy(scores, [1, 1, 0, 0], threshold=0.4) == 0.75
    assert ranking.pair_accuracy(np.full(4, 0.5), [1, 0, 1, 0]) == 0.5
    with pytest.raises(ValueError, match="half of the pairs. Received: 3 of 4"):
        ranking.pair_accuracy(scores, [1, 1, 1, 0])
