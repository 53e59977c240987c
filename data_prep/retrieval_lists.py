"""CLI: frozen candidate lists for the sampled retrieval protocol.

Reads a prepared data set, draws queries and their candidates by seed and writes one
JSON file per direction and seed (`kaleido_tf/data/candidate_lists.py` has the format),
so that every figure can name the list that it was measured on.
"""

import collections
import os

import numpy as np
from absl import logging

from kaleido_tf import cli
from kaleido_tf.data import candidate_lists
from kaleido_tf.data.dataset_info import DatasetInfo


class _Catalogue:
    """Items as products with views, in an order that doesn't depend on the shards.

    Attributes:
      items: list of `Item`, those with a text, by image id.
      views: list of int arrays, indices into `items` per product.
      tiers: two lists of int arrays per product: the products of its sub-category and
        of its category (empty where it has no name).
      same_text: function of an item's index -> products with a view of that text.
    """

    def __init__(self, items):
        self.items = sorted(item for item in items if item.text.strip())
        by_product = collections.defaultdict(list)
        by_text = collections.defaultdict(set)
        for index, item in enumerate(self.items):
            by_product[item.product_id].append(index)
        self.views = [np.array(by_product[key]) for key in sorted(by_product)]
        for product, views in enumerate(self.views):
            for view in views:
                by_text[candidate_lists.fold_text(self.items[view].text)].add(product)
        self._by_text = {text: np.array(sorted(p)) for text, p in by_text.items()}
        self.tiers = [self._groups("subcategory"), self._groups("category")]
        self.without_text = len({item.product_id for item in items}) - len(self.views)

    def _groups(self, key):
        names = [getattr(self.items[views[0]], key) for views in self.views]
        members = collections.defaultdict(list)
        for product, name in enumerate(names):
            if name:  # an item of unknown category is like no other
                members[name].append(product)
        return [np.array(members[name], int) for name in names]

    def same_text(self, index):
        return self._by_text[candidate_lists.fold_text(self.items[index].text)]


def build_lists(
    items, direction, seed, num_queries=1000, num_candidates=101, split="validation"
):
    """The candidate lists of one direction and seed (docs/tasks.md).

    Queries are distinct products, one random view each. The other candidates are
    distinct products, one random view each, of the query's sub-category; where those
    do not suffice, of its category, then of any. Never a negative: the query's own
    product, and any product with the query's very text, which would be as right.

    Args:
      items: iterable of `Item`: all records of the split.
      direction: "itr" or "tir".
      seed: int; the same seed draws the same lists from the same items in any order.
      num_queries: at most so many; fewer where the split has fewer products.
      num_candidates: size of each list with its positive; where the split is too
        small, all lists get the size that every query can fill.
      split: name of the split, written into the list.

    Returns:
      dict in the format of `kaleido_tf.data.candidate_lists`.

    Raises:
      ValueError: unknown direction, an image id twice, or no two products with
        different texts.
    """
    items = list(items)
    _check(items, direction, num_queries, num_candidates)
    catalogue = _Catalogue(items)
    rng = np.random.default_rng([seed, candidate_lists.DIRECTIONS.index(direction)])
    products = rng.permutation(len(catalogue.views))[:num_queries]
    queries = [rng.choice(catalogue.views[product]) for product in products]
    size = _list_size(catalogue, queries, num_candidates)
    filled = {"category": 0, "anywhere": 0}
    rows = [
        _row(catalogue, product, query, size, rng, filled)
        for product, query in zip(products, queries, strict=True)
    ]
    result = {
        "format": candidate_lists.FORMAT,
        "direction": direction,
        "split": split,
        "seed": seed,
        "dataset_sha256": candidate_lists.split_sha256(item[:2] for item in items),
        "num_candidates": size,
        "requested_candidates": num_candidates,
        "queries": rows,
        "filled": filled,
        "without_text": catalogue.without_text,
    }
    return {**result, "sha256": candidate_lists.content_sha256(result)}


def _check(items, direction, num_queries, num_candidates):
    if direction not in candidate_lists.DIRECTIONS:
        raise ValueError(
            f"`direction` should be one of {candidate_lists.DIRECTIONS}. Received: "
            f"{direction!r}"
        )
    if num_queries < 1 or num_candidates < 2:
        raise ValueError(
            "`num_queries` should be at least 1 and `num_candidates` at least 2. "
            f"Received: {num_queries}, {num_candidates}"
        )
    counts = collections.Counter(item.image_id for item in items)
    if doubled := [image_id for image_id, n in counts.items() if n > 1]:
        raise ValueError(f"`items` should have distinct image ids. Doubled: {doubled}")


