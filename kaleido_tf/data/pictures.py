"""Data line, first station: the bytes of a picture -> its pixels, in graph.

Data preparation and an exported signature decode by this function, so that a model is
served exactly the pixels it would have been trained on. JPEG (turned as its EXIF says),
PNG (any depth, palette; transparent pixels on white) and WebP (a moving one's first
picture). Sizes are read from the header, so that a picture that is too large is refused
before anything is decoded; a moving WebP's counts once per frame, as all are decoded.
"""

import tensorflow as tf

MAX_PIXELS = 50_000_000
MIN_SIDE = 8

_KINDS = ("JPEG", "PNG", "WebP")
_MOST_SEGMENTS = 1000  # of a JPEG's header
_MOST_CHUNKS = 4000  # of a moving WebP
_ORIENTATION = 0x0112  # EXIF's tag


def decode_picture(data, max_pixels=MAX_PIXELS):
    """Decodes a picture; pixels are those that OpenCV gives.

    But for an orientation in a PNG's or WebP's EXIF, which counts in a JPEG alone.

    Args:
      data: string scalar, the bytes of a JPEG, PNG or WebP file.
      max_pixels: a picture with more, over all of its frames, is refused before it is
        decoded.

    Returns:
      uint8 [h, w, 3] RGB.

    Raises:
      tf.errors.InvalidArgumentError: empty, no such picture, truncated or damaged,
        too large, or under 8 pixels a side; the message says which.
    """
    header = _inspect(data, max_pixels)
    check = tf.debugging.Assert(header["reason"] == "", [header["reason"]])
    with tf.control_dependencies([] if check is None else [check]):
        data = tf.identity(data)
    return _decode(data, header["kind"], header["detail"])


def decode_or_reason(data, max_pixels=MAX_PIXELS):
    """`decode_picture` for one picture of a batch: it says what is wrong, and goes on.

    Returns:
      (uint8 [h, w, 3] RGB; string scalar, what is wrong with the picture). The string
      is empty where nothing is; else the picture is black and of 8 x 8 pixels.
    """
    header = _inspect(data, max_pixels)
    black = tf.zeros([MIN_SIDE, MIN_SIDE, 3], tf.uint8)

    def decode():
        # An op's error can't be caught in a graph; a data set can leave it out.
        parts = data, header["kind"], header["detail"]
        found = tf.data.Dataset.from_tensors(parts).map(
            lambda *parts: (_decode(*parts), tf.constant(""))
        )
        damaged = tf.gather([f"the {k} is truncated or damaged" for k in _KINDS], kind)
        other = tf.data.Dataset.from_tensors((black, damaged))
        found = found.ignore_errors().concatenate(other).take(1)
        return found.get_single_element()

    kind = tf.maximum(header["kind"], 0)
    picture, reason = tf.cond(
        header["reason"] == "", decode, lambda: (black, header["reason"])
    )
    return tf.ensure_shape(picture, [None, None, 3]), tf.ensure_shape(reason, [])


def _inspect(data, max_pixels):
    """What the header says.

    Returns:
      dict of scalars: `kind` int32, index of `_KINDS` or -1; `detail` int32, of a JPEG
      its orientation, 1 to 8, of a PNG 1 where it may be transparent, of a WebP its
      frames; `reason` string, why the picture can't be used, or empty.
    """
    # At least a byte, so that there is one to read.
    content = tf.io.decode_raw(tf.where(data == "", "-", data), tf.uint8)
    is_webp = _starts(content, b"RIFF") & _starts(content, b"WEBP", 8)
    known = [_starts(content, b"\xff\xd8"), _starts(content, b"\x89PNG\r\n\x1a\n")]
    kind = tf.where(is_webp, 2, -1)
    kind = tf.where(known[0], 0, tf.where(known[1], 1, kind))
    size, detail = tf.switch_case(
        kind,
        [
            lambda: _jpeg_header(content),
            lambda: _png_header(content),
            lambda: _webp_header(content),
            lambda: (tf.zeros([2], tf.int64), tf.constant(0)),
        ],
    )
    height, width = size[0], size[1]
    said = tf.strings.join(
        [tf.strings.as_string(width), " x ", tf.strings.as_string(height), " pixels"]
    )
    frames = tf.where(is_webp, detail, 1)
    moving = tf.strings.join([said, " in ", tf.strings.as_string(frames), " frames: "])
    said += ": "
    pixels = height * width
    short = is_webp & (tf.size(content, tf.int64) < 8 + _number(content, 4, 4, False))
    names = tf.constant(_KINDS)
    name = tf.gather(names, tf.maximum(kind, 0))
    reasons = [
        (data == "", "the file is empty"),
        (kind < 0, "no JPEG, PNG or WebP picture"),
        (
            tf.minimum(height, width) < 1,
            tf.strings.join(["the ", name, " is truncated or damaged: no size found"]),
        ),
        (pixels > max_pixels, said + f"over {max_pixels}"),
        (
            pixels * tf.cast(frames, tf.int64) > max_pixels,
            moving + f"over {max_pixels}",
        ),
        (frames < 0, f"the WebP has over {_MOST_CHUNKS} chunks"),
        (tf.minimum(height, width) < MIN_SIDE, said + f"under {MIN_SIDE} x {MIN_SIDE}"),
        (short, "the WebP is truncated: it is shorter than it says"),
    ]
    reason = tf.constant("")
    for wrong, text in reversed(reasons):
        reason = tf.where(wrong, text, reason)
    return {"kind": kind, "detail": detail, "reason": reason}


