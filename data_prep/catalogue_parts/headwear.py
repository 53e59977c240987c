"""Hats and scarves."""

import numpy as np

from data_prep.catalogue_parts import palette
from data_prep.catalogue_parts.canvas import (
    between,
    box,
    curve,
    ellipse,
    path,
    symmetric,
)
from data_prep.catalogue_parts.motifs import draw_motif


def _pompom(piece, x, y, radius, mark) -> None:
    paint = piece.c["ornament_colour"]
    for angle in np.linspace(0, 2 * np.pi, 15):
        spot = (x + radius * 0.85 * np.cos(angle), y + radius * 0.85 * np.sin(angle))
        piece.canvas.disc(*spot, radius * 0.3, paint, mark)
    piece.canvas.fill(ellipse(x, y, radius * 0.9, radius * 0.9), paint, edge=0)


def _ornament(piece, top, spot) -> None:
    """`top` is where a pompom sits, `spot` the place of everything else."""
    kind, canvas = piece.a["ornament"], piece.canvas
    if kind == "none":
        return
    paint, (x, y) = piece.c["ornament_colour"], spot
    if kind == "pompom":
        _pompom(piece, *top, 0.085, "ornament")
    elif kind == "feather":
        quill = path(
            (x, y),
            curve((x, y), (x + 0.02, y - 0.2), (x + 0.12, y - 0.26)),
            curve((x + 0.12, y - 0.26), (x + 0.16, y - 0.1), (x, y)),
        )
        canvas.fill(quill, paint, "ornament")
        canvas.seam([(x, y), (x + 0.1, y - 0.22)])
    elif kind == "bow":
        for side in (-1, 1):
            loop = path((x, y), (x + side * 0.1, y - 0.06), (x + side * 0.1, y + 0.06))
            canvas.fill(loop, paint, "ornament")
        canvas.disc(x, y, 0.024, palette.scaled(paint, 0.7))
    elif kind == "patch":
        canvas.fill(box(x - 0.07, y - 0.05, x + 0.07, y + 0.05), paint, "ornament")
        canvas.seam(box(x - 0.055, y - 0.035, x + 0.055, y + 0.035), 1, True)
    else:
        draw_motif(canvas, kind, x, y, 0.075, paint, "ornament")


def _band(piece, corners) -> None:
    kind, canvas = piece.a["band"], piece.canvas
    if kind == "none":
        return
    canvas.fill(corners, piece.c["band_colour"], "band")
    if kind == "ribbed":
        count = len(corners) // 2
        canvas.ribs(corners[0], corners[count - 1], corners[-1], corners[count], 15)
    elif kind == "studded":
        for share in np.linspace(0.08, 0.92, 9):
            left, right = corners.min(0), corners.max(0)
            x = left[0] + (right[0] - left[0]) * share
            canvas.disc(x, (left[1] + right[1]) / 2, 0.014, palette.shade("silver"))


def _cap(piece) -> None:
    """Baseball cap, peak to the left."""
    wide = {"short": 0.12, "medium": 0.07, "wide": 0.03}[piece.a["brim"]]
    canvas = piece.canvas
    crown = path(
        (0.28, 0.62),
        curve((0.28, 0.62), (0.29, 0.26), (0.58, 0.26)),
        curve((0.58, 0.26), (0.9, 0.27), (0.9, 0.66)),
        curve((0.9, 0.66), (0.6, 0.7), (0.28, 0.62)),
    )
    canvas.fill(crown)
    for control in ((0.42, 0.4), (0.68, 0.36), (0.8, 0.4)):
        canvas.seam(curve((0.58, 0.26), control, (control[0] + 0.02, 0.66)))
    band = path(
        curve((0.28, 0.58), (0.6, 0.66), (0.9, 0.61)),
        curve((0.9, 0.67), (0.6, 0.72), (0.28, 0.63)),
    )
    _band(piece, band)
    brim = path(
        curve((0.3, 0.6), (0.14, 0.58), (wide, 0.71)),
        curve((wide, 0.71), (0.25, 0.7), (0.5, 0.68)),
    )
    canvas.fill(brim, piece.c["brim_colour"], "brim")
    canvas.disc(0.58, 0.26, 0.022, piece.c["brim_colour"])
    _ornament(piece, (0.58, 0.2), (0.46, 0.46))


