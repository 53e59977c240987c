"""Served graph, first station: requests are checked, paired and cut into chunks.

Whatever is wrong with a request is an InvalidArgumentError that says what, and of a
batch which row, as in "image_bytes[2]: the JPEG is truncated or damaged".
"""

import tensorflow as tf

from kaleido_tf.data import input_pipeline

MAX_TEXT_BYTES = 65_536


def require(condition, *message):
    """A context in which `condition` (bool scalar) holds; ops made in it wait for it.

    Args:
      condition: bool scalar.
      *message: parts of the message: str, string and integer scalars.
    """
    parts = [_string(part) for part in message]
    check = tf.debugging.Assert(condition, [tf.strings.join(parts)])
    # Eagerly the check is done by now.
    return tf.control_dependencies([] if check is None else [check])


def _string(part):
    part = tf.convert_to_tensor(part)
    return part if part.dtype == tf.string else tf.strings.as_string(part)


def require_rows(name, reasons, start=0):
    """A context in which no row is wrong; the message names the first one that is.

    Args:
      name: of the input.
      reasons: string [n], what is wrong with a row, or empty.
      start: place of the first row in the request.
    """
    wrong = tf.where(reasons != "")[:, 0]
    count = tf.size(wrong)
    # One more, so that there is one to name where all are right.
    first = tf.concat([wrong, [tf.size(reasons, tf.int64)]], axis=0)[0]
    reason = tf.gather(tf.concat([reasons, [""]], axis=0), first)
    place = first + tf.cast(start, tf.int64)
    return require(count == 0, f"{name}[", place, "]: ", reason)


def require_pairs(num_images, num_texts, image_name):
    """A context in which images and texts make pairs, see `pair_rows`."""
    return require(
        (num_images == num_texts) | (num_images == 1) | (num_texts == 1),
        f"`{image_name}` and `text` should be of one length, or one of them of length "
        "1. Received: ",
        num_images,
        " and ",
        num_texts,
    )


def pair_rows(num_images, num_texts):
    """Which image and which text make the pairs of a request.

    Args:
      num_images, num_texts: int32 scalars, N and M.

    Returns:
      Two int32 [K], rows of the images and of the texts: row by row where N == M; where
      one of them is 1, its only row with every row of the other.
    """
    rows = tf.range(tf.where(num_images == 1, num_texts, num_images))
    return tuple(
        tf.where(count == 1, tf.zeros_like(rows), rows)
        for count in (num_images, num_texts)
    )


def require_same(num_images, num_texts, image_name):
    """A context in which there are as many images as texts."""
    return require(
        num_images == num_texts,
        f"`{image_name}` and `text` should be of one length. Received: ",
        num_images,
        " and ",
        num_texts,
    )


def read_texts(tokenizer, text, text_length):
    """Texts -> the encoder's inputs, as training has them: see `trim_texts`.

    Args:
      tokenizer: `Tokenizer`.
      text: string [M]; an empty one is [CLS] [SEP], as in training.
      text_length: T of the model; pieces beyond it are left out, as in training.

    Returns:
      dict of int32 [M, t], t <= T: `input_word_ids`, `input_mask`, `input_type_ids`.
    """
    size = tf.strings.length(text)
    long = tf.strings.join(
        [tf.strings.as_string(size), f" bytes: over {MAX_TEXT_BYTES}"]
    )
    with require_rows("text", tf.where(size > MAX_TEXT_BYTES, long, "")):
        text = tf.identity(text)
    return input_pipeline.trim_texts(tokenizer.encode(text, text_length))


def in_chunks(function, rows, size, outputs):
    """Maps a function over the rows of a request, so many at once.

    Memory is that of one chunk, however large a request is.

    Args:
      function: of (start int32 scalar, a part of each tensor of `rows`) -> tuple of
        tensors with a row for each row of the part.
      rows: tuple of tensors [K, ...].
      size: rows of a chunk at most.
      outputs: tuple of `tf.TensorSpec`, the whole results' shapes, all known but for
        the rows: an empty request has results too.

    Returns:
      tuple of tensors [K, ...].
    """
    count = tf.shape(rows[0])[0]
    num_chunks = -(-count // size)
    arrays = [
        tf.TensorArray(
            spec.dtype, num_chunks, infer_shape=False, element_shape=spec.shape
        )
        for spec in outputs
    ]

    def step(index, arrays):
        start = index * size
        found = function(start, *(tensor[start : start + size] for tensor in rows))
        written = [a.write(index, f) for a, f in zip(arrays, found, strict=True)]
        return index + 1, written

    _, arrays = tf.while_loop(
        lambda index, _: index < num_chunks,
        step,
        (tf.constant(0), arrays),
        parallel_iterations=1,
    )
    results = [array.concat() for array in arrays]
    return tuple(
        tf.ensure_shape(result, spec.shape)
        for result, spec in zip(results, outputs, strict=True)
    )
