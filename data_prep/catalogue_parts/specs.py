"""Categories, sub-categories and the values of their attributes.

The one table of what the embedded catalogue can hold. A `Spec` is a sub-category: the
family that draws it, its proportions, and for each attribute the values it may take;
`choices` draws from them.
"""

import dataclasses

from data_prep.catalogue_parts.motifs import MOTIF_NAMES

# Height of the hem for the attribute `length`.
DRESS_Y = {"mini": 0.66, "knee-length": 0.77, "midi": 0.86, "maxi": 0.94}
SKIRT_Y = {"mini": 0.5, "knee-length": 0.64, "midi": 0.78, "maxi": 0.93}
_SHORT_Y = {"cropped": 0.6, "regular": 0.72, "long": 0.84}
_JACKET_Y = {"cropped": 0.62, "regular": 0.74, "long": 0.85}
_COAT_Y = {"short": 0.74, "knee-length": 0.84, "long": 0.95}

# Attributes seen all over the product.
GLOBAL = ("colour", "pattern", "pattern_colour", "material", "length")

# From where to where the products of a family reach, for patterns that need to know.
SPANS = {"shoe": (0.45, 0.85), "hat": (0.25, 0.72), "bag": (0.38, 0.92)}


@dataclasses.dataclass(frozen=True)
class Spec:
    """One sub-category.

    Attributes:
      category, name: as in the manifest.
      nouns: what the text calls it.
      family: which drawing it has.
      shape: proportions and kind.
      options: attribute -> values.
    """

    category: str
    name: str
    nouns: tuple
    family: str
    shape: dict
    options: dict


