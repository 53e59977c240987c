"""What the search page does on an event: queries in, pieces of HTML out."""

import dataclasses

from kaleido_tf.search import page_markup as markup
from kaleido_tf.search import page_pictures as pictures


@dataclasses.dataclass(frozen=True)
class Asked:
    """What a visitor asked last; kept on the server, for explanations.

    Attributes:
      text: the query, or "" for a picture.
      features: `Found.features` of a query by picture.
      picture: its bytes or path, "" for a text.
      hits: dict image_id -> `Hit`.
    """

    text: str
    features: tuple | None
    picture: bytes | str
    hits: dict


class PageEvents:
    """Handlers of the page; each returns HTML, and never raises for a bad query.

    Args:
      engine: `SearchEngine`.
      top_k: products of an answer.
    """

    def __init__(self, engine, top_k=24):
        self.engine, self._top_k = engine, top_k

    def by_text(self, query):
        """Query -> (`Asked` or None, results)."""
        try:
            found = self.engine.search_text(query or "", self._top_k)
        except ValueError as error:
            return None, markup.alert(_friendly(error, query))
        asked = Asked(query.strip(), None, "", _by_image(found))
        return asked, markup.results_of_text(query.strip(), found)

    def by_picture(self, data):
        """Bytes of a picture -> (`Asked` or None, results)."""
        if data is None:
            return None, markup.alert(
                "Choose a picture first: a JPEG, PNG or WebP file."
            )
        try:
            found = self.engine.search_image(bytes(data), self._top_k)
        except ValueError as error:
            return None, markup.alert(f"This picture can't be used: {error}")
        return self._picture_answer(found, bytes(data))

    def by_product(self, image_id):
        """An indexed picture -> (`Asked` or None, results), without its own product."""
        try:
            found = self.engine.search_like(image_id, self._top_k)
        except ValueError as error:
            return None, markup.alert(error)
        return self._picture_answer(found, self.engine.image_path(image_id))

    def _picture_answer(self, found, picture):
        described = self.engine.describe(found.features)
        shown = markup.facts(pictures.shown(picture, 320), described)
        shown += markup.results_of_picture(found)
        return Asked("", found.features, picture, _by_image(found)), shown

    def explain(self, asked, image_id):
        """The panel of a result: HTML."""
        if asked is None:  # a visitor's state is kept for an hour
            return markup.alert("These results are old: search again to look into one.")
        try:
            item = self.engine.row(image_id).item
            path = self.engine.image_path(image_id)
            hit = asked.hits.get(image_id)
            if asked.features is not None:
                found = self.engine.explain(item.text, features=asked.features)
                return markup.panel(item, asked.picture, found, path, hit)
            found = self.engine.explain(asked.text, image_id=image_id)
        except ValueError as error:
            return markup.alert(error)
        return markup.panel(item, path, found, hit=hit)


def _by_image(found):
    # An image in both lists is explained as the one that was ranked by its text.
    every = [*found.look_alikes, *found.hits]
    return {hit.image_id: hit for hit in every}


def _friendly(error, query):
    if not (query or "").strip():
        return "Type what you are looking for, such as a colour, a cut or a fabric."
    return str(error)
