"""Colours of the embedded catalogue: sixteen names that can be told apart by eye.

First thing the catalogue needs: `choose` draws a colour name that stands out against
the colours already used, `shade` turns a name into pixels with a jitter per product.
"""

import numpy as np

# Red, green, blue in [0, 255].
COLOURS = {
    "black": (38, 36, 40),
    "white": (244, 243, 240),
    "grey": (142, 144, 148),
    "navy": (28, 46, 118),
    "blue": (38, 98, 220),
    "turquoise": (64, 200, 205),
    "green": (30, 140, 62),
    "olive": (134, 138, 52),
    "yellow": (246, 212, 52),
    "orange": (240, 126, 30),
    "red": (212, 28, 40),
    "burgundy": (122, 10, 54),
    "pink": (248, 132, 186),
    "purple": (122, 58, 176),
    "brown": (122, 74, 34),
    "beige": (222, 202, 166),
}
METALS = {"gold": (212, 170, 60), "silver": (196, 200, 206)}
# Two colours closer than this in RGB are not put side by side.
_MIN_DISTANCE = 120.0


def distance(first: str, second: str) -> float:
    """Euclidean RGB distance of two colour names."""
    pair = np.array([COLOURS[first], COLOURS[second]], np.float64)
    return float(np.linalg.norm(pair[0] - pair[1]))


def choose(rng: np.random.Generator, against: tuple[str, ...] = ()) -> str:
    """Draws a colour name uniformly from those far from every one in `against`.

    Where too much is against, the last ones give way.
    """
    names = []
    while not names:
        names = [
            name
            for name in COLOURS
            if all(distance(name, other) >= _MIN_DISTANCE for other in against)
        ]
        against = against[:-1]
    return names[int(rng.integers(len(names)))]


def shade(name: str, rng: np.random.Generator | None = None) -> tuple[int, ...]:
    """Blue, green, red (OpenCV's order) of a name, jittered a little if `rng` given."""
    red_green_blue = np.array(COLOURS.get(name) or METALS[name], np.float64)
    if rng is not None:
        gain = rng.uniform(0.94, 1.05)
        red_green_blue = red_green_blue * gain + rng.uniform(-7, 7, 3)
    return tuple(int(v) for v in np.clip(red_green_blue, 0, 255)[::-1])


def scaled(bgr: tuple[int, ...], factor: float) -> tuple[int, ...]:
    """A darker (factor < 1) or lighter version of a colour."""
    if factor <= 1:
        return tuple(int(v * factor) for v in bgr)
    return tuple(int(255 - (255 - v) / factor) for v in bgr)


def luminance(bgr: tuple[int, ...]) -> float:
    """Perceived brightness in [0, 255]."""
    return 0.114 * bgr[0] + 0.587 * bgr[1] + 0.299 * bgr[2]
