"""The full gallery, in one stage and in two, against counts by hand."""

import numpy as np
import pytest

from kaleido_tf.tasks import gallery, retrieval

# First record of each text, and the images that are right for it.
TEXTS = {"a b": 0, "c": 1, "d e f g h": 3, "a b c d": 4, "h": 5, "h g": 6}
RIGHT = {
    "a b": {0, 7},
    "c": {1, 2},
    "d e f g h": {3},
    "a b c d": {4},
    "h": {5, 6},  # both views of p4, whose texts differ
    "h g": {5, 6},
}
IMAGES = range(9)


def _queries(direction):
    """Yields (scores' index of every item, right items) of every query."""
    if direction == "tir":
        for text, place in TEXTS.items():
            yield (
                [(place, image) for image in IMAGES],
                [i in RIGHT[text] for i in IMAGES],
            )
    else:
        for image in IMAGES:
            right = [image in RIGHT[text] for text in TEXTS]
            if any(right):  # the last has no text
                yield [(place, image) for place in TEXTS.values()], right


def _rank(scores, right):
    best = max(s for s, r in zip(scores, right, strict=True) if r)
    return 1 + sum(s >= best and not r for s, r in zip(scores, right, strict=True))


def _ranks(table, direction, cosines=None, rerank=None):
    """Ranks by the definition; in two stages where `cosines` are given."""
    ranks = []
    for index, right in _queries(direction):
        scores = [table[i] for i in index]
        if cosines is not None:
            first = [cosines[i] for i in index]
            order = sorted(range(len(first)), key=lambda i: (-first[i], right[i]))
            kept = order[:rerank]
            if not any(right[i] for i in kept):
                ranks.append(_rank(first, right))
                continue
            scores, right = [scores[i] for i in kept], [right[i] for i in kept]
        ranks.append(_rank(scores, right))
    return np.array(ranks)


def _check(figures, ranks):
    for k in (1, 5, 10):
        assert figures[f"rank@{k}"] == pytest.approx(100 * np.mean(ranks <= k))


@pytest.mark.parametrize("seed", range(5))
def test_all_pairs_equal_hand_count(tiny, split, seed):
    table = tiny.random_table(levels=6, seed=seed)
    plan = retrieval.GalleryPlan(tiny.TableScorer(table), max_pairs=54)
    result = retrieval.evaluate_full_gallery(plan, split)
    assert (result["num_texts"], result["num_images"]) == (6, 9)
    assert result["num_without_partner"] == 1
    total = 0.0
    for direction, queries in (("itr", 8), ("tir", 6)):
        ranks = _ranks(table, direction)
        assert result[direction]["num_queries"] == queries == len(ranks)
        _check(result[direction], ranks)
        total += sum(100 * np.mean(ranks <= k) for k in (1, 5, 10))
    assert result["sum_of_recalls"] == pytest.approx(total)
    # Of 6 texts one is right for 6 images, two for the views of p4.
    assert result["itr"]["chance"]["rank@1"] == pytest.approx(100 * (6 + 4) / 48)
    assert result["tir"]["chance"]["rank@1"] == pytest.approx(100 * (4 * 2 + 2) / 54)


@pytest.fixture
def cosine():
    rng = np.random.default_rng(7)
    vectors = rng.normal(size=(2, 9, 4)).astype(np.float32)
    vectors[1, 3] = vectors[1, 0]  # two pictures that the first stage can't tell apart
    return retrieval.VectorScorer(
        *vectors / np.linalg.norm(vectors, axis=2)[:, :, None]
    )


def _cosines(cosine):
    return cosine.score(*np.divmod(np.arange(81), 9)).reshape(9, 9)


@pytest.mark.parametrize("rerank", [1, 2, 4, 100])
def test_two_stages_equal_hand_count(tiny, split, cosine, rerank):
    scorer = tiny.TableScorer(tiny.random_table(levels=4, seed=rerank))
    plan = retrieval.GalleryPlan(scorer, cosine, max_pairs=53, rerank=rerank)
    result = retrieval.evaluate_full_gallery(plan, split)
    assert result["first_stage"]["score"] == "cosine"
    assert result["first_stage"]["rerank"] == rerank
    for direction in ("itr", "tir"):
        first = _ranks(_cosines(cosine), direction)
        _check(result["first_stage"][direction], first)
        found = 100 * np.mean(first <= rerank)
        assert result["first_stage"][direction]["found"] == pytest.approx(found)
        ranks = _ranks(scorer.table, direction, _cosines(cosine), rerank)
        _check(result[direction], ranks)
        assert result[direction]["rank@10"] == 100
    scored = sum(len(texts) for texts, _ in scorer.asked)
    assert scored == 8 * min(rerank, 6) + 6 * min(rerank, 9)


