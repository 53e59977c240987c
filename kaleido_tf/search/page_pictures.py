"""Pictures of the search page as data: thumbnails, kept while they are in use."""

import base64
import functools
import io

from PIL import Image, ImageOps

_GREY = (226, 230, 235)


def _data_uri(picture, quality):
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


WHOLE = (0.0, 0.0, 1.0, 1.0)


def shown(source, side, region=WHOLE, enlarged=False):
    """A part of a picture, at most side x side pixels, as a data URI.

    Args:
      source: path or bytes of a picture; "" where there is none.
      side: pixels.
      region: y1, x1, y2, x2 in [0, 1] of the picture.
      enlarged: whether a smaller one is brought to that size.

    Returns:
      str; a grey tile where there is nothing that can be read.
    """
    try:
        if not source:
            raise ValueError("no picture")
        file = io.BytesIO(source) if isinstance(source, bytes) else source
        with Image.open(file) as picture:
            picture = ImageOps.exif_transpose(picture).convert("RGBA")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        # What Pillow raises on damage.
        return _data_uri(Image.new("RGB", (8, 8), _GREY), quality=50)
    white = Image.new("RGBA", picture.size, "white")
    flat = Image.alpha_composite(white, picture).convert("RGB")
    top, left, bottom, right = region
    width, height = flat.size
    flat = flat.crop(
        tuple(map(round, (left * width, top * height, right * width, bottom * height)))
    )
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
