"""Lower garments: skirts, trousers, shorts; the lower part of dresses and jumpsuits."""

import numpy as np

from data_prep.catalogue_parts import palette
from data_prep.catalogue_parts.canvas import (
    between,
    box,
    curve,
    ellipse,
    mirrored,
    path,
)
from data_prep.catalogue_parts.details import draw_belt, patch
from data_prep.catalogue_parts.motifs import draw_motif


def _skirt_side(kind, waist, hip, hem, y1, y2) -> np.ndarray:
    """Right side of a skirt from the waist to the hem."""
    start, end = (0.5 + waist, y1), (0.5 + hem, y2)
    hip_y = y1 + min(0.14, (y2 - y1) * 0.35)
    if kind == "mermaid":
        knee = (0.5 + hip * 0.72, y1 + (y2 - y1) * 0.66)
        return path(
            curve(start, (0.5 + hip * 1.1, hip_y), knee),
            curve(knee, (knee[0], y2 - 0.06), end),
        )
    if kind == "bubble":
        swell = (0.5 + hip * 1.75, between(start, end, 0.55)[1])
        return path(
            curve(start, (swell[0], y1 + 0.02), swell),
            curve(swell, (swell[0], y2), end),
        )
    if kind == "pencil":
        middle = (0.5 + hip, hip_y)
        return path(
            curve(start, (middle[0], y1 + 0.04), middle),
            curve(middle, (middle[0], between(middle, end, 0.4)[1]), end),
        )
    return path(curve(start, (0.5 + (waist + hip) / 2, hip_y), end))


_SKIRT_HEMS = {
    "pencil": 0.82,
    "a-line": 1.75,
    "pleated": 1.95,
    "tiered": 2.15,
    "mermaid": 1.5,
    "bubble": 0.95,
    "wrap": 1.35,
    "circle": 2.5,
}


def draw_skirt(piece, y1, waist, y2, kind) -> float:
    """Draws a skirt between two heights; gives its half width at the hem.

    Args:
      piece: the product.
      y1, y2: heights of the waist and of the hem.
      waist: half width at the waist.
      kind: silhouette, a key of `_SKIRT_HEMS`.
    """
    hip = max(waist * 1.16, piece.shape.get("hip", 0.165))
    stretch = np.interp(y2 - y1, [0.25, 0.75], [0.82, 1.12])
    hem = hip * _SKIRT_HEMS[kind] * piece.rng.uniform(0.95, 1.05)
    if kind not in ("pencil", "bubble"):
        hem = max(hip * 1.06, hem * stretch)
    hem = min(hem, 0.45)
    side = _skirt_side(kind, waist, hip, hem, y1, y2)
    sag = {"pencil": 0.012, "bubble": 0.01}.get(kind, 0.05)
    if kind == "wrap":
        low = path(
            side[-1],
            curve(side[-1], (0.6, y2 + 0.03), (0.42, y2 - 0.1)),
            (0.5 - hem * 0.9, y2 - 0.02),
        )
    else:
        low = curve(side[-1], (0.5, y2 + sag), mirrored(side[-1])[0], 16)
    piece.canvas.fill(path((0.5, y1), side, low, mirrored(side)))
    _skirt_lines(piece, kind, waist, hem, y1, y2)
    if piece.a.get("hem", "plain") != "plain":
        _skirt_hem(piece, hem, y2, low)
    return hem


