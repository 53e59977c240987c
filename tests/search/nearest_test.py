"""The nearest vectors, exact and by FAISS."""

import numpy as np
import pytest

from kaleido_tf.search import nearest


@pytest.mark.parametrize("kind", nearest.KINDS)
def test_nearest(kind):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(500, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[7] = vectors[3]
    rows, cosines = nearest.search(nearest.build(vectors, kind), vectors[3], 20)
    # The same vector twice: in the rows' order.
    assert rows[:2].tolist() == [3, 7]
    np.testing.assert_allclose(cosines, vectors[rows] @ vectors[3], atol=1e-5)
    best = set(np.argsort(-(vectors @ vectors[3]))[:20])
    assert len(best & set(rows)) >= {"flat": 20, "hnsw": 18, "ivf": 3}[kind]
    assert (
        len(nearest.search(nearest.build(vectors[:5], "flat"), vectors[0], 9)[0]) == 5
    )


def test_nearest_refuses():
    with pytest.raises(ValueError, match="should be numbers"):
        nearest.build(np.full((3, 2), np.nan))
    with pytest.raises(ValueError, match="`index` should be one of"):
        nearest.build(np.ones((3, 2)), "tree")
