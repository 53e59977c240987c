"""Manifests: what is read, what is left out and why, and the splits."""

import csv
import json

import pytest

from data_prep import sources

ROWS = [
    {
        "product_id": "p0",
        "image_id": "a",
        "image": "pictures/a.jpg",
        "title": "Navy shirt",
        "description": "Long sleeve, button front.",
        "category": "tops",
        "subcategory": "shirts",
        "split": "train",
    },
    {"product_id": "p0", "image": "pictures/b.jpg", "text": "Shirt", "split": "train"},
    {"product_id": 7, "image": "c.png", "title": "Été, “red”", "split": "validation"},
]


@pytest.fixture
def write(tmp_path):
    """Writes lines (dict, str or bytes) as a manifest; returns its path."""

    def write_lines(lines, name="manifest.jsonl"):
        path = tmp_path / name
        encoded = [
            json.dumps(line) if isinstance(line, dict) else line for line in lines
        ]
        encoded = [
            line if isinstance(line, bytes) else line.encode() for line in encoded
        ]
        path.write_bytes(b"\n".join(encoded) + b"\n")
        return str(path)

    return write_lines


def write_csv(path, rows, **options):
    names = list(dict.fromkeys(name for row in rows for name in row))
    with open(path, "w", newline="", encoding="utf-8", **options) as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


def read(path, **kwargs):
    skipped = sources.SkipList()
    return sources.read_manifest(path, skipped, **kwargs), skipped


def test_what_a_line_becomes(write, tmp_path):
    products, skipped = read(write([ROWS[0], "", "  ", *ROWS[1:]]))
    assert skipped.rows == []
    assert products[0] == sources.Product(
        product_id="p0",
        image_id="a",
        image_path=str(tmp_path / "pictures" / "a.jpg"),
        text="Navy shirt. Long sleeve, button front.",
        category="tops",
        subcategory="shirts",
        split="train",
    )
    assert [p.image_id for p in products] == ["a", "b", "c"]  # from the file's name
    assert (products[2].product_id, products[2].text) == ("7", "Été, “red”")
    assert (products[1].category, products[1].subcategory) == ("", "")


def test_csv_equals_json_lines(write, tmp_path):
    from_json, _ = read(write(ROWS))
    assert read(write_csv(tmp_path / "m.csv", ROWS))[0] == from_json
    bom = tmp_path / "excel.csv"  # as a spreadsheet saves it
    bom.write_bytes(b"\xef\xbb\xbf" + (tmp_path / "m.csv").read_bytes())
    assert read(bom)[0] == from_json


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ({"title": "Navy shirt", "description": "Long."}, "Navy shirt. Long."),
        ({"title": "Navy shirt!", "description": "Long"}, "Navy shirt! Long"),
        ({"text": "One", "title": "Two", "description": "Three"}, "One. Two. Three"),
        ({"title": "a", "description": "a"}, "a. a"),
        ({"title": None, "description": "  Long "}, "Long"),
        ({"text": 501}, "501"),
    ],
)
def test_joining_texts(write, row, text):
    line = {"product_id": "p", "image": "i.png", "split": "train", **row}
    products, _ = read(write([line, ROWS[2]]))
    assert products[0].text == text


def test_other_text_fields(write):
    products, _ = read(write(ROWS), text_fields=("description", "title"))
    assert products[0].text == "Long sleeve, button front. Navy shirt"


BROKEN = [
    ("not JSON", '{"product_id": ', "Expecting value"),
    ("not JSON", '["p9", "x.png"]', "no JSON object"),
    ("not JSON", "[" * 100_000, "recursion"),
    ("not UTF-8", b'{"product_id": "p9", "image": "\xe9.png"}', "utf-8"),
    (
        "not UTF-8",
        {"product_id": "p9", "image": "x.png", "text": "half \ud83d"},
        "text",
    ),
    ("wrong type", {"product_id": "p9", "image": "x.png", "text": ["a"]}, "`text`"),
    ("wrong type", {"product_id": "p9", "image": {"url": 1}, "text": "a"}, "`image`"),
    ("missing key", {"image": "x.png", "text": "a"}, "`product_id` should be given"),
    ("missing key", {"product_id": "p9", "image": " ", "text": "a"}, "`image` should"),
    ("empty text", {"product_id": "p9", "image": "x.png"}, "should hold a word"),
    ("empty text", {"product_id": "p9", "image": "x.png", "text": " -- ! "}, "a word"),
    (
        "duplicate image_id",
        {"product_id": "p9", "image": "x.png", "image_id": "a", "text": "a"},
        "'a' is in line 1 already",
    ),
    (
        "duplicate image_id",
        {"product_id": "p9", "image": "other/b.jpg", "text": "a"},
        "'b' is in line 2 already (taken from the file's name",
    ),
    (
        "unknown split",
        {"product_id": "p9", "image": "x.png", "text": "a", "split": "test"},
        "train or validation, received 'test'",
    ),
]