def _skirt_lines(piece, kind, waist, hem, y1, y2) -> None:
    canvas, rng = piece.canvas, piece.rng
    if kind == "pleated":
        for share in np.linspace(-0.9, 0.9, 10):
            line = np.array(
                [(0.5 + waist * share, y1), (0.5 + hem * share, y2 + 0.015)]
            )
            canvas.seam(line)
            canvas.fold(line + [0.012, 0], 84, 2)
    elif kind == "tiered":
        for share in (0.34, 0.67):
            y, half = y1 + (y2 - y1) * share, waist + (hem - waist) * share * 0.98
            line = curve((0.5 - half, y), (0.5, y + 0.045), (0.5 + half, y), 16)
            canvas.seam(line, 3)
            canvas.fold(line + [0, 0.015], 76, 3)
    elif kind == "wrap":
        line = curve(
            (0.5 - waist, y1),
            (0.44, between((0, y1), (0, y2), 0.5)[1]),
            (0.42, y2 - 0.1),
        )
        canvas.seam(line, 3)
        canvas.fold(line - [0.012, 0], 78, 2)
    else:
        for share in rng.uniform(-0.75, 0.75, 4):
            start = (0.5 + waist * share, y1 + 0.06)
            end = (0.5 + hem * share, y2 - 0.01)
            canvas.fold(np.array([start, end]), rng.choice([90, 158]), 2)


def _skirt_hem(piece, half, y, low) -> None:
    kind, canvas = piece.a["hem"], piece.canvas
    paint = piece.c["trim_colour"]
    if kind == "contrast":
        canvas.stroke(low - [0, 0.02], paint, 0.04, "hem")
    elif kind == "lace":
        canvas.stroke(low - [0, 0.004], paint, 0.03, "hem")
        for x, y_low in low[1:-1]:
            canvas.disc(x, y_low + 0.012, 0.014, paint, "hem")
    elif kind == "scalloped":
        for x, y_low in low[::2]:
            canvas.fill(ellipse(x, y_low - 0.004, 0.03, 0.03), paint, "hem")
    elif kind == "fringed":
        for share in np.linspace(0, 1, 26):
            x = between(low[0], low[-1], share)[0]
            y_low = np.interp(x, np.sort(low[:, 0]), low[np.argsort(low[:, 0]), 1])
            canvas.stroke([(x, y_low - 0.008), (x, y_low + 0.045)], paint, 0.006, "hem")
    elif kind == "ruffled":
        canvas.stroke(low - [0, 0.02], piece.c["colour"], 0.05, "hem")
        for x, y_low in low:
            canvas.seam([(x, y_low - 0.04), (x, y_low)])


def draw_waistband(piece, y, half) -> None:
    """Band at the top of a skirt or trousers, and the belt over it."""
    kind, canvas = piece.a.get("waistband", "plain"), piece.canvas
    depth = {"wide": 0.085, "paper bag": 0.05}.get(kind, 0.045)
    paint = {
        "contrast": piece.c.get("trim_colour"),
        "elastic": palette.scaled(piece.c["colour"], 0.72),
    }.get(kind) or palette.scaled(piece.c["colour"], 0.88)
    if kind == "paper bag":
        crown = np.linspace(-1.1, 1.1, 13)
        top = [
            (0.5 + half * s, y - 0.05 - 0.018 * (i % 2)) for i, s in enumerate(crown)
        ]
        canvas.fill(path(top, (0.5 + half, y), (0.5 - half, y)), None, "waistband")
    band = box(0.5 - half * 1.01, y, 0.5 + half * 1.01, y + depth)
    canvas.fill(band, paint, "waistband")
    if kind in ("elastic", "paper bag"):
        canvas.ribs(band[0], band[1], band[3], band[2], 15)
    if kind == "drawstring":
        for side in (-1, 1):
            tail = curve(
                (0.5, y + 0.02),
                (0.5 + side * 0.05, y + 0.05),
                (0.5 + side * 0.03, y + 0.13),
            )
            canvas.stroke(tail, piece.c["trim_colour"], 0.011, "waistband")
    draw_belt(piece, y + depth / 2, half * 1.01)


