"""Retrieval figures against counts by hand."""

import dataclasses

import numpy as np
import pytest

from kaleido_tf.tasks import retrieval, retrieval_table


def _rank_by_hand(table, row, direction):
    def score(image_id):
        query, other = int(row["query"][1:]), int(image_id[1:])
        return table[other, query] if direction == "itr" else table[query, other]

    others = [c for c in row["candidates"] if c != row["positive"]]
    return 1 + sum(score(c) >= score(row["positive"]) for c in others)


@pytest.mark.parametrize("direction", ["itr", "tir"])
def test_list_figures_equal_hand_count(tiny, split, lists, direction):
    table = tiny.random_table()
    for one in lists[direction]:
        ranks = np.array(
            [_rank_by_hand(table, row, direction) for row in one["queries"]]
        )
        figures = retrieval.evaluate_list(tiny.TableScorer(table), split, one)
        assert figures == {
            "direction": direction,
            "seed": one["seed"],
            "sha256": one["sha256"],
            "num_queries": 6,
            "num_candidates": 4,
            "negatives": {
                "subcategory": pytest.approx(
                    1 - (one["filled"]["category"] + one["filled"]["anywhere"]) / 18
                ),
                "category": one["filled"]["category"] / 18,
                "anywhere": one["filled"]["anywhere"] / 18,
            },
            "rank@1": pytest.approx(100 * np.mean(ranks == 1)),
            "rank@5": 100.0,
            "rank@10": 100.0,
        }


def test_mean_and_deviation_over_lists(tiny, split, lists):
    scorer = tiny.TableScorer(tiny.random_table())
    result = retrieval.evaluate_lists(scorer, split, lists)
    firsts = {}
    for direction in ("itr", "tir"):
        each = [retrieval.evaluate_list(scorer, split, x) for x in lists[direction]]
        assert result[direction]["lists"] == each
        firsts[direction] = np.array([one["rank@1"] for one in each])
        assert result[direction]["rank@1"] == {
            "mean": pytest.approx(firsts[direction].mean()),
            "std": pytest.approx(firsts[direction].std(ddof=1)),
        }
        assert result[direction]["chance"] == pytest.approx(
            {"rank@1": 25.0, "rank@5": 100.0, "rank@10": 100.0}
        )
    sums = firsts["itr"] + firsts["tir"] + 400
    assert result["sum_of_recalls"] == {
        "mean": pytest.approx(sums.mean()),
        "std": pytest.approx(sums.std(ddof=1)),
    }
    single = {direction: each[:1] for direction, each in lists.items()}
    alone = retrieval.evaluate_lists(scorer, split, single)
    assert alone["sum_of_recalls"] == {"mean": pytest.approx(sums[0]), "std": 0.0}


def test_constant_scores_are_never_right(tiny, split, lists):
    scorer = tiny.TableScorer(np.zeros((len(tiny.rows), len(tiny.rows))))
    result = retrieval.evaluate_lists(scorer, split, lists)
    assert result["itr"]["rank@1"]["mean"] == result["tir"]["rank@1"]["mean"] == 0.0


def test_list_of_another_data_set(tiny, split, lists):
    other = {**lists["itr"][0], "dataset_sha256": "0" * 64}
    with pytest.raises(ValueError, match="list should be of this data set"):
        retrieval.evaluate_list(tiny.TableScorer(tiny.random_table()), split, other)


def test_list_of_other_texts(tiny, split, lists):
    """Data that were prepared again from other fields: the same ids, other texts."""
    scorer = tiny.TableScorer(tiny.random_table())
    row = lists["tir"][0]["queries"][0]
    negative = next(c for c in row["candidates"] if c != row["positive"])
    places = split.places([row["query"], negative])
    for text in (split.texts[places[0]].upper() + " ", ""):
        texts = list(split.texts)
        texts[places[1]] = text
        other = dataclasses.replace(split, texts=texts)
        with pytest.raises(ValueError, match=f"as {negative} for .*with other texts"):
            retrieval.score_list(scorer, other, lists["tir"][0])


def test_a_cut_list_has_the_whole_ones_negatives(tiny, split, lists):
    scorer = tiny.TableScorer(tiny.random_table())
    whole = lists["itr"][0]
    cut = retrieval.first_queries(whole, 1)
    expected = retrieval.evaluate_list(scorer, split, whole)["negatives"]
    found = retrieval.evaluate_list(scorer, split, cut)
    assert found["negatives"] == expected and found["num_queries"] == 1
    assert all(0 <= share <= 1 for share in expected.values())


