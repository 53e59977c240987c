"""CLI: how fast two-stage search answers, and what it loses against scoring every pair.

Speed: texts are searched in an index of so many products, each with one picture, one
after the other; p50 and p95 of a whole answer, and of its stages. A catalogue that is
smaller is made larger by drawing: the features of a drawn picture are a mix of those of
two real ones, its vector is the model's own of these features, its text is the first
one's. Such an index has the size, the files and the work of a real one; its answers
mean nothing, and aren't judged.

Quality: on the real index, all products scored against every query by the final score,
against the same score for the first stage's candidates alone, and against the first
stage alone. The queries are texts of the catalogue, of the validation split where the
index says which those are. Products with the query's text are right; a product has the
score of its best picture; ties count against the search.
"""

import dataclasses
import time

import numpy as np
from absl import logging

from benchmarks import results_file
from kaleido_tf import cli
from kaleido_tf.search.builder import PICTURES_PER_SHARD, Progress
from kaleido_tf.search.engine import SearchEngine
from kaleido_tf.search.exported import Export
from kaleido_tf.search.manifest import Item
from kaleido_tf.search.page_markup import title_of
from kaleido_tf.search.store import Row, Store, distinct
from kaleido_tf.tasks import ranking

_PASS = 256  # pictures scored at once
STAGES = ("encode", "find", "read", "rank")


def draw_index(export, store, folder, num_products, seed=0):
    """An index of drawn products, see above; one that is there is used again.

    Args:
      export: `Export`.
      store: `Store` of the real index.
      folder: of the drawn one.
      num_products: how many.

    Returns:
      `Store`.
    """
    drawn = Store.open_or_create(folder, export)
    if drawn.values.get("drawn") == [num_products, seed]:
        return drawn
    rng, rows = np.random.default_rng(seed), store.rows()
    keys, texts = distinct(store.rows(), "picture"), distinct(store.rows(), "text")
    for start in range(0, len(texts), 4096):
        part = [key for key in texts[start : start + 4096] if key not in drawn.texts]
        drawn.texts.append(part, {"vectors": store.texts.read("vectors", part)})
    made, progress = [], Progress("drawn products", num_products)
    while len(made) < num_products:
        count = min(PICTURES_PER_SHARD, num_products - len(made))
        pairs = rng.integers(len(keys), size=(2, count))
        share = rng.random((count, 1, 1), np.float32)
        first, other = (
            store.pictures.read("features", [keys[i] for i in side]) for side in pairs
        )
        features = (share * first + (1 - share) * other).astype(np.float16)
        names = [f"drawn{seed}-{len(made) + i}" for i in range(count)]
        arrays = {
            "features": features,
            "vectors": export.image_vectors(features),
            "boxes": np.tile(np.float32([0, 0, 1, 1]), (count, 1)),
        }
        drawn.pictures.append(names, arrays)
        origin = [rows[i % len(rows)] for i in pairs[0]]
        made += [
            Row(Item(name, name, row.item.text), name, row.text)
            for name, row in zip(names, origin, strict=True)
        ]
        progress.add(count)
    drawn.finish(made, "flat", drawn=[num_products, seed])
    return drawn


def measure_speed(engine, queries, candidates):
    """Seconds of searches, one after the other.

    Args:
      engine: `SearchEngine`.
      queries: list of str.
      candidates: N.

    Returns:
      dict in milliseconds: `p50`, `p95`, and the median of each stage.
    """
    for query in queries[:5]:
        engine.search_text(query, candidates=candidates)
    seconds, stages = [], []
    for query in queries:
        start = time.perf_counter()
        found = engine.search_text(query, candidates=candidates)
        seconds.append(time.perf_counter() - start)
        stages.append([found.seconds[stage] for stage in STAGES])
    p50, p95 = 1000 * np.percentile(seconds, [50, 95])
    medians = 1000 * np.median(stages, axis=0)
    return {"p50": p50, "p95": p95, **dict(zip(STAGES, medians, strict=True))}


