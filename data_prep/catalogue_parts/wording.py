"""Titles and descriptions of the embedded catalogue, in the style of the trade.

A phrase is a template: `[words]` name the attribute it belongs to, `{colour slot}` is
filled with that colour attribute, or left out if the text does not name it. So every
word that names an attribute is known, which is the truth alignment is judged by.
"""

import re

from data_prep.catalogue_parts import phrases

_NAMED_SHARE = 0.8
_COLOUR_SHARE = 0.97
_FILLER_SHARE = 0.25
MIN_TOKENS, MAX_TOKENS = 20, 60
_TOKEN = re.compile(r"\w+|[^\w\s]")
_SLOT = re.compile(r"\{(\w+)\}")
_MARKUP = re.compile(r"\[([^\]]+)\]|\{(\w+)\}|([^\[{]+)")


class Text:
    """Text under construction: pieces and the attribute each one names."""

    def __init__(self):
        self.sentences = []

    def add(self, template, attribute, values, named) -> None:
        """Appends a template as one sentence."""
        self.sentences.append(_expand(template, attribute, values, named))

    @property
    def string(self) -> str:
        """The sentences as they are written."""
        return " ".join(_join(pieces) for pieces in self.sentences)

    def words(self) -> dict:
        """Attribute -> the words which name it, lower case, in order."""
        found = {}
        for pieces in self.sentences:
            for piece, attribute in pieces:
                if attribute and piece.strip():
                    bag = found.setdefault(attribute, [])
                    bag.extend(w for w in piece.lower().split() if w not in bag)
        return found


def _expand(template, attribute, values, named) -> list:
    """Template -> list of (text, attribute or None)."""
    pieces = []
    for slot in _SLOT.findall(template):
        if slot not in named:
            template = re.sub(rf" (in|to|at) \{{{slot}\}}", "", template)
    for marked, slot, plain in _MARKUP.findall(template):
        if marked:
            pieces.append((marked, attribute))
        elif slot:
            pieces.append((values[slot] if slot in named else "", slot))
        else:
            pieces.append((plain, None))
    return pieces


def _join(pieces) -> str:
    sentence = re.sub(r"\s+", " ", "".join(text for text, _ in pieces)).strip()
    sentence = re.sub(r"\s+([.,])", r"\1", sentence)
    return sentence[:1].upper() + sentence[1:]


def count_tokens(text: str) -> int:
    """Words and punctuation marks, about what WordPiece makes of common words."""
    return len(_TOKEN.findall(text))


def _pick(rng, options):
    return options[int(rng.integers(len(options)))]


def _head(spec, values, named, rng) -> tuple[list, str]:
    """First sentence: what it is, of what, in which colour."""
    noun = _pick(rng, spec.nouns)
    pieces = []
    for attribute in phrases.HEAD_ORDER:
        words = phrases.HEAD.get(attribute, {}).get(values.get(attribute))
        if words and attribute in named:
            pieces += [(_pick(rng, words), attribute), (" ", None)]
    material = [(values["material"], "material"), (" ", None)]
    pieces += material if "material" in named else []
    colour = [(values["colour"], "colour")]
    if "colour" not in named:
        return [*pieces, (noun, None), (".", None)], noun
    if rng.random() < 0.4:
        return [*colour, (" ", None), *pieces, (noun, None), (".", None)], noun
    return [*pieces, (noun, None), (" in ", None), *colour, (".", None)], noun


def _sentence(attribute, values, rng) -> str | None:
    table = phrases.SENTENCES.get(attribute)
    options = table.get(values[attribute], table.get("*")) if table else None
    return _pick(rng, options) if options else None


def _choose_named(values, rng) -> set:
    return {
        name
        for name in values
        if rng.random() < (_COLOUR_SHARE if name == "colour" else _NAMED_SHARE)
    }


def _order(values, rng) -> list:
    """Attributes with a sentence of their own: usual order, a little shuffled."""
    order = [name for name in phrases.ORDER if name in values]
    for place in range(len(order) - 1):
        if rng.random() < 0.3:
            order[place], order[place + 1] = order[place + 1], order[place]
    return order


def describe(spec, values, rng) -> tuple[str, str, dict]:
    """Words one product.

    Args:
      spec: its sub-category.
      values: attribute -> value.
      rng: generator of the product.

    Returns:
      title, description, and attribute -> words of the description that name it
      (attributes the text leaves out are missing).
    """
    named = _choose_named(values, rng)
    head, noun = _head(spec, values, named, rng)
    sentences = [(name, _sentence(name, values, rng)) for name in _order(values, rng)]
    spoken = [(n, s) for n, s in sentences if s and n in named]
    spare = [(n, s) for n, s in sentences if s and n not in named]
    text = Text()
    text.sentences.append(head)
    for name, sentence in spoken:
        text.add(sentence, name, values, named)
    if rng.random() < _FILLER_SHARE:
        text.add(_pick(rng, phrases.FILLERS), None, values, named)
    _fit(text, spare, values, named, rng)
    return _title(spec, noun, values, rng), text.string, text.words()


def _fit(text, spare, values, named, rng) -> None:
    """Lengthens or shortens the text to between MIN_TOKENS and MAX_TOKENS."""
    while count_tokens(text.string) < MIN_TOKENS:
        if spare:
            name, sentence = spare.pop(0)
            text.add(sentence, name, values, named)
        else:
            used = [_join(pieces) for pieces in text.sentences]
            left = [f for f in phrases.FILLERS if f not in used]
            text.add(_pick(rng, left), None, values, named)
    while count_tokens(text.string) > MAX_TOKENS:
        text.sentences.pop()


def _title(spec, noun, values, rng) -> str:
    """Colour, pattern, one detail, noun, as on a shop's label."""
    words = [values["colour"]]
    if rng.random() < 0.7:
        words.append(phrases.TITLE_PATTERNS.get(values["pattern"], ""))
    detail = phrases.TITLE_DETAILS
    known = [detail[k][values[k]] for k in detail if values.get(k) in detail[k]]
    if known and rng.random() < 0.7:
        words.append(_pick(rng, known))
    if rng.random() < 0.4:
        words.append(values["material"])
    title = " ".join([*(w for w in words if w), noun])
    return " ".join(w[:1].upper() + w[1:] for w in title.split())
