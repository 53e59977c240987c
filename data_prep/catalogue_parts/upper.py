"""Upper garments: torso, sleeves, necklines and collars.

Also the upper part of dresses and jumpsuits. `piece` is a `garments.Piece`: canvas,
attribute values `a`, their colours `c`, the sub-category's `shape`, and `rng`.
"""

import dataclasses

import cv2
import numpy as np

from data_prep.catalogue_parts import palette
from data_prep.catalogue_parts.canvas import (
    SIZE,
    between,
    box,
    curve,
    ellipse,
    mirrored,
    path,
    symmetric,
)

# Neckline -> depth of the opening and how far it widens the neck.
_OPENINGS = {
    "crew": (0.035, 1.0),
    "v-neck": (0.17, 1.05),
    "scoop": (0.13, 1.35),
    "square": (0.10, 1.35),
    "boat": (0.022, 1.85),
    "turtleneck": (0.012, 0.95),
    "mandarin": (0.03, 0.95),
    "spread": (0.075, 0.95),
    "peter pan": (0.03, 1.0),
    "lapel": (0.27, 0.95),
    "shawl": (0.27, 0.95),
    "hood": (0.06, 1.15),
    "bow": (0.03, 1.0),
    "funnel": (0.02, 1.1),
    "straight": (0.012, 2.1),
    "halter": (0.09, 0.8),
}
# Sleeve -> share of the arm that is covered.
_LENGTHS = {"cap": 0.13, "short": 0.27, "elbow": 0.45, "three-quarter": 0.66, "long": 1}


@dataclasses.dataclass(frozen=True)
class Torso:
    """Half widths (from the middle line) and heights of a torso."""

    neck: float
    shoulder: float
    chest: float
    waist: float
    hem: float
    top: float
    shoulder_y: float
    armpit_y: float
    waist_y: float
    hem_y: float
    depth: float

    def half_width(self, y: float) -> float:
        """Half width of the body at a height below the armpits."""
        ys = (self.armpit_y, self.waist_y, max(self.hem_y, self.waist_y + 1e-3))
        return float(np.interp(y, ys, (self.chest, self.waist, self.hem)))


def make_torso(piece, hem_y=None, hem=None) -> Torso:
    """Proportions of this product: the sub-category's with a jitter."""
    shape, rng = piece.shape, piece.rng

    def jitter():
        return rng.uniform(0.95, 1.05)

    depth, widen = _OPENINGS[piece.a.get("neckline", "crew")]
    width = jitter()
    shoulder = shape.get("shoulder", 0.185) * width
    if piece.a.get("neckline") == "straight":
        shoulder *= 0.95
    neck = min(shape.get("neck", 0.07) * widen, shoulder * 0.9)
    top = shape.get("top", 0.13)
    armpit_y = top + shape.get("armpit", 0.19) * jitter()
    hem_y = hem_y or shape["hem_y"][piece.a.get("length", "regular")] * jitter()
    waist_y = top + shape.get("waist_drop", 0.4)
    return Torso(
        neck,
        shoulder,
        shape.get("chest", 0.18) * width,
        shape.get("waist", 0.18) * width,
        (hem or shape.get("hem", 0.185)) * width,
        top,
        top + shape.get("slope", 0.035),
        armpit_y,
        min(waist_y, hem_y - 0.02),
        min(hem_y, 0.95),
        depth * jitter(),
    )


def neckline_points(torso: Torso, kind: str) -> np.ndarray:
    """The opening's edge from the left to the right neck point."""
    left, right = (0.5 - torso.neck, torso.top), (0.5 + torso.neck, torso.top)
    bottom = torso.top + torso.depth
    if kind in ("v-neck", "lapel", "shawl", "spread"):
        return path(left, (0.5, bottom), right)
    if kind == "square":
        inset = torso.neck * 0.15
        return path(left, (left[0] + inset, bottom), (right[0] - inset, bottom), right)
    if kind == "straight":
        dip = (0.5, torso.armpit_y - 0.03)
        top = torso.armpit_y - 0.06
        half = torso.neck
        return path(
            (0.5 - half, top),
            curve((0.5 - half, top), dip, (0.5, top + 0.02)),
            curve((0.5, top + 0.02), dip, (0.5 + half, top)),
        )
    return curve(left, (0.5, bottom + torso.depth), right, 16)


