"""Closures, pockets, hems, belts and prints of upper garments.

Each table maps an attribute's value to its drawing; sides are those of the picture.
"""

import numpy as np

from data_prep.catalogue_parts import palette
from data_prep.catalogue_parts.canvas import box, curve, ellipse, path
from data_prep.catalogue_parts.motifs import draw_motif
from data_prep.catalogue_parts.upper import hem_band


def _front(piece, torso) -> tuple[float, float]:
    """Where a front closure starts and ends."""
    if piece.a.get("neckline") == "straight":
        return torso.armpit_y - 0.03, torso.hem_y - 0.01
    return torso.top + torso.depth + 0.01, torso.hem_y - 0.01


def _button_row(piece, x, y1, y2, count, radius=0.0125) -> None:
    for y in np.linspace(y1, y2, count):
        piece.canvas.disc(x, y, radius, piece.c["fastening_colour"], "closure")


def _buttons(piece, torso) -> None:
    y1, y2 = _front(piece, torso)
    for x in (0.48, 0.52):
        piece.canvas.seam([(x, y1), (x, y2)])
    count = max(4, round((y2 - y1) / 0.085))
    _button_row(piece, 0.5, y1 + 0.025, y2 - 0.03, count)
    piece.canvas.mark("closure", box(0.48, y1, 0.52, y2))


def _henley(piece, torso) -> None:
    y1 = _front(piece, torso)[0]
    y2 = y1 + 0.17
    piece.canvas.fill(
        box(0.474, y1, 0.526, y2), palette.scaled(piece.c["colour"], 0.85)
    )
    _button_row(piece, 0.5, y1 + 0.028, y2 - 0.03, 3)
    piece.canvas.mark("closure", box(0.474, y1, 0.526, y2))


def _zip_line(piece, line) -> None:
    line = np.asarray(line, np.float64)
    piece.canvas.stroke(
        line, palette.scaled(piece.c["fastening_colour"], 0.75), 0.026, "closure"
    )
    first, last = line[0], line[-1]
    steps = np.linspace(0, 1, max(6, int(np.linalg.norm(last - first) / 0.022)))
    for share in steps:
        x, y = first * (1 - share) + last * share
        piece.canvas.fill(
            box(x - 0.007, y - 0.004, x + 0.007, y + 0.004),
            palette.scaled(piece.c["fastening_colour"], 1.6),
            edge=0,
        )
    piece.canvas.fill(
        box(first[0] - 0.009, first[1], first[0] + 0.009, first[1] + 0.05),
        piece.c["fastening_colour"],
        "closure",
    )


def _zip(piece, torso) -> None:
    y1, y2 = _front(piece, torso)
    _zip_line(piece, [(0.5, y1 - 0.01), (0.5, y2)])


def _half_zip(piece, torso) -> None:
    y1 = _front(piece, torso)[0]
    _zip_line(piece, [(0.5, y1 - 0.01), (0.5, y1 + 0.2)])


def _asymmetric_zip(piece, torso) -> None:
    y1, y2 = _front(piece, torso)
    start = (0.5 + torso.neck * 0.9, min(y1, torso.top + 0.06))
    _zip_line(piece, [start, (0.5 - 0.05, y2)])


def _double_breasted(piece, torso) -> None:
    y1, y2 = _front(piece, torso)
    y1 = max(y1, torso.top + 0.17)
    piece.canvas.seam([(0.56, y1 - 0.03), (0.56, y2)])
    for x in (0.445, 0.535):
        _button_row(piece, x, y1 + 0.02, min(y2 - 0.08, y1 + 0.26), 3, 0.0165)


def _toggles(piece, torso) -> None:
    y1, y2 = _front(piece, torso)
    piece.canvas.seam([(0.5, y1), (0.5, y2)])
    for y in np.linspace(y1 + 0.05, min(y2 - 0.07, y1 + 0.42), 4):
        line = np.array([(0.435, y), (0.565, y)])
        piece.canvas.stroke(
            line, palette.scaled(piece.c["fastening_colour"], 0.6), 0.01, "closure"
        )
        piece.canvas.fill(
            ellipse(0.5, y, 0.032, 0.013), piece.c["fastening_colour"], "closure"
        )


def _laces(piece, torso) -> None:
    y1 = _front(piece, torso)[0]
    paint, rows = piece.c["fastening_colour"], np.linspace(y1 + 0.02, y1 + 0.19, 5)
    piece.canvas.seam([(0.5, y1), (0.5, y1 + 0.2)], 4)
    for upper, lower in zip(rows[:-1], rows[1:], strict=True):
        for side in (-1, 1):
            line = [(0.5 - side * 0.038, upper), (0.5 + side * 0.038, lower)]
            piece.canvas.stroke(line, paint, 0.009, "closure")
    for side in (-1, 1):
        tail = [(0.5, rows[-1]), (0.5 + side * 0.035, rows[-1] + 0.07)]
        piece.canvas.stroke(tail, paint, 0.009, "closure")


