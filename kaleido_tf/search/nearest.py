"""Nearest vectors by cosine: the first stage, in faiss."""

import logging
import os

import numpy as np

KINDS = ("flat", "hnsw", "ivf")


def _faiss():
    # It tells of each instruction set that it was not built for.
    logging.getLogger("faiss.loader").setLevel(logging.WARNING)
    try:
        import faiss
    except ImportError as error:
        raise ValueError(
            "faiss-cpu should be installed for search. Received: no such package "
            "(python -m pip install 'kaleido_tf[search]')"
        ) from error
    return faiss


def build(vectors, kind="flat"):
    """An index of unit vectors by inner product.

    Args:
      vectors: float32 [n, D], unit length.
      kind: "flat" compares with every vector: exact, a millisecond for 10,000. "hnsw"
        walks a graph of neighbours, "ivf" looks into a tenth of about sqrt(n) cells:
        both for millions, and both may miss some.

    Raises:
      ValueError: no vectors, NaN, or another kind.
    """
    faiss = _faiss()
    vectors = np.ascontiguousarray(vectors, np.float32)
    if not len(vectors) or not np.isfinite(vectors).all():
        raise ValueError(
            "`vectors` should be numbers, one row at least. Received: "
            f"{vectors.shape}, finite: {bool(np.isfinite(vectors).all())}"
        )
    count, size = vectors.shape
    if kind == "flat":
        index = faiss.IndexFlatIP(size)
    elif kind == "hnsw":
        index = faiss.IndexHNSWFlat(size, 32, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction, index.hnsw.efSearch = 200, 256
    elif kind == "ivf":
        cells = max(1, min(int(count**0.5), count // 40))
        quantizer = faiss.IndexFlatIP(size)
        index = faiss.IndexIVFFlat(quantizer, size, cells, faiss.METRIC_INNER_PRODUCT)
        index.nprobe = max(1, cells // 10)
        index.train(vectors)
    else:
        raise ValueError(f"`index` should be one of {KINDS}. Received: {kind!r}")
    index.add(vectors)
    return index


def search(index, vector, top):
    """The `top` nearest rows, nearest first.

    Args:
      index: of `build`.
      vector: float32 [D].
      top: all rows, where there are fewer.

    Returns:
      (int64 [n] rows, float32 [n] cosines); equal cosines in the rows' order.
    """
    scores, rows = index.search(
        np.asarray(vector, np.float32)[None], min(top, index.ntotal)
    )
    found = rows[0] >= 0  # an approximate index may find fewer
    rows, scores = rows[0][found], scores[0][found]
    order = np.lexsort((rows, -scores))
    return rows[order], scores[order]


def save(index, path):
    """Writes an index to a file."""
    _faiss().write_index(index, str(path))


def load(path):
    """Reads what `save` wrote.

    Raises:
      FileNotFoundError: no file.
      ValueError: it can't be read.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f"{path} should be a faiss index. Received: no file (run "
            "kaleido_tf.search.index again)"
        )
    try:
        return _faiss().read_index(str(path))
    except RuntimeError as error:
        raise ValueError(
            f"{path} should be a faiss index. Received: {str(error)[:200]} (run "
            "kaleido_tf.search.index again)"
        ) from error
