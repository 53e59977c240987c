"""Shoes, seen from the side with the toe to the left."""

import numpy as np

from data_prep.catalogue_parts import palette
from data_prep.catalogue_parts.canvas import between, box, curve, path
from data_prep.catalogue_parts.motifs import draw_motif

_TOES = {"round": (0.10, 0.60), "pointed": (0.035, 0.70), "square": (0.085, 0.585)}


def _toe(piece) -> tuple[tuple[float, float], tuple[float, float]]:
    x, y = _TOES[piece.a.get("toe", "round")]
    return (x, 0.765), (x, y)


def _vamp(piece, start) -> np.ndarray:
    """Upper edge from the instep `start` down to the tip of the toe."""
    tip, control = _toe(piece)
    if piece.a.get("toe") == "square":
        corner = (control[0], 0.655)
        return path(curve(start, (0.3, 0.6), (corner[0] + 0.05, 0.64)), corner, tip)
    return curve(start, control, tip, 16)


def _sole(piece, thick, lift) -> None:
    """The sole under toe and heel; `lift` is the height of the heel seat."""
    tip = _toe(piece)[0]
    paint, floor = piece.c["sole_colour"], 0.84
    kind = piece.a["heel"]
    seat = floor - thick - lift
    if kind in ("flat", "platform", "chunky"):
        extra = {"flat": 0.0, "platform": 0.05, "chunky": 0.035}[kind]
        top = floor - thick
        outline = path(
            curve(
                (tip[0] - 0.005, top - 0.02),
                (tip[0] - 0.02, floor + extra),
                (tip[0] + 0.06, floor + extra),
            ),
            (0.87, floor + extra),
            curve((0.87, floor + extra), (0.915, floor + extra), (0.9, top - 0.02)),
        )
        piece.canvas.fill(outline, paint, "heel")
        if kind == "chunky":
            for x in np.linspace(0.16, 0.82, 8):
                y = floor + extra
                piece.canvas.fill(box(x, y - 0.012, x + 0.045, y + 0.02), paint, "heel")
    else:
        _raised_sole(piece, tip, seat, floor, paint)
    piece.canvas.marks["sole_colour"] = piece.canvas.marks["heel"]


def _raised_sole(piece, tip, seat, floor, paint) -> None:
    canvas, kind = piece.canvas, piece.a["heel"]
    if kind == "wedge":
        outline = path(
            (tip[0], floor - 0.055),
            (tip[0] + 0.02, floor),
            (0.87, floor),
            (0.895, seat),
            curve((0.895, seat), (0.6, seat + 0.02), (0.4, floor - 0.05)),
        )
        canvas.fill(outline, paint, "heel")
        return
    shank = path(
        curve((0.9, seat), (0.62, seat + 0.02), (0.38, floor - 0.03)),
        (tip[0], floor - 0.045),
        (tip[0] + 0.04, floor),
        (0.36, floor),
        curve((0.36, floor), (0.62, seat + 0.06), (0.86, seat + 0.035)),
    )
    canvas.fill(shank, paint, "heel")
    width = {"block": (0.15, 0.135), "stiletto": (0.085, 0.022), "cone": (0.13, 0.05)}
    upper, lower = width[kind]
    outline = path(
        (0.905 - upper, seat + 0.012),
        (0.905, seat),
        (0.885, floor),
        (0.885 - lower, floor),
    )
    canvas.fill(outline, paint, "heel")


def _lift(piece) -> float:
    kind = piece.a["heel"]
    table = {"block": 0.1, "wedge": 0.11, "stiletto": 0.17, "cone": 0.12}
    return table.get(kind, 0.0)


