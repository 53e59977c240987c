"""Attention-based Alignment Generator, AAG (section 3.3): <token, patch> pairs.

A captioner (`show_attend_tell`) describes the image. A word that it says and that the
product's own text says too is aligned, at every level of patches, with the patch that
holds most of the word's heat map. Heat map and patches lie on the same locked image.

Not every word is looked up in the image: after "left chest" the captioner knows that
"pocket" comes. Its gate tells. So what counts is the gate times the attention, which is
all that the captioner sees of the image, and a patch must hold `MIN_LIFT` times as much
of it as of an even map.
"""

import dataclasses
import hashlib
import re

import numpy as np
import tensorflow as tf

from data_prep.sat import captioner as captioner_lib
from data_prep.sat import sat_words
from kaleido_tf.data import patches, tokenization

# Measured by `benchmarks.alignment`: below it the pairs get worse, above it fewer.
MIN_LIFT = 2.0
WORDS = ("generated", "text")

# English words that name nothing to be seen: articles, prepositions, conjunctions,
# pronouns, auxiliaries; and Chinese characters of that kind.
_STOP_WORDS = """
a about above across after against all along also an and any are around as at be been
below beneath between beyond but by can could do does down during each either else even
every for from had has have he her here hers him his how i if in into is it its itself
just least less like made may me might more most much must my near neither no nor not of
off on once only onto or other our out over own per quite same shall she should since so
some such than that the their them then there these they this those through throughout
to too toward towards under until up upon us very via was we were what when where
whether which while who whose why will with within without would yet you your
的 了 和 与 與 及 或 在 是 为 為 有 也 不 这 這 那 个 個 之 其 于 於 以 可 等
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())
_IDEOGRAPH = re.compile(f"[{tokenization.IDEOGRAPHS}]")


def is_named(word, stop_words=STOP_WORDS):
    """Whether a word may be aligned: two letters or more and no stop word.

    Punctuation marks, numbers, single letters and `[UNK]` are left out by that. A
    Chinese character may be: BERT's tokenizer makes each a word of its own.
    """
    letters = sum(character.isalpha() for character in word)
    return (
        (letters >= 2 or _IDEOGRAPH.fullmatch(word) is not None)
        and word not in stop_words
        and not word.startswith("[")
    )


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
    """What of heat maps lies within rectangles.

    A cell counts by the part of it that lies inside: the grid's cells are all of one
    size and cover the locked image, as the patches of each level do.

    Args:
      attention: float [N, G * G], row-major, each of any weight.
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


def best_patches(masses, levels, min_lift=MIN_LIFT):
    """The patch of every level that holds most of each heat map.

    Args:
      masses: float [N, P], see `patch_masses`.
      levels: table of `KaleidoLevel`.
      min_lift: at a level whose patches may be masked, the patch must hold at least so
        many times what an even map of weight 1 gives it. Of the other levels, the best
        patch is taken for what has a patch at one of these: a quarter of the image
        hardly ever holds twice its share.

    Returns:
      list of N lists of (patch index, mass), levels in order.
    """
    found, start = [[] for _ in masses], 0
    clear = np.zeros(len(masses), bool)
    for level in levels:
        part = masses[:, start : start + level.num_patches]
        holds = part.max(axis=1) * level.num_patches >= min_lift
        clear |= holds & (level.masked > 0)
        for row, place in enumerate(part.argmax(axis=1)):
            if holds[row] or not level.masked:
                found[row].append((start + int(place), float(part[row, place])))
        start += level.num_patches
    return [pairs if clear[row] else [] for row, pairs in enumerate(found)]


@dataclasses.dataclass(frozen=True)
class Description:
    """What the captioner says, or reads, of an image, and where it looks.

    Attributes:
      words: list of str.
      attention: float32 [len(words), G * G], heat maps, row-major.
      gates: float32 [len(words)], 0 to 1, how much the image counted for each word.
    """

    words: list
    attention: np.ndarray
    gates: np.ndarray