_PRINTS = ("none", "none", *MOTIF_NAMES)
_SIDES = ("left chest", "right chest", "left hem", "right hem")
_PLACES = ("front", *_SIDES)
_CHEST = ("none", "chest pocket left", "chest pocket right", "two chest pockets")
_LOW = ("none", "two patch pockets", "two flap pockets", "slant pockets")
_SLEEVES = ("cap", "short", "elbow", "three-quarter", "long")
_UPPER = {
    "material": ("cotton", "linen", "jersey"),
    "neckline": ("crew", "v-neck", "scoop"),
    "sleeve": _SLEEVES,
    "closure": ("none", "henley"),
    "pocket": _CHEST,
    "cuff": ("plain", "ribbed", "contrast", "turned up"),
    "hem": ("plain", "ribbed", "contrast", "scalloped", "fringed"),
    "print": _PRINTS,
    "print_place": _PLACES,
    "length": ("cropped", "regular", "long"),
}
_SHIRT = _UPPER | {
    "material": ("cotton", "linen", "silk", "denim", "corduroy"),
    "neckline": ("spread", "mandarin", "peter pan"),
    "closure": ("buttons", "henley", "zip"),
    "sleeve": ("short", "elbow", "three-quarter", "long"),
    "hem": ("plain", "contrast", "scalloped"),
    "cuff": ("plain", "buttoned", "contrast", "turned up"),
}
_KNIT = _UPPER | {
    "material": ("wool", "cashmere", "cable knit", "knit"),
    "neckline": ("crew", "v-neck", "turtleneck", "boat"),
    "sleeve": ("short", "three-quarter", "long"),
    "closure": ("none", "henley", "half zip"),
    "cuff": ("ribbed", "contrast", "plain", "turned up"),
}
_SWEAT = _UPPER | {
    "material": ("fleece", "cotton", "jersey"),
    "neckline": ("hood",),
    "sleeve": ("short", "three-quarter", "long"),
    "closure": ("none", "zip", "half zip", "lace-up"),
    "pocket": ("none", "kangaroo pocket", "slant pockets", "chest pocket left"),
    "cuff": ("ribbed", "contrast", "elastic"),
    "hem": ("ribbed", "contrast", "drawstring", "fringed"),
}
_JACKET = _UPPER | {
    "material": ("leather", "nylon", "suede", "corduroy", "wool"),
    "neckline": ("funnel", "spread", "hood"),
    "sleeve": ("three-quarter", "long"),
    "closure": ("buttons", "zip", "toggles", "asymmetric zip"),
    "pocket": (*_CHEST[1:], *_LOW),
    "cuff": ("ribbed", "strapped", "plain", "contrast"),
    "hem": ("plain", "contrast", "drawstring"),
    "print_place": _SIDES,
}
_COAT = _JACKET | {
    "material": ("wool", "tweed", "cashmere", "cotton", "leather"),
    "pocket": _LOW,
    "cuff": ("plain", "strapped", "contrast", "turned up"),
    "hem": ("plain", "contrast", "fringed"),
    "belt": ("none", "buckle", "tie", "wide"),
    "length": ("short", "knee-length", "long"),
}
_DRESS = {
    "material": ("cotton", "silk", "satin", "linen", "jersey"),
    "neckline": ("crew", "v-neck", "scoop", "square", "boat", "halter", "straight",
                 "peter pan", "bow"),
    "sleeve": ("sleeveless", *_SLEEVES),
    "closure": ("none", "buttons", "lace-up", "zip"),
    "belt": ("none", "buckle", "tie", "wide", "chain"),
    "cuff": ("plain", "contrast", "buttoned"),
    "hem": ("plain", "contrast", "scalloped", "fringed", "lace", "ruffled"),
    "print": _PRINTS,
    "print_place": _SIDES,
    "length": ("mini", "knee-length", "midi", "maxi"),
}  # fmt: skip
_SKIRT = {
    "material": ("cotton", "denim", "leather", "wool", "satin", "corduroy"),
    "waistband": ("plain", "elastic", "contrast", "wide", "paper bag"),
    "closure": ("none", "buttons", "zip", "lace-up"),
    "pocket": ("none", "slant pockets", "two patch pockets", "coin pocket"),
    "hem": ("plain", "contrast", "scalloped", "fringed", "lace", "ruffled"),
    "belt": ("none", "buckle", "tie", "chain"),
    "print": _PRINTS,
    "print_place": ("left hem", "right hem"),
    "length": ("mini", "knee-length", "midi", "maxi"),
}
_TROUSERS = {
    "material": ("cotton", "denim", "linen", "wool", "corduroy", "leather"),
    "waistband": ("plain", "elastic", "contrast", "drawstring", "paper bag"),
    "pocket": ("none", "slant pockets", "cargo pockets", "two patch pockets",
               "coin pocket"),
    "cuff": ("plain", "turned up", "ribbed", "frayed", "zipped", "contrast"),
    "knee": ("none", "ripped", "patched", "quilted"),
    "side_stripe": ("none", "single", "double"),
    "belt": ("none", "buckle", "tie", "chain"),
    "print": _PRINTS,
    "print_place": ("left leg", "right leg"),
    "leg_length": ("cropped", "full"),
}  # fmt: skip
_SHORTS = {k: v for k, v in _TROUSERS.items() if k != "knee"} | {
    "leg_length": ("short", "mid", "knee"),
    "pocket": ("none", "slant pockets", "two patch pockets", "coin pocket"),
    "cuff": ("plain", "turned up", "frayed", "contrast"),
}
_ORNAMENTS = ("none", "star", "heart", "bow", "tassel", "buckle", "studs", "pompom")
_SHOE = {
    "material": ("leather", "suede", "canvas", "satin"),
    "heel": ("flat", "platform", "chunky"),
    "toe": ("round", "pointed", "square"),
    "closure": ("laces", "straps", "zip", "buckles"),
    "ornament": ("none", *MOTIF_NAMES),
}
_BAG = {
    "material": ("leather", "canvas", "suede", "nylon", "straw"),
    "strap": ("long", "chain", "short", "double"),
    "closure": ("flap", "zip", "clasp", "tab", "buckled flap"),
    "pocket": ("none", "front pocket", "zip pocket", "side pocket"),
    "base": ("plain", "contrast", "corners"),
    "charm": ("none", "tassel", "pompom", "heart", "star", "moon"),
    "print": _PRINTS,
}
_HAT = {
    "material": ("cotton", "wool", "corduroy", "straw", "suede"),
    "brim": ("narrow", "medium", "wide"),
    "band": ("none", "plain", "studded", "ribbed"),
    "ornament": ("none", "feather", "bow", "patch", "star", "heart", "anchor", "bolt"),
}
_CAP_ORNAMENTS = ("none", "patch", "pompom", *MOTIF_NAMES)
_SCARF = {
    "material": ("wool", "cashmere", "cotton", "silk", "cable knit"),
    "fringe": ("none", "short", "long", "pompoms"),
    "border": ("none", "band", "stripes"),
    "print": _PRINTS,
    "length": ("short", "long"),
}


