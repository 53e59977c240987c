"""From attribute values to a drawn product.

`draw_product` mixes the colours, cuts the cloth and calls the drawing of the
sub-category's family: upper garments, dresses, jumpsuits, skirts, trousers, shoes,
bags, hats or scarves.
"""

import dataclasses

import numpy as np

from data_prep.catalogue_parts import choices, fabrics, palette, specs
from data_prep.catalogue_parts.bags import draw_bag
from data_prep.catalogue_parts.canvas import Canvas, Sprite
from data_prep.catalogue_parts.collars import draw_collar
from data_prep.catalogue_parts.details import (
    draw_belt,
    draw_closure,
    draw_hem,
    draw_pockets,
    draw_print,
)
from data_prep.catalogue_parts.headwear import draw_hat, draw_scarf
from data_prep.catalogue_parts.lower import (
    draw_leg_pockets,
    draw_legs,
    draw_skirt,
    draw_waistband,
    leg_end,
)
from data_prep.catalogue_parts.motifs import draw_motif
from data_prep.catalogue_parts.shoes import draw_shoe
from data_prep.catalogue_parts.upper import (
    draw_body,
    draw_hood_back,
    draw_sleeves,
    draw_straps,
    make_torso,
)


@dataclasses.dataclass(frozen=True)
class Piece:
    """What the drawing functions get.

    Attributes:
      canvas: the sheet.
      a: attribute -> value.
      c: colour attribute -> BGR.
      shape: the sub-category's proportions.
      rng: generator of this product.
    """

    canvas: Canvas
    a: dict
    c: dict
    shape: dict
    rng: np.random.Generator


def _quilting(piece, torso) -> None:
    """Horizontal quilting of puffer jackets, over body and sleeves."""
    for y in np.arange(torso.armpit_y - 0.06, torso.hem_y - 0.05, 0.075):
        half = torso.half_width(max(y, torso.armpit_y))
        line = np.array([(0.5 - half, y), (0.5 + half, y)])
        piece.canvas.seam(line, 3)
        piece.canvas.fold(line + [0, 0.02], 160, 2)
        piece.canvas.fold(line - [0, 0.008], 76, 2)


def _yoke(piece, torso) -> None:
    """Seams of a denim jacket."""
    y = torso.armpit_y - 0.06
    piece.canvas.seam([(0.5 - torso.chest, y), (0.5 + torso.chest, y)], 3)
    for side in (-1, 1):
        line = [(0.5 + side * torso.chest * 0.6, y), (0.5 + side * 0.06, torso.hem_y)]
        piece.canvas.seam(line, 3)


_SEAMS = {"quilted": _quilting, "yoke": _yoke}


def _dress_torso(piece, torso) -> None:
    """Everything from the sleeves to the print, hem and belt excluded."""
    neckline = piece.a.get("neckline")
    if neckline == "straight":
        draw_straps(piece, torso)
    if neckline == "hood":
        draw_hood_back(piece, torso)
    if "sleeve" in piece.a:
        draw_sleeves(piece, torso)
    draw_body(piece, torso)
    if "seams" in piece.shape:
        _SEAMS[piece.shape["seams"]](piece, torso)


def _draw_upper(piece) -> None:
    torso = make_torso(piece)
    _dress_torso(piece, torso)
    draw_hem(piece, torso)
    draw_pockets(piece, torso)
    draw_closure(piece, torso)
    draw_collar(piece, torso)
    draw_print(piece, torso)
    draw_belt(piece, torso.waist_y, torso.half_width(torso.waist_y))


def _draw_dress(piece) -> None:
    shape = piece.shape
    waist_y = shape.get("top", 0.1) + shape.get("waist_drop", 0.3)
    torso = make_torso(piece, hem_y=waist_y, hem=shape.get("waist", 0.13))
    low = shape.get("hem_y", specs.DRESS_Y)[piece.a["length"]]
    draw_skirt(piece, waist_y - 0.006, torso.hem, low, shape["skirt"])
    _dress_torso(piece, torso)
    draw_closure(piece, torso)
    draw_collar(piece, torso)
    if piece.a.get("print_place", "").endswith("hem"):
        _draw_low_print(piece, waist_y, low, 0.062)
    else:
        draw_print(piece, torso)
    draw_belt(piece, waist_y, torso.hem)


def _draw_low_print(piece, top, low, shift) -> None:
    """The print on a skirt, left or right of its middle."""
    side = -1 if piece.a["print_place"].startswith("left") else 1
    radius = min(0.075, (low - top) * 0.16)
    y = top + (low - top) * 0.7
    paint = piece.c["print_colour"]
    draw_motif(piece.canvas, piece.a["print"], 0.5 + side * shift, y, radius, paint)
    piece.canvas.marks["print_place"] = piece.canvas.marks["print"]