# Trouser leg: half width at the thigh, knee and ankle.
_LEGS = {
    "straight": (0.098, 0.078, 0.072),
    "skinny": (0.088, 0.052, 0.038),
    "wide": (0.105, 0.125, 0.145),
    "flared": (0.088, 0.062, 0.12),
    "jogger": (0.105, 0.092, 0.05),
    "balloon": (0.115, 0.14, 0.055),
    "short": (0.108, 0.112, 0.116),
    "boxy": (0.115, 0.13, 0.145),
    "fitted": (0.1, 0.098, 0.094),
}
_LEG_LENGTHS = {"short": 0.5, "mid": 0.58, "knee": 0.67, "cropped": 0.79, "full": 0.94}


def leg_end(piece) -> float:
    """Height of the hem for the attribute `leg_length`."""
    table = piece.shape.get("leg_y", _LEG_LENGTHS)
    return table[piece.a.get("leg_length", "full")] * piece.rng.uniform(0.97, 1.01)


def draw_legs(piece, y1, waist, y2, kind) -> None:
    """Two legs from a waist at y1 to hems at y2, with cuffs, knees and side stripes."""
    thigh, knee, ankle = (w * piece.rng.uniform(0.95, 1.05) for w in _LEGS[kind])
    crotch = y1 + piece.shape.get("rise", 0.24)
    spread = piece.shape.get("spread", 0.095)
    knee_y = crotch + (y2 - crotch) * 0.5
    outer_hip = (0.5 + thigh * 1.86, crotch - 0.02)
    knee_x = 0.5 + max(spread * 1.03, knee * 0.97 + 0.004)
    ankle_x = 0.5 + max(spread * 1.22, ankle + 0.014)
    outer = path(
        (0.5 + waist, y1),
        curve((0.5 + waist, y1), (outer_hip[0], y1 + 0.1), outer_hip),
        curve(outer_hip, (knee_x + knee, knee_y), (ankle_x + ankle, y2)),
    )
    inner = curve((ankle_x - ankle, y2), (knee_x - knee, knee_y), (0.5, crotch))
    leg = path((0.5, y1), outer, inner)
    for place in (mirrored(leg), leg):
        piece.canvas.fill(place)
        piece.canvas.mark("leg_length", place)
    hem = np.array([(ankle_x - ankle, y2), (ankle_x + ankle, y2)])
    _fly(piece, y1, crotch)
    for side in (-1, 1):
        _leg_details(piece, side, outer, (knee_x, knee_y, knee), hem)
    draw_leg_pockets(piece, y1, waist, crotch, knee_x, thigh)
    if piece.a.get("print_place", "").endswith("leg"):
        side = -1 if piece.a["print_place"] == "left leg" else 1
        full = y2 - crotch > 0.35
        y = crotch + (y2 - crotch) * (0.74 if full else 0.45)
        radius = min(0.066, (ankle if full else knee) * 0.84)
        draw_motif(
            piece.canvas,
            piece.a["print"],
            0.5 + side * (knee_x - 0.5),
            y,
            radius,
            piece.c["print_colour"],
        )
        piece.canvas.marks["print_place"] = piece.canvas.marks["print"]


def _sided(points, side):
    return np.atleast_2d(points) if side > 0 else mirrored(points)


def _fly(piece, y1, crotch) -> None:
    canvas = piece.canvas
    canvas.seam(curve((0.535, y1), (0.54, crotch - 0.08), (0.5, crotch - 0.03)))
    canvas.fold([(0.5, crotch), (0.46, crotch + 0.05)], 78, 2)
    canvas.fold([(0.5, crotch), (0.54, crotch + 0.05)], 78, 2)


