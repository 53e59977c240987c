"""Puts a drawn product into pictures: place, scale, tilt, background, truth.

Views of one product differ in all of these; they are never mirrored, since a text may
say "left". The rectangles of the attributes go through the same transform.
"""

import dataclasses

import cv2
import numpy as np

from data_prep.catalogue_parts import backgrounds
from data_prep.catalogue_parts.specs import GLOBAL

SIDE = backgrounds.SIDE
VIEW_WEIGHTS = (0.35, 0.35, 0.2, 0.1)  # of 1, 2, 3 and 4 views
_MAX_TILT = 6.0  # degrees
_CLOSE_UP_SHARE = 0.12  # of the views after the first
_LARGEST, _SMALLEST = 0.75, 0.25  # share of the picture's side the product takes


@dataclasses.dataclass(frozen=True)
class View:
    """One picture.

    Attributes:
      picture: uint8 [256, 256, 3], BGR.
      mask: uint8 [256, 256], 0 or 255.
      boxes: attribute -> list of [x1, y1, x2, y2] in pixels, one a part.
    """

    picture: np.ndarray
    mask: np.ndarray
    boxes: dict


def _turn(sprite, scale, degrees, centre) -> np.ndarray:
    """Affine [2, 3] that takes the sheet's pixels to the picture's."""
    x1, y1, x2, y2 = sprite.bounds
    middle = ((x1 + x2) / 2, (y1 + y2) / 2)
    matrix = cv2.getRotationMatrix2D(middle, degrees, scale)
    matrix[:, 2] += np.array(centre) - middle
    return matrix


def _apply(matrix, points) -> np.ndarray:
    return np.asarray(points) @ matrix[:, :2].T + matrix[:, 2]


def _place_whole(sprite, rng) -> np.ndarray:
    """The whole product somewhere in the picture."""
    share = _LARGEST - (_LARGEST - _SMALLEST) * rng.beta(1.0, 2.0)
    degrees = rng.uniform(-_MAX_TILT, _MAX_TILT)
    x1, y1, x2, y2 = sprite.bounds
    corners = np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)], np.float64)
    reach = np.ptp(_apply(_turn(sprite, 1.0, degrees, (0, 0)), corners), axis=0)
    scale = share * SIDE / reach.max()
    room = np.maximum(SIDE - reach * scale - 8, 0)
    centre = 4 + reach * scale / 2 + rng.random(2) * room
    return _turn(sprite, scale, degrees, centre)


def _place_close(sprite, rng) -> np.ndarray:
    """A close-up of the upper part, cut off by the picture's lower edge."""
    x1, y1, x2, y2 = sprite.bounds
    scale = rng.uniform(0.8, 0.95) * SIDE / max(x2 - x1, (y2 - y1) * 0.7)
    margin = (SIDE - (x2 - x1) * scale) / 2
    centre_x = SIDE / 2 + rng.uniform(-0.6, 0.6) * margin
    centre_y = rng.uniform(8, 24) + (y2 - y1) * scale / 2
    tilt = rng.uniform(-3, 3)
    return _turn(sprite, scale, tilt, (centre_x, centre_y))


def _warp(pixels, matrix) -> np.ndarray:
    """uint8 [256, 256, 4] at the matrix's place; small scales are averaged first."""
    scale = float(np.hypot(*matrix[0, :2]))
    if scale < 0.6:
        pixels = cv2.resize(pixels, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        matrix = matrix.copy()
        # Centres of the halved pixels: old = 2 * new + 0.5.
        matrix[:, 2] += matrix[:, :2] @ np.array([0.5, 0.5])
        matrix[:, :2] *= 2
    else:  # the sheet's outlines are hard; the smaller views get soft by averaging
        pixels = cv2.GaussianBlur(pixels, (3, 3), 0)
    return cv2.warpAffine(pixels, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR)


def _cast_shadow(picture, alpha, rng) -> np.ndarray:
    """A soft shadow to the lower right of the product."""
    small = cv2.resize(alpha, (SIDE // 4, SIDE // 4), interpolation=cv2.INTER_AREA)
    shift = np.float32([[1, 0, rng.uniform(1, 3)], [0, 1, rng.uniform(1, 3.5)]])
    small = cv2.warpAffine(small, shift, (SIDE // 4, SIDE // 4))
    small = cv2.GaussianBlur(small, (0, 0), float(rng.uniform(1.2, 2.6)))
    soft = cv2.resize(small, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
    dark = cv2.convertScaleAbs(soft, alpha=float(rng.uniform(0.2, 0.4)))
    return cv2.subtract(picture, cv2.merge([dark] * 3))


def _compose(picture, layer) -> np.ndarray:
    """Lays the product over the background; its colours are already times alpha."""
    alpha = cv2.merge([layer[..., 3]] * 3)
    behind = cv2.multiply(picture, cv2.bitwise_not(alpha), scale=1 / 255)
    return cv2.add(behind, np.ascontiguousarray(layer[..., :3]))


def _bounds(points, mask_box) -> list | None:
    """Bounds of an outline inside the picture and the product; None if unseen."""
    low, high = np.floor(points.min(0)), np.ceil(points.max(0))
    x1, y1 = np.maximum(low, mask_box[:2])
    x2, y2 = np.minimum(high, mask_box[2:])
    if x2 - x1 < 1 or y2 - y1 < 1:
        return None
    return [int(x1), int(y1), int(x2), int(y2)]


def _boxes(sprite, matrix, mask) -> dict:
    x, y, width, height = cv2.boundingRect(mask)
    whole = [x, y, x + width, y + height]
    found = {name: [list(whole)] for name in GLOBAL}
    for name, outlines in sprite.marks.items():
        if name in GLOBAL:
            continue
        parts = [_bounds(_apply(matrix, outline), whole) for outline in outlines]
        # Every part has to show some of the product, or its rectangle says nothing.
        parts = [p for p in parts if p and mask[p[1] : p[3], p[0] : p[2]].any()]
        if parts:
            found[name] = parts
    return found


def count_views(rng) -> int:
    """Draws the number of views of a product, 1 to 4."""
    return 1 + int(rng.choice(len(VIEW_WEIGHTS), p=VIEW_WEIGHTS))


def draw_view(sprite, base, rng, first: bool) -> View:
    """Draws one view.

    Args:
      sprite: the product.
      base: BGR of its colour, which clutter keeps away from.
      rng: generator of the product.
      first: the first view of a product is never a close-up.
    """
    close = not first and rng.random() < _CLOSE_UP_SHARE
    matrix = (_place_close if close else _place_whole)(sprite, rng)
    plain = rng.random() < backgrounds.STUDIO_SHARE
    picture = backgrounds.studio(rng) if plain else backgrounds.clutter(rng, base)
    layer = _warp(sprite.pixels, matrix)
    picture = _cast_shadow(picture, layer[..., 3], rng)
    gain = float(rng.uniform(0.92, 1.05))
    picture = _compose(picture, _lit(layer, gain))
    mask = np.where(layer[..., 3] > 127, 255, 0).astype(np.uint8)
    return View(picture, mask, _boxes(sprite, matrix, mask))


def _lit(layer, gain) -> np.ndarray:
    """The product a little darker or brighter; alpha stays."""
    return cv2.multiply(layer, (gain, gain, gain, 1.0))
