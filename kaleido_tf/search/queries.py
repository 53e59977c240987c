"""Queries and answers of the search engine: checked before, named after."""

import collections
import dataclasses
import time

import numpy as np

from kaleido_tf.data.manifest import is_utf8
from kaleido_tf.tasks.scoring import probabilities

MAX_TEXT_BYTES = 10_000
MAX_PICTURE_BYTES = 20_000_000


@dataclasses.dataclass(frozen=True)
class Hit:
    """A product that was found, by its best view.

    Attributes:
      product_id, image_id, text, category, subcategory: str.
      image_path: of the picture; "" where the index has none.
      score: float, what is ranked: log-odds + cosine / temperature; the cosine alone
        among pictures that look alike.
      probability: float, the score as a probability; nothing calibrates it. None for
        pictures that look alike.
      margin, cosine: float, the two parts; None where there is none.
      num_views: int, views of the product among the candidates.
    """

    product_id: str
    image_id: str
    text: str
    category: str
    subcategory: str
    image_path: str
    score: float
    probability: float | None
    margin: float | None
    cosine: float | None
    num_views: int = 1

    @classmethod
    def of_item(cls, item, image_path, score, margin, cosine, num_views):
        """The hit of an `Item` that was ranked by its score."""
        return cls(
            product_id=item.product_id,
            image_id=item.image_id,
            text=item.text,
            category=item.category,
            subcategory=item.subcategory,
            image_path=image_path,
            score=score,
            probability=float(probabilities(score)),
            margin=margin,
            cosine=cosine,
            num_views=num_views,
        )


def best_views(products, scores, exclude=None):
    """Which candidates stand for their products.

    Args:
      products: for each candidate the product_ids of the views that carry it, the best
        first.
      scores: float [n], of the candidates.
      exclude: product_id that is left out, or None.

    Returns:
      list of (candidate's place, view's place in it, number of the product's views),
      one a product, the highest score first; of equal ones the earlier candidate.
    """
    best, views = {}, collections.Counter()
    for place in np.argsort(-np.asarray(scores), kind="stable"):
        for view, product in enumerate(products[place]):
            views[product] += 1
            if product != exclude:
                best.setdefault(product, (int(place), view))
    return [(*found, views[product]) for product, found in best.items()]


@dataclasses.dataclass(frozen=True)
class Found:
    """Answer to a query.

    Attributes:
      hits: list of `Hit`, best first, one a product.
      look_alikes: the same by the pictures' cosine, for a query by picture.
      num_candidates: int, what the first stage handed on.
      seconds: dict stage -> seconds.
      features: float32 [1, P, F] and box [1, 4] of a query's picture, for `explain`;
        None for a text.
    """

    hits: list
    look_alikes: list
    num_candidates: int
    seconds: dict
    features: tuple | None = None


def check_text(text, what="query", max_bytes=MAX_TEXT_BYTES):
    """A query's text, stripped; ValueError where it can't be searched.

    Args:
      text: str.
      what: its name in errors.
      max_bytes: of UTF-8; None for a text of any size.
    """
    if not isinstance(text, str):
        raise ValueError(f"`{what}` should be text. Received: {type(text).__name__}")
    if not is_utf8(text):
        raise ValueError(f"`{what}` should be UTF-8. Received: half a character in it")
    size = len(text.encode())
    if max_bytes is not None and size > max_bytes:
        raise ValueError(
            f"`{what}` should be at most {max_bytes} bytes. Received: {size} "
            "(a description of a few sentences is enough: the model reads its start)"
        )
    if not any(c.isalnum() for c in text):
        raise ValueError(
            f"`{what}` should hold a word or a number. Received: {text.strip()!r}"
        )
    return text.strip()


def check_picture(image_bytes):
    """Raises ValueError where a query's picture is empty or too large."""
    if not isinstance(image_bytes, bytes):
        raise ValueError(
            "`image_bytes` should be the bytes of a JPEG, PNG or WebP file. Received: "
            f"{type(image_bytes).__name__}"
        )
    if not 0 < len(image_bytes) <= MAX_PICTURE_BYTES:
        raise ValueError(
            f"`image_bytes` should have 1 to {MAX_PICTURE_BYTES} bytes. Received: "
            f"{len(image_bytes)}"
        )


class Clock:
    """Seconds of the stages."""

    def __init__(self):
        self.seconds, self._last = {}, time.perf_counter()

    def tick(self, stage):
        now = time.perf_counter()
        self.seconds[stage], self._last = now - self._last, now
