"""Text -> word pieces, the same eager, in tf.data and in a served graph.

BERT-uncased compatible WordPiece by tensorflow-text: lower case, accents off,
punctuation split, greedy longest match.
"""

import hashlib
import os

import numpy as np
import tensorflow as tf
import tensorflow_text as tf_text

PAD, UNKNOWN, CLS, SEP, MASK = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"
SPECIAL_TOKENS = (PAD, UNKNOWN, CLS, SEP, MASK)
# Characters of which BERT's tokenizer makes a word each, as they stand in a regular
# expression's [...]: Chinese, and Japan's and Korea's of them; no kana, no hangul.
IDEOGRAPHS = (
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0002a6df\U0002a700-\U0002ceaf\U0002f800-\U0002fa1f"
)


def check_same_vocabulary(data, checkpoint):
    """Raises ValueError where two vocab.txt hold other word pieces, or another order.

    Args:
      data: path of the data set's.
      checkpoint: path of the one that came with weights.
    """
    a, b = read_vocabulary(data), read_vocabulary(checkpoint)
    if a == b:
        return
    at = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), None)
    at = min(len(a), len(b)) if at is None else at
    raise ValueError(
        f"The data's vocabulary {data} should be the checkpoint's {checkpoint}. "
        f"Received: {len(a)} and {len(b)} word pieces, the first difference at {at} "
        "(prepare the data with --vocab_file of the checkpoint)"
    )


def read_vocabulary(path):
    """Reads a vocab.txt, one word piece a line.

    Returns:
      list of str.

    Raises:
      FileNotFoundError: no such file.
      ValueError: not UTF-8, doubled or empty pieces, or a special token missing.
    """
    if not os.path.exists(path):
        raise FileNotFoundError(
            f"`vocab_file` should name a BERT vocabulary (vocab.txt). Received: {path}"
        )
    try:
        with open(path, encoding="utf-8") as file:
            # Not `splitlines`: U+2028 and the like may be pieces of a vocabulary.
            pieces = [line.rstrip("\n") for line in file]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} should be UTF-8 text. Received: {error}") from error
    missing = [token for token in SPECIAL_TOKENS if token not in pieces]
    if missing:
        raise ValueError(
            f"{path} should hold one word piece a line, with {list(SPECIAL_TOKENS)} "
            f"among them. Missing: {missing} of {len(pieces)} lines"
        )
    if "" in pieces:
        raise ValueError(
            f"{path} should hold one word piece a line. Received an empty line: "
            f"{pieces.index('') + 1}"
        )
    if len(set(pieces)) != len(pieces):
        seen = set()
        doubled = [p for p in pieces if p in seen or seen.add(p)]
        raise ValueError(f"{path} should hold each piece once. Doubled: {doubled[:5]}")
    return pieces


class Tokenizer(tf.Module):
    """WordPiece tokenizer over one vocabulary.

    Args:
      vocabulary: list of str, the word pieces in id order.

    Attributes:
      vocab_size: number of pieces.
      sha256: hash over the pieces, hex.
      pad_id, unknown_id, cls_id, sep_id, mask_id: int.
      special_ids: int32 [5], these five.
      continues_word: bool [V] numpy, True for "##..." pieces.

    Example:
      >>> tokenizer = Tokenizer.from_file("vocab.txt")
      >>> tokenizer.encode(tf.constant(["navy shirt"]), 16)["input_word_ids"].shape
      TensorShape([1, 16])
    """

    def __init__(self, vocabulary, name=None):
        super().__init__(name=name)
        self.vocabulary = list(vocabulary)
        self.vocab_size = len(self.vocabulary)
        joined = "".join(piece + "\n" for piece in self.vocabulary)
        self.sha256 = hashlib.sha256(joined.encode()).hexdigest()
        ids = {piece: i for i, piece in enumerate(self.vocabulary)}
        special = [ids[token] for token in SPECIAL_TOKENS]
        self.pad_id, self.unknown_id, self.cls_id, self.sep_id, self.mask_id = special
        self.special_ids = np.array(special, np.int32)
        self.continues_word = np.array([p.startswith("##") for p in self.vocabulary])
        self._tokenizer = tf_text.FastBertTokenizer(
            self.vocabulary,
            token_out_type=tf.int32,
            lower_case_nfd_strip_accents=True,
        )

    @classmethod
    def from_file(cls, path):
        """A tokenizer of a vocab.txt; errors as `read_vocabulary`."""
        return cls(read_vocabulary(path))

    def tokenize(self, texts):
        """string [B] -> ragged int32 [B, None] ids, without [CLS] and [SEP]."""
        return self._tokenizer.tokenize(texts)

    def pack(self, token_ids, text_length):
        """Adds [CLS] and [SEP], cuts and pads.

        Args:
          token_ids: ragged int32 [B, None].
          text_length: T.

        Returns:
          dict of int32 [B, T]: `input_word_ids`, `input_mask`, `input_type_ids`.
        """
        cut = token_ids[:, : text_length - 2]
        batch = cut.nrows(out_type=tf.int32)
        ends = [tf.fill([batch, 1], tf.constant(i)) for i in (self.cls_id, self.sep_id)]
        ragged = tf.concat([ends[0], tf.cast(cut, tf.int32), ends[1]], axis=1)
        ids = ragged.to_tensor(default_value=self.pad_id, shape=[None, text_length])
        lengths = tf.cast(ragged.row_lengths(), tf.int32)
        return {
            "input_word_ids": ids,
            "input_mask": tf.sequence_mask(lengths, text_length, tf.int32),
            "input_type_ids": tf.zeros_like(ids),
        }

    def encode(self, texts, text_length):
        """string [B] -> the encoder's text inputs, see `pack`."""
        return self.pack(self.tokenize(texts), text_length)

    def decode(self, ids):
        """Ids of one text -> str: pieces joined to words, special tokens left out."""
        words = []
        for i in np.asarray(ids).tolist():
            if i in self.special_ids and i != self.unknown_id:
                continue
            piece = self.vocabulary[i]
            if piece.startswith("##") and words:
                words[-1] += piece[2:]
            else:
                words.append(piece)
        return " ".join(words)
