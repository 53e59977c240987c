"""Bags, seen from the front."""

import numpy as np

from data_prep.catalogue_parts import palette
from data_prep.catalogue_parts.canvas import (
    box,
    curve,
    ellipse,
    mirrored,
    path,
    symmetric,
)
from data_prep.catalogue_parts.motifs import draw_motif

# Kind -> right side of the body, top to bottom, and the height of its upper edge.
_BODIES = {
    "tote": (path((0.78, 0.38), (0.74, 0.9)), 0.38),
    "satchel": (
        path((0.82, 0.42), curve((0.82, 0.8), (0.82, 0.86), (0.76, 0.86))),
        0.42,
    ),
    "bucket": (path((0.70, 0.36), curve((0.70, 0.36), (0.82, 0.86), (0.7, 0.9))), 0.36),
    "duffle": (
        path(
            curve((0.8, 0.44), (0.93, 0.46), (0.93, 0.64)),
            curve((0.93, 0.64), (0.93, 0.83), (0.8, 0.84)),
        ),
        0.44,
    ),
    "clutch": (
        path((0.92, 0.42), curve((0.92, 0.74), (0.92, 0.78), (0.88, 0.78))),
        0.42,
    ),
    "backpack": (
        path(
            curve((0.55, 0.17), (0.77, 0.17), (0.77, 0.42)),
            curve((0.77, 0.42), (0.82, 0.88), (0.74, 0.92)),
        ),
        0.17,
    ),
    "hobo": (path(curve((0.83, 0.4), (0.98, 0.88), (0.62, 0.88)), (0.5, 0.89)), 0.5),
}


def _strap(piece, top, half) -> None:
    canvas, kind = piece.canvas, piece.a["strap"]
    paint = piece.c["strap_colour"]
    peak = {"long": -0.25, "chain": -0.2, "short": 0.14, "double": -0.02}[kind]
    peak = min(peak, top - 0.16)
    spread = half * (0.9 if kind in ("long", "chain") else 0.55)
    arch = curve(
        (0.5 - spread, top + 0.05),
        (0.5, peak * 2 - top),
        (0.5 + spread, top + 0.05),
        24,
    )
    arch[:, 1] = np.maximum(arch[:, 1], 0.04)
    if kind == "chain":
        for x, y in _evenly(arch, 26):
            canvas.fill(ellipse(x, y, 0.016, 0.013), palette.shade("gold"), "strap")
        return
    if kind == "double":
        canvas.stroke(arch + [0.03, -0.03], palette.scaled(paint, 0.7), 0.03, "strap")
    canvas.stroke(arch, paint, 0.034 if kind != "long" else 0.026, "strap")


def _evenly(line, count) -> np.ndarray:
    steps = np.concatenate(
        [[0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))]
    )
    places = np.linspace(0, steps[-1], count)
    return np.stack([np.interp(places, steps, line[:, i]) for i in (0, 1)], 1)


def _closure(piece, top, half) -> None:
    kind, canvas = piece.a["closure"], piece.canvas
    paint = piece.c["fastening_colour"]
    metal = palette.shade("gold")
    if kind in ("flap", "buckled flap"):
        lid = symmetric(
            path(
                (0.5 + half, top - 0.005),
                (0.5 + half * 1.01, top + 0.09),
                curve(
                    (0.5 + half * 0.98, top + 0.17),
                    (0.5 + half * 0.4, top + 0.24),
                    (0.5, top + 0.25),
                ),
            )
        )
        canvas.fill(lid, paint, "closure")
        xs = (0.5,) if kind == "flap" else (0.5 - half * 0.5, 0.5 + half * 0.5)
        for x in xs:
            y = top + (0.2 if kind == "flap" else 0.16)
            frame = box(x - 0.032, y - 0.025, x + 0.032, y + 0.04)
            canvas.fill(frame, metal, "closure")
    elif kind == "zip":
        line = [(0.5 - half * 0.92, top + 0.045), (0.5 + half * 0.92, top + 0.045)]
        canvas.stroke(line, paint, 0.03, "closure")
        canvas.seam(line, 2)
        canvas.fill(
            box(0.5 + half * 0.6, top + 0.04, 0.5 + half * 0.65, top + 0.12), metal
        )
    elif kind == "drawstring":
        line = np.array(
            [(0.5 - half * 0.97, top + 0.06), (0.5 + half * 0.97, top + 0.06)]
        )
        canvas.stroke(line, paint, 0.02, "closure")
        for side in (-1, 1):
            tail = [(0.5, top + 0.06), (0.5 + side * 0.05, top + 0.2)]
            canvas.stroke(tail, paint, 0.016, "closure")
    elif kind == "clasp":
        for side in (-1, 1):
            canvas.disc(0.5 + side * 0.024, top - 0.015, 0.032, metal, "closure")
    else:
        band = box(0.455, top - 0.02, 0.545, top + 0.15)
        canvas.fill(band, paint, "closure")
        canvas.disc(0.5, top + 0.11, 0.02, metal)


