"""Show, Attend and Tell's words: a vocabulary of whole words, texts in batches, BLEU.

Words, not word pieces: one heat map then stands for one word, whatever pieces the data
set's vocabulary cuts it into, and one captioner serves every vocab.txt. They are what
BERT's basic tokenizer splits off, lower case and without accents, so joining the pieces
of a tokenized text gives the same words back.
"""

import collections
import math

import numpy as np
from tensorflow_text.python.ops import bert_tokenizer

from data_prep.sat.sat_model import END, PAD, SPECIAL_WORDS, UNKNOWN
from kaleido_tf import files

_POOL = 16  # batches whose texts are sorted by length together


def split_texts(texts):
    """Texts -> lists of words and punctuation marks, as BERT splits them."""
    if not texts:
        return []
    splitter = bert_tokenizer.BasicTokenizer(lower_case=True)
    rows = splitter.tokenize(list(texts)).to_list()
    return [[word.decode("utf-8", "replace") for word in row] for row in rows]


class WordTable:
    """The captioner's vocabulary.

    Args:
      words: list of str in id order, `SPECIAL_WORDS` first.
    """

    def __init__(self, words):
        self.words = list(words)
        self._ids = {word: i for i, word in enumerate(self.words)}

    def __len__(self):
        return len(self.words)

    @classmethod
    def of(cls, texts, most=10_000, min_count=3):
        """The most frequent words of texts.

        Args:
          texts: list of lists of words, see `split_texts`.
          most: upper bound, words; the published network has 10,000.
          min_count: rarer words are left out.

        Raises:
          ValueError: no word is that frequent.
        """
        counts = collections.Counter(word for text in texts for word in text)
        # Ties in the order of the alphabet: the table must not depend on anything else.
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        words = [word for word, count in ranked if count >= min_count]
        if not words:
            raise ValueError(
                f"The texts should hold a word that occurs {min_count} times. "
                f"Received: {len(texts)} texts without any (take more of them)"
            )
        return cls([*SPECIAL_WORDS, *words[: most - len(SPECIAL_WORDS)]])

    def encode(self, words, max_words):
        """A text's words -> int32 ids, cut, with the end mark."""
        ids = [self._ids.get(word, UNKNOWN) for word in words[:max_words]]
        return np.array([*ids, END], np.int32)

    def decode(self, ids):
        """Ids -> the words before the end mark: list of str."""
        words = []
        for i in np.asarray(ids).tolist():
            if i in (END, PAD):
                break
            words.append(self.words[i])
        return words

    def save(self, path):
        """Writes one word a line, whole or not at all."""
        with files.whole(path) as file:
            file.writelines(word + "\n" for word in self.words)

    @classmethod
    def load(cls, path):
        """Reads what `save` wrote."""
        with open(path, encoding="utf-8", newline="\n") as file:
            return cls([line.rstrip("\n") for line in file])


def pad(texts):
    """Lists of ids -> int32 [n, longest], padded at the end."""
    longest = max(len(ids) for ids in texts)
    padded = np.full((len(texts), longest), PAD, np.int32)
    for row, ids in enumerate(texts):
        padded[row, : len(ids)] = ids
    return padded


def epoch_batches(lengths, batch_size, seed, epoch):
    """Rows of every batch of an epoch, of texts that are about equally long.

    As Xu et al. do (section 4.3): the LSTM then spends no steps on padding. What is
    left over after the last whole batch waits for the next epoch's order.

    Args:
      lengths: int [N], words of every text.
      batch_size: rows a batch; at most N.
      seed, epoch: decide the order, and nothing else does.

    Returns:
      list of int arrays.
    """
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(lengths))
    order = order[: len(order) - len(order) % batch_size]
    batches = []
    for first in range(0, len(order), _POOL * batch_size):
        pool = order[first : first + _POOL * batch_size]
        pool = pool[np.argsort(np.asarray(lengths)[pool], kind="stable")]
        batches += np.split(pool, len(pool) // batch_size)
    return [batches[place] for place in rng.permutation(len(batches))]


def bleu4(texts, references):
    """BLEU-4 over a corpus with one reference a text (Papineni et al., 2002).

    Args:
      texts, references: lists of lists of words.

    Returns:
      float in [0, 1]; 0 where no four words in a row are right.
    """
    total = 0.0
    for size in range(1, 5):
        right = said = 0
        for text, reference in zip(texts, references, strict=True):
            counts = _ngrams(text, size)
            right += (counts & _ngrams(reference, size)).total()
            said += counts.total()
        if not right:
            return 0.0
        total += math.log(right / said) / 4
    length, wanted = sum(map(len, texts)), sum(map(len, references))
    return math.exp(total + min(0.0, 1 - wanted / length))


def _ngrams(words, size):
    return collections.Counter(zip(*(words[i:] for i in range(size)), strict=False))
