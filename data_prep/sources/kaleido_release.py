"""Fashion-Gen as re-released with Kaleido-BERT: lines and PNG folders.

`full_train_info.txt` and `full_valid_info.txt` hold one line an image without header,
seven columns separated by byte 0x01, beside `extracted_train_images/{image_id}.png`.
"""

import os

from data_prep.sources import rows

COLUMNS = (
    "product_id",
    "image_id",
    "category",
    "category_id",
    "subcategory",
    "subcategory_id",
    "description",
)
SEPARATOR = b"\x01"
_FOLDERS = {"train": "extracted_train_images", "validation": "extracted_valid_images"}


def read_kaleido_release(
    train_file,
    skipped,
    validation_file=None,
    train_images=None,
    validation_images=None,
    validation_fraction=0.1,
    text_fields=("description",),
    max_images=None,
):
    """Reads the re-release's lines.

    A line that isn't UTF-8 is read as latin-1, as the file it was made from.

    Args:
      train_file, validation_file: `full_train_info.txt` and the other; without the
        second, products are held out by their hash.
      skipped: `SkipList` that takes the lines which can't be used: not seven columns,
        no text, an image_id seen before.
      train_images, validation_images: folders of the pictures; default: beside the
        files, under the names of the re-release.
      validation_fraction, text_fields, max_images: see `rows.collect_pair`.

    Returns:
      list of `Product` in the files' order.

    Raises:
      FileNotFoundError: no such file or folder.
      ValueError: no usable line, or a split without any.
    """
    folders = {"train": train_images, "validation": validation_images}
    for split, file in (("train", train_file), ("validation", validation_file)):
        if file:
            folders[split] = _folder(file, folders[split], split)
    return rows.collect_pair(
        lambda path, split: _rows(path, split, folders[split or "train"], skipped),
        (train_file, validation_file),
        skipped,
        text_fields,
        validation_fraction,
        max_images,
    )


def _folder(file, folder, split):
    """Folder of a split's pictures, checked."""
    if not os.path.isfile(file):
        raise FileNotFoundError(
            f"`{split}_file` should be the re-release's file of lines. Received: {file}"
        )
    folder = folder or os.path.join(os.path.dirname(file), _FOLDERS[split])
    if not os.path.isdir(folder):
        raise FileNotFoundError(
            f"`{split}_images` should be the folder of {os.path.basename(file)}'s "
            f"pictures. Received: {folder}"
        )
    return os.path.abspath(folder)


def _rows(path, split, folder, skipped):
    name = os.path.basename(path)
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            columns = [_text(c) for c in line.rstrip(b"\r\n").split(SEPARATOR)]
            where = {"file": name, "line": number}
            if len(columns) != len(COLUMNS):
                detail = f"{len(COLUMNS)} columns by 0x01, received {len(columns)}"
                skipped.add("wrong columns", detail, **where)
                continue
            row = dict(zip(COLUMNS, columns, strict=True))
            image = row["image_id"].strip()
            image = image and os.path.join(folder, f"{image}.png")
            yield where, {**row, "image": image, "split": split}


def _text(column):
    try:
        return column.decode()
    except UnicodeDecodeError:
        return column.decode("latin-1")