def _merge(base, options):
    """Options of a family with a sub-category's own; None takes an attribute away."""
    return {k: v for k, v in (base | options).items() if v is not None}


def _upper(category, name, nouns, base, shape, **options):
    return Spec(category, name, nouns, "upper", {"hem_y": _SHORT_Y} | shape,
                _merge(base, options))  # fmt: skip


_TANK = ("sleeveless",)
_NO_ARMS = {"shoulder": 0.14, "neck": 0.075, "armpit": 0.2}
_BOXY = {"shoulder": 0.235, "chest": 0.235, "waist": 0.235, "hem": 0.235,
         "arm_angle": 20, "neck": 0.08}  # fmt: skip
_COATY = {"hem_y": _COAT_Y, "top": 0.1, "shoulder": 0.155, "chest": 0.15,
          "waist": 0.145, "hem": 0.17, "neck": 0.055, "arm": 0.43, "waist_drop": 0.34,
          "wrist": 0.04, "arm_angle": 17}  # fmt: skip
_DRESSY = {"top": 0.08, "shoulder": 0.14, "chest": 0.135, "waist": 0.115, "hip": 0.14,
           "neck": 0.055, "arm": 0.42, "wrist": 0.034, "armpit": 0.16,
           "slope": 0.03}  # fmt: skip
_TIGHT = _DRESSY | {"legs": "straight", "waist_drop": 0.28, "rise": 0.15,
                    "spread": 0.075}  # fmt: skip


def _dress(name, nouns, skirt, shape=None, **options):
    shape = _DRESSY | {"skirt": skirt} | (shape or {})
    return Spec("DRESSES", name, nouns, "dress", shape, _DRESS | options)


def _jumpsuit(name, nouns, legs, leg_y, **options):
    base = {k: _DRESS[k] for k in ("material", "neckline", "sleeve", "closure", "belt",
                                   "print")}  # fmt: skip
    base |= {"pocket": _CHEST, "leg_length": tuple(leg_y)}
    base |= {"print_place": ("left chest", "right chest", "left leg", "right leg")}
    return Spec("JUMPSUITS", name, nouns, "jumpsuit",
                _TIGHT | {"legs": legs, "leg_y": leg_y}, base | options)  # fmt: skip


def _simple(category, family, base, key):
    def make(name, nouns, kind, **options):
        return Spec(category, name, nouns, family, {key: kind}, base | options)

    return make


_skirt = _simple("SKIRTS", "skirt", _SKIRT, "skirt")
_trousers = _simple("TROUSERS", "trousers", _TROUSERS, "legs")
_shorts = _simple("SHORTS", "trousers", _SHORTS, "legs")
_shoe = _simple("SHOES", "shoe", _SHOE, "kind")
_bag = _simple("BAGS", "bag", _BAG, "kind")
_hat = _simple("HATS", "hat", _HAT, "kind")
_scarf = _simple("SCARVES", "scarf", _SCARF, "kind")

