"""BLEU, METEOR, ROUGE-L and CIDEr by the COCO toolkit, for one caption a product.

The figures are pycocoevalcap's. Captions and references go the same way before: lower
case, accents off and punctuation apart, as the model's own tokenizer has them
(`caption_text.normalize`), then the toolkit's PTBTokenizer. That one and METEOR are
programs in Java; without Java a simple rule stands in for the first, and the second is
left out. CIDEr's document frequencies are over products.
"""

import contextlib
import functools
import io
import os
import shutil
import subprocess

import numpy as np
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.meteor.meteor import Meteor
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer import ptbtokenizer

from kaleido_tf.tasks.caption_text import normalize

FIGURES = ("bleu_1", "bleu_2", "bleu_3", "bleu_4", "meteor", "rouge_l", "cider")
NORMALIZATION = "lower case, accents off, punctuation marks apart"
PTB = "PTBTokenizer (Stanford CoreNLP 3.4.1), without punctuation"
SIMPLE = "at white space, without punctuation (no Java for PTBTokenizer)"
_NO_JAVA = "METEOR is a program in Java, and no `java` runs here"
_JAR = os.path.join(
    os.path.dirname(ptbtokenizer.__file__), ptbtokenizer.STANFORD_CORENLP_3_4_1_JAR
)
_COMMAND = ("edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase")


@functools.cache
def has_java():
    """Whether `java` runs: bool. On some systems the command alone is there."""
    command = shutil.which("java")
    if command is None:
        return False
    try:
        done = subprocess.run([command, "-version"], capture_output=True, check=False)
    except OSError:
        return False
    return done.returncode == 0


def tokenize(texts):
    """Texts as the toolkit compares them.

    Args:
      texts: list of str.

    Returns:
      (list of str, tokens with a space between; name of the tokenizer).
    """
    lines, name = [normalize(text) for text in texts], SIMPLE
    if has_java():
        lines, name = _ptb(lines), PTB
    return [_without_punctuation(line) for line in lines], name


def _ptb(lines):
    """The toolkit's PTBTokenizer, which itself can't do without a file in its package.

    The command is the toolkit's own, its text comes by standard input.
    """
    done = subprocess.run(
        ["java", "-cp", _JAR, *_COMMAND],
        input="\n".join(lines).encode(),
        capture_output=True,
        check=False,
    )
    found = done.stdout.decode().split("\n")
    found += [""] * (len(lines) - len(found))  # it leaves out empty lines at the end
    if done.returncode or any(found[len(lines) :]):
        raise ValueError(
            f"PTBTokenizer should give {len(lines)} lines. Received: {len(found)}, "
            f"status {done.returncode}: {done.stderr.decode()[-300:]}"
        )
    return found[: len(lines)]


def _without_punctuation(line):
    return " ".join(w for w in line.split() if w not in ptbtokenizer.PUNCTUATIONS)


def caption_figures(captions, references):
    """The field's figures for one caption a product.

    Args:
      captions: dict product id -> str; an empty one counts, and scores 0.
      references: dict product id -> list of str. Products none of whose references
        has a word are left out and counted.

    Returns:
      dict: bleu_1 to bleu_4, meteor, rouge_l, cider, all times 100; None where a
      figure is left out, with the reason in `left_out`; num_products,
      num_without_reference, num_references, num_empty_captions,
      num_one_word_captions, mean_caption_words, mean_reference_words; normalization,
      tokenizer; notes, list of str.

    Raises:
      ValueError: other products in one than in the other, or no product with a
        reference.
    """
    if set(captions) != set(references):
        odd = sorted(set(captions) ^ set(references))
        raise ValueError(
            "`captions` and `references` should have the same products. Received in "
            f"one only: {odd[:5]} ({len(odd)} in all)"
        )
    words, name = _tokenized(captions, references)
    kept = {product for product, (_, found) in words.items() if found}
    if not kept:
        raise ValueError(
            "`references` should hold a text for at least one product. Received: none "
            f"for {len(references)} products (a split without texts has no figures)"
        )
    ours = {product: words[product][0] for product in captions if product in kept}
    theirs = {product: words[product][1] for product in ours}
    figures, left_out = _score(ours, theirs)
    return {
        **figures,
        "left_out": left_out,
        "num_without_reference": len(captions) - len(kept),
        **_sizes(ours, theirs),
        "normalization": NORMALIZATION,
        "tokenizer": name,
        "notes": _notes(ours),
    }


def _tokenized(captions, references):
    """dict product -> ([caption], references with words), and the tokenizer's name."""
    texts = [text for p in captions for text in (captions[p], *references[p])]
    lines, name = tokenize(texts)
    lines, result = iter(lines), {}
    for product in captions:
        caption = next(lines)
        found = [next(lines) for _ in references[product]]
        result[product] = [caption], [line for line in found if line]
    return result, name


def _score(ours, theirs):
    """(dict of figures times 100, dict of what is left out and why)."""
    with contextlib.redirect_stdout(io.StringIO()):  # Bleu prints its counts
        bleu, _ = Bleu(4).compute_score(theirs, ours)
    meteor, reason = _meteor(ours, theirs)
    rouge, _ = Rouge().compute_score(theirs, ours)
    cider, _ = Cider().compute_score(theirs, ours)
    values = [*bleu, meteor, rouge, cider]
    figures = {
        key: None if value is None else 100.0 * float(value)
        for key, value in zip(FIGURES, values, strict=True)
    }
    return figures, {"meteor": reason} if reason else {}


def _meteor(ours, theirs):
    """(METEOR or None, reason or None)."""
    if not has_java():
        return None, _NO_JAVA
    try:
        return Meteor().compute_score(theirs, ours)[0], None
    except (OSError, ValueError) as error:  # as it is where 2 GB can't be had
        return None, f"METEOR's program ended: {error}"


def _sizes(ours, theirs):
    lengths = [len(caption.split()) for (caption,) in ours.values()]
    references = [len(r.split()) for found in theirs.values() for r in found]
    return {
        "num_products": len(ours),
        "num_references": len(references),
        "num_empty_captions": lengths.count(0),
        "num_one_word_captions": lengths.count(1),
        "mean_caption_words": float(np.mean(lengths)),
        "mean_reference_words": float(np.mean(references)),
    }


def _notes(ours):
    """What explains a figure that would look wrong: list of str."""
    lengths = [len(caption.split()) for (caption,) in ours.values()]
    notes = []
    if len(ours) == 1:
        notes.append("CIDEr of a single product is 0: every word is in every document")
    if not any(lengths):
        notes.append("every caption is empty: all figures are 0")
    elif max(lengths) < 4:
        notes.append(
            f"no caption has more than {max(lengths)} words: there is nothing to count "
            f"for BLEU-{max(lengths) + 1} and higher, which are all but 0"
        )
    return notes