def _beanie(piece) -> None:
    canvas, slouch = piece.canvas, piece.a["brim"]
    top = {"single": 0.2, "deep": 0.2, "none": 0.18}[slouch]
    right = path(curve((0.5, top), (0.8, top), (0.8, 0.64)), (0.8, 0.74))
    canvas.fill(symmetric(right))
    for share in np.linspace(0.1, 0.9, 8):
        x = 0.2 + 0.6 * share
        canvas.seam(
            curve((0.5 + (x - 0.5) * 0.3, top + 0.02), (x, top + 0.15), (x, 0.72)), 1
        )
    depth = {"single": 0.1, "deep": 0.19, "none": 0.03}[slouch]
    cuff = box(0.185, 0.76 - depth, 0.815, 0.77)
    canvas.fill(cuff, piece.c["brim_colour"], "brim")
    if slouch != "none":
        canvas.ribs(cuff[0], cuff[1], cuff[3], cuff[2], 19)
    if piece.a["band"] != "none":
        _band(piece, box(0.215, 0.46, 0.785, 0.53))
    _ornament(piece, (0.5, top - 0.04), (0.6, 0.6 if depth < 0.15 else 0.67))


_BRIMS = {"narrow": 0.32, "medium": 0.38, "wide": 0.46}


def _brimmed(piece, crown, brim_y, droop, thick, narrow=0.0) -> None:
    """Hats with a brim all around: crown, band, then the brim's front."""
    canvas, half = piece.canvas, _BRIMS[piece.a["brim"]] - narrow
    paint = piece.c["brim_colour"]
    canvas.fill(crown)
    low = crown[:, 1].max()
    ys = (low - 0.13, low - 0.045)
    inner = np.interp(ys, np.sort(crown[:, 1]), crown[np.argsort(crown[:, 1]), 0])
    inner = np.abs(inner - 0.5).clip(0.2, None)
    band = path(
        curve((0.5 - inner[0], ys[0]), (0.5, ys[0] + 0.03), (0.5 + inner[0], ys[0])),
        curve((0.5 + inner[1], ys[1]), (0.5, ys[1] + 0.03), (0.5 - inner[1], ys[1])),
    )
    _band(piece, band)
    upper = curve(
        (0.5, brim_y + 0.02),
        (0.5 + half * 0.6, brim_y + 0.015),
        (0.5 + half, brim_y + droop),
    )
    if droop > 0.1:  # a steep brim starts at the crown's sides
        upper = path(
            curve((0.5, brim_y + 0.02), (0.64, brim_y + 0.02), (0.72, brim_y - 0.01)),
            (0.5 + half, brim_y + droop),
        )
    side = path(
        upper,
        curve(
            (0.5 + half, brim_y + droop),
            (0.5 + half * 0.72, brim_y + thick + 0.02),
            (0.5, brim_y + thick + 0.02),
        ),
    )
    canvas.fill(symmetric(side), paint, "brim")


def _fedora(piece) -> None:
    crown = symmetric(
        path((0.5, 0.27), curve((0.5, 0.27), (0.6, 0.2), (0.68, 0.28)), (0.72, 0.62))
    )
    _brimmed(piece, crown, 0.56, 0.02, 0.1)
    piece.canvas.fold(np.array([(0.5, 0.27), (0.48, 0.42)]), 70, 3)
    _ornament(piece, (0.5, 0.2), (0.34, 0.5))


def _bucket(piece) -> None:
    crown = symmetric(
        path((0.5, 0.27), curve((0.62, 0.27), (0.67, 0.28), (0.68, 0.33)), (0.73, 0.58))
    )
    _brimmed(piece, crown, 0.53, 0.17, 0.17, narrow=0.07)
    piece.canvas.seam(curve((0.32, 0.33), (0.5, 0.37), (0.68, 0.33)))
    _ornament(piece, (0.5, 0.21), (0.6, 0.43))


