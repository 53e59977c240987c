"""Pictures of a catalogue's products, from files of their own or rows of HDF5 files.

What can't be read is a ValueError that says why; it ends up in the skip list.
"""

import functools
import threading

import tensorflow as tf

from data_prep.sources import fashion_gen
from kaleido_tf.data import pictures

_tracing = threading.Lock()

# A picture that is there and that the system didn't give (rights, a failing disk): the
# same command tries it again.
REFUSED = "can't be read now"


def pictures_of(products):
    """Pairs products with a way to their pixels, files of rows in slices and in order.

    Args:
      products: list of `sources.Product`; rows of one file stand in ascending order.

    Yields:
      (product, function without arguments -> uint8 [h, w, 3] RGB). The function raises
      ValueError where the picture can't be read.
    """
    start = 0
    while start < len(products):
        product = products[start]
        if product.row is None:
            yield product, _reader(product.image_path)
            start += 1
            continue
        end = start + 1
        while end < len(products) and _goes_on(products[end - 1], products[end]):
            end += 1
        part = products[start:end]
        arrays = fashion_gen.read_pictures(product.image_path, [p.row for p in part])
        for product, array in zip(part, arrays, strict=True):
            yield product, _holder(array)
        start = end


def _goes_on(before, product):
    """Whether a product's row comes after another's in the same file."""
    same = product.row is not None and before.image_path == product.image_path
    return same and before.row < product.row


def _reader(path):
    return lambda: read_picture(path)


def _holder(found):
    """Gives back pixels that are there already, or raises why they aren't."""

    def give():
        if isinstance(found, ValueError):
            raise found
        return found

    return give


def read_picture(path):
    """Decodes a JPEG, PNG or WebP file: uint8 [h, w, 3] RGB.

    By the function that a served model decodes by, `kaleido_tf.data.pictures`.

    Raises:
      ValueError: missing, empty, not such a picture, truncated or damaged, under 8
        pixels a side or over 50 million in all.
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise ValueError(f"can't be read: {error.strerror}") from error
    except OSError as error:
        raise ValueError(f"{REFUSED}: {error.strerror}") from error
    with _tracing:  # threads that call it first would each trace it
        decode = _decoder()
    picture, reason = decode(tf.constant(data))
    if reason := reason.numpy().decode():
        raise ValueError(reason)
    return picture.numpy()


@functools.cache
def _decoder():
    """The decoder's graph."""
    return tf.function(
        pictures.decode_or_reason,
        input_signature=[tf.TensorSpec([], tf.string)],
        autograph=False,
    ).get_concrete_function()