def _bytes(content, start, count):
    """int64 [count] of uint8 [n]; 0 where there are none."""
    places, last = start + tf.range(count), tf.size(content) - 1
    there = tf.cast((places >= 0) & (places <= last), tf.int64)
    found = tf.gather(content, tf.clip_by_value(places, 0, last))
    return tf.cast(found, tf.int64) * there


def _number(content, start, count, big_endian=True):
    """Unsigned number of so many bytes: int64 scalar."""
    powers = [256**i for i in range(count)]
    weights = tf.constant(powers[::-1] if big_endian else powers, tf.int64)
    return tf.reduce_sum(_bytes(content, start, count) * weights)


def _starts(content, mark, at=0):
    return tf.reduce_all(_bytes(content, at, len(mark)) == list(mark))


def _png_header(content):
    """([height, width] int64, int32 1 where a pixel may be transparent)."""

    def step(position, found):
        found |= _starts(content, b"tRNS", position + 4)
        length = tf.cast(_number(content, position, 4) % 2**31, tf.int32)
        return position + tf.minimum(length, tf.size(content)) + 12, found

    # Transparency is a channel of its own or a chunk somewhere before the pixels.
    has_alpha = _bytes(content, 25, 1)[0] >= 4
    _, found = tf.while_loop(
        lambda position, found: (
            ~found
            & (position < tf.size(content))
            & ~_starts(content, b"IDAT", position + 4)
        ),
        step,
        (tf.constant(8), has_alpha),
        maximum_iterations=_MOST_SEGMENTS,
    )
    size = tf.stack([_number(content, 20, 4), _number(content, 16, 4)])
    return size, tf.cast(found, tf.int32)