def test_first_stage_alone(tiny, split, cosine):
    scorer = tiny.TableScorer(tiny.random_table())
    for plan in (
        retrieval.GalleryPlan(scorer, cosine, max_pairs=1, rerank=0),
        retrieval.GalleryPlan(cosine, cosine, max_pairs=1),
        retrieval.GalleryPlan(cosine, max_pairs=54),
    ):
        result = retrieval.evaluate_full_gallery(plan, split)
        for direction in ("itr", "tir"):
            _check(result[direction], _ranks(_cosines(cosine), direction))
    assert not scorer.asked


def test_skipped_galleries(tiny, split, cosine, info):
    scorer = tiny.TableScorer(tiny.random_table())
    result = retrieval.evaluate_full_gallery(
        retrieval.GalleryPlan(scorer, max_pairs=53), split
    )
    assert result["skipped"] == (
        "6 texts x 9 images are 54 pairs, more than max_full_pairs=53, and there are "
        "no vectors for a first stage"
    )
    off = retrieval.GalleryPlan(scorer, cosine, max_pairs=0)
    assert "max_full_pairs=0" in retrieval.evaluate_full_gallery(off, split)["skipped"]
    assert not scorer.asked and "itr" not in result
    part = retrieval.RetrievalSplit.load(info, "validation", ["i1"])
    with pytest.raises(ValueError, match="all of its 9 records"):
        retrieval.evaluate_full_gallery(
            retrieval.GalleryPlan(scorer, max_pairs=54), part
        )


def test_gallery_without_texts(tiny, write_data_set, tmp_path):
    def rows(shapes):
        return [{**r, "text": "", "token_ids": []} for r in tiny.make_records(shapes)]

    info = write_data_set(
        tmp_path, {("validation", "a"): rows}, tiny.vocabulary, tiny.features
    )
    split = retrieval.RetrievalSplit.load(info, "validation")
    plan = retrieval.GalleryPlan(tiny.TableScorer(tiny.random_table()))
    result = retrieval.evaluate_full_gallery(plan, split)
    assert result["skipped"] == "no record has a text"
    empty = gallery.directions(split, only_answerable=False)["itr"]
    with pytest.raises(ValueError, match="9 queries and 0 items"):
        gallery.best_items(plan, empty, 3)


@pytest.mark.parametrize("direction", ["itr", "tir"])
def test_best_items(tiny, split, cosine, direction):
    table = tiny.random_table(levels=3)
    scorer = tiny.TableScorer(table)
    one = gallery.directions(split, only_answerable=False)[direction]
    assert one.queries.tolist() == (
        list(IMAGES) if direction == "itr" else list(TEXTS.values())
    )

    def by_hand(scores, kept=None):
        kept = range(len(scores)) if kept is None else kept
        return sorted(kept, key=lambda i: (-scores[i], i))

    full = retrieval.GalleryPlan(scorer, cosine, max_pairs=54)
    items, scores, which = gallery.best_items(full, one, 4)
    assert which is scorer and items.shape == (len(one.queries), 4)
    plan = retrieval.GalleryPlan(scorer, cosine, max_pairs=1, rerank=2)
    again, _, _ = gallery.best_items(plan, one, 3)  # three are ranked anew, not two
    cosines = _cosines(cosine)
    for q, query in enumerate(one.queries):
        index = [(query, i) if direction == "tir" else (i, query) for i in one.items]
        row, first = [table[i] for i in index], [cosines[i] for i in index]
        assert items[q].tolist() == by_hand(row)[:4]
        assert scores[q].tolist() == sorted(row, reverse=True)[:4]
        assert again[q].tolist() == by_hand(row, by_hand(first)[:3])
    alone = retrieval.GalleryPlan(scorer, cosine, max_pairs=1, rerank=0)
    assert gallery.best_items(alone, one, 3)[2] is cosine
