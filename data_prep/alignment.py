"""Attention-based Alignment Generator, AAG (section 3.3): <token, patch> pairs.

A captioner (`show_attend_tell`) describes the image. A word that it says and that the
product's own text says too is aligned, at every level of patches, with the patch that
holds most of the word's heat map. Heat map and patches lie on the same locked image.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from data_prep import captioner as captioner_lib
from kaleido_tf.data import patches

# English words that name nothing to be seen: articles, prepositions, conjunctions,
# pronouns, auxiliaries.
_STOP_WORDS = """
a about above across after against all along also an and any are around as at be been
below beneath between beyond but by can could do does down during each either else even
every for from had has have he her here hers him his how i if in into is it its itself
just least less like made may me might more most much must my near neither no nor not of
off on once only onto or other our out over own per quite same shall she should since so
some such than that the their them then there these they this those through throughout
to too toward towards under until up upon us very via was we were what when where
whether which while who whose why will with within without would yet you your
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())


def is_named(word, stop_words=STOP_WORDS):
    """Whether a word may be aligned: two letters or more and no stop word.

    Punctuation marks, numbers, single letters and `[UNK]` are left out by that.
    """
    letters = sum(character.isalpha() for character in word)
    return letters >= 2 and word not in stop_words and not word.startswith("[")


def words_of_pieces(token_ids, tokenizer):
    """Joins word pieces to words.

    Args:
      token_ids: ids of one text, without [CLS] and [SEP].
      tokenizer: `Tokenizer`.

    Returns:
      list of (word, index of its first piece): masking goes by whole words, so the
      first piece stands for all of them.
    """
    words = []
    for place, i in enumerate(token_ids):
        piece = tokenizer.vocabulary[i]
        if tokenizer.continues_word[i] and words:
            words[-1] = (words[-1][0] + piece.removeprefix("##"), words[-1][1])
        else:
            words.append((piece, place))
    return words


def shared_words(said, written, stop_words=STOP_WORDS):
    """Finds the words of a text that were generated too.

    A text may say a word twice, "white" of the cloth and of the buttons. Each place in
    it takes the generated place with which it shares the longest phrase around the
    word, and the nearer one of equals.

    Args:
      said, written: lists of words.
      stop_words: set of str.

    Returns:
      list of (place in `written`, place in `said`).
    """
    places = {}
    for place, word in enumerate(said):
        places.setdefault(word, []).append(place)
    found = []
    for place, word in enumerate(written):
        if word in places and is_named(word, stop_words):
            scores = [
                (_phrase(said, i, written, place), -abs(i - place), i)
                for i in places[word]
            ]
            found.append((place, max(scores)[2]))
    return found


def _phrase(first, i, second, j):
    """Length of the longest common run of words through first[i] and second[j]."""
    start = 0
    while min(i, j) > start and first[i - start - 1] == second[j - start - 1]:
        start += 1
    end = 0
    while (
        i + end < len(first)
        and j + end < len(second)
        and first[i + end] == second[j + end]
    ):
        end += 1
    return start + end


def patch_masses(attention, rectangles):
    """Share of heat maps that lies within rectangles.

    A cell counts by the part of it that lies inside: the grid's cells are all of one
    size and cover the locked image, as the patches of each level do.

    Args:
      attention: float [N, G * G], row-major, each row adds up to 1.
      rectangles: float [P, 4], y1, x1, y2, x2 in [0, 1] of the locked image.

    Returns:
      float64 [N, P].
    """
    grid = int(round(np.sqrt(attention.shape[1])))
    maps = np.asarray(attention, np.float64).reshape(-1, grid, grid)
    rectangles = np.asarray(rectangles, np.float64)
    rows = _inside(rectangles[:, 0], rectangles[:, 2], grid)
    columns = _inside(rectangles[:, 1], rectangles[:, 3], grid)
    return np.einsum("pr,nrc,pc->np", rows, maps, columns)


def _inside(start, end, cells):
    """Part of every cell of an axis that lies between start and end: [P, cells]."""
    edges = np.arange(cells + 1) / cells
    overlap = np.minimum(end[:, None], edges[1:]) - np.maximum(
        start[:, None], edges[:-1]
    )
    return np.clip(overlap * cells, 0.0, 1.0)


