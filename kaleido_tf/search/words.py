"""Which words and which patches answered to each other: the attention of a pair.

The export's `explain` gives attention by word piece; people read words.
"""

import dataclasses
import re
import unicodedata

import numpy as np

from kaleido_tf.config import PATCH_ARMS
from kaleido_tf.data import patches, tokenization

_SPECIAL = ("[CLS]", "[SEP]", "[PAD]")
_UNKNOWN = "[UNK]"
# As BERT cuts a text before the pieces: words, and signs and ideographs singly.
_WORDS = re.compile(
    f"[{tokenization.IDEOGRAPHS}]|[^\\W_{tokenization.IDEOGRAPHS}]+|\\S"
)


@dataclasses.dataclass(frozen=True)
class Explanation:
    """Attention between the W words of a text and the P patches of a picture.

    Attributes:
      words: list of str, as the text has them.
      attention: float32 [W, P], mean over a word's pieces; 1 is what even attention
        would give.
      rectangles: float32 [P, 4], y1, x1, y2, x2 of the patches in [0, 1] of the
        picture.
      levels: list of int [P], grid of each patch's level (1 to 5, or 8).
      box: float32 [4], the locked box in [0, 1] of the picture.
    """

    words: list
    attention: np.ndarray
    rectangles: np.ndarray
    levels: list
    box: np.ndarray

    @property
    def contrast(self):
        """Attention over what the patch gets from the text's words on average: [W, P].

        Some patches get much from every word; this says what is a word's own. Of a
        single word it is the attention itself.
        """
        if len(self.words) < 2:
            return self.attention
        return self.attention / np.maximum(self.attention.mean(axis=0), 1e-6)

    def strongest(self, word, count=3):
        """The patches with a word's highest contrast: list of (grid, row, column).

        Rows and columns count from 1. Level 1, the whole object, says nothing about
        place and is left out.
        """
        order = np.argsort(-self.contrast[word], kind="stable")
        starts = {grid: self.levels.index(grid) for grid in self.levels}
        found = []
        for patch in order:
            grid = self.levels[patch]
            if grid > 1 and len(found) < count:
                row, column = divmod(int(patch) - starts[grid], grid)
                found.append((grid, row + 1, column + 1))
        return found


def words_of(tokens, mask):
    """Groups word pieces into words.

    Args:
      tokens: list of str, pieces ("##" goes on with a word) with [CLS] and [SEP].
      mask: int [T], 0 for padding.

    Returns:
      list of (word, list of its pieces' places).
    """
    words = []
    for place, (token, used) in enumerate(zip(tokens, mask, strict=True)):
        if not used or token in _SPECIAL:
            continue
        if token.startswith("##") and words:
            word, places = words[-1]
            words[-1] = (word + token[2:], [*places, place])
        else:
            words.append((token, [place]))
    return words


def as_written(words, text):
    """Words as the text has them: with capitals and accents, and what is "[UNK]".

    Args:
      words: list of str of `words_of`; fewer than the text has where it was cut.
      text: what they are of.

    Returns:
      list of str; the words as they came where they aren't the text's in order.
    """
    written = _WORDS.findall(text)[: len(words)]
    same = len(written) == len(words) and all(
        word in (_UNKNOWN, _folded(other))
        for word, other in zip(words, written, strict=True)
    )
    return written if same else list(words)


def _folded(word):
    """A word in lower case without accents, as the tokenizer has it."""
    parts = unicodedata.normalize("NFD", word.lower())
    return "".join(c for c in parts if unicodedata.category(c) != "Mn")


def explain(outputs, config, box, text):
    """An `Explanation` from the first row of the export's `explain`.

    Args:
      outputs: dict of its outputs: tokens [1, T], token_mask [1, T], attention
        [1, T, P].
      config: the export's config, whose `patch_arm` names the level table.
      box: [4], the locked box of the picture.
      text: the pair's text.
    """
    levels = PATCH_ARMS[config["patch_arm"]]
    grids = [level.grid for level in levels for _ in range(level.num_patches)]
    tokens = [token.decode() for token in outputs["tokens"][0]]
    words = words_of(tokens, outputs["token_mask"][0])
    attention = np.stack(
        [outputs["attention"][0][places].mean(axis=0) for _, places in words]
        or [np.zeros(len(grids), np.float32)]
    )[: len(words)]
    box = np.asarray(box, np.float32)
    scale = np.tile(box[2:] - box[:2], 2)
    rectangles = np.tile(box[:2], 2) + patches.patch_rectangles(levels) * scale
    return Explanation(
        words=as_written([word for word, _ in words], text),
        attention=attention.astype(np.float32),
        rectangles=rectangles.astype(np.float32),
        levels=grids,
        box=box,
    )
