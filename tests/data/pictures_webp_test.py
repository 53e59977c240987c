"""Moving WebPs: their first picture, and all their frames count as pixels."""

import io
import struct

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from kaleido_tf.data import pictures


def moving_webp(side, frames):
    """A WebP of so many frames, which libwebp can't join: each has another grey."""
    drawn = [PIL.Image.new("RGB", (side, side), (40 + n,) * 3) for n in range(frames)]
    file = io.BytesIO()
    drawn[0].save(
        file, "WEBP", save_all=True, append_images=drawn[1:], lossless=True, method=0
    )
    return file.getvalue()


def with_chunks(data, chunks, at=30):
    """The file with bytes put in behind VP8X."""
    data = data[:at] + chunks + data[at:]
    return data[:4] + struct.pack("<I", len(data) - 8) + data[8:]


def lengthened(data):
    """The file with a first frame that says it reaches to the end."""
    frame = data.index(b"ANMF")
    size = struct.pack("<I", len(data) - frame - 8)
    return data[: frame + 4] + size + data[frame + 8 :]


@pytest.fixture(scope="module")
def reason():
    """Function of (data, max_pixels) -> what is wrong, in graph."""

    @tf.function(reduce_retracing=False)
    def inspect(data, max_pixels):
        return pictures._inspect(data, max_pixels)["reason"]

    return lambda data, max_pixels: inspect(tf.constant(data), max_pixels)


@pytest.fixture(scope="module")
def moving():
    return moving_webp(64, 5)


def test_all_frames_count(reason, moving):
    assert reason(moving, 5 * 64 * 64) == b""
    said = b"64 x 64 pixels in 5 frames: over 20479"
    assert reason(moving, 5 * 64 * 64 - 1) == said
    # Chunks that are none of a frame, of even and odd length.
    others = with_chunks(moving, b"JUNK\3\0\0\0abc\0" + b"JUNK\2\0\0\0ab")
    assert reason(others, 5 * 64 * 64) == b""
    assert reason(others, 5 * 64 * 64 - 1) == said


def test_frames_inside_a_frame_count(reason, moving):
    # libwebp finds all of them.
    file = lengthened(moving)
    assert tf.io.decode_webp(pictures._called_transparent(file)).shape[0] == 5
    assert reason(file, 5 * 64 * 64 - 1) == b"64 x 64 pixels in 5 frames: over 20479"


def test_more_chunks_than_are_counted(reason, moving):
    file = with_chunks(moving, b"JUNK\0\0\0\0" * 4000)
    assert reason(file, pictures.MAX_PIXELS) == b"the WebP has over 4000 chunks"


def test_large_and_moving_is_refused_before_it_is_decoded(moving):
    side = (1999).to_bytes(3, "little")
    file = moving[:24] + side + side + moving[30:]
    frame = file[file.index(b"ANMF") :]
    file = with_chunks(file, frame * 20, len(file))
    picture, reason = pictures.decode_or_reason(file)
    assert reason == b"2000 x 2000 pixels in 105 frames: over 50000000"
    assert picture.shape == (8, 8, 3)


@pytest.mark.parametrize("says_alpha", [False, True])
def test_first_picture_of_a_moving_one(moving, says_alpha):
    # TensorFlow alone garbles an opaque one, and the memory after it.
    flags = moving[20] | 0x10 if says_alpha else moving[20] & ~0x10
    file = moving[:20] + bytes([flags]) + moving[21:]
    decode = tf.function(pictures.decode_or_reason)
    for _ in range(9):
        picture, reason = decode(tf.constant(file))
        assert reason == b""
        np.testing.assert_array_equal(picture, np.full([64, 64, 3], 40))


def test_a_transparent_moving_one_is_as_it_was():
    drawn = np.random.default_rng(5).integers(0, 256, [2, 24, 32, 4], np.uint8)
    first, second = (PIL.Image.fromarray(pixels) for pixels in drawn)
    file = io.BytesIO()
    notes = {"exif": b"Exif\0\0II*\0", "xmp": b"<x/>", "icc_profile": b"icc "}
    first.save(file, "WEBP", save_all=True, append_images=[second], **notes)
    assert file.getvalue()[20] == 0x3E  # moves, and has all that there is
    picture, reason = pictures.decode_or_reason(file.getvalue())
    assert reason == b""
    expected = pictures._on_white(tf.io.decode_webp(file.getvalue())[0])
    np.testing.assert_array_equal(picture, expected)