def _body_side(torso: Torso, kind: str) -> np.ndarray:
    """Right side from the shoulder to the hem."""
    armpit = (0.5 + torso.chest, torso.armpit_y)
    waist = (0.5 + torso.waist, torso.waist_y)
    hem = (0.5 + torso.hem, torso.hem_y)
    flank = path(
        curve(armpit, between(armpit, waist, 0.6), waist),
        curve(waist, (waist[0], between(waist, hem, 0.5)[1]), hem),
    )
    if kind == "straight":
        return flank
    shoulder = (0.5 + torso.shoulder, torso.shoulder_y)
    bay = (min(shoulder[0], armpit[0]) - 0.022, between(shoulder, armpit, 0.7)[1])
    return path(shoulder, curve(shoulder, bay, armpit), flank)


def _cape_side(torso: Torso) -> np.ndarray:
    """A side without armholes: the cloth falls from the shoulder."""
    shoulder = (0.5 + torso.shoulder, torso.shoulder_y)
    flank = _body_side(torso, "straight")
    fall = (shoulder[0] + 0.05, shoulder[1] + 0.03)
    return path(curve(shoulder, fall, flank[0]), flank)


def _halter_side(torso: Torso) -> np.ndarray:
    armpit = (0.5 + torso.chest, torso.armpit_y)
    return path(
        curve(
            (0.5 + torso.neck + 0.02, torso.top),
            (0.5 + torso.neck * 1.1, torso.armpit_y - 0.05),
            armpit,
        ),
        _body_side(torso, "straight"),
    )


def draw_body(piece, torso: Torso) -> None:
    """The inside of the back, the body, and the light of its folds."""
    canvas, kind = piece.canvas, piece.a.get("neckline", "crew")
    opening = neckline_points(torso, kind)
    if kind != "straight":
        back = curve(opening[-1], (0.5, torso.top + 0.035), opening[0])
        inside = palette.scaled(piece.c["colour"], 0.55)
        canvas.fill(path(opening, back), inside, "neckline")
    side = _halter_side(torso) if kind == "halter" else _body_side(torso, kind)
    if "sleeve" not in piece.a:
        side = _cape_side(torso)
    hem = mirrored(side[-1])[0]
    lower = curve(side[-1], (0.5, torso.hem_y + piece.shape.get("dip", 0.012)), hem)
    canvas.fill(path(opening, side, lower, mirrored(side)))
    canvas.mark("neckline", opening)
    _body_folds(piece, torso)


def _body_folds(piece, torso: Torso) -> None:
    canvas, rng = piece.canvas, piece.rng
    for side in (-1, 1):
        start = (0.5 + side * torso.chest * 0.9, torso.armpit_y + 0.02)
        end = (0.5 + side * torso.chest * 0.45, torso.armpit_y + rng.uniform(0.06, 0.1))
        canvas.fold(np.array([start, end]), 88, 2)
    for _ in range(3):
        x = 0.5 + rng.uniform(-0.8, 0.8) * torso.waist
        y = torso.armpit_y + rng.uniform(0.2, 0.85) * (torso.hem_y - torso.armpit_y)
        length = rng.uniform(0.06, 0.14)
        line = curve((x, y), (x + 0.01, y + length / 2), (x - 0.01, y + length))
        canvas.fold(line, rng.choice([96, 160]), 2)


@dataclasses.dataclass(frozen=True)
class Sleeve:
    """Right sleeve: the four corners, shoulder to cuff and back to the armpit."""

    shoulder: np.ndarray
    outer: np.ndarray
    inner: np.ndarray
    armpit: np.ndarray
    angle: float


