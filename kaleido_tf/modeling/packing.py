"""Rows without padding: what products of rows and weights need not compute.

A batch's sequences lie below each other as rows; those that nobody sees are left out.
How many stay is rounded up, so that what is compiled for a number of rows (`fused.py`)
sees few of them.

Letters: B texts, S positions, N = B * S rows, R rows that stay.
"""

import tensorflow as tf

_STEP = 4  # R is a multiple of B times this: at most S / 4 different ones


class Packing:
    """Which rows of a batch stay.

    Args:
      mask: [B, S, S], 1 where a row's position sees a column's: a position that nobody
        sees is padding.

    Attributes:
      rows: int32 [R], the rows that stay, then row 0 as often as is needed.
      count: int32 scalar, N.
    """

    def __init__(self, mask):
        batch, length = tf.shape(mask)[0], tf.shape(mask)[2]
        seen = tf.reshape(tf.reduce_any(mask > 0, axis=1), [-1])
        rows = tf.reshape(tf.cast(tf.where(seen), tf.int32), [-1])
        step = _STEP * batch
        count = tf.size(rows)
        self.count = batch * length
        size = tf.minimum(-(-count // step) * step, batch * length)
        self.rows = tf.pad(rows, [[0, size - count]])
        # bool [R], [N]: who isn't a filler, and who isn't padding.
        self._real = tf.range(size) < count
        self._seen = seen
        # int32 [N]: where a row went; padding reads from row 0.
        self._places = tf.where(seen, tf.cumsum(tf.cast(seen, tf.int32)) - 1, 0)

    def pack(self, x):
        """[N, ...] -> [R, ...]."""
        rows, places, seen = self.rows, self._places, self._seen

        @tf.custom_gradient
        def run(x):
            return tf.gather(x, rows), lambda g: _where(seen, tf.gather(g, places))

        return run(x)

    def unpack(self, x):
        """[R, ...] -> [N, ...]; padding gets some row's numbers, and no gradient."""
        rows, places, real = self.rows, self._places, self._real

        @tf.custom_gradient
        def run(x):
            return tf.gather(x, places), lambda g: _where(real, tf.gather(g, rows))

        return run(x)


class NoPacking:
    """Every row stays.

    Args:
      count: int32 scalar, N.
    """

    def __init__(self, count):
        self.count, self.rows = count, tf.range(count)

    def pack(self, x):
        return x

    def unpack(self, x):
        return x


def _where(kept, x):
    """`x` [n, H] with zeros in the rows that aren't kept."""
    return tf.where(kept[:, None], x, tf.zeros([], x.dtype))
