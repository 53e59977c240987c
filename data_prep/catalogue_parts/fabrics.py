"""Fabrics of the embedded catalogue: patterns in two colours and woven textures.

`pattern_image` paints the cloth a garment is cut from; `texture` is the weave that
modulates its brightness. Both are [SIZE, SIZE]; periods are some 20 to 40 pixels, so
that a pattern is still there when a garment is drawn at a third of this size.
"""

import functools

import cv2
import numpy as np

from data_prep.catalogue_parts.palette import scaled

SIZE = 384  # pixels of a side of the sheet a garment is drawn on
PATTERNS = (
    "solid",
    "horizontal stripes",
    "vertical stripes",
    "diagonal stripes",
    "polka dots",
    "gingham",
    "plaid",
    "herringbone",
    "camouflage",
    "floral",
    "leopard",
    "gradient",
    "colour block",
)


def _two_tone(mask, first, second):
    """[SIZE, SIZE] bool -> uint8 [SIZE, SIZE, 3]."""
    table = np.array([first, second], np.uint8)
    return table[mask.astype(np.uint8)]


def _axes(rng):
    shift = rng.integers(0, 60)
    y, x = np.ogrid[0:SIZE, 0:SIZE]
    return x + shift, y + shift


def _stripes(kind, rng, first, second):
    x, y = _axes(rng)
    axis = {"horizontal stripes": y + 0 * x, "vertical stripes": x + 0 * y}.get(
        kind, x + y
    )
    period = int(rng.integers(26, 37))
    return _two_tone((axis % period) < period * 0.45, first, second)


