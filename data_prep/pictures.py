"""Pictures of a catalogue's products, from files of their own or rows of HDF5 files.

What can't be read is a ValueError that says why; it ends up in the skip list.
"""

import cv2
import numpy as np

from data_prep.sources import fashion_gen


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

    Raises:
      ValueError: missing, empty, not a picture, truncated, or under 8 pixels.
    """
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise ValueError(f"can't be read: {error.strerror}") from error
    if not data.size:
        raise ValueError("the file is empty")
    _check_complete(data.tobytes())
    picture = _decode(data)
    if picture is None or picture.dtype not in (np.uint8, np.uint16):
        raise ValueError("no JPEG, PNG or WebP picture that OpenCV can decode")
    if min(picture.shape[:2]) < 8:
        raise ValueError(f"{picture.shape[1]} x {picture.shape[0]} pixels: under 8 x 8")
    return _to_rgb(picture)


def _check_complete(data):
    """Raises ValueError on a JPEG, PNG or WebP that stops before its end.

    OpenCV fills what is missing with grey, and says so on stderr only.
    """
    if data.startswith(b"\xff\xd8") and not _jpeg_ends(data):
        raise ValueError("the JPEG is truncated: it has no end mark")
    if data.startswith(b"\x89PNG") and b"IEND" not in data:
        raise ValueError("the PNG is truncated: it has no end chunk")
    if data.startswith(b"RIFF") and len(data) < 8 + int.from_bytes(data[4:8], "little"):
        raise ValueError("the WebP is truncated: it is shorter than it says")


def _jpeg_ends(data):
    """Whether an end mark comes after the start of the JPEG's first scan.

    A thumbnail in the header has an end mark of its own, and cameras write more after
    the last one: neither the first nor the last bytes of the file tell.
    """
    position = 2
    while data[position : position + 1] == b"\xff" and data[position + 1 :]:
        marker = data[position + 1]
        if marker == 0xDA:  # start of scan: no end mark's bytes occur in coded data
            break
        fill = marker == 0xFF
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        position += 1 if fill else 2 + length
    return data.find(b"\xff\xd9", position) >= 0


def _decode(data):
    """Pixels of a picture's bytes as OpenCV gives them, or None."""
    # A JPEG is turned as its EXIF says only with IMREAD_COLOR; others may have
    # transparent pixels, which only IMREAD_UNCHANGED keeps.
    is_jpeg = data[:2].tobytes() == b"\xff\xd8"
    try:
        return cv2.imdecode(data, cv2.IMREAD_COLOR if is_jpeg else cv2.IMREAD_UNCHANGED)
    except cv2.error:  # such as a header that claims more pixels than memory
        return None


def _to_rgb(picture):
    if picture.dtype == np.uint16:
        picture = (picture >> 8).astype(np.uint8)
    if picture.ndim == 2:
        return cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB)
    if picture.shape[2] == 4:
        # Transparent pixels are shown on white, as shops do.
        alpha = picture[..., 3:].astype(np.float32) / 255
        shown = picture[..., :3] * alpha + 255 * (1 - alpha)
        picture = np.round(shown).astype(np.uint8)
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
