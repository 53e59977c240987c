"""WordPiece vocabulary of a corpus, by tensorflow-text's own learner.

Used by data preparation when the user brings no vocab.txt.
"""

import hashlib
import json
import os

import tensorflow as tf
from absl import logging
from tensorflow_text.tools.wordpiece_vocab import bert_vocab_from_dataset as learner

from data_prep.shards import receipts
from kaleido_tf import files
from kaleido_tf.data import dataset_info, tokenization


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
    distinct = _distinct(texts)
    if not distinct:
        raise ValueError("`texts` should hold at least one text with a word in it")
    # A letter is two pieces: one begins a word, the other goes on with it.
    letters = (vocab_size - len(tokenization.SPECIAL_TOKENS)) // 2
    return learner.bert_vocab_from_dataset(
        tf.data.Dataset.from_tensor_slices(distinct).batch(1000),
        vocab_size=vocab_size,
        reserved_tokens=list(tokenization.SPECIAL_TOKENS),
        bert_tokenizer_params={"lower_case": True},
        learn_params={"lower_thresh": min_count, "max_unique_chars": max(letters, 1)},
    )


def _distinct(texts):
    # The views of a product share their text, which should count once.
    return list(dict.fromkeys(text for text in texts if text.strip()))


def learn_vocabulary(texts, vocab_size, path):
    """Puts the vocabulary of texts in place, learnt only if it isn't there already.

    A receipt beside it says what it was learnt from: `vocab_size` and the texts. Where
    these are others now it is learnt again. A vocabulary that its receipt doesn't know
    (of an earlier version, or put there by hand) is kept, with a warning.

    Args:
      texts, vocab_size: see `build_vocabulary`.
      path: of the vocab.txt.

    Raises:
      ValueError: no text has a word, or the file that is there is no vocabulary.
    """
    texts = list(texts)
    made_from = {"vocab_size": vocab_size, "texts_sha256": _texts_sha256(texts)}
    found = _receipt(path)
    if os.path.exists(path):
        tokenization.read_vocabulary(path)
        if found.get("vocab_sha256") != dataset_info.file_sha256(path):
            logging.warning(
                "%s is kept, but nothing says what it was learnt from: whether it is "
                "the vocabulary of these texts and of --vocab_size=%d isn't known "
                "(remove it to have that learnt)",
                path,
                vocab_size,
            )
            return
        changed = [key for key in made_from if found.get(key) != made_from[key]]
        if not changed:
            logging.info("%s is there already and is kept", path)
            return
        logging.info("%s is learnt again: %s changed", path, " and ".join(changed))
    pieces = build_vocabulary(texts, vocab_size)
    if os.path.exists(path):
        os.remove(path)  # a run that is killed here learns again
    made_from["vocab_sha256"] = _vocabulary_sha256(pieces)
    files.write_json(made_from, receipts.receipt_path(path), indent=None)
    write_vocabulary(pieces, path)


def _texts_sha256(texts):
    digest = hashlib.sha256()
    for text in _distinct(texts):
        digest.update(json.dumps(text).encode() + b"\n")
    return digest.hexdigest()


def _vocabulary_sha256(pieces):
    """Hash of the file that `write_vocabulary` writes: hex."""
    joined = "".join(piece + "\n" for piece in pieces)
    return hashlib.sha256(joined.encode()).hexdigest()


def _receipt(path):
    """What a vocabulary was learnt from: dict, empty where nothing says so."""
    try:
        found = receipts.load(path)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_vocabulary(pieces, path):
    """Writes a vocab.txt, whole or not at all."""
    with files.whole(path) as file:
        file.writelines(piece + "\n" for piece in pieces)