def make_sleeve(piece, torso: Torso) -> Sleeve | None:
    """Where the right sleeve is; None without sleeves."""
    share = _LENGTHS.get(piece.a.get("sleeve", "long"))
    if share is None:
        return None
    shape = piece.shape
    angle = np.radians(shape.get("arm_angle", 24) + (1 - share) * 22)
    way = np.array([np.sin(angle), np.cos(angle)])
    across = np.array([way[1], -way[0]])
    shoulder = np.array([0.5 + torso.shoulder, torso.shoulder_y])
    armpit = np.array([0.5 + torso.chest - 0.005, torso.armpit_y])
    length = shape.get("arm", 0.52) * share * piece.rng.uniform(0.96, 1.03) + 0.05
    middle = between(shoulder, armpit, 0.5) + way * length
    wrist = shape.get("wrist", 0.043)
    flare = {"bell": 1.9, "straight": 1.0, "puff": 0.85, "balloon": 0.95}
    half = np.interp(share, [0.13, 0.45, 1], [0.085, 0.062, wrist])
    half *= flare[piece.a.get("sleeve_shape", "straight")]
    return Sleeve(
        shoulder, middle + across * half, middle - across * half, armpit, angle
    )


def _sleeve_outline(sleeve: Sleeve, kind: str) -> np.ndarray:
    out = between(sleeve.shoulder, sleeve.outer, 0.5)
    under = between(sleeve.armpit, sleeve.inner, 0.5)
    normal = np.array([np.cos(sleeve.angle), -np.sin(sleeve.angle)])
    bulge = {"straight": 0.022, "puff": 0.15, "balloon": 0.11, "bell": -0.02}[kind]
    start = between(sleeve.shoulder, sleeve.armpit, -0.06)
    if kind == "puff":
        out = between(sleeve.shoulder, sleeve.outer, 0.3) + [0, -0.03]
    sag = 0.05 if kind == "balloon" else 0.0
    return path(
        curve(start, out + normal * bulge, sleeve.outer),
        curve(sleeve.inner, under - normal * sag, sleeve.armpit),
        between(sleeve.armpit, sleeve.shoulder, 0.5) - [0.05, 0],
    )


def _turned_cloth(canvas, angle_degrees: float) -> np.ndarray:
    turn = cv2.getRotationMatrix2D((SIZE / 2, SIZE / 2), angle_degrees, 1.0)
    return cv2.warpAffine(
        canvas.cloth,
        turn,
        (SIZE, SIZE),
        flags=cv2.INTER_NEAREST,
        borderMode=cv2.BORDER_REFLECT,
    )


_TURNING = ("stripes", "gingham", "plaid", "herringbone")


def draw_sleeves(piece, torso: Torso) -> None:
    """Both sleeves with their cuffs; nothing for sleeveless products."""
    sleeve = make_sleeve(piece, torso)
    if sleeve is None:
        for side in (-1, 1):
            centre = 0.5 + side * torso.shoulder
            canvas_box = box(centre - 0.04, torso.top, centre + 0.04, torso.armpit_y)
            piece.canvas.mark("sleeve", canvas_box)
        return
    canvas, kind = piece.canvas, piece.a.get("sleeve_shape", "straight")
    outline = _sleeve_outline(sleeve, kind)
    turning = any(word in piece.a["pattern"] for word in _TURNING)
    for side in (1, -1):
        place = outline if side > 0 else mirrored(outline)
        degrees = np.degrees(sleeve.angle) * side
        cloth = _turned_cloth(canvas, degrees) if turning else None
        canvas.fill(place, cloth=cloth, mark="sleeve")
        if "sleeve_shape" in piece.a:
            canvas.mark("sleeve_shape", place)
        _sleeve_folds(canvas, sleeve, side)
        if "cuff" in piece.a:
            _draw_cuff(piece, sleeve, side)