def _wrap(piece, torso) -> None:
    y1 = _front(piece, torso)[0]
    end = (0.5 - torso.waist * 0.95, torso.waist_y)
    line = curve((0.5 + torso.neck, torso.top), (0.52, y1 + 0.05), end)
    piece.canvas.seam(line, 4)
    piece.canvas.mark("closure", line)
    for drop in (0.09, 0.13):
        tail = [end, (end[0] + 0.04, end[1] + drop)]
        piece.canvas.stroke(tail, piece.c["fastening_colour"], 0.014, "closure")


def _one_button(piece, torso) -> None:
    y1, y2 = _front(piece, torso)
    piece.canvas.seam([(0.5, y1), (0.505, y2)], 3)
    _button_row(piece, 0.5, y1 + 0.02, y1 + 0.02, 1, 0.018)


def _open(piece, torso) -> None:
    """An open front: a dark gap which gets wider to the hem."""
    y1, y2 = _front(piece, torso)
    gap = path(
        (0.498, y1 - 0.02), (0.502, y1 - 0.02), (0.54, y2 + 0.02), (0.46, y2 + 0.02)
    )
    piece.canvas.fill(gap, palette.scaled(piece.c["colour"], 0.45), "closure")


_CLOSURES = {
    "buttons": _buttons,
    "henley": _henley,
    "zip": _zip,
    "half zip": _half_zip,
    "asymmetric zip": _asymmetric_zip,
    "double-breasted": _double_breasted,
    "toggles": _toggles,
    "lace-up": _laces,
    "wrap": _wrap,
    "one button": _one_button,
    "open": _open,
}


def patch(piece, x, y, width, height, flap=False, paint=None) -> None:
    """A patch pocket with its upper edge's middle at (x, y)."""
    canvas, half = piece.canvas, width / 2
    paint = paint or piece.c["pocket_colour"]
    outline = path(
        (x - half, y),
        (x + half, y),
        (x + half, y + height * 0.75),
        (x, y + height),
        (x - half, y + height * 0.75),
    )
    canvas.fill(outline, paint, "pocket")
    if flap:
        lid = path(
            (x - half * 1.1, y - 0.004),
            (x + half * 1.1, y - 0.004),
            (x + half * 1.1, y + 0.03),
            (x, y + 0.055),
            (x - half * 1.1, y + 0.03),
        )
        canvas.fill(lid, palette.scaled(paint, 0.86), "pocket")
        canvas.disc(x, y + 0.032, 0.009, palette.scaled(paint, 0.5))
    else:
        canvas.seam([(x - half, y + 0.018), (x + half, y + 0.018)])


def _chest_y(torso) -> float:
    return max(torso.armpit_y - 0.055, torso.top + torso.depth * 0.5)


def _chest_pocket(piece, torso, side) -> None:
    patch(piece, 0.5 + side * torso.chest * 0.54, _chest_y(torso), 0.115, 0.125)


def _two_chest(piece, torso) -> None:
    for side in (-1, 1):
        patch(piece, 0.5 + side * torso.chest * 0.54, _chest_y(torso), 0.11, 0.12, True)


def _low_y(torso) -> float:
    return min(torso.waist_y + 0.03, torso.hem_y - 0.2)


def _two_patch(piece, torso) -> None:
    y = _low_y(torso)
    for side in (-1, 1):
        patch(piece, 0.5 + side * torso.half_width(y) * 0.56, y, 0.125, 0.14)


def _two_flap(piece, torso) -> None:
    y = _low_y(torso) + 0.02
    for side in (-1, 1):
        x, half = 0.5 + side * torso.half_width(y) * 0.55, 0.068
        lid = box(x - half, y, x + half, y + 0.052)
        piece.canvas.fill(lid, piece.c["pocket_colour"], "pocket")


def _slant(piece, torso) -> None:
    y = _low_y(torso)
    for side in (-1, 1):
        x = 0.5 + side * torso.half_width(y) * 0.5
        line = np.array([(x, y), (x + side * 0.05, y + 0.12)])
        piece.canvas.stroke(line, piece.c["pocket_colour"], 0.022, "pocket")


def _kangaroo(piece, torso) -> None:
    low = torso.hem_y - 0.062
    half = torso.half_width(low) * 0.72
    outline = path(
        (0.5 - half * 0.6, low - 0.16),
        (0.5 + half * 0.6, low - 0.16),
        (0.5 + half, low - 0.06),
        (0.5 + half, low),
        (0.5 - half, low),
        (0.5 - half, low - 0.06),
    )
    piece.canvas.fill(outline, piece.c["pocket_colour"], "pocket")


_POCKETS = {
    "chest pocket left": lambda p, t: _chest_pocket(p, t, -1),
    "chest pocket right": lambda p, t: _chest_pocket(p, t, 1),
    "two chest pockets": _two_chest,
    "two patch pockets": _two_patch,
    "two flap pockets": _two_flap,
    "slant pockets": _slant,
    "kangaroo pocket": _kangaroo,
}


