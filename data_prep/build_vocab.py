"""WordPiece vocabulary of a corpus, by tensorflow-text's own learner.

Used by data preparation when the user brings no vocab.txt.
"""

import os

import tensorflow as tf
from tensorflow_text.tools.wordpiece_vocab import bert_vocab_from_dataset as learner

from kaleido_tf.data import tokenization


def build_vocabulary(texts, vocab_size, min_count=3):
    """Learns a BERT-uncased vocabulary.

    Args:
      texts: iterable of str, the training split's texts.
      vocab_size: upper bound of its size.
      min_count: pieces that occur in fewer places aren't taken up whole.

    Returns:
      list of str, the five special tokens first.

    Raises:
      ValueError: no text has a word.
    """
    # The views of a product share their text, which should count once.
    distinct = list(dict.fromkeys(text for text in texts if text.strip()))
    if not distinct:
        raise ValueError("`texts` should hold at least one text with a word in it")
    return learner.bert_vocab_from_dataset(
        tf.data.Dataset.from_tensor_slices(distinct).batch(1000),
        vocab_size=vocab_size,
        reserved_tokens=list(tokenization.SPECIAL_TOKENS),
        bert_tokenizer_params={"lower_case": True},
        learn_params={"lower_thresh": min_count},
    )


def write_vocabulary(pieces, path):
    """Writes a vocab.txt, whole or not at all."""
    with open(f"{path}.tmp", "w", encoding="utf-8") as file:
        file.writelines(piece + "\n" for piece in pieces)
    os.replace(f"{path}.tmp", path)