def test_every_bad_line_is_listed(write):
    lines = [*ROWS, *(line for _, line, _ in BROKEN)]
    products, skipped = read(write(lines))
    assert [p.image_id for p in products] == ["a", "b", "c"]
    assert len(skipped.rows) == len(BROKEN)
    for number, (row, (reason, _, detail)) in enumerate(
        zip(skipped.rows, BROKEN, strict=True), start=4
    ):
        assert (row["line"], row["reason"]) == (number, reason)
        assert detail in row["detail"]
        assert len(row["detail"]) < 300
        assert json.loads(json.dumps(row)) == row
    assert skipped.counts() == {
        "not JSON": 3,
        "not UTF-8": 2,
        "wrong type": 2,
        "missing key": 2,
        "empty text": 2,
        "duplicate image_id": 2,
        "unknown split": 1,
    }


def test_bad_lines_of_a_csv(tmp_path):
    path = tmp_path / "m.csv"
    lines = [
        b"product_id,image,text,split",
        b"p0,a.png,navy shirt,train",
        b'p0,b.png,"two\nlines",train',  # lines 3 and 4
        b"",
        b"p1,,no image,train,and,more,columns",
        b"p1,c.png",
        b"p1,d.png,caf\xe9,train",
        b"p1,e.png," + b"x" * 200_000 + b",train",
        b"p1,f.png,good,validation",
    ]
    path.write_bytes(b"\r\n".join(lines))
    products, skipped = read(path)
    assert [p.image_id for p in products] == ["a", "b", "f"]
    assert products[1].text == "two\nlines"
    assert [(row["line"], row["reason"]) for row in skipped.rows] == [
        (6, "missing key"),
        (7, "empty text"),
        (8, "not UTF-8"),
        (9, "not CSV"),
    ]


def test_only_the_first_images(write):
    products, skipped = read(write([ROWS[0], "{", *ROWS[1:], "{"]), max_images=3)
    assert len(products) == 3
    assert len(skipped.rows) == 1  # what comes after isn't read
    with pytest.raises(ValueError, match="Received none in validation of 1 products"):
        read(write(ROWS), max_images=2)


def test_product_in_both_splits(write):
    lines = [*ROWS, {**ROWS[0], "image_id": "d", "split": "validation"}]
    with pytest.raises(
        ValueError, match="in one split. Received 'p0' in train and val"
    ):
        read(write(lines))


def test_no_products_in_a_split(write):
    message = "both splits. Received none in validation of 1 products .*`split`"
    with pytest.raises(ValueError, match=message):
        read(write(ROWS[:2]))


def test_nothing_usable(write):
    with pytest.raises(
        ValueError, match="at least one usable line. Left out: .*'not J"
    ):
        read(write(["{", "{"]))
    with pytest.raises(ValueError, match="Left out: {}"):
        read(write([""]))


def test_no_manifest(tmp_path, write):
    with pytest.raises(FileNotFoundError, match="`manifest` should be .*nowhere.jsonl"):
        read(str(tmp_path / "nowhere.jsonl"))
    with pytest.raises(ValueError, match="should end with .jsonl or .csv. .*m.xlsx"):
        read(write(ROWS, name="m.xlsx"))


def test_hashed_split_is_stable(write):
    # The same on every machine and in every later version.
    splits = [sources.hashed_split(f"p{n}", 0.5)[0] for n in range(16)]
    assert "".join(splits) == "vvttvvttvvvvttvv"
    share = [sources.hashed_split(f"product {n}", 0.1) for n in range(4000)]
    assert 0.09 < share.count("validation") / 4000 < 0.11
    # A larger share only adds to the validation split.
    for n in range(200):
        if sources.hashed_split(f"p{n}", 0.1) == "validation":
            assert sources.hashed_split(f"p{n}", 0.4) == "validation"
    lines = [
        {"product_id": f"p{n // 2}", "image": f"{n}.png", "text": "a"}
        for n in range(80)
    ]
    products, _ = read(write(lines), validation_fraction=0.5)
    for product in products:
        assert product.split == sources.hashed_split(product.product_id, 0.5)
