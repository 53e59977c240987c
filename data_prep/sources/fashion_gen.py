"""Fashion-Gen as published: two HDF5 files, one row an image view.

Texts are read here, in slices; pixels stay in the file, and a `Product` names its row
(`read_pictures` gives them, in slices and in order: the images are compressed in
chunks of many rows, so reading them at random would unpack each chunk many times).
"""

import os

import h5py
import numpy as np

from data_prep.sources import rows

# Columns of text beside the four of `_FIELDS`; a flag may make a text of them too.
_OTHER = ("brand", "department", "gender", "composition", "season", "pose")
# Ours -> theirs. `input_concat_description` is another's preprocessing: not used.
_FIELDS = {
    "title": "input_name",
    "description": "input_description",
    "category": "input_category",
    "subcategory": "input_subcategory",
}
# Key -> kind of its numpy type: i integer, f float, S bytes, u8 pixels.
KEYS = {
    "index": "i",
    "index_2": "i",
    "input_image": "u8",
    "input_productID": "i",
    "input_msrpUSD": "f",
    "input_concat_description": "S",
    **dict.fromkeys(_FIELDS.values(), "S"),
    **{f"input_{name}": "S" for name in _OTHER},
}
_SLICE = 4096  # rows of text at a time
_PICTURES = 64  # rows of pixels at a time: 12 MB
_MOST_CACHE = 1 << 30  # bytes for unpacked chunks of one file
_SHOWN = {"i": "integers", "f": "floats", "S": "bytes", "u8": "uint8"}


def read_fashion_gen(
    train_file,
    skipped,
    validation_file=None,
    allow_other_keys=False,
    validation_fraction=0.1,
    text_fields=("description",),
    max_images=None,
):
    """Reads the texts of Fashion-Gen's files.

    The view number of a product counts its rows: image_id `86605_0`, as in the
    re-release. Bytes are read as latin-1, since the published files' are no clean
    UTF-8; a column that declares UTF-8 is read as that.

    Args:
      train_file, validation_file: `fashiongen_256_256_train.h5` and the other; without
        the second, products are held out by their hash.
      skipped: `SkipList` that takes rows without a text.
      allow_other_keys: take a file with keys beyond the published 16, or without those
        that aren't needed.
      validation_fraction, max_images: see `rows.collect_pair`.
      text_fields: out of description, title, brand, department, gender, composition,
        season, pose.

    Returns:
      list of `Product`, the rows of a file in order.

    Raises:
      FileNotFoundError: no such file.
      ValueError: no HDF5 file, missing or extra keys, wrong types or lengths.
    """
    files = (train_file, validation_file)
    unknown = set(text_fields) - set(_FIELDS) - set(_OTHER)
    if unknown:
        raise ValueError(
            f"`text_fields` should be out of {[*_FIELDS, *_OTHER]}. "
            f"Received: {sorted(unknown)}"
        )
    needed = _columns(text_fields)
    for path in files:
        if path:
            check_file(path, {*needed.values(), "input_productID"}, allow_other_keys)
    return rows.collect_pair(
        lambda path, split: _rows(path, split, needed),
        files,
        skipped,
        text_fields,
        validation_fraction,
        max_images,
    )


def _columns(text_fields):
    """Field -> key of the file for every field that a product needs: dict."""
    columns = {name: _FIELDS[name] for name in ("category", "subcategory")}
    for name in text_fields:
        columns[name] = _FIELDS.get(name, f"input_{name}")
    return columns


def open_file(path, **options):
    """Opens an HDF5 file for reading; says what is wrong with one that can't be."""
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f"{path} should be an HDF5 file of Fashion-Gen. Received: no such file"
        )
    try:
        return h5py.File(path, "r", **options)
    except OSError as error:
        raise ValueError(
            f"{path} should be an HDF5 file of Fashion-Gen. Received: {error} (the "
            "download may be incomplete)"
        ) from error


def check_file(path, needed, allow_other_keys=False):
    """Raises ValueError where a file isn't as published.

    Args:
      path: the HDF5 file.
      needed: keys that are read, beside `input_image`.
      allow_other_keys: see `read_fashion_gen`.
    """
    with open_file(path) as file:
        wanted = {*needed, "input_image"} if allow_other_keys else set(KEYS)
        missing = sorted(wanted - set(file))
        extra = [] if allow_other_keys else sorted(set(file) - set(KEYS))
        if missing or extra:
            hint = " (--allow_other_keys takes the file as it is)"
            raise ValueError(
                f"{path} should have the {len(KEYS)} keys of Fashion-Gen. "
                f"Missing: {missing}; extra: {extra}"
                f"{'' if set(missing) & {*needed, 'input_image'} else hint}"
            )
        problems = [
            problem for key in sorted(wanted) if (problem := _key_problem(key, file))
        ]
        lengths = {key: len(file[key]) for key in sorted(wanted) if not problems}
    if problems:
        raise ValueError(
            f"{path} should be as published. Received: {'; '.join(problems)}"
        )
    if len(set(lengths.values())) > 1:
        raise ValueError(
            f"{path} should have as many rows in every key. Received: {lengths}"
        )