def _sun_hat(piece) -> None:
    crown = symmetric(path(curve((0.5, 0.3), (0.71, 0.29), (0.73, 0.6))))
    _brimmed(piece, crown, 0.54, 0.09, 0.22)
    _ornament(piece, (0.5, 0.24), (0.35, 0.5))


def _beret(piece) -> None:
    canvas = piece.canvas
    body = path(
        curve((0.22, 0.66), (0.0, 0.5), (0.22, 0.36)),
        curve((0.22, 0.36), (0.55, 0.2), (0.84, 0.36)),
        curve((0.84, 0.36), (1.02, 0.5), (0.8, 0.66)),
    )
    canvas.fill(body)
    canvas.fold(curve((0.15, 0.56), (0.4, 0.66), (0.8, 0.58)), 76, 3)
    canvas.stroke([(0.52, 0.29), (0.53, 0.23)], piece.c["brim_colour"], 0.025)
    depth = {"narrow": 0.05, "medium": 0.08, "wide": 0.12}[piece.a["brim"]]
    rim = path(
        curve((0.21, 0.63), (0.5, 0.7), (0.81, 0.63)),
        curve((0.79, 0.63 + depth), (0.5, 0.7 + depth), (0.23, 0.63 + depth)),
    )
    canvas.fill(rim, piece.c["brim_colour"], "brim")
    _band(
        piece,
        path(
            curve((0.2, 0.54), (0.5, 0.64), (0.8, 0.54)),
            curve((0.8, 0.6), (0.5, 0.7), (0.2, 0.6)),
        ),
    )
    _ornament(piece, (0.52, 0.2), (0.36, 0.45))


def draw_hat(piece) -> None:
    """Draws the hat of `piece.shape["kind"]`."""
    {
        "cap": _cap,
        "beanie": _beanie,
        "fedora": _fedora,
        "bucket": _bucket,
        "sun hat": _sun_hat,
        "beret": _beret,
    }[piece.shape["kind"]](piece)


def _fringe(piece, left, right, y) -> None:
    kind, canvas = piece.a["fringe"], piece.canvas
    if kind == "none":
        return
    paint = piece.c["fringe_colour"]
    if kind == "pompoms":
        for x in np.linspace(left + 0.02, right - 0.02, 4):
            canvas.disc(x, y + 0.02, 0.03, paint, "fringe")
        return
    drop = 0.05 if kind == "short" else 0.11
    for x in np.linspace(
        left + 0.008, right - 0.008, max(6, int((right - left) / 0.02))
    ):
        end = (x + piece.rng.uniform(-0.006, 0.006), y + drop)
        canvas.stroke([(x, y - 0.008), end], paint, 0.008, "fringe")


def _border(piece, corners, depth=0.07) -> None:
    """A border across a scarf's end: corners clockwise from the top left."""
    kind, canvas = piece.a["border"], piece.canvas
    if kind == "none":
        return
    paint, (tl, tr, br, bl) = piece.c["trim_colour"], corners
    spans = ((0.0, 1.0),) if kind == "band" else ((0.0, 0.3), (0.65, 0.95))
    for start, end in spans:
        place = path(
            between(bl, tl, start * depth / 0.07),
            between(br, tr, start),
            between(br, tr, end),
            between(bl, tl, end),
        )
        canvas.fill(place, paint, "border")


def _long_scarf(piece) -> None:
    """A long scarf laid around an invisible neck, both ends hanging down."""
    canvas, length = piece.canvas, {"short": 0.74, "long": 0.84}[piece.a["length"]]
    back = path(
        curve((0.3, 0.22), (0.5, 0.02), (0.7, 0.22)),
        curve((0.66, 0.32), (0.5, 0.15), (0.34, 0.32)),
    )
    canvas.fill(back, palette.scaled(piece.c["colour"], 0.6))
    ends = ((0.52, 0.71, length - 0.1), (0.29, 0.48, length))
    for left, right, low in ends:
        top = 0.22
        start = 0.3 if left < 0.4 else 0.56
        end = path((start, top), (start + 0.14, top + 0.06), (right, low), (left, low))
        canvas.fill(end)
        canvas.mark("length", end)
        for x in (0.3, 0.7):
            canvas.fold(
                np.array([between(end[0], end[1], x), between(end[3], end[2], x)])
            )
        _border(
            piece, ((left, low - 0.1), (right, low - 0.1), (right, low), (left, low))
        )
        _fringe(piece, left, right, low)
    loop = path(
        curve((0.27, 0.24), (0.5, 0.5), (0.73, 0.24)),
        curve((0.7, 0.13), (0.5, 0.36), (0.3, 0.13)),
    )
    canvas.fill(loop)
    canvas.fold(curve((0.3, 0.2), (0.5, 0.42), (0.7, 0.2)), 80, 2)
    _emblem(piece, 0.385, length - 0.22)


