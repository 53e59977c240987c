"""The sheet on which one product of the embedded catalogue is drawn.

Coordinates are in [0, 1], x to the right and y down. A `Canvas` keeps the colours,
the foreground, three layers of light (crisp seams, soft folds, weave) and the places
of the attributes (`mark`); `finish` lights everything from the upper left and gives a
`Sprite`, which `views` puts into pictures.
"""

import dataclasses

import cv2
import numpy as np

from data_prep.catalogue_parts import fabrics, palette

SIZE = fabrics.SIZE
_SOFT = SIZE // 4  # the soft layer has a quarter of the resolution
_MARGIN = 0.04
_GAP = 10  # pixels between two outlines that count as one place
_NEUTRAL = np.full((SIZE, SIZE), 128, np.uint8)


@dataclasses.dataclass(frozen=True)
class Sprite:
    """One drawn product.

    Attributes:
      pixels: uint8 [SIZE, SIZE, 4]; BGR (zero outside the product) and foreground.
      marks: attribute -> list of float [N, 2] outlines, pixels of the sheet.
      bounds: x1, y1, x2, y2 of the foreground, pixels of the sheet.
    """

    pixels: np.ndarray
    marks: dict
    bounds: tuple


def curve(start, control, end, steps: int = 10) -> np.ndarray:
    """Quadratic Bezier curve: float [steps + 1, 2]."""
    t = np.linspace(0, 1, steps + 1)[:, None]
    start, control, end = (np.asarray(p, np.float64) for p in (start, control, end))
    return (1 - t) ** 2 * start + 2 * t * (1 - t) * control + t**2 * end


def path(*pieces) -> np.ndarray:
    """Joins points and curves into one outline: float [N, 2]."""
    return np.concatenate([np.atleast_2d(np.asarray(p, np.float64)) for p in pieces])


def mirrored(points) -> np.ndarray:
    """The outline on the other side of the middle line, in reverse order."""
    points = np.atleast_2d(np.asarray(points, np.float64))[::-1].copy()
    points[:, 0] = 1.0 - points[:, 0]
    return points


def symmetric(right_side) -> np.ndarray:
    """Closes a right-hand side (top to bottom) with its mirror image."""
    return path(right_side, mirrored(right_side))


def box(x1, y1, x2, y2) -> np.ndarray:
    """Rectangle as an outline."""
    return np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)], np.float64)


def ellipse(x, y, radius_x, radius_y, start=0, end=360) -> np.ndarray:
    """Points on an ellipse, angles in degrees clockwise from the right."""
    angle = np.radians(np.linspace(start, end, 25))
    return np.stack([x + radius_x * np.cos(angle), y + radius_y * np.sin(angle)], 1)


def between(first, second, share: float) -> np.ndarray:
    """The point a share of the way from one to the other."""
    return np.asarray(first) * (1 - share) + np.asarray(second) * share


def _on_sheet(points) -> np.ndarray:
    """[0, 1] to pixels, with a margin for hoods and straps that reach beyond."""
    return (np.asarray(points, np.float64) * (1 - 2 * _MARGIN) + _MARGIN) * SIZE


def _grouped(outlines) -> list:
    """Joins outlines that are close, as the buttons of a row: one place to look at."""
    groups = []
    for points in outlines:
        low, high = points.min(0), points.max(0)
        apart, near = [], [points]
        for group in groups:
            close = (group.min(0) <= high + _GAP).all()
            close = close and (group.max(0) >= low - _GAP).all()
            (near if close else apart).append(group)
        groups = [*apart, np.concatenate(near)]
    return groups