def _key_problem(key, file):
    """What is wrong with a key's type or shape: str, or None."""
    data = file[key]
    if not isinstance(data, h5py.Dataset):
        return f"`{key}` is a group, not a table"
    kind = KEYS[key]
    if kind == "u8":
        right = data.dtype == np.uint8 and data.ndim == 4 and data.shape[3] == 3
        wanted = "(N, 256, 256, 3)"
    else:
        is_bytes = data.dtype.kind == "S" or h5py.check_string_dtype(data.dtype)
        kinds = "iu" if kind == "i" else kind
        right = is_bytes if kind == "S" else data.dtype.kind in kinds
        right = right and (data.ndim == 1 or data.ndim == 2 and data.shape[1] == 1)
        wanted = "(N, 1)"
    if right:
        return None
    return (
        f"`{key}` has {data.dtype} {data.shape}, should be {_SHOWN[kind]} of shape "
        f"{wanted}"
    )


def _rows(path, split, columns):
    """Yields (where, row) of one file, in order."""
    path = os.path.abspath(path)
    views = {}
    with open_file(path) as file:
        count = len(file["input_productID"])
        for start in range(0, count, _SLICE):
            part = slice(start, min(start + _SLICE, count))
            products = file["input_productID"][part].reshape(-1).tolist()
            texts = {name: _texts(file[key], part) for name, key in columns.items()}
            for i, product in enumerate(products):
                view = views[product] = views.get(product, -1) + 1
                yield (
                    {"file": os.path.basename(path), "row": start + i},
                    {
                        "product_id": str(product),
                        "image_id": f"{product}_{view}",
                        "image": path,
                        "row": start + i,
                        "split": split,
                        **{name: values[i] for name, values in texts.items()},
                    },
                )


def _texts(column, part):
    """A slice of a column of bytes -> list of str.

    Raises:
      ValueError: a part of the file that can't be read.
    """
    try:
        values = column[part].reshape(-1).tolist()
    except OSError as error:
        raise ValueError(
            f"{column.file.filename} should be whole. Received: rows {part.start} to "
            f"{part.stop - 1} of `{column.name[1:]}` can't be read: {error}"
        ) from error
    declared = h5py.check_string_dtype(column.dtype)
    is_utf8 = declared is not None and declared.encoding == "utf-8"
    return [_text(value, is_utf8) for value in values]


def _text(value, is_utf8):
    if not isinstance(value, bytes):
        return str(value)
    if is_utf8:
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            pass
    return value.decode("latin-1")


def rows_per_chunk(path):
    """How many rows a chunk of the images holds: int (1 where they aren't chunked)."""
    with open_file(path) as file:
        chunks = file["input_image"].chunks
    return chunks[0] if chunks else 1


def read_pictures(path, wanted):
    """Pixels of some rows of a file, read in slices, every chunk unpacked once.

    Args:
      path: the HDF5 file.
      wanted: row numbers, ascending.

    Yields:
      for each row uint8 [h, w, 3] RGB, or a ValueError that says why it can't be read.
    """
    with open_file(path, **_cache(path)) as file:
        images = file["input_image"]
        start = 0
        while start < len(wanted):
            end = start + 1
            while end < len(wanted) and wanted[end] < wanted[start] + _PICTURES:
                end += 1
            yield from _slice(images, wanted[start:end])
            start = end


def _cache(path):
    """Options that let one row of chunks stay unpacked while its rows are read."""
    with open_file(path) as file:
        images = file["input_image"]
        if not images.chunks:
            return {}
        # Chunks may be small in height and width: a row of pictures lies in many.
        pixels = int(np.prod(images.shape[1:]))
        size = min(_MOST_CACHE, max(1 << 20, 2 * images.chunks[0] * pixels))
        across = np.prod(-(-np.array(images.shape[1:]) // images.chunks[1:]))
    return {"rdcc_nbytes": size, "rdcc_nslots": int(101 * across) + 1, "rdcc_w0": 1.0}


def _slice(images, wanted):
    """Pixels of rows that lie close together: list of arrays or ValueErrors."""
    try:
        block = images[wanted[0] : wanted[-1] + 1]
        return [block[row - wanted[0]] for row in wanted]
    except OSError:  # a damaged chunk: find out which rows it takes with it
        return [_single(images, row) for row in wanted]


def _single(images, row):
    try:
        return images[row]
    except OSError as error:
        return ValueError(f"row {row} can't be read: {error}")