def _draw_jumpsuit(piece) -> None:
    shape = piece.shape
    waist_y = shape.get("top", 0.1) + shape.get("waist_drop", 0.28)
    torso = make_torso(piece, hem_y=waist_y, hem=shape.get("waist", 0.13))
    draw_legs(piece, waist_y - 0.006, torso.hem, leg_end(piece), shape["legs"])
    _dress_torso(piece, torso)
    draw_pockets(piece, torso)
    draw_closure(piece, torso)
    draw_collar(piece, torso)
    if piece.a.get("print_place", "").endswith("chest"):
        draw_print(piece, torso)
    draw_belt(piece, waist_y, torso.hem)


def _draw_skirt(piece) -> None:
    top, waist = 0.14, 0.15 * piece.rng.uniform(0.95, 1.05)
    low = specs.SKIRT_Y[piece.a["length"]] * piece.rng.uniform(0.97, 1.02)
    draw_skirt(piece, top, waist, low, piece.shape["skirt"])
    draw_leg_pockets(piece, top, waist, top, 0.6, 0.1)
    closure = piece.a["closure"]
    if closure in ("buttons", "zip", "lace-up"):
        _skirt_closure(piece, closure, top + 0.05, low - 0.04)
    if piece.a["print"] != "none":
        _draw_low_print(piece, top, low, 0.1)
    draw_waistband(piece, top - 0.03, waist)


def _skirt_closure(piece, kind, y1, y2) -> None:
    canvas, paint = piece.canvas, piece.c["fastening_colour"]
    if kind == "buttons":
        canvas.seam([(0.475, y1), (0.475, y2)])
        for y in np.linspace(y1 + 0.03, y2 - 0.02, max(4, int((y2 - y1) / 0.08))):
            canvas.disc(0.5, y, 0.015, paint, "closure")
    elif kind == "zip":
        canvas.stroke([(0.5, y1), (0.5, y2)], paint, 0.028, "closure")
        canvas.seam([(0.5, y1), (0.5, y2)], 2)
    else:
        rows = np.linspace(y1 + 0.01, y1 + 0.2, 5)
        for upper, lower in zip(rows[:-1], rows[1:], strict=True):
            for side in (-1, 1):
                line = [(0.5 - side * 0.04, upper), (0.5 + side * 0.04, lower)]
                canvas.stroke(line, paint, 0.01, "closure")


def _draw_trousers(piece) -> None:
    top, waist = 0.09, 0.155 * piece.rng.uniform(0.96, 1.04)
    draw_legs(piece, top, waist, leg_end(piece), piece.shape["legs"])
    draw_waistband(piece, top - 0.03, waist)


_FAMILIES = {
    "upper": _draw_upper,
    "dress": _draw_dress,
    "jumpsuit": _draw_jumpsuit,
    "skirt": _draw_skirt,
    "trousers": _draw_trousers,
    "shoe": draw_shoe,
    "bag": draw_bag,
    "hat": draw_hat,
    "scarf": draw_scarf,
}


def _mix_colours(attributes, rng) -> dict:
    """BGR of every colour attribute; a tonal part has a shade of the base colour."""
    base = palette.shade(attributes["colour"], rng)
    colours = {"colour": base}
    for name in choices.COLOUR_OF:
        if name in attributes:
            colours[name] = palette.shade(attributes[name], rng)
        else:
            colours[name] = palette.scaled(base, 0.8)
    return colours


def draw_product(spec: specs.Spec, attributes: dict, rng) -> Sprite:
    """Draws one product upright.

    Args:
      spec: its sub-category.
      attributes: values drawn by `choices.choose_attributes`.
      rng: generator of this product.

    Returns:
      A `Sprite`; its marks hold an outline for every located attribute.
    """
    colours = _mix_colours(attributes, rng)
    second = colours.get("pattern_colour", colours["colour"])
    span = specs.SPANS.get(spec.family, (0.1, 0.9))
    cloth = fabrics.pattern_image(
        attributes["pattern"], rng, colours["colour"], second, span
    )
    canvas = Canvas(rng, cloth, colours["colour"], attributes["material"])
    piece = Piece(canvas, attributes, colours, spec.shape, rng)
    _FAMILIES[spec.family](piece)
    for colour, parts in choices.COLOUR_OF.items():
        if colour in attributes:
            _mark_colour(canvas.marks, colour, parts, attributes)
    return canvas.finish()


def _mark_colour(marks, colour, parts, attributes) -> None:
    """A part's colour is seen where the part is seen."""
    for part, values in parts.items():
        if choices.matches(attributes.get(part), values):
            marks.setdefault(colour, []).extend(marks.get(part, []))