def _leg_details(piece, side, outer, knee, hem) -> None:
    canvas, a = piece.canvas, piece.a
    if a.get("side_stripe", "none") != "none":
        line = _sided(outer[12:] - [0.02, 0], side)
        canvas.stroke(line, piece.c["stripe_colour"], 0.026, "side_stripe")
        if a["side_stripe"] == "double":
            shifted = _sided(outer[12:] - [0.058, 0], side)
            canvas.stroke(shifted, piece.c["stripe_colour"], 0.014, "side_stripe")
    knee_x, knee_y, half = knee
    centre = _sided((knee_x, knee_y), side)[0]
    _draw_knee(piece, centre, half, side)
    crease = np.array([(knee_x, knee_y - 0.16), (np.mean(hem[:, 0]), hem[0, 1] - 0.02)])
    canvas.fold(_sided(crease, side), 150, 2)
    if "cuff" in a:
        _leg_cuff(piece, _sided(hem, side))


def _draw_knee(piece, centre, half, side) -> None:
    kind, canvas = piece.a.get("knee", "none"), piece.canvas
    if kind == "ripped" and side < 0:
        for offset in (-0.03, 0.0, 0.03):
            tear = ellipse(centre[0], centre[1] + offset, half * 0.62, 0.011)
            canvas.fill(tear, (205, 215, 225), "knee")
    elif kind == "patched":
        size = half * 0.68
        square = box(
            centre[0] - size, centre[1] - 0.06, centre[0] + size, centre[1] + 0.06
        )
        canvas.fill(square, piece.c["trim_colour"], "knee")
    elif kind == "quilted":
        for offset in (-0.05, -0.025, 0, 0.025, 0.05):
            y = centre[1] + offset
            line = np.array([(centre[0] - half * 0.8, y), (centre[0] + half * 0.8, y)])
            canvas.seam(line, 3)
            canvas.mark("knee", line)


def _leg_cuff(piece, hem) -> None:
    kind, canvas = piece.a["cuff"], piece.canvas
    (left, y), (right, _) = hem[np.argsort(hem[:, 0])]
    depth = {"turned up": 0.05, "ribbed": 0.06, "elastic": 0.04}.get(kind, 0.04)
    if kind == "plain":
        canvas.seam([(left, y - 0.02), (right, y - 0.02)])
        return
    grow = {"turned up": 0.012, "zipped": 0}.get(kind, 0.004)
    band = box(left - grow, y - depth, right + grow, y + 0.004)
    if kind == "frayed":
        for x in np.linspace(left, right, 12):
            canvas.stroke(
                [(x, y - 0.012), (x, y + 0.03)], (215, 222, 228), 0.005, "cuff"
            )
    elif kind == "zipped":
        x = right - 0.03 if np.mean(hem[:, 0]) > 0.5 else left + 0.03
        canvas.stroke([(x, y - 0.13), (x, y)], palette.shade("silver"), 0.018, "cuff")
    else:
        paint = palette.scaled(piece.c["colour"], 0.74)
        if kind in ("turned up", "contrast"):
            paint = piece.c["trim_colour"]
        canvas.fill(band, paint, "cuff")
        if kind in ("ribbed", "elastic"):
            canvas.ribs(band[0], band[1], band[3], band[2], 6)


def draw_leg_pockets(piece, y1, waist, crotch, knee_x, thigh) -> None:
    """The attribute `pocket` of trousers and skirts."""
    kind, canvas = piece.a.get("pocket", "none"), piece.canvas
    paint = piece.c.get("pocket_colour")
    for side in (-1, 1):
        if kind == "slant pockets":
            line = np.array(
                [
                    (0.5 + side * waist * 0.5, y1 + 0.05),
                    (0.5 + side * waist * 0.98, y1 + 0.15),
                ]
            )
            canvas.stroke(line, paint, 0.02, "pocket")
        elif kind == "cargo pockets":
            x = 0.5 + side * (knee_x - 0.5 + thigh * 0.42)
            patch(piece, x, crotch + 0.05, 0.1, 0.12, flap=True)
        elif kind == "two patch pockets":
            patch(piece, 0.5 + side * waist * 0.58, y1 + 0.07, 0.1, 0.115)
    if kind == "coin pocket":
        patch(piece, 0.5 - waist * 0.55, y1 + 0.07, 0.095, 0.1)