def best_patches(masses, levels, min_lift=1.0):
    """The patch of every level that holds most of each heat map.

    Args:
      masses: float [N, P], see `patch_masses`.
      levels: table of `KaleidoLevel`.
      min_lift: the patch must hold at least so many times the attention that an even
        heat map would give it; the only patch of level 1 always counts.

    Returns:
      list of N lists of (patch index, mass), levels in order.
    """
    found, start = [[] for _ in masses], 0
    for level in levels:
        part = masses[:, start : start + level.num_patches]
        least = min_lift / level.num_patches if level.num_patches > 1 else 0.0
        for row, place in enumerate(part.argmax(axis=1)):
            if part[row, place] >= least:
                found[row].append((start + int(place), float(part[row, place])))
        start += level.num_patches
    return found


@dataclasses.dataclass(frozen=True)
class Description:
    """What the captioner says of an image, and where it looks.

    Attributes:
      words: list of str.
      attention: float32 [len(words), G * G], heat maps, row-major.
      gates: float32 [len(words)], how much the image counted for each word.
    """

    words: list
    attention: np.ndarray
    gates: np.ndarray


class Aligner:
    """Makes aligned pairs; holds the captioner, so make one per process.

    Args:
      folder: of a trained captioner, see `captioner.load`.
      beam_size: texts followed at a time.
      min_lift: see `best_patches`.
      stop_words: words that are never aligned.
      backbone_weights: see `captioner.load`.

    Attributes:
      captioner: `captioner.Captioner`.
      sha256: hash of its weights, hex.
    """

    def __init__(
        self,
        folder,
        beam_size=3,
        min_lift=1.0,
        stop_words=STOP_WORDS,
        backbone_weights=None,
    ):
        self.captioner = captioner_lib.load(folder, backbone_weights)
        self.sha256 = self.captioner.sha256
        self.min_lift = min_lift
        self.stop_words = frozenset(stop_words)
        model = self.captioner.model

        def describe(grids):
            words = model.generate(grids, beam_size)
            read = model.read(grids, words)
            return words, read["attention"], read["gate"]

        self._describe = tf.function(describe, [model.grids_spec])

    def describe(self, images, boxes):
        """Describes images.

        Args:
          images: uint8 [n, S, S, 3] canvases, RGB.
          boxes: float32 [n, 4], locked boxes y1, x1, y2, x2 in [0, 1] of the canvas.

        Returns:
          list of `Description`.
        """
        grids = self.captioner.extractor(images, boxes)
        ids, attention, gates = (part.numpy() for part in self._describe(grids))
        texts = [self.captioner.table.decode(row) for row in ids]
        return [
            Description(words, attention[i, : len(words)], gates[i, : len(words)])
            for i, words in enumerate(texts)
        ]

    def align(self, images, boxes, texts, token_ids, tokenizer, levels):
        """Aligned pairs of a batch of images with their texts.

        Args:
          images, boxes: see `describe`.
          texts: list of n str; not looked at: the words come from their pieces, which
            is what pairs point to.
          token_ids: list of n lists of int, word pieces without [CLS] and [SEP].
          tokenizer: `Tokenizer` that made them.
          levels: table of `KaleidoLevel`.

        Returns:
          list of n (tokens, patches, scores): lists of equal lengths; the index into
          the text's `token_ids` of the word's first piece, the index into the patch
          sequence, and the share of the word's attention inside that patch.
        """
        del texts
        described = self.describe(images, boxes)
        return [
            pairs_of(text, ids, tokenizer, levels, self.min_lift, self.stop_words)
            for text, ids in zip(described, token_ids, strict=True)
        ]


def pairs_of(description, token_ids, tokenizer, levels, min_lift, stop_words):
    """Aligned pairs of one image, see `Aligner.align`: (tokens, patches, scores)."""
    written = words_of_pieces(token_ids, tokenizer)
    shared = shared_words(description.words, [word for word, _ in written], stop_words)
    if not shared:
        return [], [], []
    maps = description.attention[[said for _, said in shared]]
    masses = patch_masses(maps, patches.patch_rectangles(levels))
    pairs = [
        (written[place][1], patch, mass)
        for (place, _), chosen in zip(
            shared, best_patches(masses, levels, min_lift), strict=True
        )
        for patch, mass in chosen
    ]
    tokens, aligned, scores = zip(*pairs, strict=True) if pairs else ((), (), ())
    return list(tokens), list(aligned), list(scores)