def _low_upper(piece, collar_y, instep, back=0.9) -> np.ndarray:
    """Outline of a shoe's upper: heel counter, opening, instep, toe."""
    seat = 0.78 - _lift(piece)
    tip = _toe(piece)[0]
    ankle = (instep[0] + 0.06, instep[1] - 0.035)
    low = path(
        tip,
        (0.2, 0.82),
        curve((0.38, 0.825), (0.62, seat + 0.055), (back, seat + 0.03)),
    )
    return path(
        curve((back, seat), (back + 0.015, collar_y + 0.1), (back - 0.03, collar_y)),
        curve((back - 0.03, collar_y), (0.72, collar_y + 0.07), ankle),
        _vamp(piece, instep),
        low,
    )


def _draw_sneaker(piece, high: bool) -> None:
    collar = 0.3 if high else 0.5
    instep = (0.52, 0.47) if high else (0.53, 0.53)
    ankle_x = 0.6
    outline = _low_upper(piece, collar, instep)
    if high:
        tip = _toe(piece)[0]
        outline = path(
            (0.9, 0.79),
            curve((0.9, 0.79), (0.9, 0.5), (0.87, 0.27)),
            (ankle_x, 0.24),
            curve((ankle_x, 0.24), (0.54, 0.42), instep),
            _vamp(piece, instep),
            tip,
        )
    piece.canvas.fill(outline)
    tip = _toe(piece)[0]
    piece.canvas.mark("toe", box(tip[0], 0.6, tip[0] + 0.16, 0.79))
    _sneaker_trim(piece, tip)
    _sole(piece, 0.075, 0.0)
    _closure(piece, (0.33, 0.61), (0.56, instep[1] - (0.19 if high else 0.01)))


def _sneaker_trim(piece, tip) -> None:
    kind, paint = piece.a["trim"], piece.c["trim_colour"]
    if kind in ("heel counter", "toe and heel"):
        counter = path(
            (0.9, 0.79), (0.885, 0.56), curve((0.885, 0.56), (0.77, 0.6), (0.76, 0.79))
        )
        piece.canvas.fill(counter, paint, "trim")
    if kind in ("toe cap", "toe and heel"):
        cap = path(
            tip,
            curve(tip, (tip[0] + 0.02, 0.68), (0.2, 0.665)),
            curve((0.2, 0.665), (0.25, 0.72), (0.25, 0.79)),
        )
        piece.canvas.fill(cap, paint, "trim")


def _draw_loafer(piece) -> None:
    lift = _lift(piece)
    outline = _low_upper(piece, 0.62 - lift * 0.8, (0.47, 0.6 - lift * 0.2))
    piece.canvas.fill(outline)
    tip = _toe(piece)[0]
    piece.canvas.mark("toe", box(tip[0], 0.6, tip[0] + 0.16, 0.79))
    piece.canvas.seam(curve((0.14, 0.73), (0.2, 0.63), (0.44, 0.61)), 3)
    y = 0.63 - lift * 0.3
    if piece.a["trim"] == "saddle":
        saddle = path((0.38, y - 0.01), (0.5, y - 0.05), (0.55, 0.81), (0.41, 0.82))
        piece.canvas.fill(saddle, piece.c["trim_colour"], "trim")
    _sole(piece, 0.05, lift)
    _ornament(piece, 0.455, y + 0.035)


def _draw_pump(piece) -> None:
    lift = _lift(piece)
    outline = _low_upper(piece, 0.62 - lift, (0.34, 0.665))
    piece.canvas.fill(outline)
    _sole(piece, 0.03, lift)
    tip = _toe(piece)[0]
    piece.canvas.mark("toe", box(tip[0], 0.62, tip[0] + 0.2, 0.8))
    if piece.a["closure"] == "ankle strap":
        y = 0.52 - lift
        strap = path(
            (0.87, y),
            curve((0.87, y), (0.74, y + 0.05), (0.6, y + 0.02)),
            (0.6, y + 0.055),
            curve((0.6, y + 0.055), (0.74, y + 0.09), (0.88, y + 0.04)),
        )
        piece.canvas.fill(strap, piece.c["colour"], "closure")
        piece.canvas.stroke(
            [(0.868, y + 0.02), (0.872, 0.7 - lift)], piece.c["colour"], 0.03, "closure"
        )
    elif piece.a["closure"] == "t-bar":
        line = curve((0.36, 0.67), (0.52, 0.63 - lift * 0.4), (0.64, 0.53 - lift))
        piece.canvas.stroke(line, piece.c["colour"], 0.03, "closure")
        piece.canvas.stroke(
            [(0.6, 0.53 - lift), (0.88, 0.55 - lift)],
            piece.c["colour"],
            0.03,
            "closure",
        )
    _ornament(piece, 0.3, 0.675)


