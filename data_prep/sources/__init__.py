"""Catalogues -> a stream of `Product` views: the first station of data preparation.

Four doors, one kind of thing behind them. Each source yields its rows under the same
names (`rows.py` says which), and all rows pass the same checks.
"""

import inspect

from data_prep.sources.fashion_gen import read_fashion_gen
from data_prep.sources.kaggle import read_kaggle
from data_prep.sources.kaleido_release import read_kaleido_release
from data_prep.sources.manifest import TEXT_FIELDS, read_manifest
from data_prep.sources.rows import Product, SkipList, hashed_split

# Source -> (its reader, the arguments that name its files; the first has to be given).
SOURCES = {
    "manifest": (read_manifest, ("manifest",)),
    "fashion_gen": (
        read_fashion_gen,
        ("train_file", "validation_file", "allow_other_keys"),
    ),
    "kaleido_release": (
        read_kaleido_release,
        ("train_file", "validation_file", "train_images", "validation_images"),
    ),
    "kaggle": (read_kaggle, ("styles", "category_column", "subcategory_column")),
}


def read(source, skipped, paths, **options):
    """Reads a catalogue of any kind.

    Args:
      source: key of `SOURCES`.
      skipped: `SkipList` that takes what can't be used.
      paths: dict of the arguments that name files and columns; those of other sources
        and those that are None are left out.
      **options: `validation_fraction`, `text_fields`, `max_images`, where not None;
        see `read_manifest`.

    Returns:
      list of `Product`.

    Raises:
      ValueError: an unknown source, or one whose file isn't named; and what its reader
        raises.
    """
    if source not in SOURCES:
        raise ValueError(
            f"`source` should be one of {sorted(SOURCES)}. Received: {source!r}"
        )
    reader, names = SOURCES[source]
    given = {name: paths[name] for name in names if paths.get(name) not in (None, "")}
    if names[0] not in given:
        raise ValueError(
            f"`--{names[0]}` should be given with --source={source}. Received: no value"
        )
    options = {key: value for key, value in options.items() if value is not None}
    return reader(given.pop(names[0]), skipped=skipped, **{**given, **options})


def default_text_fields(source):
    """The fields that a source joins into the text, unless others are named: tuple."""
    reader, _ = SOURCES[source]
    return tuple(inspect.signature(reader).parameters["text_fields"].default)


__all__ = [
    "SOURCES",
    "TEXT_FIELDS",
    "Product",
    "SkipList",
    "default_text_fields",
    "hashed_split",
    "read",
    "read_fashion_gen",
    "read_kaggle",
    "read_kaleido_release",
    "read_manifest",
]