def _emblem(piece, x, y) -> None:
    if piece.a["print"] != "none":
        draw_motif(piece.canvas, piece.a["print"], x, y, 0.068, piece.c["print_colour"])


def _square_scarf(piece) -> None:
    """A square folded to a triangle, tied at the top."""
    canvas, low = piece.canvas, {"short": 0.72, "long": 0.86}[piece.a["length"]]
    body = path(curve((0.08, 0.3), (0.5, 0.2), (0.92, 0.3)), (0.5, low))
    canvas.fill(body)
    canvas.mark("length", body)
    if piece.a["border"] != "none":
        inset = 0.03
        for depth in (0.0, 0.07) if piece.a["border"] == "stripes" else (0.0,):
            line = path(
                (0.08 + inset + depth, 0.32 + depth / 3),
                (0.5, low - inset - depth * 1.4),
                (0.92 - inset - depth, 0.32 + depth / 3),
            )
            width = 0.035 if piece.a["border"] == "stripes" else 0.055
            canvas.stroke(line, piece.c["trim_colour"], width, "border")
    for x in (0.3, 0.42, 0.6, 0.7):
        canvas.fold(np.array([(x, 0.28), (0.5 + (x - 0.5) * 0.3, 0.55)]), 90, 2)
    for share in np.linspace(0.06, 0.94, 15):
        x, y = between((0.1, 0.32), (0.5, low), share)
        for place in (x, 1 - x):
            _fringe(piece, place - 0.012, place + 0.012, y)
    for side in (-1, 1):
        tail = path((0.5, 0.2), (0.5 + side * 0.22, 0.08), (0.5 + side * 0.27, 0.19))
        canvas.fill(tail)
    canvas.fill(ellipse(0.5, 0.2, 0.055, 0.05))
    _emblem(piece, 0.5, 0.45)


def _snood(piece) -> None:
    """A closed tube scarf: a thick ring seen from the front."""
    canvas = piece.canvas
    low = {"short": 0.72, "long": 0.82}[piece.a["length"]]
    body = symmetric(
        path(
            curve((0.5, 0.2), (0.8, 0.18), (0.8, 0.32)),
            curve((0.8, 0.32), (0.98, 0.5), (0.84, low - 0.06)),
            curve((0.84, low - 0.06), (0.76, low), (0.5, low)),
        )
    )
    canvas.fill(body)
    canvas.mark("length", body)
    canvas.fill(ellipse(0.5, 0.29, 0.24, 0.075), palette.scaled(piece.c["colour"], 0.5))
    for y in (0.42, 0.52, 0.62):
        canvas.fold(curve((0.2, y), (0.5, y + 0.16), (0.82, y - 0.02)), 76, 3)
        canvas.seam(curve((0.22, y), (0.5, y + 0.15), (0.8, y - 0.02)))
    if piece.a["border"] != "none":
        for step in (0.0, 0.06) if piece.a["border"] == "stripes" else (0.02,):
            line = curve(
                (0.17, low - 0.1 - step),
                (0.5, low - 0.02 - step),
                (0.83, low - 0.1 - step),
            )
            canvas.stroke(line, piece.c["trim_colour"], 0.034, "border")
    _fringe(piece, 0.26, 0.74, low - 0.012)
    _emblem(piece, 0.36, 0.57)


def draw_scarf(piece) -> None:
    """Draws the scarf of `piece.shape["kind"]`."""
    {"long": _long_scarf, "square": _square_scarf, "snood": _snood}[
        piece.shape["kind"]
    ](piece)
