"""Pictures of the search page as data: thumbnails, kept while they are in use."""

import base64
import functools
import io

from PIL import Image, ImageOps

from kaleido_tf.search.sources import jpeg_orientation

_GREY = (226, 230, 235)
_TURN = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _data_uri(picture, quality):
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


WHOLE = (0.0, 0.0, 1.0, 1.0)


def _as_stored(region, orientation):
    """A region of a picture that was turned, in the picture as its file has it."""
    top, left, bottom, right = region
    if orientation in (2, 3, 6, 7):
        left, right = 1 - right, 1 - left
    if orientation in (3, 4, 7, 8):
        top, bottom = 1 - bottom, 1 - top
    return (
        (left, top, right, bottom) if orientation >= 5 else (top, left, bottom, right)
    )


def _part(picture, side, region):
    """A region of an opened picture: RGB, on white, turned as the model's decoder does.

    What is larger comes at 2 to 4 times `side`: a JPEG is decoded at a fraction of its
    size, others are cut and scaled before they are put on white.
    """
    orientation = jpeg_orientation(picture)
    top, left, bottom, right = _as_stored(region, orientation)
    width, height = picture.size
    longest = max((right - left) * width, (bottom - top) * height, 1.0)
    share = min(2 * side / longest, 1.0)
    picture.draft(None, (int(share * width) + 1, int(share * height) + 1))
    width, height = picture.size
    box = left * width, top * height, right * width, bottom * height
    box = tuple(map(round, box))
    if box != (0, 0, width, height):
        picture = picture.crop(box)
    transparent = picture.has_transparency_data
    mode = "RGBA" if transparent else "RGB"
    if transparent or picture.mode not in ("L", "RGB"):
        picture = picture if picture.mode == mode else picture.convert(mode)
    factor = max(picture.size) // (2 * side)
    if factor > 1:
        picture = picture.reduce(factor)
    if transparent:
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    picture = picture.convert("RGB")
    if orientation > 1:
        picture = picture.transpose(_TURN[orientation])
    return picture


def shown(source, side, region=WHOLE, enlarged=False):
    """A part of a picture, at most side x side pixels, as a data URI.

    Args:
      source: path or bytes of a picture; "" where there is none.
      side: pixels.
      region: y1, x1, y2, x2 in [0, 1] of the picture, of a JPEG as EXIF turns it.
      enlarged: whether a smaller one is brought to that size.

    Returns:
      str; a grey tile where there is nothing that can be read.
    """
    try:
        if not source:
            raise ValueError("no picture")
        file = io.BytesIO(source) if isinstance(source, bytes) else source
        with Image.open(file) as picture:
            flat = _part(picture, side, region)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        # What Pillow raises on damage.
        return _data_uri(Image.new("RGB", (8, 8), _GREY), quality=50)
    if enlarged or max(flat.size) > side:
        flat = ImageOps.contain(flat, (side, side))
    return _data_uri(flat, quality=86)


@functools.lru_cache(maxsize=4096)
def thumbnail(path, side=240):
    """`shown` of a catalogue's whole picture, kept."""
    return shown(path, side)


def region_around(box, margin=0.12, most=0.6):
    """What to show of a picture so that its object is large: y1, x1, y2, x2.

    Args:
      box: of the object, in [0, 1] of the picture.
      margin: added on each side, in parts of the box's longer side.
      most: a part that covers more of the picture than this is all of it.
    """
    top, left, bottom, right = map(float, box)
    added = margin * max(bottom - top, right - left)
    region = (
        max(top - added, 0.0),
        max(left - added, 0.0),
        min(bottom + added, 1.0),
        min(right + added, 1.0),
    )
    area = (region[2] - region[0]) * (region[3] - region[1])
    return region if 0 < area < most else WHOLE
