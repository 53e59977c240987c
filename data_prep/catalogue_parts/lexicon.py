"""What the embedded catalogue's sentences say: the phrases of every attribute value.

The other direction of `wording`: written beside the truth, so that a text about a
picture, whoever wrote it, can be read and judged without this package.
"""

import re

from data_prep.catalogue_parts import palette, phrases
from data_prep.catalogue_parts.specs import SPECS

VERSION = 1
_SLOT = re.compile(r"\{(\w+)\}")
_HEAD = "[{length}] [{leg_length}] [{sleeve}] [{material}] {noun}"
# First sentences and titles, as `wording` puts them together.
_FIRST = (
    f"[{{colour}}] {_HEAD}",
    f"{_HEAD} [in {{colour}}]",
    "{colour} [{title_pattern}] [{title_detail}] [{material}] {noun}",
)


def build_lexicon() -> dict:
    """The phrases of every value, and the sentences that they stand in.

    Returns:
      dict: version, and two lists of rows:
      `slots`: slot (name of a place in a sentence), phrase, attribute and values: what
      the phrase says where it fills this slot; one of the values, if there are more.
      `sentences`: template, attribute and values (null where a sentence says nothing
      about the product). In a template `{slot}` is one of the slot's phrases, and
      what stands in `[...]` may be missing.
    """
    sentences = [{"template": text, **_says()} for text in _FIRST]
    for attribute, table in phrases.SENTENCES.items():
        for value, templates in table.items():
            for template in templates:
                row = {"template": _optional(template), **_says(attribute, value)}
                sentences.append(row)
    sentences += [{"template": text, **_says()} for text in phrases.FILLERS]
    return {"version": VERSION, "slots": _slots(), "sentences": sentences}


def _says(attribute=None, *values) -> dict:
    return {"attribute": attribute, "values": list(values) or None}


def _optional(template: str) -> str:
    """A template of `phrases` with what may be missing in brackets."""
    plain = template.replace("[", "").replace("]", "")
    return re.sub(r"(?:\b(in|to|at) )?(\{\w+\})", _bracket, plain)


def _bracket(found) -> str:
    return f"[{found[1]} {found[2]}]" if found[1] else f"[{found[2]}]"


def _slots() -> list:
    """Rows of every slot that a sentence has."""
    rows = []
    for slot in sorted(_used_slots()):
        values = palette.COLOURS if slot.endswith("colour") else _options(slot)
        rows += [_slot_row(slot, value, slot, value) for value in values]
    for slot, table in phrases.HEAD.items():
        for value, words in table.items():
            rows += [_slot_row(slot, phrase, slot, value) for phrase in words]
    rows += _merged("title_pattern", "pattern", phrases.TITLE_PATTERNS)
    for attribute, words in phrases.TITLE_DETAILS.items():
        rows += _merged("title_detail", attribute, words)
    nouns = [(spec.name, noun) for spec in SPECS for noun in spec.nouns]
    return rows + _merged("noun", "subcategory", nouns)


def _used_slots() -> set:
    """Slots which are filled by an attribute's value as it is."""
    templates = [
        template
        for table in phrases.SENTENCES.values()
        for options in table.values()
        for template in options
    ]
    return {"colour", "material"} | set(_SLOT.findall(" ".join(templates)))


def _options(attribute: str) -> list:
    found = [spec.options.get(attribute, ()) for spec in SPECS]
    return list(dict.fromkeys(value for options in found for value in options))


def _slot_row(slot, phrase, attribute, *values) -> dict:
    return {"slot": slot, "phrase": phrase, **_says(attribute, *values)}


def _merged(slot, attribute, words) -> list:
    """Rows by phrase, for phrases that several values share.

    Args:
      slot, attribute: names.
      words: dict value -> phrase, or list of (value, phrase).
    """
    values: dict = {}
    for value, phrase in words.items() if isinstance(words, dict) else words:
        values.setdefault(phrase, []).append(value)
    return [_slot_row(slot, p, attribute, *found) for p, found in values.items()]