def _webp_header(content):
    """([height, width] int64, frames int32), see `_webp_frames`.

    The size is of any of WebP's three kinds; zeros for others.
    """

    def at(start, count):
        return _number(content, start, count, big_endian=False)

    packed = at(21, 4)
    lossless = tf.stack([(packed // 2**14) % 2**14, packed % 2**14]) + 1
    sizes = [
        (b"VP8 ", tf.stack([at(28, 2), at(26, 2)]) % 2**14),
        (b"VP8L", lossless),
        (b"VP8X", tf.stack([at(27, 3), at(24, 3)]) + 1),
    ]
    found = tf.zeros([2], tf.int64)
    for mark, size in sizes:
        found = tf.where(_starts(content, mark, 12), size, found)
    frames = tf.cond(
        _moves(content), lambda: _webp_frames(content), lambda: tf.constant(1)
    )
    return found, frames


def _moves(content):
    """Whether a WebP says that it moves."""
    return _starts(content, b"VP8X", 12) & (_bytes(content, 20, 1)[0] // 2 % 2 == 1)


def _webp_frames(content):
    """Frames of a moving WebP: int32, -1 where it has too many chunks to tell.

    Goes into a frame's chunk instead of past it, as libwebp does: a frame that says it
    is longer than its picture has the frames after it inside.
    """

    def step(position, frames):
        is_frame = _starts(content, b"ANMF", position)
        length = _number(content, position + 4, 4, False)
        length = tf.minimum(length + length % 2, tf.size(content, tf.int64))
        length = tf.where(is_frame, 16, tf.cast(length, tf.int32))
        return position + 8 + length, frames + tf.cast(is_frame, tf.int32)

    position, frames = tf.while_loop(
        lambda position, _: position < tf.size(content),
        step,
        (tf.constant(12), tf.constant(0)),
        maximum_iterations=_MOST_CHUNKS,
    )
    return tf.where(position < tf.size(content), -1, frames)


def _jpeg_header(content):
    """([height, width] int64, orientation int32); sizes are 0 where none is found.

    Goes from segment to segment up to the frame's header: a thumbnail within one of
    them has marks and a size of its own.
    """

    def read(position, *_):
        marker = _bytes(content, position, 2)
        code = marker[1]
        is_frame = (code >= 0xC0) & (code <= 0xCF)
        is_frame &= (code != 0xC4) & (code != 0xC8) & (code != 0xCC)
        ends = (marker[0] != 0xFF) | (code == 0xDA) | (code == 0xD9) | is_frame
        exif = (code == 0xE1) & _starts(content, b"Exif\0\0", position + 4)
        fill = code == 0xFF
        length = tf.cast(_number(content, position + 2, 2), tf.int32)
        return position + tf.where(fill, 1, 2 + length), ends, is_frame, exif

    def step(position, _, frame, tiff):
        following, ends, is_frame, exif = read(position)
        frame = tf.where(is_frame, position, frame)
        tiff = tf.where(exif & (tiff < 0), position + 10, tiff)
        return following, ends, frame, tiff

    start = (tf.constant(2), tf.constant(False), tf.constant(-1), tf.constant(-1))
    _, _, frame, tiff = tf.while_loop(
        lambda position, ended, *_: ~ended & (position < tf.size(content)),
        step,
        start,
        maximum_iterations=_MOST_SEGMENTS,
    )
    # Without a frame there are no bytes there, and the size is 0.
    frame = tf.where(frame < 0, tf.size(content), frame)
    size = tf.stack([_number(content, frame + 5, 2), _number(content, frame + 7, 2)])
    orientation = tf.cond(
        tiff < 0, lambda: tf.constant(1), lambda: _orientation(content, tiff)
    )
    return size, orientation


def _orientation(content, start):
    """EXIF's orientation of the TIFF block at `start`: int32, 1 where it has none."""
    big = _starts(content, b"MM", start)

    def number(at, count):
        both = [_number(content, start + at, count, order) for order in (True, False)]
        return tf.cast(tf.where(big, *both), tf.int32)

    directory = number(4, 4)
    count = tf.minimum(number(directory, 2), _MOST_SEGMENTS)

    def step(index, _):
        entry = directory + 2 + 12 * index
        is_it = number(entry, 2) == _ORIENTATION
        return index + 1, tf.where(is_it, number(entry + 8, 2), 0)

    _, found = tf.while_loop(
        lambda index, found: (index < count) & (found == 0),
        step,
        (tf.constant(0), tf.constant(0)),
    )
    return tf.where((found >= 1) & (found <= 8), found, 1)


def _decode(data, kind, detail):
    """Pixels of a picture that `_inspect` found no fault with: uint8 [h, w, 3]."""

    def jpeg():
        pixels = tf.io.decode_jpeg(
            data, channels=3, dct_method="INTEGER_ACCURATE", fancy_upscaling=True
        )
        return tf.cond(detail == 1, lambda: pixels, lambda: _turn(pixels, detail))

    def png():
        return tf.cond(
            detail == 0,
            lambda: tf.io.decode_png(data, channels=3),
            lambda: _on_white(tf.io.decode_png(data, channels=4)),
        )

    def webp():
        moves = _moves(tf.io.decode_raw(tf.strings.substr(data, 0, 30), tf.uint8))
        whole = tf.cond(moves, lambda: _called_transparent(data), lambda: data)
        pixels = tf.io.decode_webp(whole)[0]
        opaque = tf.shape(pixels)[2] == 3
        return tf.cond(opaque, lambda: pixels, lambda: _on_white(pixels))

    picture = tf.switch_case(kind, [jpeg, png, webp])
    return tf.ensure_shape(picture, [None, None, 3])


def _called_transparent(data):
    """A moving WebP that says it has alpha, so that its pixels are RGBA.

    Of an opaque one TensorFlow writes four channels to memory that it took for three.
    """
    rest = tf.strings.substr(data, 21, tf.strings.length(data))
    return tf.strings.join([tf.strings.substr(data, 0, 20), b"\x12", rest])


def _turn(pixels, orientation):
    """Turns and mirrors as EXIF's orientation 2 to 8 says."""
    swapped = orientation >= 5
    pixels = tf.cond(
        swapped, lambda: tf.transpose(pixels, [1, 0, 2]), lambda: tf.identity(pixels)
    )
    upside_down = tf.reduce_any(orientation == [3, 4, 7, 8])
    mirrored = tf.reduce_any(orientation == [2, 3, 6, 7])
    pixels = tf.cond(upside_down, lambda: pixels[::-1], lambda: pixels)
    return tf.cond(mirrored, lambda: pixels[:, ::-1], lambda: pixels)


def _on_white(pixels):
    """uint8 [h, w, 4] -> [h, w, 3]: on white, as shops show what is transparent."""
    alpha = tf.cast(pixels[..., 3:], tf.float32) / 255.0
    shown = tf.cast(pixels[..., :3], tf.float32) * alpha + 255.0 * (1.0 - alpha)
    return tf.cast(tf.round(shown), tf.uint8)