def _list_size(catalogue, queries, num_candidates):
    """Largest size up to `num_candidates` that every query can fill: int."""
    total = len(catalogue.views)
    smallest = min((total - len(catalogue.same_text(q)) for q in queries), default=0)
    if smallest < 1:
        raise ValueError(
            "The split should hold, for each query, at least one other product with "
            f"another text. Received: {total} products with a text, of which a query "
            f"has {smallest} others (choose another split or a larger data set)"
        )
    return min(num_candidates, smallest + 1)


def _row(catalogue, product, query, size, rng, filled):
    """One query with its candidates; adds to the counts of `filled`."""
    excluded = catalogue.same_text(query)
    pools = [
        catalogue.tiers[0][product],
        catalogue.tiers[1][product],
        np.arange(len(catalogue.views)),
    ]
    chosen = np.zeros(0, int)
    for pool, source in zip(pools, (None, "category", "anywhere"), strict=True):
        missing = size - 1 - len(chosen)
        if not missing:
            break
        pool = np.setdiff1d(pool, np.concatenate([excluded, chosen]))
        drawn = rng.permutation(pool)[:missing]
        chosen = np.concatenate([chosen, drawn])
        if source:
            filled[source] += len(drawn)
    candidates = [rng.choice(catalogue.views[other]) for other in chosen]
    candidates.insert(rng.integers(size), query)
    names = [catalogue.items[index].image_id for index in candidates]
    name = catalogue.items[query].image_id
    return {"query": name, "positive": name, "candidates": names}


def make_lists(data_dir, output_dir, split, num_queries, num_candidates, num_lists):
    """Writes the lists of both directions and of the seeds 0 to num_lists - 1.

    Args: as the flags of the same names (`--help`).

    Returns:
      list of the written paths.
    """
    if num_lists < 1:
        raise ValueError(f"`num_lists` should be at least 1. Received: {num_lists}")
    items = candidate_lists.read_items(DatasetInfo.load(data_dir), split)
    os.makedirs(output_dir, exist_ok=True)
    paths = []
    for direction in candidate_lists.DIRECTIONS:
        for seed in range(num_lists):
            made = build_lists(
                items, direction, seed, num_queries, num_candidates, split
            )
            paths.append(candidate_lists.save_list(made, output_dir))
            logging.info("%s: %s", paths[-1], describe(made, num_queries))
    return paths


def describe(candidate_list, num_queries):
    """One sentence on a list: sizes, chance, how many were filled, what falls short."""
    size, filled = candidate_list["num_candidates"], candidate_list["filled"]
    queries = len(candidate_list["queries"])
    parts = [
        f"{queries} queries with {size} candidates each (chance of Rank@1 "
        f"{100 / size:.2f} %)",
        f"{filled['category']} negatives from the same category only, "
        f"{filled['anywhere']} from anywhere, of {queries * (size - 1)}",
    ]
    if size < candidate_list["requested_candidates"]:
        parts.append(
            f"the split has no more than {size} candidates for every query, not "
            f"{candidate_list['requested_candidates']}"
        )
    if queries < num_queries:
        parts.append(f"the split has {queries} products, not {num_queries}")
    if candidate_list["without_text"]:
        parts.append(f"{candidate_list['without_text']} products without text left out")
    return "; ".join([*parts, f"sha256 {candidate_list['sha256'][:12]}"])


def flag_page():
    """The command's flags; defined on the call, so that importing defines none."""
    page = cli.FlagPage(
        "Writes frozen candidate lists for retrieval, image to text and text to image."
    )
    page.heading("Data")
    page.string("data_dir", None, "Prepared data set.", required=True)
    page.string("output_dir", None, "Folder for the lists.", required=True)
    page.string("split", "validation", "Split to draw from.")
    page.heading("Lists")
    page.integer("num_queries", 1000, "Queries a list (products); fewer if need be.")
    page.integer(
        "num_candidates", 101, "Candidates of a query, the right one among them."
    )
    page.integer("num_lists", 5, "Lists for each direction, by the seeds 0, 1, ...")
    return page


if __name__ == "__main__":
    _PAGE = flag_page()
    cli.run(lambda: make_lists(**_PAGE.values()), _PAGE)