def _draw_boot(piece, high: bool) -> None:
    lift = _lift(piece)
    top = 0.06 if high else 0.28
    seat, instep = 0.78 - lift, (0.5, 0.57 - lift * 0.4)
    tip = _toe(piece)[0]
    shaft = 0.56 if high else 0.55
    outline = path(
        (0.9, seat),
        curve((0.9, seat), (0.86, seat - 0.2), (0.9, top)),
        (shaft - 0.01, top + 0.012),
        curve((shaft - 0.01, top), (shaft + 0.03, instep[1] - 0.1), instep),
        _vamp(piece, instep),
        (0.2, 0.82),
        curve((0.38, 0.825), (0.62, seat + 0.055), (0.9, seat + 0.03)),
    )
    piece.canvas.fill(outline)
    _sole(piece, 0.05, lift)
    piece.canvas.mark("toe", box(tip[0], 0.6, tip[0] + 0.17, 0.8))
    if piece.a["trim"] == "collar":
        cuff = box(shaft - 0.015, top, 0.905, top + 0.065)
        piece.canvas.fill(cuff, piece.c["trim_colour"], "trim")
    _closure(piece, (0.36, 0.62 - lift * 0.3), (shaft + 0.02, top + 0.1))
    _ornament(piece, 0.74, top + 0.17)
    piece.canvas.fold([(0.62, instep[1] - 0.02), (0.8, instep[1] + 0.02)], 82, 2)


def _draw_sandal(piece) -> None:
    lift = _lift(piece)
    _sole(piece, 0.045, lift)
    canvas, tip = piece.canvas, _toe(piece)[0]
    canvas.mark("toe", box(tip[0], 0.6, tip[0] + 0.17, 0.8))
    seat = 0.8 - lift
    for left, right in ((0.17, 0.3), (0.36, 0.47)):
        low = np.interp((left, right), (0.4, 0.9), (0.81, seat + 0.01))
        high = 0.655 - (left - 0.17) * 0.45
        canvas.fill(
            path(
                (left, low[0]),
                curve((left, low[0]), (left + 0.02, high + 0.05), (left + 0.075, high)),
                (right + 0.055, high - 0.03),
                curve(
                    (right + 0.055, high - 0.03),
                    (right + 0.05, high + 0.1),
                    (right, low[1]),
                ),
            )
        )
    counter = path(
        (0.76, seat + 0.01),
        curve((0.76, seat), (0.84, seat - 0.14), (0.83, 0.5 - lift)),
        (0.885, 0.49 - lift),
        (0.905, seat + 0.01),
    )
    canvas.fill(counter)
    _ornament(piece, 0.3, 0.65)
    if piece.a["closure"] != "slip-on":
        y = 0.5 - lift
        strap = path(
            curve((0.885, y), (0.74, y + 0.06), (0.58, y + 0.01)),
            curve((0.58, y + 0.06), (0.74, y + 0.11), (0.89, y + 0.05)),
        )
        canvas.fill(strap, None, "closure")
        canvas.stroke(
            box(0.66, y + 0.015, 0.72, y + 0.1),
            palette.shade("gold"),
            0.014,
            "closure",
            closed=True,
        )


def _laces(piece, low, high) -> None:
    low, high = np.array(low), np.array(high)
    along = (high - low) / np.linalg.norm(high - low)
    across = np.array([-along[1], along[0]])
    tongue = path(
        low - across * 0.02,
        low + across * 0.07,
        high + across * 0.07,
        high - across * 0.02,
    )
    piece.canvas.fill(tongue, palette.scaled(piece.c["colour"], 0.7), "closure")
    for share in np.linspace(0.06, 0.94, 5):
        start = between(low, high, share) - across * 0.025
        line = [start, start + across * 0.1]
        piece.canvas.stroke(line, piece.c["fastening_colour"], 0.017, "closure")


