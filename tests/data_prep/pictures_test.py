"""Reading pictures: what can be used, and what is wrong with the rest."""

import struct
import zlib

import cv2
import numpy as np
import pytest
import tensorflow as tf

from data_prep import pictures
from kaleido_tf.data import pictures as decoding


def encoded(picture, ending, **kwargs):
    return cv2.imencode(ending, picture[..., ::-1], **kwargs)[1].tobytes()


@pytest.fixture
def picture():
    """Smooth, of uneven sides: what JPEG gives back almost unchanged."""
    rows, columns = np.mgrid[:40, :24]
    return np.stack([4 * rows, 5 * columns, 200 - 3 * rows], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("ending", [".png", ".jpg", ".webp"])
def test_reading_pictures(picture, tmp_path, ending):
    path = tmp_path / f"a{ending}"
    path.write_bytes(encoded(picture, ending))
    found = pictures.read_picture(path)
    assert (found.dtype, found.shape) == (np.uint8, (40, 24, 3))
    assert np.abs(found.astype(int) - picture).mean() < (1 if ending == ".png" else 4)
    path.write_bytes(encoded(picture, ending)[:-30])
    with pytest.raises(ValueError, match="is truncated"):
        pictures.read_picture(path)


def with_segment(jpeg, marker, content):
    """A JPEG with a segment after its start mark."""
    length = (len(content) + 2).to_bytes(2, "big")
    return jpeg[:2] + b"\xff" + marker + length + content + jpeg[2:]


def test_end_of_a_jpeg(picture, tmp_path):
    path = tmp_path / "a.jpg"
    jpeg = encoded(picture, ".jpg")
    # A thumbnail in the header has an end mark too: it isn't the picture's.
    thumbnail = with_segment(jpeg, b"\xe1", b"Exif\0\0" + jpeg)
    path.write_bytes(thumbnail)
    assert pictures.read_picture(path).shape == (40, 24, 3)
    path.write_bytes(thumbnail[:-30])
    with pytest.raises(ValueError, match="the JPEG is truncated"):
        pictures.read_picture(path)
    # Cameras write more behind the picture.
    path.write_bytes(jpeg + b"\0" * 5000)
    assert pictures.read_picture(path).shape == (40, 24, 3)
    path.write_bytes(jpeg[:100])  # within the header
    with pytest.raises(ValueError, match="the JPEG is truncated"):
        pictures.read_picture(path)


def test_a_jpeg_is_turned_as_its_exif_says(picture, tmp_path):
    # One entry: orientation (0x0112), short, 1 value: 6, a quarter turn clockwise.
    tiff = b"MM\0*\0\0\0\x08" + b"\0\x01" + bytes.fromhex("0112000300000001 00060000")
    exif = b"Exif\0\0" + tiff + b"\0\0\0\0"
    path = tmp_path / "turned.jpg"
    path.write_bytes(with_segment(encoded(picture, ".jpg"), b"\xe1", exif))
    found = pictures.read_picture(path)
    assert found.shape == (24, 40, 3)
    assert np.abs(found.astype(int) - np.rot90(picture, -1)).mean() < 4


def test_grey_deep_and_transparent_pictures(picture, tmp_path):
    path = tmp_path / "a.png"
    grey = picture[..., 0]
    path.write_bytes(cv2.imencode(".png", grey)[1].tobytes())
    np.testing.assert_array_equal(
        pictures.read_picture(path), np.repeat(grey[..., None], 3, axis=2)
    )
    path.write_bytes(encoded(picture.astype(np.uint16) * 257, ".png"))
    np.testing.assert_array_equal(pictures.read_picture(path), picture)
    alpha = np.zeros(picture.shape[:2], np.uint8)
    alpha[10:30] = 255
    alpha[30:] = 51  # a fifth
    seen = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    path.write_bytes(cv2.imencode(".png", np.dstack([seen, alpha]))[1].tobytes())
    found = pictures.read_picture(path)
    assert (found[:10] == 255).all()
    np.testing.assert_array_equal(found[10:30], picture[10:30])
    np.testing.assert_allclose(found[30:], picture[30:] / 5 + 204, atol=1)


def test_pictures_that_cannot_be_used(picture, tmp_path):
    small = tmp_path / "small.png"
    small.write_bytes(encoded(picture[:5], ".png"))
    with pytest.raises(ValueError, match="24 x 5 pixels: under 8 x 8"):
        pictures.read_picture(small)
    with pytest.raises(ValueError, match="can't be read: Is a directory"):
        pictures.read_picture(tmp_path)
    with pytest.raises(ValueError, match="null"):
        pictures.read_picture("a\0b.png")
    # A header that claims 2 ** 31 pixels a side, and one just over what is allowed.
    for side, said in (
        (b"\x7f\xff\xff\xff", "2147483647 x 2147483647"),
        (b"\0\0\x20\0", "8192"),
    ):
        png = bytearray(encoded(picture, ".png"))
        png[16:24] = side * 2
        small.write_bytes(bytes(png))
        with pytest.raises(ValueError, match=f"{said}.*pixels: over 50000000"):
            pictures.read_picture(small)
    for content in (b"GIF89a" + b"\0" * 50, b"BM" + b"\0" * 50, b"\xff"):
        small.write_bytes(content)
        with pytest.raises(ValueError, match="no JPEG, PNG or WebP picture"):
            pictures.read_picture(small)
    small.write_bytes(b"")
    with pytest.raises(ValueError, match="the file is empty"):
        pictures.read_picture(small)


def as_opencv(data):
    """What OpenCV makes of a picture without transparency: uint8 [h, w, 3] RGB."""
    found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    return cv2.cvtColor(found, cv2.COLOR_BGR2RGB)


JPEGS = {
    "subsampled": [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, 0x221111],
    "whole": [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, 0x111111],
    "progressive": [cv2.IMWRITE_JPEG_PROGRESSIVE, 1],
    "poor": [cv2.IMWRITE_JPEG_QUALITY, 30],
}


@pytest.mark.parametrize("kind", JPEGS)
def test_pixels_are_opencvs(picture, tmp_path, kind):
    noisy = np.random.default_rng(0).integers(0, 256, (61, 47, 3), np.uint8)
    for n, pixels in enumerate((picture, noisy)):
        data = encoded(pixels, ".jpg", params=JPEGS[kind])
        path = tmp_path / f"{n}.jpg"
        path.write_bytes(data)
        np.testing.assert_array_equal(pictures.read_picture(path), as_opencv(data))


def exif(order, orientation):
    """A TIFF block with another entry before the orientation's."""
    pack = ">" if order == b"MM" else "<"
    entries = [(0x0100, 3, 1, 7, 0), (0x0112, 3, 1, orientation, 0)]
    body = struct.pack(f"{pack}HIH", 42, 8, len(entries))
    body += b"".join(struct.pack(f"{pack}HHIHH", *entry) for entry in entries)
    return b"Exif\0\0" + order + body + b"\0\0\0\0"


@pytest.mark.parametrize("order", [b"MM", b"II"])
@pytest.mark.parametrize("orientation", range(10))
def test_every_orientation_is_opencvs(picture, tmp_path, order, orientation):
    jpeg = encoded(picture, ".jpg")
    data = with_segment(jpeg, b"\xe1", exif(order, orientation))
    path = tmp_path / "turned.jpg"
    # Fill bytes may stand before a mark; another program's block, before this one.
    data = with_segment(data, b"\xff\xe1", b"http://ns.adobe.com/xap/1.0/\0")
    path.write_bytes(data)
    found = pictures.read_picture(path)
    plain = with_segment(jpeg, b"\xe1", exif(order, orientation))
    np.testing.assert_array_equal(found, as_opencv(plain))
    assert (found.shape[0] == 24) == (orientation in (5, 6, 7, 8))


def palette_png(transparent):
    """A PNG of 8 x 8 pixels of two palette colours, the first see-through if asked."""

    def chunk(kind, content):
        checked = kind + content
        length = struct.pack(">I", len(content))
        return length + checked + struct.pack(">I", zlib.crc32(checked))

    rows = b"".join(b"\0" + bytes([0, 1] * 4) for _ in range(8))
    parts = [
        chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 3, 0, 0, 0)),
        chunk(b"PLTE", bytes([200, 10, 20, 30, 40, 50])),
        chunk(b"tRNS", b"\0") if transparent else b"",
        chunk(b"IDAT", zlib.compress(rows)),
        chunk(b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("transparent", [False, True])
def test_palettes(tmp_path, transparent):
    path = tmp_path / "a.png"
    path.write_bytes(palette_png(transparent))
    found = pictures.read_picture(path)
    first = [255, 255, 255] if transparent else [200, 10, 20]
    np.testing.assert_array_equal(found[3, 4:6], [first, [30, 40, 50]])


def test_transparent_webp(picture, tmp_path):
    alpha = np.full((*picture.shape[:2], 1), 255, np.uint8)
    alpha[:10] = 0
    data = np.concatenate([picture[..., ::-1], alpha], axis=2)
    path = tmp_path / "a.webp"
    lossless = [cv2.IMWRITE_WEBP_QUALITY, 101]
    path.write_bytes(cv2.imencode(".webp", data, lossless)[1].tobytes())
    found = pictures.read_picture(path)
    assert (found[:10] == 255).all()
    np.testing.assert_array_equal(found[10:], picture[10:])


def test_damage_inside_of_a_picture(picture, tmp_path):
    png = bytearray(encoded(picture, ".png"))
    png[len(png) // 2] ^= 0xFF
    path = tmp_path / "a.png"
    path.write_bytes(bytes(png))
    with pytest.raises(ValueError, match="the PNG is truncated or damaged"):
        pictures.read_picture(path)


def test_decode_picture_raises_in_graph(picture):
    decode = tf.function(decoding.decode_picture, autograph=False)
    data = encoded(picture, ".jpg")
    np.testing.assert_array_equal(decode(tf.constant(data)), as_opencv(data))
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="24 x 40 pixels: over 900"
    ):
        decoding.decode_picture(tf.constant(data), max_pixels=900)
    with pytest.raises(tf.errors.InvalidArgumentError, match="no JPEG, PNG or WebP"):
        decode(tf.constant(b"GIF89a"))
