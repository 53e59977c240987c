"""Product pictures of a report: thumbnails, and sheets of ranked items as PNG."""

import dataclasses
import io
import textwrap

from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont, ImageOps

RIGHT = (22, 148, 74)  # frame and text of what is right
_INK, _FAINT, _GREY = (31, 41, 51), (110, 122, 135), (205, 210, 216)
_PAD = 12
_LINE = 20  # height of a line of text, pixels


def _font(size, weight="normal"):
    # The font that comes with matplotlib: the same everywhere.
    found = font_manager.findfont(
        font_manager.FontProperties("DejaVu Sans", weight=weight)
    )
    return ImageFont.truetype(found, size)


class Thumbnails:
    """Square pictures by image id; a grey tile stands for one that can't be shown.

    Args:
      paths: dict image_id -> path.
      side: of a thumbnail in pixels.

    Attributes:
      missing: ids without a readable picture, of those asked for.
    """

    def __init__(self, paths, side=160):
        self.side, self.missing = side, set()
        self._paths, self._images, self._jpegs = paths, {}, {}

    def image(self, image_id):
        """The thumbnail: PIL image, RGB, side x side, aspect kept, on white."""
        if image_id not in self._images:
            self._images[image_id] = self._load(image_id)
        return self._images[image_id]

    def jpeg(self, image_id):
        """The thumbnail as JPEG bytes."""
        if image_id not in self._jpegs:
            buffer = io.BytesIO()
            self.image(image_id).save(buffer, "JPEG", quality=82)
            self._jpegs[image_id] = buffer.getvalue()
        return self._jpegs[image_id]

    def _load(self, image_id):
        if image_id not in self._paths:
            return self._grey(image_id, "picture not in\nthe manifest")
        try:
            with Image.open(self._paths[image_id]) as picture:
                picture = ImageOps.exif_transpose(picture).convert("RGBA")
        except (OSError, ValueError, SyntaxError):  # what Pillow raises on damage
            return self._grey(image_id, "picture missing\nor unreadable")
        white = Image.new("RGBA", picture.size, "white")
        flat = Image.alpha_composite(white, picture).convert("RGB")
        return ImageOps.pad(flat, (self.side, self.side), color="white")

    def _grey(self, image_id, reason):
        self.missing.add(image_id)
        tile = Image.new("RGB", (self.side, self.side), _GREY)
        ImageDraw.Draw(tile).multiline_text(
            (self.side / 2, self.side / 2),
            reason,
            fill=_INK,
            font=_font(max(8, self.side // 12)),
            anchor="mm",
            align="center",
        )
        return tile


@dataclasses.dataclass
class _Sheet:
    """A white picture that rows are put on from top to bottom."""

    width: int
    height: int

    def __post_init__(self):
        self.image = Image.new("RGB", (self.width, self.height), "white")
        self.draw = ImageDraw.Draw(self.image)

    def text(self, x, y, line, fill=_INK, weight="normal", size=14):
        self.draw.text((x, y), line, fill=fill, font=_font(size, weight))

    def tile(self, x, y, image, right):
        self.image.paste(image, (x, y))
        box = (x - 4, y - 4, x + image.width + 3, y + image.height + 3)
        if right:
            self.draw.rectangle(box, outline=RIGHT, width=4)
        else:
            self.draw.rectangle(box, outline=_GREY, width=1)

    def png(self):
        buffer = io.BytesIO()
        self.image.save(buffer, "PNG", optimize=True)
        return buffer.getvalue()


def _wrap(text, pixels, lines=2):
    """A text in at most `lines` lines that fit into about so many pixels."""
    wrapped = textwrap.wrap(text, max(10, pixels // 8)) or [""]
    if len(wrapped) > lines:
        wrapped = wrapped[:lines]
        wrapped[-1] = wrapped[-1][: pixels // 8 - 3] + "..."
    return wrapped


def images_sheet(rows, thumbnails):
    """Text queries with their top pictures, the right one framed: PNG bytes.

    Args:
      rows: `top_ranked["tir"]` of retrieval.json.
      thumbnails: `Thumbnails`.
    """
    step = thumbnails.side + _PAD
    columns = max(len(row["ranked"]) for row in rows)
    width = columns * step + _PAD
    height = 2 * _LINE + step + _PAD + 8
    sheet = _Sheet(width, height * len(rows) + _PAD)
    for index, row in enumerate(rows):
        top = index * height + _PAD
        line = _wrap(row["text"], width - 2 * _PAD, lines=1)[0]
        sheet.text(_PAD, top, line, weight="bold")
        fill = RIGHT if row["rank"] == 1 else _FAINT
        note = f"the right picture has rank {row['rank']}"
        sheet.text(_PAD, top + _LINE, note, fill, size=12)
        for place, item in enumerate(row["ranked"]):
            picture = thumbnails.image(item["image_id"])
            x = _PAD + place * step
            sheet.tile(x, top + 2 * _LINE + 6, picture, item["right"])
    return sheet.png()


def texts_sheet(rows, thumbnails, width=1000):
    """Image queries with their top texts, the right one in green: PNG bytes.

    Args:
      rows: `top_ranked["itr"]` of retrieval.json.
      thumbnails: `Thumbnails`.
      width: of the sheet, pixels.
    """
    left = thumbnails.side + 3 * _PAD
    lines = [_text_lines(row, width - left - _PAD) for row in rows]
    heights = [max(thumbnails.side, len(each) * _LINE) + 2 * _PAD for each in lines]
    sheet, top = _Sheet(width, sum(heights) + _PAD), _PAD
    for row, each, height in zip(rows, lines, heights, strict=True):
        sheet.tile(_PAD, top, thumbnails.image(row["query"]), right=False)
        for index, (line, fill, weight) in enumerate(each):
            sheet.text(left, top + index * _LINE, line, fill, weight)
        top += height
    return sheet.png()


def _text_lines(row, pixels):
    """(line, colour, weight) of an image query's answer."""
    fill = RIGHT if row["rank"] == 1 else _FAINT
    lines = [(f"the right text has rank {row['rank']}", fill, "normal")]
    for place, item in enumerate(row["ranked"], start=1):
        style = (RIGHT, "bold") if item["right"] else (_INK, "normal")
        for number, line in enumerate(_wrap(item["text"], pixels - 30)):
            start = f"{place}. " if number == 0 else "    "
            lines.append((start + line, *style))
    return lines


def captions_sheet(rows, thumbnails, width=1000):
    """Pictures with their generated captions and first reference texts: PNG bytes.

    Args:
      rows: `examples` of captioning.json.
      thumbnails: `Thumbnails`.
      width: of the sheet, pixels.
    """
    left = thumbnails.side + 3 * _PAD
    lines = [_caption_lines(row, width - left - _PAD) for row in rows]
    heights = [max(thumbnails.side, len(each) * _LINE) + 2 * _PAD for each in lines]
    sheet, top = _Sheet(width, sum(heights) + _PAD), _PAD
    for row, each, height in zip(rows, lines, heights, strict=True):
        sheet.tile(_PAD, top, thumbnails.image(row["image_id"]), right=False)
        for index, style in enumerate(each):
            sheet.text(left, top + index * _LINE, *style)
        top += height
    return sheet.png()


def _caption_lines(row, pixels):
    """(line, colour, weight) of an image's caption and reference."""
    caption = _wrap(row["caption"] or "(empty)", pixels - 20, lines=4)
    lines = [(line, _INK, "bold") for line in caption]
    lines.append(("reference", _FAINT, "normal"))
    reference = _wrap(row["references"][0], pixels, lines=4)
    return lines + [(line, _FAINT, "normal") for line in reference]
