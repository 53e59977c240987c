"""The sentences of a catalogue's language, and what they say of a product.

A truth folder's phrases.json holds `slots`: rows of slot, phrase, attribute, values
(what a phrase says where it fills this slot); and `sentences`: rows of template,
attribute, values. In a template `{slot}` is one of the slot's phrases, and what stands
in `[...]` may be missing. Of several values one is meant.

A sentence is read if a template matches it from its first word to its last.
"""

import collections
import dataclasses
import functools
import json
import os
import re

from kaleido_tf.tasks.caption_text import words_of

PHRASES_NAME = "phrases.json"
_MAKE = "draw the catalogue again, with the same arguments and folder: it adds the file"
_PARTS = re.compile(r"(\[)|(\])|\{(\w+)\}|([^\[\]{}]+)")


@dataclasses.dataclass(frozen=True)
class Claim:
    """What a phrase says: the attribute has one of these values."""

    attribute: str
    values: tuple

    def holds(self, truth):
        """Whether it is true of a product: bool; `truth` is attribute -> value."""
        return truth.get(self.attribute) in self.values


@dataclasses.dataclass(frozen=True)
class _Template:
    """A sentence: its pieces, the words it can't do without, and what it says."""

    pieces: tuple
    needed: frozenset
    claims: tuple


class Lexicon:
    """The sentences of a catalogue and what they say.

    Args:
      values: dict, the content of phrases.json.
    """

    def __init__(self, values):
        # slot -> first word -> phrases
        self._slots = collections.defaultdict(lambda: collections.defaultdict(list))
        for row in values["slots"]:
            phrase = words_of(row["phrase"])
            claim = Claim(row["attribute"], tuple(row["values"]))
            self._slots[row["slot"]][phrase[0]].append((phrase, claim))
        # By a word that the sentence must have, so that few templates are tried.
        self._templates = collections.defaultdict(list)
        for template in map(_compile, values["sentences"]):
            for word in self._key_words(template):
                self._templates[word].append(template)
        rows = values["slots"] + values["sentences"]
        self._known = {
            (row["attribute"], value) for row in rows for value in row["values"] or ()
        }
        self._read = functools.lru_cache(65536)(self._find)

    @classmethod
    def load(cls, folder):
        """The lexicon of a truth folder."""
        path = os.path.join(folder, PHRASES_NAME)
        check_file(path, "the phrases of every attribute value")
        with open(path, encoding="utf-8") as file:
            try:
                return cls(json.load(file))
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"{path} should hold `slots` and `sentences`. Received: "
                    f"{type(error).__name__} {error} ({_MAKE})"
                ) from error

    def can_say(self, attribute, value):
        """Whether there is a phrase for this value: bool."""
        return (attribute, value) in self._known

    def readings(self, sentence):
        """What a sentence may say: list of tuples of `Claim`; [] if it can't be read.

        Args:
          sentence: tuple of str, see `words_of`.
        """
        return self._read(tuple(sentence))

    def _key_words(self, template):
        """Words of which every sentence of the template has at least one: set."""
        if template.needed:
            return {max(template.needed, key=len)}
        slots = [content for kind, content in template.pieces if kind == "slot"]
        if not slots:
            raise ValueError(
                "a template should have a word or a slot that must be there"
            )
        return set(self._slots[slots[-1]])

    def _find(self, sentence):
        found, present = {}, set(sentence)
        tried = {id(t): t for word in present for t in self._templates.get(word, ())}
        for template in tried.values():
            if template.needed <= present:
                for end, claims in self._match(template.pieces, sentence, 0):
                    if end == len(sentence):
                        found[template.claims + claims] = None
        return list(found)

    def _match(self, pieces, words, start):
        """Yields (end, claims) for every way that `pieces` match from `start` on."""
        if not pieces:
            yield start, ()
            return
        for end, claims in self._match_piece(pieces[0], words, start):
            for last, more in self._match(pieces[1:], words, end):
                yield last, claims + more

    def _match_piece(self, piece, words, start):
        kind, content = piece
        if kind == "optional":
            yield start, ()
            yield from self._match(content, words, start)
        elif start == len(words):
            return
        elif kind == "slot":
            for phrase, claim in self._slots[content].get(words[start], ()):
                if words[start : start + len(phrase)] == phrase:
                    yield start + len(phrase), (claim,)
        elif words[start] == content:
            yield start + 1, ()


def _compile(row):
    """`_Template` of a row of `sentences`."""
    stack = [[]]
    for opens, closes, slot, text in _PARTS.findall(row["template"]):
        if opens:
            stack.append([])
        elif closes:
            optional = tuple(stack.pop())
            stack[-1].append(("optional", optional))
        elif slot:
            stack[-1].append(("slot", slot))
        else:
            stack[-1] += [("word", word) for word in words_of(text)]
    (pieces,) = stack
    needed = frozenset(content for kind, content in pieces if kind == "word")
    says = row["attribute"] is not None
    claims = (Claim(row["attribute"], tuple(row["values"])),) if says else ()
    return _Template(tuple(pieces), needed, claims)


def check_file(path, what):
    """Raises FileNotFoundError where a truth folder lacks a file."""
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f"`truth` should be a catalogue's truth folder, with {path}: {what}. "
            f"Received: no such file ({_MAKE})"
        )
