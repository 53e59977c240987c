"""Queries and answers of the search engine: checked before, named after."""

import dataclasses
import time

from kaleido_tf.search.manifest import is_utf8

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


def check_text(text, what="query"):
    """A query's text, stripped; ValueError where it can't be searched."""
    if not isinstance(text, str):
        raise ValueError(f"`{what}` should be text. Received: {type(text).__name__}")
    if not is_utf8(text):
        raise ValueError(f"`{what}` should be UTF-8. Received: half a character in it")
    size = len(text.encode())
    if size > MAX_TEXT_BYTES:
        raise ValueError(
            f"`{what}` should be at most {MAX_TEXT_BYTES} bytes. Received: {size} "
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
            "`image_bytes` should be the bytes of a JPEG or PNG file. Received: "
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
