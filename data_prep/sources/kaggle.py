"""The Kaggle data set "Fashion Product Images": styles.csv beside images/{id}.jpg.

One view a product. The titles, in the last column, are not quoted and may hold commas,
at which a CSV reader stumbles: a line is cut at the commas before the last column only.
"""

import os

from data_prep.sources import rows

TITLE = "productDisplayName"
_ID = "id"


def read_kaggle(
    styles,
    skipped,
    category_column="subCategory",
    subcategory_column="articleType",
    validation_fraction=0.1,
    text_fields=("title",),
    max_images=None,
):
    """Reads styles.csv.

    The three columns of classes, from coarse to fine, are masterCategory (7 classes),
    subCategory (45) and articleType (142). Our two are the finer ones by default:
    that is nearest to Fashion-Gen's 48 categories and 121 sub-categories.

    Args:
      styles: path of styles.csv; the pictures lie in `images` beside it.
      skipped: `SkipList` that takes the lines which can't be used: too few columns, no
        title, an id seen before.
      category_column, subcategory_column: columns of the classes.
      validation_fraction: share of products held out, by the hash of their id.
      text_fields: joined into the text; `title` is the product's display name, others
        are columns, such as baseColour.
      max_images: stop after so many usable lines; None reads all.

    Returns:
      list of `Product` in the file's order.

    Raises:
      FileNotFoundError: no such file.
      ValueError: another header, an unknown column, or no usable line.
    """
    if not os.path.isfile(styles):
        raise FileNotFoundError(
            f"`styles` should be Kaggle's styles.csv. Received: {styles}"
        )
    header = _header(styles)
    asked = [category_column, subcategory_column, *text_fields]
    if unknown := set(asked) - {*header, "title"}:
        raise ValueError(
            f"Columns of {styles} should be out of {header}, texts also `title`. "
            f"Received: {sorted(unknown)}"
        )
    names = {"category": category_column, "subcategory": subcategory_column}
    found = _rows(styles, header, names, skipped)
    products = rows.collect(
        found, skipped, text_fields, validation_fraction, max_images
    )
    rows.check_splits(products, styles, skipped)
    return products


def _header(path):
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        header = file.readline().strip().split(",")
    if header[0] != _ID or header[-1] != TITLE:
        raise ValueError(
            f"{path} should have a header from `{_ID}` to `{TITLE}`, as Kaggle's "
            f"styles.csv. Received: {header}"
        )
    return header


def _rows(path, header, names, skipped):
    images = os.path.join(os.path.dirname(os.path.abspath(path)), "images")
    # Bytes that aren't UTF-8 are kept as surrogates, by which the checks find them.
    options = {"encoding": "utf-8-sig", "errors": "surrogateescape", "newline": "\n"}
    with open(path, **options) as file:
        next(file)
        for number, line in enumerate(file, start=2):
            if not line.strip():
                continue
            columns = line.strip("\r\n").split(",", len(header) - 1)
            if len(columns) != len(header):
                detail = f"{len(header)} columns, received {len(columns)}"
                skipped.add("wrong columns", detail, line=number)
                continue
            row = dict(zip(header, columns, strict=True))
            row |= {ours: row[theirs] for ours, theirs in names.items()}
            row["title"] = _unquoted(row[TITLE])
            row["product_id"] = row["image_id"] = row[_ID].strip()
            row["image"] = os.path.join(images, f"{row['product_id']}.jpg")
            yield {"line": number}, row


def _unquoted(title):
    """A title without the quotes that a spreadsheet puts around it."""
    title = title.strip()
    if len(title) > 1 and title[0] == title[-1] == '"':
        title = title[1:-1].replace('""', '"')
    return title