@dataclasses.dataclass(frozen=True)
class Scored:
    """All scores of some queries; Q queries, N pictures.

    Attributes:
      scores, cosines: float64 [Q, N], final score and cosine.
      products: int [N], number of each picture's product.
      right: bool [Q, number of products].
    """

    scores: np.ndarray
    cosines: np.ndarray
    products: np.ndarray
    right: np.ndarray


def choose_queries(rows, count, seed=0):
    """Distinct texts to search with: (list of str, name of the split)."""
    held = [row for row in rows if row.item.split == "validation"]
    texts = list(dict.fromkeys(row.item.text for row in held or rows))
    order = np.random.default_rng(seed).permutation(len(texts))[:count]
    return [texts[i] for i in order], "validation" if held else "all"


def score_everything(engine, queries):
    """`Scored` of queries against every picture of an engine's index."""
    export, store, rows = engine.export, engine.store, engine.rows
    first = {row.picture: row.item for row in reversed(rows)}
    keys = distinct(rows, "picture")
    names = list(dict.fromkeys(first[key].product_id for key in keys))
    numbers = {name: number for number, name in enumerate(names)}
    scores = np.zeros((len(queries), len(keys)))
    progress = Progress("pairs", scores.size)
    for start in range(0, len(keys), _PASS):
        part = slice(start, start + _PASS)
        features = store.pictures.read("features", keys[part])
        for number, query in enumerate(queries):
            outputs = export.call(
                "match_features", patch_features=features, text=[query]
            )
            scores[number, part] = outputs["margin"]
            progress.add(len(features))
    vectors = store.pictures.read("vectors", keys)
    cosines = (export.text_vectors(queries) @ vectors.T).astype(np.float64)
    right = np.zeros((len(queries), len(names)), bool)
    for row in rows:
        for number, query in enumerate(queries):
            if row.item.text.casefold() == query.casefold():
                right[number, numbers[row.item.product_id]] = True
    temperature = export.config["contrastive_temperature"]
    products = np.array([numbers[first[key].product_id] for key in keys])
    return Scored(scores + cosines / temperature, cosines, products, right)


def by_product(scores, products):
    """Best score of each product's pictures: [Q, N] -> [Q, number of products]."""
    best = np.full((len(scores), products.max() + 1), -np.inf)
    for picture, product in enumerate(products):
        best[:, product] = np.maximum(best[:, product], scores[:, picture])
    return best


def ranks(scored, candidates=None, first_stage=False):
    """Ranks of the right products.

    Args:
      scored: `Scored`.
      candidates: only so many pictures with the highest cosine are ranked; None: all.
      first_stage: rank by the cosine.

    Returns:
      int64 [Q]; a right product that is no candidate has the rank after all products.
    """
    scores = scored.cosines if first_stage else scored.scores
    if candidates is not None:
        order = np.argsort(-scored.cosines, axis=1, kind="stable")[:, :candidates]
        kept = np.full_like(scores, -np.inf)
        np.put_along_axis(kept, order, np.take_along_axis(scores, order, 1), 1)
        scores = kept
    # Not found, all are tied at -inf: the pessimistic rank is the last.
    return ranking.pessimistic_ranks(by_product(scores, scored.products), scored.right)


def measure_quality(scored, candidates):
    """Rows of the quality table: list of dicts, in percent.

    Args:
      scored: `Scored`.
      candidates: list of int, sizes of the first stage's answer.

    Returns:
      rank@k of each way to search; of two stages besides `found`, queries with a right
      product among the candidates, and `same_first`, queries whose best of all pictures
      is among them.
    """
    rows = [{"search": "every pair scored", **_recalls(ranks(scored))}]
    for count in candidates:
        order = np.argsort(-scored.cosines, axis=1, kind="stable")[:, :count]
        right = np.take_along_axis(scored.right[:, scored.products], order, 1)
        best = scored.scores.argmax(axis=1)[:, None]
        rows.append(
            {
                "search": f"two stages, {count} candidates",
                **_recalls(ranks(scored, count)),
                "found": 100 * float(right.any(axis=1).mean()),
                "same_first": 100 * float((order == best).any(axis=1).mean()),
            }
        )
    rows.append(
        {"search": "first stage alone", **_recalls(ranks(scored, first_stage=True))}
    )
    return rows


