"""Draws the attribute values of a product, and says which part wears which colour.

Values are drawn uniformly and independently; what cannot be seen is left out.
"""

from data_prep.catalogue_parts import palette
from data_prep.catalogue_parts.fabrics import PATTERNS
from data_prep.catalogue_parts.specs import Spec

_ANY = ("*",)
# Colour attribute -> the parts that wear it, and for which of their values.
COLOUR_OF = {
    "pattern_colour": {"pattern": ("*", "solid")},
    "trim_colour": {
        "neckline": ("crew", "v-neck", "scoop", "mandarin", "peter pan", "shawl",
                     "hood", "bow"),
        "cuff": ("contrast", "turned up", "buttoned", "fringed", "strapped"),
        "hem": ("contrast", "scalloped", "fringed", "drawstring", "lace"),
        "waistband": ("contrast", "drawstring"),
        "knee": ("patched",),
        "base": ("*", "plain"),
        "border": ("*", "none"),
        "trim": ("*", "none"),
    },
    "print_colour": {"print": ("*", "none")},
    "belt_colour": {"belt": ("wide", "buckle", "tie")},
    "pocket_colour": {"pocket": ("*", "none")},
    "fastening_colour": {"closure": ("*", "none", "open", "ankle strap", "t-bar",
                                     "slip-on", "clasp")},
    "stripe_colour": {"side_stripe": ("*", "none")},
    "sole_colour": {"heel": _ANY},
    "strap_colour": {"strap": ("*", "chain")},
    "brim_colour": {"brim": _ANY},
    "band_colour": {"band": ("*", "none")},
    "ornament_colour": {"ornament": ("*", "none", "buckle", "studs")},
    "charm_colour": {"charm": ("*", "none")},
    "fringe_colour": {"fringe": ("*", "none")},
}  # fmt: skip
# Parts that may lie on other parts, and have to be seen there.
_UNDER = {
    "fastening_colour": ("belt_colour",),
    "ornament_colour": ("brim_colour", "fastening_colour"),
    "charm_colour": ("fastening_colour", "print_colour"),
    "print_colour": ("trim_colour",),
}
# Share of products in which the part has the product's own colour, a shade darker.
_TONAL = {"pocket_colour": 0.4, "strap_colour": 0.35, "brim_colour": 0.4}


def matches(value, values) -> bool:
    """Whether an attribute's value is among `values`; "*" first means all but them."""
    if value is None:
        return False
    return value not in values[1:] if values[0] == "*" else value in values


# `solid` stands for a quarter of the products, since it is most of a real shop.
_PATTERN_CHOICE = ("solid", "solid", "solid", *PATTERNS)


def _choose(rng, values):
    return values[int(rng.integers(len(values)))]


def choose_attributes(spec: Spec, rng) -> dict:
    """Draws attribute -> value for one product, uniformly and independently.

    Attributes which cannot be seen are left out: cuffs without sleeves, the place of
    no print, the colour of a part that is not there.
    """
    options = spec.options
    values = {"colour": palette.choose(rng), "pattern": _choose(rng, _PATTERN_CHOICE)}
    values |= {name: _choose(rng, options[name]) for name in options}
    if values.get("neckline") in ("straight", "halter") and "sleeve" in values:
        values["sleeve"] = "sleeveless"
    if values.get("sleeve") == "sleeveless":
        values.pop("cuff", None)
        values.pop("sleeve_shape", None)
    if "print_place" in options:
        _choose_print_place(values, options["print_place"], rng)
    _choose_colours(values, rng)
    return values


_CHESTS, _HEMS = ("left chest", "right chest"), ("left hem", "right hem")
_NO_FRONT = {
    name: ("front",)
    for name in ("buttons", "zip", "double-breasted", "toggles", "lace-up", "open",
                 "asymmetric zip", "one button", "wrap", "henley", "half zip")
}  # fmt: skip
# Attribute -> value -> places where it leaves no room for a print.
_OCCUPIED = {
    "pocket": {
        "chest pocket left": ("front", "left chest"),
        "chest pocket right": ("front", "right chest"),
        "two chest pockets": ("front", *_CHESTS),
        "two patch pockets": _HEMS,
        "two flap pockets": _HEMS,
        "slant pockets": _HEMS,
        "kangaroo pocket": _HEMS,
    },
    "neckline": {name: _CHESTS for name in ("lapel", "shawl", "bow", "peter pan")},
    "closure": _NO_FRONT,
}


def _choose_print_place(values, places, rng) -> None:
    """Puts the print where nothing else is; without room there is no print."""
    taken = {p for a in _OCCUPIED for p in _OCCUPIED[a].get(values.get(a), ())}
    if "waistband" in values:  # skirts and trousers have their pockets at the top
        taken = ()
    free = [place for place in places if place not in taken]
    if values["print"] == "none" or not free:
        values["print"] = "none"
        values.pop("print_place", None)
    else:
        values["print_place"] = _choose(rng, free)


def _choose_colours(values, rng) -> None:
    """Adds the colours of the parts, each far from the cloth's own colours."""
    against = (values["colour"],)
    for name, parts in COLOUR_OF.items():
        under = tuple(values[n] for n in _UNDER.get(name, ()) if n in values)
        choice, share = palette.choose(rng, against + under), rng.random()
        present = any(matches(values.get(part), parts[part]) for part in parts)
        if present and share >= _TONAL.get(name, 0.0):
            values[name] = choice
            if name == "pattern_colour":
                against += (choice,)