def _dots(kind, rng, first, second):
    period, radius = int(rng.integers(36, 47)), int(rng.integers(10, 13))
    tile = np.empty((period, period, 3), np.uint8)
    tile[:] = first
    corners = [(0, 0), (0, period), (period, 0), (period, period)]
    for centre in [*corners, (period // 2, period // 2)]:
        cv2.circle(tile, centre, radius * 2 // 3 + 2, second, -1, cv2.LINE_AA)
    return _tiled(tile)


def _tiled(tile):
    times = -(-SIZE // tile.shape[0]), -(-SIZE // tile.shape[1])
    return np.tile(tile, (*times, 1))[:SIZE, :SIZE]


def _checks(kind, rng, first, second):
    x, y = _axes(rng)
    period = int(rng.integers(34, 45))
    across, along = (x % period) < period // 2, (y % period) < period // 2
    middle = tuple((a + b) // 2 for a, b in zip(first, second, strict=True))
    table = np.array([first, middle, second], np.uint8)
    return table[across.astype(np.uint8) + along.astype(np.uint8)]


def _plaid(kind, rng, first, second):
    x, y = _axes(rng)
    period = int(rng.integers(62, 78))
    table = np.array([first, scaled(first, 0.6), second], np.uint8)

    def bands(axis):
        phase = axis % period
        return np.where(phase < 24, 1, np.where(np.abs(phase - 46) < 5, 2, 0))

    return table[np.maximum(bands(x), bands(y))]


def _herringbone(kind, rng, first, second):
    x, y = _axes(rng)
    width, period = 28, int(rng.integers(24, 31))
    zigzag = np.abs((x % (2 * width)) - width)
    return _two_tone(((y + zigzag) % period) < period * 0.45, first, second)


def _camouflage(kind, rng, first, second):
    coarse = rng.random((2, 13, 13)).astype(np.float32)
    field = [cv2.resize(c, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC) for c in coarse]
    index = (field[0] > 0.52).astype(np.uint8)
    index[field[1] > 0.66] = 2
    table = np.array([first, second, scaled(first, 0.5)], np.uint8)
    return table[index]


def _floral(kind, rng, first, second):
    period = int(rng.integers(64, 77))
    tile = np.empty((period, period, 3), np.uint8)
    tile[:] = first
    for cx, cy, leaf in ((0.27, 0.27, 0.0), (0.77, 0.77, 0.6)):
        centre = np.array([cx, cy]) * period
        for step in range(5):
            angle = leaf + step * 2 * np.pi / 5
            petal = centre + 9 * np.array([np.cos(angle), np.sin(angle)])
            cv2.circle(tile, tuple(int(v) for v in petal), 7, second, -1, cv2.LINE_AA)
        middle = tuple(int(v) for v in centre)
        cv2.circle(tile, middle, 5, scaled(first, 0.55), -1, cv2.LINE_AA)
    return _tiled(tile)


def _leopard(kind, rng, first, second):
    tile = np.empty((96, 96, 3), np.uint8)
    tile[:] = first
    for row in range(4):
        for column in range(4):
            centre = (
                column * 24 + 12 * (row % 2) + int(rng.integers(-3, 4)),
                row * 24 + 12 + int(rng.integers(-3, 4)),
            )
            axes = (int(rng.integers(7, 10)), int(rng.integers(6, 9)))
            turn = int(rng.integers(0, 360))
            cv2.ellipse(tile, centre, axes, turn, 0, 270, second, 5, cv2.LINE_AA)
    return _tiled(tile)


def _gradient(kind, rng, first, second, span):
    places = np.linspace(0, 1, SIZE)
    ramp = np.clip((places - span[0]) / (span[1] - span[0]), 0, 1)[:, None, None]
    column = (1 - ramp) * np.array(first) + ramp * np.array(second)
    return np.repeat(column.astype(np.uint8), SIZE, axis=1)


def _blocks(kind, rng, first, second, span):
    middle = span[0] + (span[1] - span[0]) * rng.uniform(0.44, 0.56)
    edge = int(SIZE * middle)
    return _two_tone(np.arange(SIZE)[:, None].repeat(SIZE, 1) > edge, first, second)


_PAINTERS = {
    "horizontal stripes": _stripes,
    "vertical stripes": _stripes,
    "diagonal stripes": _stripes,
    "polka dots": _dots,
    "gingham": _checks,
    "plaid": _plaid,
    "herringbone": _herringbone,
    "camouflage": _camouflage,
    "floral": _floral,
    "leopard": _leopard,
}
# Those which need to know from where to where the product reaches.
_SPANNING = {"gradient": _gradient, "colour block": _blocks}


def pattern_image(kind, rng, first, second, span=(0.1, 0.9)) -> np.ndarray:
    """Paints a sheet of cloth.

    Args:
      kind: one of PATTERNS.
      rng: generator for period and phase.
      first, second: base and pattern colour, BGR.
      span: heights in [0, 1] from where to where the product reaches.

    Returns:
      uint8 [SIZE, SIZE, 3].
    """
    if kind == "solid":
        return np.full((SIZE, SIZE, 3), first, np.uint8)
    if kind in _SPANNING:
        return _SPANNING[kind](kind, rng, first, second, span)
    return np.ascontiguousarray(_PAINTERS[kind](kind, rng, first, second))


# Material -> kind of weave.
_WEAVES = {
    "cotton": "plain",
    "linen": "slub",
    "wool": "felt",
    "denim": "twill",
    "leather": "grain",
    "suede": "felt",
    "canvas": "plain",
    "corduroy": "ribs",
    "knit": "knit",
    "cable knit": "cable",
    "cashmere": "felt",
    "fleece": "felt",
    "nylon": "smooth",
    "satin": "smooth",
    "silk": "smooth",
    "jersey": "plain",
    "tweed": "slub",
    "straw": "cable",
}


def _cable(x, y):
    return 16 * np.sin((x + 7 * np.sin(y / 6.0)) * 2 * np.pi / 22)


@functools.cache
def _weave(kind: str) -> np.ndarray:
    """uint8 [SIZE + 64, SIZE + 64] around 128, the same in every process."""
    side = SIZE + 64
    rng = np.random.default_rng(20210)
    y, x = np.mgrid[0:side, 0:side].astype(np.float32)
    noise = rng.normal(size=(side, side)).astype(np.float32)
    coarse = cv2.GaussianBlur(noise, (0, 0), 2.5)
    field = {
        "plain": lambda: 5 * noise,
        "slub": lambda: 26 * cv2.blur(noise, (25, 2)) + 26 * cv2.blur(noise, (2, 25)),
        "felt": lambda: 45 * coarse,
        "twill": lambda: 12 * np.sign(np.sin((x + y) * 2 * np.pi / 7)) + 6 * noise,
        "grain": lambda: 70 * np.maximum(coarse, 0) - 6,
        "ribs": lambda: 24 * np.sin(x * 2 * np.pi / 11),
        "knit": lambda: 15 * np.sin((y + np.abs(x % 12 - 6)) * 2 * np.pi / 8),
        "cable": lambda: _cable(x, y),
        "smooth": lambda: 14 * np.sin((x * 0.5 + y * 0.2) * 2 * np.pi / 90),
    }[kind]()
    return np.clip(128 + field, 40, 220).astype(np.uint8)


def texture(material: str, rng) -> np.ndarray:
    """Brightness of a material's weave: uint8 [SIZE, SIZE], 128 is neutral."""
    top, left = (int(v) for v in rng.integers(0, 64, 2))
    return _weave(_WEAVES[material])[top : top + SIZE, left : left + SIZE]
