"""Collars, drawn over the finished body of an upper garment."""

import numpy as np

from data_prep.catalogue_parts import palette
from data_prep.catalogue_parts.canvas import box, curve, mirrored, path
from data_prep.catalogue_parts.upper import neckline_points


def _pair(piece, points, paint) -> None:
    """A shape right of the middle line, and its mirror image."""
    for place in (points, mirrored(points)):
        piece.canvas.fill(place, paint, "neckline")


def _ribbed_edge(piece, torso) -> None:
    edge = neckline_points(torso, piece.a["neckline"])
    paint = piece.c.get("trim_colour", palette.scaled(piece.c["colour"], 0.72))
    piece.canvas.stroke(edge, paint, 0.024, "neckline")


def _stand(piece, torso, height, grow) -> None:
    canvas, half = piece.canvas, torso.neck * 1.04
    top, bottom = torso.top - height, torso.top + 0.022
    place = path(
        (0.5 - half * grow, top),
        curve((0.5 - half * grow, top), (0.5, top + 0.02), (0.5 + half * grow, top)),
        (0.5 + half, bottom - 0.015),
        curve(
            (0.5 + half, bottom - 0.015),
            (0.5, bottom + 0.03),
            (0.5 - half, bottom - 0.015),
        ),
    )
    canvas.fill(place, palette.scaled(piece.c["colour"], 0.86), "neckline")
    left, right = (0.5 - half, top + 0.01), (0.5 + half, top + 0.01)
    canvas.ribs(left, right, (left[0], bottom), (right[0], bottom), 7)


def _turtleneck(piece, torso) -> None:
    _stand(piece, torso, 0.085, 0.92)
    y = torso.top - 0.035
    piece.canvas.seam([(0.5 - torso.neck, y), (0.5 + torso.neck, y)])


def _funnel(piece, torso) -> None:
    _stand(piece, torso, 0.06, 1.12)


def _mandarin(piece, torso) -> None:
    half, top = torso.neck, torso.top
    place = path(
        (0.5 + half * 1.02, top - 0.035),
        (0.5 + half * 1.15, top + 0.005),
        curve(
            (0.5 + half * 1.1, top + 0.01),
            (0.5 + half * 0.5, top + 0.06),
            (0.5 + 0.008, top + 0.05),
        ),
        (0.508, top + 0.012),
        curve(
            (0.508, top + 0.012),
            (0.5 + half * 0.7, top + 0.02),
            (0.5 + half * 1.02, top - 0.035),
        ),
    )
    paint = piece.c.get("trim_colour", palette.scaled(piece.c["colour"], 0.8))
    _pair(piece, place, paint)


def _spread(piece, torso) -> None:
    half, top, low = torso.neck, torso.top, torso.top + torso.depth
    place = path(
        (0.5 + half * 0.85, top - 0.03),
        (0.5 + half * 1.25, top + 0.012),
        (0.5 + half * 1.1, low + 0.045),
        (0.505, low + 0.004),
    )
    paint = piece.c.get("collar", palette.scaled(piece.c["colour"], 0.9))
    _pair(piece, place, paint)


def _peter_pan(piece, torso) -> None:
    half, top = torso.neck, torso.top
    place = path(
        (0.5 + half, top - 0.012),
        curve(
            (0.5 + half * 1.3, top),
            (0.5 + half * 1.75, top + 0.13),
            (0.5 + half * 0.6, top + 0.125),
        ),
        curve((0.5 + half * 0.6, top + 0.125), (0.5, top + 0.12), (0.504, top + 0.055)),
        curve(
            (0.504, top + 0.055),
            (0.5 + half * 0.7, top + 0.05),
            (0.5 + half, top - 0.012),
        ),
    )
    _pair(piece, place, piece.c["trim_colour"])


def _lapel(piece, torso) -> None:
    half, top, low = torso.neck, torso.top, torso.top + torso.depth
    wide = torso.chest * 0.74
    paint = palette.scaled(piece.c["colour"], 0.84)
    lower = path(
        (0.5 + half * 1.05, top + 0.02), (0.5 + wide, top + 0.10), (0.502, low + 0.01)
    )
    _pair(piece, lower, paint)
    upper = path(
        (0.5 + half * 0.9, top - 0.028),
        (0.5 + half * 1.35, top + 0.01),
        (0.5 + wide * 0.98, top + 0.072),
        (0.5 + wide * 0.62, top + 0.1),
        (0.5 + half * 0.85, top + 0.04),
    )
    _pair(piece, upper, paint)


def _shawl(piece, torso) -> None:
    half, top, low = torso.neck, torso.top, torso.top + torso.depth
    place = path(
        (0.5 + half * 0.9, top - 0.028),
        (0.5 + half * 1.35, top + 0.01),
        curve(
            (0.5 + half * 1.5, top + 0.02),
            (0.5 + half * 1.9, low - 0.08),
            (0.502, low + 0.02),
        ),
    )
    _pair(piece, place, piece.c.get("trim_colour", piece.c["colour"]))


def _hood(piece, torso) -> None:
    """Front edge of the hood and its two cords."""
    top, half = torso.top, torso.neck
    edge = neckline_points(torso, "hood")
    piece.canvas.stroke(edge, palette.scaled(piece.c["colour"], 0.75), 0.022)
    for side in (-1, 1):
        x = 0.5 + side * half * 0.45
        line = curve((x, top + 0.06), (x + side * 0.012, top + 0.1), (x, top + 0.17))
        piece.canvas.stroke(line, piece.c["trim_colour"], 0.011, "neckline")


def _bow(piece, torso) -> None:
    y = torso.top + 0.05
    paint = piece.c["trim_colour"]
    loop = path(
        (0.505, y),
        curve((0.505, y), (0.56, y - 0.06), (0.605, y - 0.025)),
        curve((0.605, y - 0.025), (0.59, y + 0.06), (0.505, y)),
    )
    tail = path((0.505, y), (0.565, y + 0.13), (0.525, y + 0.14))
    _pair(piece, tail, paint)
    _pair(piece, loop, paint)
    piece.canvas.fill(box(0.485, y - 0.018, 0.515, y + 0.02), paint)


_COLLARS = {
    "turtleneck": _turtleneck,
    "funnel": _funnel,
    "mandarin": _mandarin,
    "spread": _spread,
    "peter pan": _peter_pan,
    "lapel": _lapel,
    "shawl": _shawl,
    "hood": _hood,
    "bow": _bow,
}
_RIBBED = ("crew", "v-neck", "scoop")


def draw_collar(piece, torso) -> None:
    """Draws what the attribute `neckline` asks for on top of the body."""
    kind = piece.a.get("neckline", "crew")
    if kind in _COLLARS:
        _COLLARS[kind](piece, torso)
    elif kind in _RIBBED:
        _ribbed_edge(piece, torso)
    else:
        edge = neckline_points(torso, kind)
        piece.canvas.seam(np.asarray(edge) + [0, 0.012])