def _pocket(piece, top, half, low) -> None:
    kind, canvas = piece.a["pocket"], piece.canvas
    if kind == "none":
        return
    paint = piece.c["pocket_colour"]
    y = top + (low - top) * 0.52
    if kind == "zip pocket":
        line = [(0.5 - half * 0.55, y), (0.5 + half * 0.55, y)]
        canvas.stroke(line, paint, 0.034, "pocket")
        canvas.seam(line, 2)
        return
    width = {"front pocket": 0.42, "side pocket": 0.28}[kind]
    x = 0.5 + half * (0.26 if kind == "front pocket" else 0.52)
    outline = box(x - half * width, y, x + half * width, low - 0.04)
    canvas.fill(outline, paint, "pocket")
    canvas.seam(outline[:2] + [0, 0.025])


def _charm(piece, top, half) -> None:
    kind, canvas = piece.a["charm"], piece.canvas
    if kind == "none":
        return
    x, y = 0.5 - half * 0.72, top + 0.03
    paint = piece.c["charm_colour"]
    canvas.stroke([(x, y), (x, y + 0.1)], palette.shade("gold"), 0.01, "charm")
    if kind == "tassel":
        for dx in np.linspace(-0.03, 0.03, 5):
            canvas.stroke([(x, y + 0.1), (x + dx, y + 0.24)], paint, 0.014, "charm")
        canvas.disc(x, y + 0.11, 0.022, paint)
    elif kind == "pompom":
        canvas.disc(x, y + 0.15, 0.055, paint, "charm")
        for angle in np.linspace(0, 2 * np.pi, 14):
            spot = (x + 0.05 * np.cos(angle), y + 0.15 + 0.05 * np.sin(angle))
            canvas.disc(*spot, 0.013, paint)
    else:
        draw_motif(canvas, kind, x, y + 0.15, 0.055, paint, "charm")


def draw_bag(piece) -> None:
    """Draws the bag of `piece.shape["kind"]` with strap, closure, pocket and charm."""
    kind, canvas = piece.shape["kind"], piece.canvas
    side, top = _BODIES[kind]
    squeeze = piece.rng.uniform(0.93, 1.0)
    side = (side - [0.5, 0]) * [squeeze, 1] + [0.5, 0]
    half, low = side[0, 0] - 0.5, side[:, 1].max()
    if kind == "backpack":
        half = 0.24 * squeeze
        for place in (0.27, 0.73):
            canvas.stroke(
                [(place, 0.3), (place + (place - 0.5) * 0.35, 0.82)],
                piece.c["strap_colour"],
                0.05,
                "strap",
            )
        canvas.stroke(
            ellipse(0.5, 0.15, 0.075, 0.07, 180, 360),
            piece.c["strap_colour"],
            0.03,
            "strap",
        )
    elif kind == "hobo":
        arch = path(
            curve((0.17, 0.42), (0.2, 0.06), (0.5, 0.06)),
            curve((0.5, 0.06), (0.8, 0.06), (0.83, 0.42)),
        )
        canvas.stroke(arch, piece.c["strap_colour"], 0.055, "strap")
    elif kind != "clutch":
        _strap(piece, top, half)
    else:
        loop = curve((0.88, 0.47), (1.06, 0.62), (0.88, 0.7))
        canvas.stroke(loop, piece.c["strap_colour"], 0.024, "strap")
    if kind == "hobo":
        body = path(side, mirrored(side), curve((0.17, 0.4), (0.5, 0.68), (0.83, 0.4)))
    else:
        body = symmetric(side)
    canvas.fill(body)
    _base(piece, body, low, half)
    if kind == "backpack":
        _pocket(piece, 0.3, half, low)
        _closure(piece, 0.22 if piece.a["closure"] != "zip" else 0.3, half * 0.9)
    elif kind == "hobo":
        _pocket(piece, 0.5, half * 0.8, low)
        _closure(piece, 0.535, half * 0.62)
    else:
        _pocket(piece, top, half, low)
        _closure(piece, top, half)
    _print(piece, top, low, half)
    _charm(piece, 0.42 if kind == "hobo" else top, half)


def _print(piece, top, low, half) -> None:
    if piece.a["print"] == "none":
        return
    side = 0.0 if piece.a["pocket"] in ("none", "zip pocket") else -0.56
    y = top + (low - top) * (0.76 if side == 0 else 0.7)
    radius = min(0.1, (low - top) * 0.19, half * (0.5 if side == 0 else 0.36))
    draw_motif(
        piece.canvas,
        piece.a["print"],
        0.5 + side * half,
        y,
        radius,
        piece.c["print_colour"],
    )


def _base(piece, body, low, half) -> None:
    """Contrasting base or corners."""
    kind, canvas = piece.a["base"], piece.canvas
    if kind == "plain":
        canvas.fold(
            np.array([(0.5 - half * 0.8, low - 0.03), (0.5 + half * 0.8, low - 0.03)])
        )
        return
    paint = piece.c["trim_colour"]
    depth = 0.1 if kind == "contrast" else 0.085
    ys = np.clip(body[:, 1], low - depth, None)
    right = body[(ys > low - depth) & (body[:, 0] > 0.5)]
    edge = np.interp(low - depth, [body[0, 1], low], [body[0, 0], right[:, 0].max()])
    right = path((max(edge, right[0, 0]), low - depth), right)
    if kind == "contrast":
        canvas.fill(symmetric(right), paint, "base")
    else:
        corner = path(right, (right[-1, 0] - 0.09, right[-1, 1]))
        for place in (corner, mirrored(corner)):
            canvas.fill(place, paint, "base")
