"""What stands between the matrix products: each chain of small operations in one pass.

Without this the products take half of a training step on a CPU and the operations
around them the other half, most of it in reading and writing memory. Here each chain is
one function of tensors that XLA compiles to one loop. Its gradient keeps the chain's
inputs alone and computes the rest again, which is cheaper than storing it.

The chains are compiled on a CPU, in training and within `compiling`, unless the
environment has KALEIDO_COMPILE_CHAINS=0: a run of a few steps spends more time on
compiling than it saves. Elsewhere they run as they are written: with a GPU, and in
inference, so that what serves a model needs no compiler.

Dropout is drawn from a counter: the number of an element and a seed are hashed, so no
mask is stored and the backward pass draws the same one. The seed comes from the layer's
generator.

Letters: B texts, S positions, N heads, D numbers a head, H = N * D, R rows.
"""

import contextlib
import contextvars
import functools
import os

import tensorflow as tf

_MASKED = -1e9  # added to the scores of places that nobody sees, as tf_keras does


@functools.lru_cache(maxsize=1)
def _on_cpu():
    """Whether chains may be compiled here."""
    wanted = os.environ.get("KALEIDO_COMPILE_CHAINS", "1") != "0"
    return wanted and not tf.config.list_logical_devices("GPU")


_everywhere = contextvars.ContextVar("compiling", default=False)


@contextlib.contextmanager
def compiling():
    """Where inference, too, compiles its chains: for long runs, not for export."""
    token = _everywhere.set(True)
    try:
        yield
    finally:
        _everywhere.reset(token)


class Chain:
    """A function of tensors, compiled with its gradient: used as a decorator.

    The function takes tensors by position and settings (numbers, functions, types) by
    keyword, and returns a tensor or a tuple. Integer tensors get no gradient.
    """

    def __init__(self, function):
        functools.update_wrapper(self, function)
        self._plain = function
        self._forward = tf.function(function, jit_compile=True, autograph=False)
        self._backward = tf.function(self._gradient, jit_compile=True, autograph=False)

    def __call__(self, *tensors, compiled=False, **settings):
        """`compiled`: one pass, where this machine has no GPU."""
        if not ((compiled or _everywhere.get()) and _on_cpu()):
            return self._plain(*tensors, **settings)

        @tf.custom_gradient
        def run(*tensors):
            def gradient(*upstream):
                return self._backward(tensors, upstream, **settings)

            return self._forward(*tensors, **settings), gradient

        return run(*map(tf.convert_to_tensor, tensors))

    def _gradient(self, tensors, upstream, **settings):
        floating = [i for i, t in enumerate(tensors) if t.dtype.is_floating]
        with tf.GradientTape() as tape:
            tape.watch([tensors[i] for i in floating])
            outputs = tf.nest.flatten(self._plain(*tensors, **settings))
        found = tape.gradient(outputs, [tensors[i] for i in floating], list(upstream))
        gradients = [None] * len(tensors)
        for i, gradient in zip(floating, found, strict=True):
            gradients[i] = gradient
        return gradients


def draw_seed(dropout):
    """What one draw of a Keras dropout layer depends on: int32 [3].

    Two numbers to hash with, and which of the equal parts of a global batch is computed
    (`training/dropout.py`; 0 where nothing is cut into parts).
    """
    draws = dropout._random_generator
    counter = draws.next_counter() if hasattr(draws, "next_counter") else None
    if counter is not None:
        return step_seed(*counter)
    pair = tf.random.uniform([2], maxval=tf.int32.max, dtype=tf.int32)
    return tf.concat([pair, [0]], axis=0)


def step_seed(key, part, place, call):
    """A seed from the numbers of seed and step, part, layer and call: int32 [3]."""
    bits = tf.bitcast(key[0], tf.uint32)  # step, seed
    for number in (place, call):
        # Crosswise, so that each of the two hangs on both numbers of the key.
        bits = _mixed(bits + tf.constant([2 * number + 1, 0x9E3779B9], tf.uint32))
        bits += tf.reverse(_mixed(bits), [0])
    pair = tf.bitcast(bits, tf.int32)
    return tf.concat([pair, [tf.cast(part, tf.int32)]], axis=0)


NO_SEED = (0, 0, 0)  # where nothing is dropped


