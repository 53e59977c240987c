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


def shrunk(source, side):
    """A picture of at most side x side as a data URI.

    Args:
      source: path or file of a picture.
      side: pixels.

    Returns:
      str; None where the picture can't be read.
    """
    try:
        with Image.open(source) as picture:
            picture = ImageOps.exif_transpose(picture).convert("RGBA")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None  # what Pillow raises on damage
    white = Image.new("RGBA", picture.size, "white")
    flat = Image.alpha_composite(white, picture).convert("RGB")
    flat.thumbnail((side, side))
    return _data_uri(flat, quality=84)


@functools.lru_cache(maxsize=4096)
def thumbnail(path, side=240):
    """`shrunk` of a catalogue's picture; a grey tile where there is none to read."""
    found = shrunk(path, side) if path else None
    return found or _data_uri(Image.new("RGB", (8, 8), _GREY), quality=50)


def uploaded(data, side=320):
    """`shrunk` of a picture's bytes, a grey tile where the browser's can't be read."""
    return shrunk(io.BytesIO(data), side) or thumbnail("")