_SNEAKER_TRIM = ("none", "toe cap", "heel counter", "toe and heel")
_HEELS = ("block", "stiletto", "wedge", "cone")
SPECS = (
    _upper("T-SHIRTS", "CLASSIC T-SHIRTS", ("T-shirt", "tee"), _UPPER, {}),
    _upper("T-SHIRTS", "OVERSIZED T-SHIRTS", ("oversized T-shirt", "boxy tee"), _UPPER,
           _BOXY, sleeve=("short", "elbow", "three-quarter")),
    _upper("T-SHIRTS", "TANK TOPS", ("tank top", "vest top"), _UPPER, _NO_ARMS,
           sleeve=_TANK, neckline=("crew", "v-neck", "scoop", "square"),
           hem=("plain", "contrast", "scalloped", "fringed", "drawstring")),
    _upper("T-SHIRTS", "POLOS", ("polo shirt", "polo"), _UPPER, {"neck": 0.075},
           neckline=("spread",), closure=("henley", "half zip"),
           sleeve=("short", "elbow", "long")),
    _upper("SHIRTS", "DRESS SHIRTS", ("shirt", "dress shirt"), _SHIRT,
           {"dip": 0.1, "waist": 0.168}),
    _upper("SHIRTS", "OVERSHIRTS", ("overshirt", "shirt jacket"), _SHIRT, _BOXY,
           pocket=("two chest pockets", "two patch pockets", "chest pocket left",
                   "none")),
    _upper("SHIRTS", "BLOUSES", ("blouse",), _SHIRT,
           {"waist": 0.135, "hem": 0.225, "waist_drop": 0.36, "hem_y": _SHORT_Y},
           neckline=("peter pan", "bow", "mandarin", "v-neck"),
           sleeve_shape=("puff", "bell", "balloon")),
    _upper("SHIRTS", "TUNICS", ("tunic",), _SHIRT,
           {"hem_y": {"regular": 0.86, "long": 0.94}, "top": 0.1, "shoulder": 0.15,
            "chest": 0.15, "waist": 0.175, "hem": 0.25, "neck": 0.06, "arm": 0.45},
           length=("regular", "long"), belt=("none", "tie", "chain", "buckle"),
           neckline=("v-neck", "mandarin", "square"), closure=("lace-up", "henley")),
    _upper("KNITWEAR", "PULLOVERS", ("pullover", "jumper"), _KNIT, {"wrist": 0.05}),
    _upper("KNITWEAR", "CARDIGANS", ("cardigan",), _KNIT, {},
           neckline=("v-neck", "shawl"), closure=("buttons", "open", "zip", "toggles"),
           pocket=("none", "two patch pockets", "chest pocket left", "slant pockets")),
    _upper("KNITWEAR", "KNIT VESTS", ("sweater vest", "slipover"), _KNIT,
           {"shoulder": 0.145, "neck": 0.08, "armpit": 0.24}, sleeve=_TANK,
           neckline=("v-neck", "crew"), closure=("none", "buttons", "zip")),
    _upper("KNITWEAR", "PONCHOS", ("poncho",), _KNIT,
           {"shoulder": 0.2, "chest": 0.3, "waist": 0.38, "hem": 0.42, "armpit": 0.17,
            "slope": 0.06, "waist_drop": 0.33, "dip": 0.16,
            "hem_y": {"short": 0.6, "long": 0.74}},
           sleeve=None, neckline=("turtleneck", "v-neck", "hood"), cuff=None,
           pocket=("none", "chest pocket left", "chest pocket right",
                   "kangaroo pocket"),
           length=("short", "long"), hem=("contrast", "fringed", "scalloped", "plain")),
    _upper("HOODIES & SWEATERS", "HOODIES", ("hoodie", "hooded sweatshirt"), _SWEAT,
           {"wrist": 0.05}),
    _upper("HOODIES & SWEATERS", "SWEATSHIRTS", ("sweatshirt",), _SWEAT,
           {"wrist": 0.05}, neckline=("crew", "mandarin"),
           closure=("none", "lace-up", "half zip")),
    _upper("HOODIES & SWEATERS", "TRACK TOPS", ("track top", "track jacket"), _SWEAT,
           {"shoulder": 0.165, "chest": 0.16, "waist": 0.15, "hem": 0.15},
           material=("nylon", "jersey"), neckline=("funnel",), closure=("zip",),
           pocket=("slant pockets", "chest pocket left", "chest pocket right", "none")),
    _upper("JACKETS", "BOMBER JACKETS", ("bomber jacket", "bomber"), _JACKET,
           _BOXY | {"hem": 0.17, "wrist": 0.055, "hem_y": _SHORT_Y},
           neckline=("mandarin", "funnel"), closure=("zip", "buttons"), hem=("ribbed",),
           cuff=("ribbed", "contrast"), length=("cropped", "regular")),
    _upper("JACKETS", "BLAZERS", ("blazer", "tailored jacket"), _JACKET,
           {"hem_y": _JACKET_Y, "waist": 0.152, "hem": 0.185, "waist_drop": 0.36},
           material=("wool", "linen", "tweed", "corduroy"), neckline=("lapel", "shawl"),
           closure=("one button", "double-breasted"), cuff=("plain", "buttoned"),
           pocket=("two flap pockets", "two patch pockets", "chest pocket left",
                   "none")),
    _upper("JACKETS", "BIKER JACKETS", ("biker jacket", "moto jacket"), _JACKET,
           {"waist": 0.15, "hem": 0.15, "shoulder": 0.19, "waist_drop": 0.35},
           material=("leather", "suede"), neckline=("lapel",), length=("cropped",
           "regular"), closure=("asymmetric zip",), belt=("none", "buckle", "chain"),
           pocket=("none", "slant pockets", "chest pocket left", "two flap pockets")),
    _upper("JACKETS", "DENIM JACKETS", ("trucker jacket", "jean jacket"), _JACKET,
           {"seams": "yoke", "hem": 0.16, "waist": 0.165}, material=("denim",),
           neckline=("spread", "mandarin"), closure=("buttons", "zip"),
           length=("cropped", "regular"), hem=("contrast", "plain", "fringed")),
    _upper("JACKETS", "PUFFER JACKETS", ("puffer jacket", "down jacket"), _JACKET,
           _BOXY | {"seams": "quilted", "hem_y": _JACKET_Y, "wrist": 0.062},
           material=("nylon",), neckline=("hood", "funnel"),
           closure=("zip", "buttons", "asymmetric zip"), cuff=("elastic", "contrast")),
    _upper("COATS", "TRENCH COATS", ("trench coat", "trench"), _COAT,
           _COATY | {"hem": 0.205}, material=("cotton", "leather"),
           neckline=("lapel",), closure=("double-breasted", "buttons"),
           belt=("buckle", "tie", "wide")),
    _upper("COATS", "DUFFLE COATS", ("duffle coat",), _COAT, _COATY,
           neckline=("hood",), closure=("toggles",), belt=("none",)),
    _upper("COATS", "PARKAS", ("parka",), _COAT,
           _COATY | {"chest": 0.19, "waist": 0.18, "shoulder": 0.185, "hem": 0.19,
                     "hem_y": {"short": 0.74, "knee-length": 0.82}},
           neckline=("hood", "funnel"), closure=("zip", "buttons"),
           material=("nylon", "cotton"), hem=("drawstring", "contrast", "plain"),
           pocket=("two patch pockets", "two flap pockets", "two chest pockets"),
           length=("short", "knee-length")),
    _upper("COATS", "CAPES", ("cape",), _COAT,
           _COATY | {"shoulder": 0.165, "chest": 0.27, "waist": 0.33, "hem": 0.38,
                     "slope": 0.06, "dip": 0.06,
                     "hem_y": {"short": 0.68, "knee-length": 0.78, "long": 0.88}},
           sleeve=None, neckline=("mandarin", "funnel", "peter pan", "hood"), cuff=None,
           closure=("buttons", "toggles", "zip"), belt=("none",)),
    _dress("SHEATH DRESSES", ("sheath dress", "fitted dress"), "pencil"),
    _dress("A-LINE DRESSES", ("A-line dress", "flared dress"), "a-line"),
    _dress("MERMAID GOWNS", ("mermaid gown", "evening gown"), "mermaid",
           length=("maxi",), material=("satin", "silk")),
    _dress("TIERED DRESSES", ("tiered dress", "layered dress"), "tiered",
           {"waist": 0.14, "waist_drop": 0.24}),
    _dress("WRAP DRESSES", ("wrap dress",), "wrap", neckline=("v-neck", "shawl"),
           closure=("wrap",)),
    _skirt("PENCIL SKIRTS", ("pencil skirt",), "pencil"),
    _skirt("A-LINE SKIRTS", ("A-line skirt", "flared skirt"), "a-line"),
    _skirt("PLEATED SKIRTS", ("pleated skirt",), "pleated"),
    _skirt("TIERED SKIRTS", ("tiered skirt", "layered skirt"), "tiered"),
    _skirt("BUBBLE SKIRTS", ("bubble skirt", "balloon skirt"), "bubble",
           hem=("plain",), length=("mini", "knee-length")),
    _trousers("STRAIGHT TROUSERS", ("straight trousers", "trousers"), "straight"),
    _trousers("SKINNY TROUSERS", ("skinny trousers", "skinny pants"), "skinny"),
    _trousers("WIDE-LEG TROUSERS", ("wide-leg trousers", "palazzo pants"), "wide"),
    _trousers("FLARED TROUSERS", ("flared trousers", "flares"), "flared"),
    _trousers("JOGGERS", ("joggers", "track pants"), "jogger",
              material=("fleece", "jersey", "nylon"), cuff=("ribbed", "elastic"),
              waistband=("elastic", "drawstring")),
    _shorts("TAILORED SHORTS", ("tailored shorts", "shorts"), "short"),
    _shorts("CULOTTES", ("culottes",), "wide", leg_length=("mid", "knee")),
    _shorts("CYCLING SHORTS", ("cycling shorts", "bike shorts"), "fitted",
            material=("nylon", "jersey"), waistband=("elastic", "contrast"),
            pocket=("none", "coin pocket")),
    _jumpsuit("JUMPSUITS", ("jumpsuit", "all-in-one"), "straight",
              {"cropped": 0.84, "full": 0.95}),
    _jumpsuit("PLAYSUITS", ("playsuit", "romper"), "boxy",
              {"short": 0.62, "mid": 0.69}),
    _jumpsuit("BOILER SUITS", ("boiler suit", "coverall"), "balloon",
              {"cropped": 0.84, "full": 0.95}, neckline=("spread", "mandarin"),
              closure=("buttons", "zip"), sleeve=("short", "three-quarter", "long"),
              material=("cotton", "denim", "canvas")),
    _shoe("SNEAKERS", ("sneakers", "trainers"), "sneaker", toe=("round", "square"),
          trim=_SNEAKER_TRIM),
    _shoe("HIGH-TOP SNEAKERS", ("high-top sneakers", "high-tops"), "high top",
          toe=("round", "square"), trim=_SNEAKER_TRIM),
    _shoe("ANKLE BOOTS", ("ankle boots", "short boots"), "ankle boot",
          heel=("flat", "chunky", *_HEELS), closure=("laces", "zip", "gore", "buckles"),
          trim=("none", "collar")),
    _shoe("KNEE BOOTS", ("knee boots", "tall boots"), "knee boot",
          heel=("flat", "chunky", *_HEELS), closure=("laces", "zip", "buckles"),
          trim=("none", "collar")),
    _shoe("PUMPS", ("pumps", "court shoes"), "pump", heel=_HEELS, ornament=_ORNAMENTS,
          closure=("slip-on", "ankle strap", "t-bar")),
    _shoe("LOAFERS", ("loafers", "slip-on shoes"), "loafer", ornament=_ORNAMENTS,
          heel=("flat", "chunky", "platform", "block"), closure=("slip-on",),
          trim=("none", "saddle")),
    _shoe("SANDALS", ("sandals",), "sandal", heel=("flat", "platform", *_HEELS[:3]),
          closure=("buckled strap", "slip-on"), ornament=_ORNAMENTS, toe=("round",
          "square", "pointed")),
    _bag("TOTES", ("tote bag", "shopper"), "tote", closure=("zip", "tab", "clasp"),
         strap=("long", "double", "short")),
    _bag("SATCHELS", ("satchel", "shoulder bag"), "satchel"),
    _bag("BUCKET BAGS", ("bucket bag",), "bucket", closure=("drawstring", "flap")),
    _bag("DUFFLE BAGS", ("duffle bag", "weekend bag"), "duffle",
         closure=("zip", "buckled flap", "tab"), strap=("double", "long", "short")),
    _bag("CLUTCHES", ("clutch", "clutch bag"), "clutch", strap=("wrist",)),
    _bag("BACKPACKS", ("backpack", "rucksack"), "backpack", strap=("shoulder",),
         closure=("zip", "buckled flap", "drawstring", "flap")),
    _bag("HOBO BAGS", ("hobo bag", "slouchy bag"), "hobo", strap=("curved",),
         base=("plain",), closure=("zip", "clasp", "tab")),
    _hat("BASEBALL CAPS", ("baseball cap", "cap"), "cap",
         brim=("short", "medium", "wide"), ornament=_CAP_ORNAMENTS),
    _hat("BEANIES", ("beanie", "watch cap"), "beanie", brim=("single", "deep", "none"),
         material=("wool", "cashmere", "cable knit", "knit"), ornament=_CAP_ORNAMENTS),
    _hat("FEDORAS", ("fedora", "trilby"), "fedora"),
    _hat("BUCKET HATS", ("bucket hat",), "bucket", ornament=_CAP_ORNAMENTS),
    _hat("SUN HATS", ("sun hat", "floppy hat"), "sun hat"),
    _hat("BERETS", ("beret",), "beret", ornament=_CAP_ORNAMENTS[:2] + MOTIF_NAMES),
    _scarf("LONG SCARVES", ("scarf", "long scarf"), "long"),
    _scarf("SQUARE SCARVES", ("square scarf", "neckerchief"), "square"),
    _scarf("SNOODS", ("snood", "loop scarf"), "snood"),
)  # fmt: skip