def _fringe(piece, torso, paint) -> None:
    y = torso.hem_y
    for x in np.linspace(0.5 - torso.hem * 0.96, 0.5 + torso.hem * 0.96, 22):
        drop = piece.rng.uniform(0.03, 0.05)
        piece.canvas.stroke([(x, y - 0.01), (x, y + drop)], paint, 0.006, "hem")


def draw_scallops(piece, y, half, paint) -> None:
    """A row of half discs in `paint`, hanging from a hem at height y."""
    count = max(5, round(half / 0.032))
    radius = half / count
    for step in range(count):
        x = 0.5 - half + radius * (2 * step + 1)
        arch = ellipse(x, y - 0.008, radius, radius * 1.1, 0, 180)
        piece.canvas.fill(arch, paint, "hem")


def draw_hem(piece, torso) -> None:
    """Draws the value of the attribute `hem` along the torso's lower edge."""
    kind = piece.a.get("hem", "plain")
    depth = {"ribbed": 0.06, "contrast": 0.045}.get(kind, 0.03)
    band, canvas = hem_band(torso, depth), piece.canvas
    base = piece.c["colour"]
    if kind == "ribbed":
        canvas.fill(band, palette.scaled(base, 0.8), "hem")
        canvas.ribs(band[0], band[1], band[3], band[2], 17)
    elif kind == "contrast":
        canvas.fill(band, piece.c["trim_colour"], "hem")
    elif kind == "scalloped":
        draw_scallops(piece, torso.hem_y, torso.hem * 0.97, piece.c["trim_colour"])
    elif kind == "fringed":
        _fringe(piece, torso, piece.c["trim_colour"])
    elif kind == "drawstring":
        line = [band[0] + [0.004, 0.01], band[1] + [-0.004, 0.01]]
        canvas.stroke(line, piece.c["trim_colour"], 0.01, "hem")
        for side in (-1, 1):
            tail = [(0.5, band[0][1] + 0.01), (0.5 + side * 0.04, torso.hem_y + 0.06)]
            canvas.stroke(tail, piece.c["trim_colour"], 0.009, "hem")
    else:
        canvas.seam(band[:2])


def draw_belt(piece, y, half) -> None:
    """A belt around a waist of the given half width."""
    kind, canvas = piece.a.get("belt", "none"), piece.canvas
    if kind == "none":
        return
    paint = piece.c["belt_colour"]
    depth = {"wide": 0.075, "buckle": 0.048, "tie": 0.036, "chain": 0.022}[kind]
    half += 0.006
    canvas.fill(
        box(0.5 - half, y - depth / 2, 0.5 + half, y + depth / 2), paint, "belt"
    )
    if kind in ("buckle", "wide"):
        size = depth * 0.72
        frame = box(0.51 - size, y - size, 0.51 + size, y + size)
        canvas.stroke(frame, palette.shade("gold"), 0.014, "belt", closed=True)
    elif kind == "tie":
        for dx, drop in ((-0.045, 0.13), (0.05, 0.17)):
            tail = path(
                (0.455, y),
                (0.485, y),
                (0.47 + dx + 0.022, y + drop),
                (0.47 + dx - 0.022, y + drop - 0.012),
            )
            canvas.fill(tail, paint, "belt")
        canvas.fill(ellipse(0.47, y, 0.026, 0.024), paint)
    else:
        for x in np.linspace(0.5 - half, 0.5 + half, 14):
            canvas.fill(ellipse(x, y, 0.015, 0.015), palette.shade("gold"), "belt")


def _print_place(piece, torso) -> tuple[float, float, float]:
    """Centre and radius of the print, away from pocket and closure."""
    place = piece.a["print_place"]
    high = max(torso.armpit_y + 0.02, torso.top + min(torso.depth, 0.17) + 0.07)
    if place == "front":
        pouch = piece.a.get("pocket") == "kangaroo pocket"
        low = torso.hem_y - (0.33 if pouch else 0.17)
        return 0.5, min(high + 0.1, max(low, high)), 0.075 if pouch else 0.095
    side = -1 if place.startswith("left") else 1
    if place.endswith("hem"):
        y = torso.hem_y - 0.13
        return 0.5 + side * torso.half_width(y) * 0.55, y, 0.062
    return 0.5 + side * torso.chest * 0.54, high - 0.01, 0.058


def draw_print(piece, torso) -> None:
    """The motif of the attribute `print`, if any."""
    kind = piece.a.get("print", "none")
    if kind != "none":
        x, y, radius = _print_place(piece, torso)
        draw_motif(piece.canvas, kind, x, y, radius, piece.c["print_colour"])
        piece.canvas.marks["print_place"] = piece.canvas.marks["print"]


def draw_closure(piece, torso) -> None:
    """The value of the attribute `closure` down the front."""
    kind = piece.a.get("closure", "none")
    if kind in _CLOSURES:
        _CLOSURES[kind](piece, torso)


def draw_pockets(piece, torso) -> None:
    """The value of the attribute `pocket`."""
    kind = piece.a.get("pocket", "none")
    if kind in _POCKETS:
        _POCKETS[kind](piece, torso)