def _recalls(found):
    return ranking.recall_names(ranking.recall_at(found))


def run(settings):
    """Measures with a dict of the command's flags; prints the tables.

    Returns:
      dict: `speed` and `quality`, lists of rows, and what they were measured on.
    """
    export = Export(settings["export"])
    engine = SearchEngine(export, settings["index_dir"])
    if not export.vector_size:
        raise ValueError(
            "`export` should have vectors for a first stage. Received: a model without"
        )
    candidates = [int(count) for count in settings["candidates"]]
    content = {"products": engine.num_products, "pictures": len(engine.rows)}
    content["speed"] = []
    if settings["num_searches"]:
        fast, drawn = engine, 0
        if engine.num_products < settings["num_products"]:
            drawn = settings["num_products"]
            folder = settings["drawn_dir"] or f"{settings['index_dir']}_drawn"
            fast = SearchEngine(export, draw_index(export, engine.store, folder, drawn))
        content["drawn"] = drawn
        texts = list(dict.fromkeys(row.item.text for row in engine.rows))
        order = np.random.default_rng(1).permutation(len(texts))
        texts = [texts[i] for i in order[: settings["num_searches"]]]
        for kind, queries in (("title", map(title_of, texts)), ("text", texts)):
            queries = list(queries)
            for count in candidates:
                row = measure_speed(fast, queries, count)
                content["speed"].append({"query": kind, "candidates": count, **row})
                logging.info("%s", content["speed"][-1])
        content["searches"] = len(texts)
    content["quality"] = []
    if settings["num_queries"]:
        queries, split = choose_queries(engine.rows, settings["num_queries"])
        scored = score_everything(engine, queries)
        content["quality"] = measure_quality(scored, candidates)
        content |= {"queries": len(queries), "split": split}
    print(format_tables(content))
    results_file.write(content, settings["output"])
    return content


def format_tables(content):
    """The figures as lines of text."""
    lines = []
    if content["speed"]:
        size = f"{content['drawn']} drawn" if content["drawn"] else content["products"]
        lines += [
            f"Text search among {size} products, {content['searches']} searches, ms",
            "query  candidates     p50     p95   encode   find   read    rank",
        ]
    for row in content["speed"]:
        lines.append(
            f"{row['query']:5}  {row['candidates']:10d}  {row['p50']:6.0f}  "
            f"{row['p95']:6.0f}  {row['encode']:7.1f}{row['find']:7.1f}"
            f"{row['read']:7.1f}{row['rank']:8.1f}"
        )
    if content["quality"]:
        lines += [
            f"{content['queries']} texts ({content['split']}) among "
            f"{content['products']} products, {content['pictures']} pictures, percent",
            f"{'':30}  rank@1  rank@5  rank@10  found  same first",
        ]
    for row in content["quality"]:
        line = f"{row['search']:30}  {row['rank@1']:6.1f}  {row['rank@5']:6.1f}"
        line += f"  {row['rank@10']:7.1f}"
        if "found" in row:
            line += f"  {row['found']:5.1f}  {row['same_first']:10.1f}"
        lines.append(line)
    return "\n".join(lines)


def flag_page():
    """The command's flags; defined on the call, so that importing defines none."""
    page = cli.FlagPage("Speed and quality of two-stage search.")
    page.heading("Input")
    page.string("export", None, "Exported model.", required=True)
    page.string("index_dir", None, "Index of a catalogue.", required=True)
    page.list(
        "candidates", ["25", "50", "100", "200"], "What the first stage hands on."
    )
    page.heading("Speed")
    page.integer("num_searches", 200, "Searches that are timed; 0: none.")
    page.integer(
        "num_products", 10_000, "Of the index that is searched, drawn if need be."
    )
    page.string("drawn_dir", None, "Where it is drawn. Default: INDEX_DIR_drawn.")
    page.heading("Quality")
    page.integer(
        "num_queries", 100, "Texts that are scored against every picture; 0: none."
    )
    page.heading("Output")
    page.string("output", None, "JSON file for the figures.")
    return page


if __name__ == "__main__":
    _PAGE = flag_page()
    cli.run(lambda: run(_PAGE.values()), _PAGE)