class Aligner:
    """Makes aligned pairs; holds the captioner, so make one per process.

    Args:
      folder: of a trained captioner, see `captioner.load`.
      words: "generated", as published: the captioner describes the image, and words
        are aligned that its text and the product's share. "text": it reads the
        product's text, and all of its words may be aligned, about twice as many at the
        same quality.
      beam_size: texts followed at a time.
      min_lift: see `best_patches`.
      stop_words: words that are never aligned.
      backbone_weights: see `captioner.load`.

    Attributes:
      captioner: `captioner.Captioner`.
      sha256: hash of it, hex.
      min_lift: as given.
    """

    def __init__(
        self,
        folder,
        words="generated",
        beam_size=3,
        min_lift=MIN_LIFT,
        stop_words=STOP_WORDS,
        backbone_weights=None,
    ):
        if words not in WORDS:
            raise ValueError(f"`words` should be one of {WORDS}. Received: {words!r}")
        self.captioner = captioner_lib.load(folder, backbone_weights)
        self.sha256 = self.captioner.sha256
        self.words, self.beam_size, self.min_lift = words, beam_size, min_lift
        self.stop_words = frozenset(stop_words)
        model = self.captioner.model
        texts = tf.TensorSpec([None, None], tf.int32)
        self._read = tf.function(model.read, [model.grids_spec, texts])
        self._generate = tf.function(
            lambda grids: model.generate(grids, beam_size), [model.grids_spec]
        )

    def settings(self):
        """What decides its pairs, for dataset_info.json: plain JSON values."""
        stop_words = "\n".join(sorted(self.stop_words)).encode()
        return {
            "captioner_sha256": self.sha256,
            "words": self.words,
            "beam_size": self.beam_size,
            "min_lift": self.min_lift,
            "stop_words_sha256": hashlib.sha256(stop_words).hexdigest(),
        }

    def describe(self, images, boxes, texts=None):
        """Describes images, or reads texts about them.

        Args:
          images: uint8 [n, S, S, 3] canvases, RGB.
          boxes: float32 [n, 4], locked boxes y1, x1, y2, x2 in [0, 1] of the canvas.
          texts: list of n str to read; None generates.

        Returns:
          list of `Description`.
        """
        grids = self.captioner.extractor(images, boxes)
        table, longest = self.captioner.table, self.captioner.model.config.max_words
        if texts is None:
            ids = self._generate(grids)
            words = [table.decode(row) for row in ids.numpy()]
        else:
            words = [text[:longest] for text in sat_words.split_texts(texts)]
            ids = sat_words.pad([table.encode(text, longest) for text in words])
        read = self._read(grids, ids)
        attention, gates = read["attention"].numpy(), read["gate"].numpy()
        return [
            Description(text, attention[i, : len(text)], gates[i, : len(text)])
            for i, text in enumerate(words)
        ]

    def align(self, images, boxes, texts, token_ids, tokenizer, levels):
        """Aligned pairs of a batch of images with their texts.

        Args:
          images, boxes: see `describe`.
          texts: list of n str.
          token_ids: list of n lists of int, their word pieces without [CLS] and [SEP],
            cut or not.
          tokenizer: `Tokenizer` that made them.
          levels: table of `KaleidoLevel`.

        Returns:
          list of n (tokens, patches, scores): lists of equal lengths; the index into
          the text's `token_ids` of the word's first piece, the index into the patch
          sequence, and the score: gate times the share of the word's attention inside
          that patch.
        """
        read = texts if self.words == "text" else None
        return [
            pairs_of(text, ids, tokenizer, levels, self.min_lift, self.stop_words)
            for text, ids in zip(
                self.describe(images, boxes, read), token_ids, strict=True
            )
        ]


def aligned_words(description, written, levels, min_lift, stop_words=STOP_WORDS):
    """The words of a text that are aligned, and with which patches.

    Args:
      description: `Description` of its image.
      written: the text's words, list of str.
      levels, min_lift: see `best_patches`.
      stop_words: set of str.

    Returns:
      list of (place in `written`, place in the description, list of (patch, score)).
    """
    shared = shared_words(description.words, written, stop_words)
    if not shared:
        return []
    said = [place for _, place in shared]
    seen = description.gates[said, None] * description.attention[said]
    masses = patch_masses(seen, patches.patch_rectangles(levels))
    chosen = best_patches(masses, levels, min_lift)
    return [(*places, pairs) for places, pairs in zip(shared, chosen, strict=True)]


def pairs_of(description, token_ids, tokenizer, levels, min_lift, stop_words):
    """Aligned pairs of one image, see `Aligner.align`: (tokens, patches, scores)."""
    written = words_of_pieces(token_ids, tokenizer)
    found = aligned_words(
        description, [word for word, _ in written], levels, min_lift, stop_words
    )
    tokens, aligned, scores = [], [], []
    for place, _, pairs in found:
        for patch, score in pairs:
            tokens.append(written[place][1])
            aligned.append(patch)
            scores.append(score)
    return tokens, aligned, scores
