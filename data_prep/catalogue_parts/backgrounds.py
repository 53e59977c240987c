"""Backgrounds of the embedded catalogue: plain studio and clutter."""

import cv2
import numpy as np

from data_prep.catalogue_parts import palette

SIDE = 256  # pixels of a side of a picture
_SMALL = SIDE // 2  # clutter is painted at half resolution, it is out of focus anyway
STUDIO_SHARE = 0.6


def _tint(rng, low, high, spread=6) -> np.ndarray:
    """A near-grey BGR colour."""
    return np.clip(rng.uniform(low, high) + rng.uniform(-spread, spread, 3), 0, 255)


def studio(rng) -> np.ndarray:
    """White, off-white or light grey paper, or a soft gradient: uint8 [256, 256, 3]."""
    kind = int(rng.integers(4))
    picture = np.empty((SIDE, SIDE, 3), np.uint8)
    if kind == 0:
        picture[:] = 255
    elif kind == 1:
        picture[:] = _tint(rng, 236, 250, 5).astype(np.uint8)
    elif kind == 2:
        picture[:] = _tint(rng, 205, 228, 4).astype(np.uint8)
    else:
        top, floor = _tint(rng, 200, 225), _tint(rng, 235, 250)
        share = np.linspace(0, 1, SIDE)[:, None, None] ** 2
        picture[:] = (top * (1 - share) + floor * share).astype(np.uint8)
    return picture


def _wall(rng, against) -> tuple[int, ...]:
    """A muted wall colour, the farthest of four from the product's."""
    tries = rng.uniform(70, 215, (4, 1)) + rng.uniform(-28, 28, (4, 3))
    far = np.linalg.norm(tries - np.array(against), axis=1)
    return tuple(int(v) for v in np.clip(tries[int(far.argmax())], 30, 235))


def _point(rng):
    return tuple(int(v) for v in rng.integers(0, _SMALL, 2))


def _room(picture, rng, wall) -> None:
    floor = int(rng.uniform(0.6, 0.85) * _SMALL)
    picture[floor:] = palette.scaled(wall, rng.uniform(0.55, 0.8))
    for _ in range(int(rng.integers(3, 7))):
        x, _ = _point(rng)
        width, height = (int(v) for v in rng.integers(14, 45, 2))
        paint = palette.scaled(wall, rng.uniform(0.5, 1.6))
        top = int(rng.integers(5, floor))
        cv2.rectangle(picture, (x, top), (x + width, top + height), paint, -1)


def _shelves(picture, rng, wall) -> None:
    step = int(rng.integers(28, 42))
    for y in range(step, _SMALL + step, step):
        x = 0
        while x < _SMALL:
            width, height = int(rng.integers(5, 15)), int(rng.integers(10, step - 6))
            paint = rng.uniform(50, 210, 3) * 0.5 + np.array(wall) * 0.5
            low = (x + width - 2, y)
            cv2.rectangle(picture, (x, y - height), low, paint.tolist(), -1)
            x += width + int(rng.integers(0, 9))
        cv2.rectangle(picture, (0, y), (_SMALL, y + 3), palette.scaled(wall, 0.45), -1)


def _plants(picture, rng, wall) -> None:
    for _ in range(int(rng.integers(18, 34))):
        axes = (int(rng.integers(8, 22)), int(rng.integers(3, 7)))
        paint = np.array([60, 120, 70]) * rng.uniform(0.5, 1.4) + rng.uniform(
            -20, 20, 3
        )
        turn = int(rng.integers(0, 180))
        cv2.ellipse(picture, _point(rng), axes, turn, 0, 360, paint.tolist(), -1)


def _lights(picture, rng, wall) -> None:
    for _ in range(int(rng.integers(12, 26))):
        paint = np.array(wall) * 0.5 + rng.uniform(30, 235, 3) * 0.5
        cv2.circle(picture, _point(rng), int(rng.integers(4, 17)), paint.tolist(), -1)


def _bricks(picture, rng, wall) -> None:
    height, width = int(rng.integers(9, 14)), int(rng.integers(20, 30))
    for row, y in enumerate(range(0, _SMALL, height)):
        for x in range(-width * (row % 2) // 2, _SMALL, width):
            paint = palette.scaled(wall, rng.uniform(0.75, 1.2))
            low = (x + width - 2, y + height - 2)
            cv2.rectangle(picture, (x, y), low, paint, -1)


def _plaster(picture, rng, wall) -> None:
    coarse = rng.normal(0, 6, (12, 12, 3)) + rng.normal(0, 17, (12, 12, 1))
    waves = cv2.resize(
        coarse.astype(np.float32), (_SMALL, _SMALL), interpolation=cv2.INTER_CUBIC
    )
    grain = rng.normal(0, 9, (_SMALL, _SMALL, 1)).astype(np.float32)
    picture[:] = np.clip(picture + waves + grain, 0, 255).astype(np.uint8)


_CLUTTER = (_room, _shelves, _plants, _lights, _bricks, _plaster)


def clutter(rng, against) -> np.ndarray:
    """Out-of-focus surroundings unlike a colour, BGR: uint8 [256, 256, 3]."""
    wall = _wall(rng, against)
    picture = np.empty((_SMALL, _SMALL, 3), np.uint8)
    picture[:] = wall
    painter = _CLUTTER[int(rng.integers(len(_CLUTTER)))]
    painter(picture, rng, wall)
    if painter is not _plaster:
        picture = cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(1.2, 3.0)))
    return cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
