"""Reading pictures: what can be used, and what is wrong with the rest."""

import cv2
import numpy as np
import pytest

from data_prep import pictures


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
    # A header that claims 2 ** 31 pixels a side (OpenCV raises an error of its own).
    png = bytearray(encoded(picture, ".png"))
    png[16:24] = b"\x7f\xff\xff\xff" * 2
    small.write_bytes(bytes(png))
    with pytest.raises(ValueError, match="that OpenCV can decode"):
        pictures.read_picture(small)
