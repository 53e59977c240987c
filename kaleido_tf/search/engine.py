"""Two-stage search: cosine of cached vectors finds, the cross-encoder ranks anew.

A query by text: its vector finds the pictures with the highest cosine, exactly or
approximately as the index was built; the matching head scores the text against each of
them. A query by picture does the same with the catalogue's texts, and besides lists the
pictures that are nearest by their own vectors, for which there is no head. What is
ranked is the project's `--score=both`: log-odds of a match plus cosine over the model's
temperature. Nothing of a query is used but the query: of a picture neither its file's
name nor what a catalogue says about it.
"""

import collections
import dataclasses
import os

import numpy as np

from kaleido_tf.search import exported, nearest, words
from kaleido_tf.search.queries import (
    Clock,
    Found,
    Hit,
    best_views,
    check_picture,
    check_text,
)
from kaleido_tf.search.store import Store, distinct

CANDIDATES = 100


class SearchEngine:
    """Searches an index with its export.

    Args:
      export: `Export`.
      index_dir: folder of the index, or a `Store`.
      pictures_dir: where the catalogue's pictures lie now; default: where they lay.
      candidates: default of `candidates` of the searches, pictures or texts that the
        cross-encoder ranks anew.

    Raises:
      ValueError: an index of another export, or one that isn't whole; a model without
        vectors and a catalogue too large to score it all.
    """

    def __init__(self, export, index_dir, pictures_dir=None, candidates=CANDIDATES):
        self.export, self.candidates = export, candidates
        self.store = (
            index_dir if isinstance(index_dir, Store) else Store.open(index_dir, export)
        )
        try:
            self._read()
        except FileNotFoundError:
            if isinstance(index_dir, Store):
                raise
            # Another run put a newer table in the place of the one that was named.
            self.store = Store.open(index_dir, export)
            self._read()
        self._root = pictures_dir or self.store.values.get("pictures_dir", "")
        self._check_whole()
        self._pictures = distinct(self.rows, "picture")
        self._texts = distinct(self.rows, "text")
        self._of_picture = collections.defaultdict(list)
        self._of_text = collections.defaultdict(list)
        for number, row in enumerate(self.rows):
            self._of_picture[row.picture].append(number)
            self._of_text[row.text].append(number)
        self._by_id = {row.item.image_id: n for n, row in enumerate(self.rows)}
        self._temperature = float(export.config.get("contrastive_temperature", 1.0))

    def _read(self):
        """Reads the current table."""
        self.rows = self.store.rows()
        self._near = {"image": None, "text": None}
        if self.rows:
            self._near = {side: self.store.nearest(side) for side in self._near}

    def _check_whole(self):
        if not self.rows:
            raise ValueError(
                f"{self.store.folder} should be a finished index. Received: one "
                "without a table (run kaleido_tf.search.index again: it goes on)"
            )
        lost = sum(row.picture not in self.store.pictures for row in self.rows)
        if lost:
            raise ValueError(
                f"{self.store.folder} should hold the features of all its items. "
                f"Received: {lost} without (run kaleido_tf.search.index again)"
            )
        self.export.check_size(len(self.rows))

    @property
    def num_products(self):
        return len({row.item.product_id for row in self.rows})

    def row(self, image_id):
        """The `Row` of an image; ValueError for an unknown one."""
        if image_id not in self._by_id:
            raise ValueError(
                f"`image_id` should be one of the index's {len(self.rows)}. Received: "
                f"{image_id!r:.80}"
            )
        return self.rows[self._by_id[image_id]]

    def image_path(self, image_id):
        """Path of an image's picture, "" where the index has none."""
        image = self.row(image_id).item.image
        return os.path.join(self._root, image) if image else ""

    def features(self, image_id):
        """(float32 [1, P, F] features, float32 [1, 4] box) of an indexed image."""
        key = [self.row(image_id).picture]
        features = self.store.pictures.read("features", key).astype(np.float32)
        return features, self.store.pictures.read("boxes", key)

    # Searches

    def search_text(self, query, top_k=12, candidates=None):
        """Products whose pictures match a text.

        Args:
          query: str, up to `queries.MAX_TEXT_BYTES`.
          top_k: at most so many products.
          candidates: pictures that the cross-encoder ranks anew, at least `top_k` of
            them; default: the engine's. 0 leaves the order of the cosines.

        Returns:
          `Found`.

        Raises:
          ValueError: a query that can't be searched.
        """
        query = check_text(query)
        count = self._count(candidates, top_k)
        clock = Clock()
        vector = None
        if self.export.vector_size:
            vector = self.export.text_vectors([query])[0]
        clock.tick("encode")
        places, cosines = self._nearest("image", vector, count or top_k, self._pictures)
        keys = [self._pictures[place] for place in places]
        clock.tick("find")
        margins = None
        if count:
            features = self.store.pictures.read("features", keys)
            clock.tick("read")
            margins = self._margins("match_features", features, [query])
        clock.tick("rank")
        numbers = [self._of_picture[key] for key in keys]
        hits = self._hits(numbers, margins, cosines, top_k)
        return Found(hits, [], len(keys), clock.seconds)

    def search_image(self, image_bytes, top_k=12, candidates=None, exclude=None):
        """Products whose texts match a picture, and products that look like it.

        Args:
          image_bytes: bytes of a JPEG, PNG or WebP.
          top_k: at most so many products in either list.
          candidates: texts that the cross-encoder ranks anew; see `search_text`.
          exclude: product_id that is left out, or None.

        Returns:
          `Found`; `look_alikes` is empty where the model has no vectors.

        Raises:
          ValueError: bytes that are no picture.
        """
        check_picture(image_bytes)
        count = self._count(candidates, top_k)
        clock = Clock()
        outputs = self.export.call("image_features", image_bytes=[image_bytes])
        features = outputs["patch_features"]
        clock.tick("features")
        return self._search_features(
            (features, outputs["box"]), top_k, count, exclude, clock
        )

    def search_like(self, image_id, top_k=12, candidates=None):
        """`search_image` with an indexed picture, without its own product."""
        clock, count = Clock(), self._count(candidates, top_k)
        product = self.row(image_id).item.product_id
        return self._search_features(
            self.features(image_id), top_k, count, product, clock
        )

    def _search_features(self, picture, top_k, count, exclude, clock):
        features, _ = picture
        vector = None
        if self.export.vector_size:
            vector = self.export.image_vectors(features)[0]
        clock.tick("encode")
        places, cosines = self._nearest("text", vector, count or top_k, self._texts)
        keys = [self._texts[place] for place in places]
        clock.tick("find")
        margins = None
        if count:
            numbers = [self._of_text[key][0] for key in keys]
            texts = [self.rows[number].item.text for number in numbers]
            texts = [self.export.cut_text(text) for text in texts]
            margins = self._margins("match_features", features, texts)
        clock.tick("rank")
        alike = [] if vector is None else self._look_alikes(vector, top_k, exclude)
        numbers = [self._nearest_views(key, vector) for key in keys]
        hits = self._hits(numbers, margins, cosines, top_k, exclude)
        clock.tick("look_alikes")
        return Found(hits, alike, len(keys), clock.seconds, picture)

    def _count(self, candidates, top_k):
        """Number of candidates, checked: 0 where the cosines' order is to stay."""
        count = self.candidates if candidates is None else candidates
        for name, value, least in (("top_k", top_k, 1), ("candidates", count, 0)):
            if not isinstance(value, int) or not least <= value <= 10_000:
                raise ValueError(
                    f"`{name}` should be from {least} to 10000. Received: {value!r}"
                )
        if not self.export.vector_size:
            return exported.MAX_WITHOUT_VECTORS
        return max(count, top_k) if count else 0

    def _nearest(self, side, vector, top, keys):
        """(places int [n], cosines [n] or None) of the first stage."""
        if vector is None:
            return np.arange(min(len(keys), top)), None
        return nearest.search(self._near[side], vector, top)

    def _margins(self, signature, features, texts):
        outputs = self.export.call(signature, patch_features=features, text=texts)
        margins = outputs["margin"].astype(np.float64)
        if np.isnan(margins).any():
            raise ValueError(
                f"Scores should be numbers. Received: {np.isnan(margins).sum()} NaN of "
                f"{margins.size} (the model diverged, or its weights are damaged)"
            )
        return margins

    def _scores(self, margins, cosines):
        """What is ranked: float64 [n]."""
        scores = 0.0
        if margins is not None:
            scores = scores + margins
        if cosines is not None:
            scores = scores + np.asarray(cosines, np.float64) / self._temperature
        return scores

    def _hits(self, numbers, margins, cosines, top_k, exclude=None):
        """Candidates -> products, the best view of each: list of `Hit`.

        Args:
          numbers: for each candidate the rows that carry it, the best first.
          margins, cosines: [n] or None.
          top_k: at most so many.
          exclude: product_id that is left out, or None.
        """
        scores = self._scores(margins, cosines)
        products = [[self.rows[n].item.product_id for n in each] for each in numbers]
        hits = []
        for place, view, num_views in best_views(products, scores, exclude)[:top_k]:
            item = self.rows[numbers[place][view]].item
            parts = [None if x is None else float(x[place]) for x in (margins, cosines)]
            score, path = float(scores[place]), self.image_path(item.image_id)
            hits.append(Hit.of_item(item, path, score, *parts, num_views))
        return hits

    def _nearest_views(self, key, vector):
        """Rows that carry a text, those whose picture is nearest first."""
        numbers = self._of_text[key]
        if vector is None or len(numbers) == 1:
            return numbers
        keys = [self.rows[number].picture for number in numbers]
        cosines = self.store.pictures.read("vectors", keys) @ vector
        return [numbers[place] for place in np.argsort(-cosines, kind="stable")]

    def _look_alikes(self, vector, top_k, exclude):
        """Products whose pictures are nearest to a vector."""
        # Several views of a product count once, so more are asked for than are shown.
        places, cosines = self._nearest("image", vector, 8 * top_k, self._pictures)
        numbers = [self._of_picture[self._pictures[place]] for place in places]
        hits = self._hits(numbers, None, cosines, top_k, exclude)
        return [
            dataclasses.replace(hit, score=hit.cosine, probability=None) for hit in hits
        ]

    # Explanations and tasks

    def explain(self, text, image_id=None, features=None):
        """Which words of a text and which patches of a picture answered to each other.

        Args:
          text: str of any length: as much of it counts as the model reads.
          image_id: an indexed image; or
          features: `Found.features` of a query by picture.

        Returns:
          `words.Explanation`.
        """
        text = self.export.cut_text(check_text(text, "text", max_bytes=None))
        features, box = features or self.features(image_id)
        outputs = self.export.call("explain", patch_features=features, text=[text])
        return words.explain(outputs, self.export.config, box[0], text)

    def describe(self, features, text=""):
        """What the fine-tuned heads say about a picture, as far as there are any.

        Args:
          features: `Found.features` of a query by picture.
          text: what is known of the product; without it the best caption stands for
            it, where the export has captions.

        Returns:
          dict: `captions`, list of (text, score); `category`, `subcategory`, lists of
          (label, probability), best first; only what the export has.
        """
        found, patch_features = {}, features[0]
        if self.export.has("caption_features"):
            outputs = self.export.call(
                "caption_features", patch_features=patch_features
            )
            captions = [caption.decode() for caption in outputs["captions"][0]]
            found["captions"] = list(
                zip(captions, map(float, outputs["scores"][0]), strict=True)
            )
            text = text or captions[0]
        for task in ("category", "subcategory"):
            if self.export.has(f"{task}_features"):
                outputs = self.export.call(
                    f"{task}_features", patch_features=patch_features, text=[text]
                )
                labels = [label.decode() for label in outputs["labels"][0]]
                shares = outputs["probabilities"][0]
                order = np.argsort(-shares, kind="stable")
                found[task] = [(labels[i], float(shares[i])) for i in order]
        return found