def _closure(piece, low, high) -> None:
    kind, canvas = piece.a["closure"], piece.canvas
    low, high = np.array(low), np.array(high)
    if kind == "laces":
        _laces(piece, low, high)
    elif kind in ("straps", "buckles"):
        for share in (0.2, 0.7):
            x, y = between(low, high, share)
            band = box(x - 0.02, y, x + 0.2, y + 0.055)
            canvas.fill(band, piece.c["fastening_colour"], "closure")
            if kind == "buckles":
                frame = box(x + 0.1, y - 0.012, x + 0.16, y + 0.067)
                canvas.stroke(
                    frame, palette.shade("gold"), 0.013, "closure", closed=True
                )
    elif kind == "zip":
        x = 0.72
        line = [(x, high[1] + 0.02), (x, low[1] + 0.08)]
        canvas.stroke(line, piece.c["fastening_colour"], 0.026, "closure")
        canvas.seam(line, 2)
    elif kind == "gore":
        mid = (high[1] + low[1]) / 2 + 0.02
        outline = path(
            (0.65, high[1] - 0.02),
            (0.8, high[1] - 0.02),
            (0.76, mid + 0.08),
            (0.69, mid + 0.08),
        )
        canvas.fill(outline, piece.c["fastening_colour"], "closure")
        canvas.ribs(outline[0], outline[1], outline[3], outline[2], 5)


def _ornament(piece, x, y) -> None:
    kind, canvas = piece.a.get("ornament", "none"), piece.canvas
    paint = piece.c.get("ornament_colour")
    if kind == "none":
        return
    if kind == "tassel":
        for dx in (-0.025, 0.0, 0.025):
            canvas.stroke([(x, y), (x + dx, y + 0.1)], paint, 0.018, "ornament")
        canvas.disc(x, y, 0.022, paint, "ornament")
    elif kind == "bow":
        for side in (-1, 1):
            loop = path(
                (x, y), (x + side * 0.075, y - 0.045), (x + side * 0.075, y + 0.045)
            )
            canvas.fill(loop, paint, "ornament")
        canvas.disc(x, y, 0.016, palette.scaled(paint, 0.7))
    elif kind == "buckle":
        frame = box(x - 0.04, y - 0.03, x + 0.04, y + 0.035)
        canvas.stroke(frame, palette.shade("gold"), 0.016, "ornament", closed=True)
    elif kind == "studs":
        for dx, dy in ((0, 0), (0.05, 0), (-0.05, 0), (0.025, 0.045), (-0.025, 0.045)):
            canvas.disc(x + dx, y + dy, 0.014, palette.shade("silver"), "ornament")
    elif kind == "pompom":
        canvas.disc(x, y, 0.05, paint, "ornament")
        for angle in np.linspace(0, 2 * np.pi, 12):
            spot = (x + 0.045 * np.cos(angle), y + 0.045 * np.sin(angle))
            canvas.disc(*spot, 0.012, paint)
    else:
        draw_motif(canvas, kind, x, y, 0.055, paint, "ornament")


def draw_shoe(piece) -> None:
    """Draws the shoe of `piece.shape["kind"]`."""
    kind = piece.shape["kind"]
    if kind in ("sneaker", "high top"):
        _draw_sneaker(piece, kind == "high top")
        spot = (0.68, 0.68) if kind == "sneaker" else (0.73, 0.47)
        _ornament(piece, *spot)
    elif kind in ("ankle boot", "knee boot"):
        _draw_boot(piece, kind == "knee boot")
    else:
        {"loafer": _draw_loafer, "pump": _draw_pump, "sandal": _draw_sandal}[kind](
            piece
        )