def test_the_table_says_where_negatives_come_from(tiny, split, lists):
    scorer = tiny.TableScorer(tiny.random_table())
    figures = retrieval.evaluate_lists(scorer, split, lists)["itr"]
    figures["lists"] = [
        {**figures["lists"][0], "negatives": shares}
        for shares in (
            {"subcategory": 0.5, "category": 0.25, "anywhere": 0.25},
            {"subcategory": 0.3, "category": 0.05, "anywhere": 0.65},
        )
    ]
    lines = retrieval_table._sampled_rows("ITR", figures)
    assert lines[-1].split("negatives: ")[1] == (
        "40.0% of the query's sub-category, 15.0% of its category, 45.0% from anywhere"
    )


def test_pair_figures(tiny, split, lists):
    one = lists["itr"][0]
    right = tiny.TableScorer(np.eye(len(tiny.rows)))
    assert retrieval.pair_figures(right, split, one) == {
        "num_pairs": 12,
        "auc": 1.0,
        "pair_accuracy": 1.0,
    }
    texts, images = right.asked[0]
    assert (texts[::2] == images[::2]).all()
    folded = np.array(split.folded_texts())
    assert (folded[texts[1::2]] != folded[images[1::2]]).all()
    constant = retrieval.pair_figures(
        tiny.TableScorer(0 * np.eye(len(tiny.rows))), split, one
    )
    assert (constant["auc"], constant["pair_accuracy"]) == (0.5, 0.5)
    right.threshold = None
    assert retrieval.pair_figures(right, split, one)["pair_accuracy"] is None


def test_pairs_of_queries_with_one_text(tiny, split, lists):
    one = retrieval.first_queries(lists["itr"][0], 1)
    figures = retrieval.pair_figures(tiny.TableScorer(tiny.random_table()), split, one)
    assert figures == {"num_pairs": 0, "auc": None, "pair_accuracy": None}


@pytest.mark.parametrize("direction", ["itr", "tir"])
def test_top_ranked(tiny, split, lists, direction):
    table, one = tiny.random_table(), lists[direction][0]
    top = retrieval.top_ranked(tiny.TableScorer(table), split, one, 2, 3)
    assert [row["query"] for row in top] == [r["query"] for r in one["queries"][:2]]
    for shown, row in zip(top, one["queries"], strict=False):
        rank = _rank_by_hand(table, row, direction)
        assert shown["rank"] == rank
        assert shown["text"] == tiny.rows[int(row["query"][1:])][2]
        scores = [entry["score"] for entry in shown["ranked"]]
        assert scores == sorted(scores, reverse=True) and len(scores) == 3
        places = [n for n, e in enumerate(shown["ranked"], 1) if e["right"]]
        assert places == ([rank] if rank <= 3 else [])
        for entry in shown["ranked"]:
            assert entry["image_id"] in row["candidates"]
            assert entry["text"] == tiny.rows[int(entry["image_id"][1:])][2]
            assert entry["right"] == (entry["image_id"] == row["positive"])


def test_shown_scores_keep_the_order(tiny, split, lists):
    scorer = tiny.TableScorer(tiny.random_table())
    scorer.shown = lambda scores: scores / 2
    one = lists["tir"][0]
    plain = retrieval.top_ranked(tiny.TableScorer(scorer.table), split, one)
    for shown, row in zip(retrieval.top_ranked(scorer, split, one), plain, strict=True):
        assert shown["rank"] == row["rank"]
        for entry, other in zip(shown["ranked"], row["ranked"], strict=True):
            assert entry == {**other, "score": other["score"] / 2}


def test_queries_without_partner_or_without_queries(tiny, split, lists):
    scorer, one = tiny.TableScorer(tiny.random_table()), lists["itr"][0]
    first = {**one["queries"][0], "positive": "i99"}
    with pytest.raises(ValueError, match="none for i[0-9] .itr, seed 0"):
        retrieval.evaluate_list(scorer, split, {**one, "queries": [first]})
    with pytest.raises(ValueError, match="should have queries. Received: none"):
        retrieval.evaluate_list(scorer, split, {**one, "queries": []})