class Canvas:
    """See the module's docstring.

    Args:
      rng: generator of this product.
      cloth: uint8 [SIZE, SIZE, 3], what `paint=None` fills with.
      base: BGR of the base colour.
      material: a material of `fabrics.texture`.
    """

    def __init__(self, rng, cloth, base, material):
        self.rng = rng
        self.cloth = cloth
        self.base = base
        self.marks = {}
        self._texture = fabrics.texture(material, rng)
        self._colour = np.zeros((SIZE, SIZE, 3), np.uint8)
        self._alpha = np.zeros((SIZE, SIZE), np.uint8)
        self._crisp = _NEUTRAL.copy()
        self._soft = np.full((_SOFT, _SOFT), 128, np.uint8)
        # Seams are darker than the cloth, but lighter on black, or nobody sees them.
        self._seam = 62 if palette.luminance(base) > 70 else 195

    def mark(self, attribute: str, points) -> None:
        """Notes that the attribute is seen inside the outline's bounds."""
        outline = np.atleast_2d(_on_sheet(points))
        self.marks.setdefault(attribute, []).append(outline)

    def fill(self, points, paint=None, mark=None, edge=2, cloth=None) -> None:
        """Fills an outline with a BGR colour, or with the cloth; draws its edge."""
        pixels = np.round(_on_sheet(points)).astype(np.int32)
        low = np.clip(pixels.min(0), 0, SIZE - 1)
        high = np.clip(pixels.max(0) + 1, 1, SIZE)
        window = np.s_[low[1] : high[1], low[0] : high[0]]
        mask = np.zeros((high[1] - low[1], high[0] - low[0]), np.uint8)
        cv2.fillPoly(mask, [pixels - low], 255)
        inside = mask > 0
        if paint is None:
            source = (self.cloth if cloth is None else cloth)[window]
            np.copyto(self._colour[window], source, where=inside[..., None])
        else:
            self._colour[window][inside] = paint
        self._alpha[window] |= mask
        self._crisp[window][inside] = 128
        cv2.fillPoly(self._soft, [pixels // 4], 128)
        if edge:
            tone = self._seam
            if paint is not None:
                tone = 70 if palette.luminance(paint) > 70 else 195
            cv2.polylines(self._crisp, [pixels], True, tone, edge, cv2.LINE_AA)
        if mark:
            self.mark(mark, points)

    def stroke(self, points, paint, width, mark=None, closed=False) -> None:
        """Draws a thick line in a BGR colour; it belongs to the foreground."""
        pixels = np.round(_on_sheet(points)).astype(np.int32)
        thickness = max(1, round(width * SIZE))
        for layer, value, extra in (
            (self._crisp, 80, 2),
            (self._crisp, 128, 0),
            (self._colour, paint, 2),
            (self._alpha, 255, 2),
        ):
            cv2.polylines(layer, [pixels], closed, value, thickness + extra)
        if mark:
            half = width / 2
            points = np.asarray(points)
            self.mark(mark, box(*(points.min(0) - half), *(points.max(0) + half)))

    def seam(self, points, width: int = 2, closed: bool = False) -> None:
        """A stitched line on the cloth."""
        pixels = np.round(_on_sheet(points)).astype(np.int32)
        cv2.polylines(self._crisp, [pixels], closed, self._seam, width, cv2.LINE_AA)

    def fold(self, points, tone: int = 92, width: int = 2) -> None:
        """A soft shadow (tone < 128) or a soft light along a line."""
        pixels = np.round(_on_sheet(points) / 4).astype(np.int32)
        cv2.polylines(self._soft, [pixels], False, int(tone), width)

    def ribs(self, top_left, top_right, bottom_left, bottom_right, count) -> None:
        """Parallel lines from the first edge to the second, as in rib knit."""
        for share in np.linspace(0, 1, count + 2)[1:-1]:
            start = between(top_left, top_right, share)
            self.seam(np.stack([start, between(bottom_left, bottom_right, share)]), 2)

    def disc(self, x, y, radius, paint, mark=None) -> None:
        """A filled circle, for buttons, eyelets and rivets."""
        self.fill(ellipse(x, y, radius, radius), paint, mark)

    def finish(self) -> Sprite:
        """Lights the product and gives its sprite."""
        shade = cv2.multiply(self._light(), self._texture, scale=1 / 128)
        shade = cv2.multiply(shade, self._crisp, scale=1 / 128)
        shade = cv2.merge([shade] * 3)
        lit = cv2.multiply(self._colour, shade, scale=1 / 128)
        # A little of the light is added too, so that black has folds as well.
        lit = cv2.addWeighted(lit, 1.0, shade, 0.12, -15)
        lit = cv2.bitwise_and(lit, cv2.merge([self._alpha] * 3))
        left, top, width, height = cv2.boundingRect(self._alpha)
        return Sprite(
            cv2.merge([*cv2.split(lit), self._alpha]),
            {name: _grouped(outlines) for name, outlines in self.marks.items()},
            (left, top, left + width, top + height),
        )

    def _light(self) -> np.ndarray:
        """Soft light from the upper left: uint8 [SIZE, SIZE], 128 is neutral."""
        coarse = self.rng.normal(size=(9, 9)).astype(np.float32) * 9
        waves = cv2.resize(coarse, (_SOFT, _SOFT), interpolation=cv2.INTER_CUBIC)
        small = cv2.resize(self._alpha, (_SOFT, _SOFT), interpolation=cv2.INTER_AREA)
        round_off = cv2.GaussianBlur(small.astype(np.float32), (0, 0), 3.0)
        slope = np.roll(round_off, (-3, -3), (0, 1)) - np.roll(
            round_off, (3, 3), (0, 1)
        )
        ramp = np.linspace(9, -9, _SOFT, dtype=np.float32)
        light = waves + slope * 0.16 + ramp[:, None] + ramp[None, :]
        folds = cv2.GaussianBlur(self._soft, (0, 0), 1.6).astype(np.float32)
        light = np.clip(light + folds, 50, 190).astype(np.uint8)
        return cv2.resize(light, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)
