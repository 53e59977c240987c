"""The first stage of retrieval in a large gallery: exact search by cosine, in numpy.

A cross-encoder scores pairs one by one, which a full gallery of tens of thousands can't
afford; cosines of cached vectors cost one product of matrices, whose best items it then
ranks anew. Exact: every query is compared with every item, in blocks. 32,000 queries x
32,000 items x 768 numbers are 1.6 T operations, less than a minute on a few cores, so
an index that searches approximately (faiss) would save little and lose candidates.
"""

import dataclasses

import numpy as np

from kaleido_tf.tasks import ranking

_BLOCK_SCORES = 1 << 22  # scores held at once: 32 MiB, a few times over


@dataclasses.dataclass(frozen=True)
class Found:
    """The best items of every query; Q queries, n items each.

    Attributes:
      items: int64 [Q, n], numbers of items, best first.
      scores: float64 [Q, n], their cosines.
      right: bool [Q, n], which are right, or None where that wasn't given.
      ranks: int64 [Q], rank of the best right item in the whole gallery, ties against
        the model, or None.
    """

    items: np.ndarray
    scores: np.ndarray
    right: np.ndarray = None
    ranks: np.ndarray = None


def search(queries, items, top, relevant=None):
    """The `top` items of each query with the highest cosine.

    Ties count against the model, also at the cut: of items with the same score the
    right ones come last, else the later ones. Items with the same vector have the same
    score to the last bit.

    Args:
      queries: float32 [Q, D], unit length.
      items: float32 [N, D], unit length, N at least 1.
      top: how many items; all, where N is less.
      relevant: function (start, stop) -> bool [stop - start, N], which items are right
        for these queries, at least one each; None for a search without an answer.

    Returns:
      `Found`.

    Raises:
      ValueError: an empty gallery, `top` below 1, NaN, or a query with nothing right.
    """
    if not len(items) or top < 1:
        raise ValueError(
            "`items` should hold at least one item, and `top` be at least 1. Received: "
            f"{len(items)} items, top={top}"
        )
    unique, places = _distinct(items)
    rows = max(1, _BLOCK_SCORES // len(items))
    blocks = []
    for start in range(0, len(queries), rows):
        block = queries[start : start + rows]
        # One product for all copies of an item: BLAS rounds by position.
        scores = (block @ unique.T).astype(np.float64)[:, places]
        right = relevant(start, start + len(block)) if relevant else None
        blocks.append(_search_block(scores, min(top, len(items)), right))
    return _joined(blocks, min(top, len(items)), relevant)


def _distinct(items):
    """The distinct rows [M, D], and for each row its place among them [N]."""
    first, places, kept = {}, [], []
    for row, item in enumerate(np.ascontiguousarray(items)):
        place = first.setdefault(item.tobytes(), len(first))
        if place == len(kept):
            kept.append(row)
        places.append(place)
    return items[kept], np.array(places)


def _search_block(scores, top, right):
    """`Found` of a block: scores float64 [n, N], right bool [n, N] or None."""
    ranks, order_by = None, scores
    if right is not None:
        ranks = ranking.pessimistic_ranks(scores, right)
        # Scores are float32 by origin: in float64 a right item can stand just below its
        # equals and above everything less.
        order_by = np.where(right, np.nextafter(scores, -np.inf), scores)
    elif np.isnan(scores).any():
        raise ValueError(
            "`queries` and `items` should hold numbers. Received: NaN (the model "
            "diverged, or its weights are damaged)"
        )
    # Stable: among equals the first in the gallery, also at the cut.
    found = np.argsort(-order_by, axis=1, kind="stable")[:, :top]
    return Found(
        found,
        np.take_along_axis(scores, found, 1),
        None if right is None else np.take_along_axis(right, found, 1),
        ranks,
    )


def _joined(blocks, top, relevant):
    """One `Found` out of those of the blocks."""
    if not blocks:
        none = np.zeros((0, top))
        blocks = [Found(none.astype(np.int64), none, none > 0, none[:, 0].astype(int))]
    fields = ("items", "scores") + (("right", "ranks") if relevant else ())
    return Found(**{f: np.concatenate([getattr(b, f) for b in blocks]) for f in fields})


def ranks_after(found, scores):
    """Ranks once the found items are ranked anew by a second stage.

    A query whose right item was found has its rank among the found items, ties against
    the model; one whose right item wasn't stays at its first-stage rank, which is
    beyond them all.

    Args:
      found: `Found` with its right items.
      scores: float [Q, n] of the second stage.

    Returns:
      int64 [Q].
    """
    ranks, hit = found.ranks.copy(), found.right.any(axis=1)
    if hit.any():
        ranks[hit] = ranking.pessimistic_ranks(scores[hit], found.right[hit])
    return ranks
