"""Ridge regression from the words of a text to image vectors, and how it is chosen.

The model behind `retrieval_baseline.py`. Strength of the penalty and scaling of the
features are chosen on products held back from the training split.
"""

import dataclasses

import numpy as np
from absl import logging
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import Ridge

from kaleido_tf.data import candidate_lists
from kaleido_tf.tasks import ranking

STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)
SCALINGS = ("centre", "standardise", "whiten")
MAX_TERMS = 8192  # bounds the normal equations: 8192**2 float32 are 268 MB
_HELD_OUT = 0.15  # share of the training products that the choice is made on
_MAX_HELD_OUT = 1000  # pairs; all of them are ranked against each other
_SHRINKAGE = 0.1  # of the mean variance, added to each before whitening


class ScaledSpace:
    """The image features' space in which cosines are taken.

    Args:
      features: float32 [N, F] of training images.
      scaling: "centre" takes the mean off; "standardise" divides by the deviation of
        each feature too; "whiten" by that of each principal direction, shrunk.
    """

    def __init__(self, features, scaling):
        self.mean = features.mean(axis=0)
        centred = features - self.mean
        if scaling == "centre":
            self.matrix = None
        elif scaling == "standardise":
            self.matrix = np.diag(1.0 / (centred.std(axis=0) + 1e-6))
        else:
            variances, directions = np.linalg.eigh(centred.T @ centred / len(centred))
            variances = np.maximum(variances, 0) + _SHRINKAGE * variances.mean()
            self.matrix = directions / np.sqrt(variances)

    def vectors(self, centred):
        """Unit vectors of features that have the mean taken off: float32 [n, F]."""
        if self.matrix is not None:
            centred = centred @ self.matrix
        length = np.linalg.norm(centred, axis=1, keepdims=True)
        return (centred / np.maximum(length, 1e-9)).astype(np.float32)


class TextRidge:
    """Ridge regression from the words and bigrams of a text to vectors.

    Args:
      strength: of the penalty.
      min_count: terms of fewer training texts than this are left out.
    """

    def __init__(self, strength, min_count=2):
        self._counts = CountVectorizer(
            ngram_range=(1, 2),
            binary=True,
            min_df=min_count,
            max_features=MAX_TERMS,
            token_pattern=r"(?u)\b\w+\b",
            dtype=np.float32,
        )
        # The targets are centred, so there is no intercept to fit.
        self._ridge = Ridge(strength, fit_intercept=False, solver="cholesky")

    def fit(self, texts, targets):
        """Fits on texts (list of N str) and centred targets (float32 [N, F])."""
        self._ridge.fit(self._counts.fit_transform(texts), targets)
        return self

    def predict(self, texts):
        """Vectors of texts: float32 [n, F]."""
        return self._ridge.predict(self._counts.transform(texts))

    @property
    def num_terms(self):
        return len(self._counts.vocabulary_)


@dataclasses.dataclass(frozen=True)
class Choice:
    """Settings of the baseline and how they did on the held-back training products."""

    strength: float
    scaling: str
    sum_of_recalls: float


def hold_out(product_ids, seed=0):
    """bool [N]: which records belong to the products held back for the choice."""
    products = sorted(set(product_ids))
    count = max(1, round(_HELD_OUT * len(products)))
    order = np.random.default_rng(seed).permutation(len(products))
    held = {products[i] for i in order[:count]}
    return np.array([product in held for product in product_ids])


def choose(texts, product_ids, features, scalings=SCALINGS):
    """Tries every strength and scaling on a part of the training split.

    Args:
      texts, product_ids: lists of N str, of the training split only.
      features: float32 [N, F].
      scalings: names out of `SCALINGS` to try.

    Returns:
      list of `Choice`, best first.

    Raises:
      ValueError: an unknown scaling, or a single product.
    """
    if not scalings or set(scalings) - set(SCALINGS):
        raise ValueError(
            f"`scalings` should be names out of {SCALINGS}. Received: {scalings}"
        )
    held = hold_out(product_ids)
    if held.all():
        raise ValueError(
            "The training split should hold at least two products with a text. "
            f"Received: {len(set(product_ids))}"
        )
    texts = np.array(texts, object)
    spaces = {name: ScaledSpace(features[~held], name) for name in scalings}
    mean = features[~held].mean(axis=0)
    asked = np.flatnonzero(held)[:_MAX_HELD_OUT]
    folded = np.array([candidate_lists.fold_text(text) for text in texts[asked]])
    relevant = folded[:, None] == folded[None]
    choices = []
    for strength in STRENGTHS:
        ridge = TextRidge(strength).fit(texts[~held], features[~held] - mean)
        predicted = ridge.predict(texts[asked])
        for name, space in spaces.items():
            scores = space.vectors(predicted) @ space.vectors(features[asked] - mean).T
            total = _sum_of_recalls(scores, relevant)
            choices.append(Choice(strength, name, total))
            logging.info("strength %g, %s: SumR %.1f", strength, name, total)
    choices.sort(key=lambda choice: -choice.sum_of_recalls)
    if choices[0].strength in (STRENGTHS[0], STRENGTHS[-1]):
        logging.warning(
            "the best strength, %g, is the last one tried: others may do better "
            "(text_ridge.STRENGTHS)",
            choices[0].strength,
        )
    return choices


def _sum_of_recalls(scores, relevant):
    """SumR of ranking held-back texts and images against each other, in percent."""
    both = ((scores, relevant), (scores.T, relevant.T))
    ranks = [ranking.pessimistic_ranks(*each) for each in both]
    return ranking.sum_of_recalls(*(ranking.recall_at(each) for each in ranks))