def random_bits(shape, seed, rows=None):
    """A hash of each element's number and the seed: uint32 of `shape`.

    Two rounds of a 32-bit finalizer (xor-shifts and odd multipliers), a number of the
    seed before each. A part's elements are numbered on from those of the part before.

    Args:
      shape: int32 [n].
      seed: int32 [3].
      rows: int32 [shape[0]], each row's number where they aren't 0, 1, 2 and so on; of
        the whole batch, not of a part.
    """
    if rows is None:
        size = tf.reduce_prod(shape)
        numbers = tf.reshape(tf.range(size) + seed[2] * size, shape)
    else:
        numbers = rows[:, None] * shape[1] + tf.range(shape[1])
    bits = tf.cast(numbers, tf.uint32)
    for number in tf.unstack(tf.bitcast(seed[:2], tf.uint32)):
        bits = _mixed(bits + number)
    return bits


def _mixed(bits):
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B), (16, None)):
        shifted = tf.bitwise.right_shift(bits, tf.constant(shift, tf.uint32))
        bits = tf.bitwise.bitwise_xor(bits, shifted)
        if factor is not None:
            bits *= tf.constant(factor, tf.uint32)
    return bits


def _dropped(x, seed, rate, rows=None):
    """`x` with a share `rate` of its elements 0, the others scaled up."""
    if not rate:
        return x
    return scaled_where(kept(tf.shape(x), seed, rate, rows), x, rate)


def kept(shape, seed, rate, rows=None):
    """Which elements dropout leaves: bool of `shape`; see `random_bits`.

    Compared as integers: TensorFlow makes other fractions of the same bits than XLA.
    """
    bits = random_bits(shape, seed, rows)
    return bits >= tf.constant(round(rate * 2**32), tf.uint32)


def scaled_where(kept, x, rate):
    """`x` where it is kept, scaled up for what isn't; 0 elsewhere."""
    return tf.where(kept, x * (1 / (1 - rate)), tf.zeros([], x.dtype))


def _normalized(x, gamma, beta, epsilon):
    """LayerNorm of the last axis, float32."""
    mean = tf.reduce_mean(x, axis=-1, keepdims=True)
    centred = x - mean
    variance = tf.reduce_mean(tf.square(centred), axis=-1, keepdims=True)
    return centred * tf.math.rsqrt(variance + epsilon) * gamma + beta


def _float(*tensors):
    return (tf.cast(tensor, tf.float32) for tensor in tensors)


@Chain
def dropout(x, seed, *, rate):
    """Dropout alone: any shape, any floating type."""
    return _dropped(x, seed, rate)


@Chain
def norm_dropout(x, gamma, beta, seed, *, rate, epsilon, dtype):
    """LayerNorm in float32, then dropout: [..., H] -> [..., H] of `dtype`."""
    normal = _normalized(*_float(x, gamma, beta), epsilon)
    return tf.cast(_dropped(normal, seed, rate), dtype)


@Chain
def residual_norm(x, bias, residual, gamma, beta, seed, rows, *, rate, epsilon):
    """LayerNorm(residual + dropout(x + bias)): [R, H] -> float32 [R, H].

    `rows` int32 [R] are the rows' numbers in the whole batch, for dropout.
    """
    x, bias, residual, gamma, beta = _float(x, bias, residual, gamma, beta)
    total = _dropped(x + bias, seed, rate, rows) + residual
    return _normalized(total, gamma, beta, epsilon)


@Chain
def bias_activation(x, bias, *, activation):
    """activation(x + bias) in float32: [R, F] -> [R, F] of the type of `x`."""
    total, bias = _float(x, bias)
    return tf.cast(activation(total + bias), x.dtype)


@Chain
def split_heads(x, bias, batch_like, *, heads, parts):
    """Projections side by side -> heads apart: [R, parts * H] -> parts x [B, N, S, D].

    Args:
      x: the products of `parts` projections, rows of all texts below each other.
      bias: [parts * H].
      batch_like: anything [B, ...] that isn't differentiated, for B.
    """
    total, bias = _float(x, bias)
    total = tf.cast(total + bias, x.dtype)
    batch, size = tf.shape(batch_like)[0], x.shape[-1] // (parts * heads)
    apart = tf.reshape(total, [batch, -1, parts, heads, size])
    return tuple(tf.unstack(tf.transpose(apart, [2, 0, 3, 1, 4])))


@Chain
def attention_weights(scores, mask, seed, *, scale, rate):
    """Softmax of the scaled scores in float32, then dropout.

    Args:
      scores: [B, N, S, S'].
      mask: [B, S, S'], 1 where a row's position sees a column's.

    Returns:
      [B, N, S, S'] of the type of `scores`.
    """
    hidden = (1.0 - tf.cast(mask, tf.float32))[:, None] * _MASKED
    weights = tf.nn.softmax(tf.cast(scores, tf.float32) * scale + hidden)
    return tf.cast(_dropped(weights, seed, rate), scores.dtype)
