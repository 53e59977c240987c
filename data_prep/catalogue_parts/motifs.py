"""Graphic motifs printed on products: outlines in [-1, 1], y down."""

import numpy as np


def _polar(radius, count, turn=-90.0):
    angle = np.radians(np.linspace(0, 360, count, endpoint=False) + turn)
    return np.stack([np.cos(angle), np.sin(angle)], 1) * np.broadcast_to(
        np.asarray(radius, np.float64).reshape(-1, 1), (count, 1)
    )


def _star():
    return [_polar(np.tile([1.0, 0.42], 5), 10)]


def _heart():
    t = np.linspace(0, 2 * np.pi, 40)
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    return [np.stack([x, y], 1) / 16.5]


def _moon():
    outer = _polar(1.0, 40, 0.0)
    outer = outer[outer[:, 0] < 0.45]
    outer = outer[np.argsort(np.arctan2(outer[:, 1], -outer[:, 0]))]
    inner = outer[::-1] * [0.55, 0.98] + [0.22, 0.0]
    return [np.concatenate([outer, inner])]


def _ring():
    outer, inner = _polar(1.0, 40), _polar(0.55, 40)
    closed = np.concatenate([outer, outer[:1], inner[:1], inner[::-1]])
    return [closed]


def _anchor():
    arc = np.radians(np.linspace(15, 165, 20))
    outer = np.stack([np.cos(arc), np.sin(arc)], 1) * 0.9 + [0, 0.05]
    inner = np.stack([np.cos(arc), np.sin(arc)], 1)[::-1] * 0.6 + [0, 0.05]
    stem = [(-0.13, -0.7), (0.13, -0.7), (0.13, 0.9), (-0.13, 0.9)]
    bar = [(-0.55, -0.45), (0.55, -0.45), (0.55, -0.2), (-0.55, -0.2)]
    top = _polar(0.26, 16) + [0, -0.78]
    return [np.concatenate([outer, inner]), np.array(stem), np.array(bar), top]


def _bars():
    return [
        np.array([(-1, y), (width, y), (width, y + 0.4), (-1, y + 0.4)], np.float64)
        for y, width in ((-0.9, 1.0), (-0.2, 0.4), (0.5, 1.0))
    ]


def _flower():
    petals = [_polar(0.42, 16) + centre for centre in _polar(0.58, 6)]
    return [*petals, _polar(0.4, 16)]


def _leaf():
    t = np.linspace(0, np.pi, 20)
    right = np.stack([0.62 * np.sin(t), -np.cos(t) * 0.9 - 0.1], 1)
    left = right[::-1] * [-1, 1]
    stem = np.array([(-0.1, 0.6), (0.1, 0.6), (0.1, 1.0), (-0.1, 1.0)])
    return [np.concatenate([right, left]), stem]


def _polygon(*points):
    return lambda: [np.array(points, np.float64)]


MOTIFS = {
    "star": _star(),
    "heart": _heart(),
    "moon": _moon(),
    "ring": _ring(),
    "anchor": _anchor(),
    "bars": _bars(),
    "flower": _flower(),
    "leaf": _leaf(),
    "triangle": _polygon((0, -0.9), (1, 0.8), (-1, 0.8))(),
    "bolt": _polygon(
        (0.25, -1), (-0.6, 0.15), (-0.1, 0.15), (-0.3, 1), (0.6, -0.25), (0.08, -0.25)
    )(),
    "crown": _polygon(
        (-1, -0.6), (-0.5, 0), (0, -0.8), (0.5, 0), (1, -0.6), (0.8, 0.75), (-0.8, 0.75)
    )(),
    "arrow": _polygon(
        (0, -1), (0.85, -0.1), (0.32, -0.1), (0.32, 1), (-0.32, 1), (-0.32, -0.1),
        (-0.85, -0.1),
    )(),
}  # fmt: skip
MOTIF_NAMES = tuple(MOTIFS)


def draw_motif(canvas, name, x, y, radius, paint, mark="print") -> None:
    """Draws a motif around (x, y); marks its square."""
    for outline in MOTIFS[name]:
        canvas.fill(outline * radius + [x, y], paint, edge=1)
    corners = np.array([(-1, -1), (1, 1)]) * radius + [x, y]
    canvas.mark(mark, corners)