def _sided(points, side: int) -> np.ndarray:
    points = np.atleast_2d(points)
    return points if side > 0 else mirrored(points)[::-1]


def _sleeve_folds(canvas, sleeve: Sleeve, side: int) -> None:
    under = path(between(sleeve.armpit, sleeve.inner, 0.05), sleeve.inner)
    canvas.fold(_sided(under, side), 84, 2)
    for share in (0.4, 0.62):
        start = between(sleeve.armpit, sleeve.inner, share)
        end = between(sleeve.shoulder, sleeve.outer, share + 0.1)
        canvas.fold(_sided(path(start, between(start, end, 0.6)), side), 98, 1)


def _draw_cuff(piece, sleeve: Sleeve, side: int) -> None:
    canvas, kind = piece.canvas, piece.a["cuff"]
    way = np.array([np.sin(sleeve.angle), np.cos(sleeve.angle)])
    depth = 0.055 if kind in ("ribbed", "turned up", "strapped") else 0.042
    grow = {"turned up": 0.14, "ribbed": -0.08, "elastic": -0.12}.get(kind, 0.06)
    top_outer = between(sleeve.outer, sleeve.inner, -grow)
    top_inner = between(sleeve.inner, sleeve.outer, -grow)
    corners = path(
        top_outer - way * depth, top_inner - way * depth, top_inner, top_outer
    )
    place = _sided(corners, side)
    if kind == "plain":
        canvas.seam(_sided(corners[:2], side))
        return
    paint = {
        "ribbed": palette.scaled(piece.c["colour"], 0.8),
        "elastic": palette.scaled(piece.c["colour"], 0.7),
    }.get(kind, piece.c["trim_colour"])
    canvas.fill(place, paint, "cuff")
    if kind in ("ribbed", "elastic"):
        canvas.ribs(place[0], place[1], place[3], place[2], 5)
    if kind == "buttoned":
        spot = between(place[0], place[2], 0.5)
        canvas.disc(*spot, 0.012, palette.scaled(piece.c["colour"], 0.8))
    if kind == "fringed":
        for share in np.linspace(0, 1, 7):
            start = between(place[3], place[2], share)
            canvas.stroke(np.stack([start, start + [0, 0.05]]), paint, 0.007, "cuff")


def draw_straps(piece, torso: Torso) -> None:
    """Thin shoulder straps of the straight neckline."""
    for side in (-1, 1):
        x = 0.5 + side * torso.neck * 0.62
        line = np.array([(x, torso.armpit_y - 0.05), (x - side * 0.02, torso.top)])
        piece.canvas.stroke(line, piece.c["colour"], 0.012, "neckline")


def hem_band(torso: Torso, depth: float) -> np.ndarray:
    """Corners of the band along the hem: top left, top right, bottom right, left."""
    upper, lower = torso.half_width(torso.hem_y - depth), torso.hem
    y = torso.hem_y - depth
    return np.array(
        [
            (0.5 - upper, y),
            (0.5 + upper, y),
            (0.5 + lower, y + depth + 0.004),
            (0.5 - lower, y + depth + 0.004),
        ]
    )


def draw_hood_back(piece, torso: Torso) -> None:
    """The hood behind the shoulders, drawn before everything else."""
    canvas = piece.canvas
    half, top = torso.neck * 1.75, torso.top
    side = path(
        curve((0.5, top - 0.115), (0.5 + half * 0.9, top - 0.12), (0.5 + half, top)),
        curve(
            (0.5 + half, top), (0.5 + half, top + 0.05), (0.5 + half * 0.5, top + 0.09)
        ),
    )
    canvas.fill(symmetric(side), mark="neckline")
    inside = ellipse(0.5, top + 0.005, half * 0.68, 0.078)
    canvas.fill(inside, palette.scaled(piece.c["colour"], 0.5), "neckline")
