"""Captions as people write them, and as figures compare them.

The model's vocabulary is lower case, without accents, and splits at every punctuation
mark; whatever is compared to its captions goes the same way.
"""

import re
import unicodedata

from kaleido_tf.data import tokenization

_MARK = re.compile(r"([^\w\s])")
_WORD = re.compile(r"\w+")
_IDEOGRAPH = re.compile(f"([{tokenization.IDEOGRAPHS}])")


def normalize(text):
    """A text as the model's tokenizer sees it: str.

    Lower case, accents off, every punctuation mark and every Chinese character a word
    of its own, single spaces.
    """
    folded = unicodedata.normalize("NFD", text.lower())
    folded = "".join(c for c in folded if unicodedata.category(c) != "Mn")
    folded = _IDEOGRAPH.sub(r" \1 ", folded)
    return " ".join(_MARK.sub(r" \1 ", folded.replace("_", " _ ")).split())


def words_of(text):
    """The words of a text, normalized and without punctuation: tuple of str."""
    return tuple(_WORD.findall(normalize(text)))


def readable(caption):
    """A caption of the model's pieces, joined as it is usually written: str.

    Marks follow their word, hyphens and apostrophes join two words, and a sentence
    begins with a capital.
    """
    joined = re.sub(r"\s+([.,;:!?%)\]])", r"\1", caption.strip())
    joined = re.sub(r"([(\[])\s+", r"\1", joined)
    joined = re.sub(r"(?<=\w)\s*([-/'’])\s*(?=\w)", r"\1", joined)
    return re.sub(
        r"(^|[.!?]\s+)(\w)", lambda found: found[1] + found[2].upper(), joined
    )
