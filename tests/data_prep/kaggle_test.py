"""The two catalogues with files of lines: Kaggle's styles.csv and the re-release."""

import pytest

from data_prep import sources

HEADER = (
    "id,gender,masterCategory,subCategory,articleType,baseColour,season,year,usage,"
    "productDisplayName"
)
STYLES = [
    "15970,Men,Apparel,Topwear,Shirts,Navy Blue,Fall,2011,Casual,Turtle Navy Shirt",
    "39386,Men,Apparel,Bottomwear,Jeans,Blue,Summer,2012,Casual,Peter England Party",
    "6842,Men,Apparel,Topwear,Tops,Red,Fall,2011,Casual,Mr. Men Set, 3 Tops, red",
    '9204,Men,Footwear,Shoes,Casual Shoes,Black,Summer,2011,Casual,"Puma ""XL"", men"',
]


def read(source, paths, **options):
    skipped = sources.SkipList()
    return sources.read(source, skipped, paths, **options), skipped


@pytest.fixture
def styles(tmp_path):
    """Writes styles.csv with these lines; returns its path."""

    def write(lines, header=HEADER):
        path = tmp_path / "styles.csv"
        encoded = [x if isinstance(x, bytes) else x.encode() for x in [header, *lines]]
        path.write_bytes(b"\n".join(encoded) + b"\n")
        return {"styles": str(path)}

    return write


def test_kaggle_titles_hold_commas(styles, tmp_path):
    products, skipped = read("kaggle", styles(STYLES), validation_fraction=0.5)
    assert skipped.rows == []
    assert products[0] == sources.Product(
        product_id="15970",
        image_id="15970",
        image_path=str(tmp_path / "images" / "15970.jpg"),
        text="Turtle Navy Shirt",
        category="Topwear",
        subcategory="Shirts",
        split=sources.hashed_split("15970", 0.5),
    )
    assert products[2].text == "Mr. Men Set, 3 Tops, red"
    assert products[3].text == 'Puma "XL", men'


def test_kaggle_columns_by_choice(styles):
    paths = {
        **styles(STYLES),
        "category_column": "masterCategory",
        "subcategory_column": "subCategory",
    }
    fields = ("title", "baseColour", "usage")
    products, _ = read("kaggle", paths, validation_fraction=0.5, text_fields=fields)
    assert (products[3].category, products[3].subcategory) == ("Footwear", "Shoes")
    assert products[0].text == "Turtle Navy Shirt. Navy Blue. Casual"
    with pytest.raises(ValueError, match=r"Columns of .* Received: \['colour'\]"):
        read("kaggle", {**paths, "category_column": "colour"})


def test_kaggle_lines_that_cannot_be_used(styles):
    lines = [
        *STYLES,
        "",
        "1,Men,Apparel",
        "15970,Men,Apparel,Topwear,Shirts,Blue,Fall,2011,Casual,Again",
        "2,Men,Apparel,Topwear,Shirts,Blue,Fall,2011,Casual,",
        b"3,Men,Apparel,Topwear,Shirts,Blue,Fall,2011,Casual,Caf\xe9",
    ]
    products, skipped = read("kaggle", styles(lines), validation_fraction=0.5)
    assert len(products) == 4
    assert [(row["line"], row["reason"]) for row in skipped.rows] == [
        (7, "wrong columns"),
        (8, "duplicate image_id"),
        (9, "empty text"),
        (10, "not UTF-8"),
    ]
    with pytest.raises(ValueError, match="a header from `id` to `productDisplayName`"):
        read("kaggle", styles(STYLES, header="id,title"))
    with pytest.raises(FileNotFoundError, match="`styles` should be Kaggle's"):
        read("kaggle", {"styles": "nowhere.csv"})


LINES = {
    "train": [
        ["86605", "86605_0", "SHIRTS", "3", "SHIRTS", "7", "Shirt, in navy."],
        ["86605", "86605_1", "SHIRTS", "3", "SHIRTS", "7", "Shirt, in navy."],
        ["901", "901_0", "DRESSES", "1", "LONG DRESSES", "9", "Dress in café."],
    ],
    "valid": [["77", "77_0", "DRESSES", "1", "GOWNS", "4", "Red dress."]],
}


@pytest.fixture
def release(tmp_path):
    """Writes the re-release's files; returns the arguments that name them."""
    for name, lines in LINES.items():
        (tmp_path / f"extracted_{name}_images").mkdir()
        text = "\n".join("\x01".join(columns) for columns in lines)
        (tmp_path / f"full_{name}_info.txt").write_text(text + "\n")
    return {
        "train_file": str(tmp_path / "full_train_info.txt"),
        "validation_file": str(tmp_path / "full_valid_info.txt"),
    }


def test_lines_of_the_re_release(release, tmp_path):
    products, skipped = read("kaleido_release", release)
    assert skipped.rows == []
    assert products[1] == sources.Product(
        product_id="86605",
        image_id="86605_1",
        image_path=str(tmp_path / "extracted_train_images" / "86605_1.png"),
        text="Shirt, in navy.",
        category="SHIRTS",
        subcategory="SHIRTS",
        split="train",
    )
    assert [p.split for p in products] == ["train"] * 3 + ["validation"]
    folder = tmp_path / "extracted_valid_images"
    assert products[3].image_path == str(folder / "77_0.png")
    paths = {**release, "train_images": str(folder)}
    products, _ = read("kaleido_release", paths)
    assert products[0].image_path == str(folder / "86605_0.png")


def test_re_release_lines_that_cannot_be_used(release, tmp_path):
    path = tmp_path / "full_train_info.txt"
    lines = [
        "86605\x0186605_0\x01SHIRTS\x013\x01SHIRTS\x017\x01Again.",
        "1\x011_0\x01six\x01columns\x01are\x012",
        "2\x012_0\x01SHIRTS\x013\x01SHIRTS\x017\x01 ",
        "3\x01\x01SHIRTS\x013\x01SHIRTS\x017\x01No image.",
    ]
    latin = b"4\x014_0\x01SHIRTS\x013\x01SHIRTS\x017\x01Caf\xe9."
    path.write_bytes(path.read_bytes() + "\n".join(lines).encode() + b"\n" + latin)
    held = tmp_path / "full_valid_info.txt"
    again = "86605\x0186605_0\x01SHIRTS\x013\x01SHIRTS\x017\x01In both files."
    held.write_text(held.read_text() + again)
    products, skipped = read("kaleido_release", release)
    assert [(row.get("line"), row["reason"]) for row in skipped.rows] == [
        (4, "duplicate image_id"),
        (5, "wrong columns"),
        (6, "empty text"),
        (7, "missing key"),
        (None, "duplicate image_id"),
    ]
    assert products[3].text == "Café."
    assert [p.image_id for p in products if p.split == "validation"] == ["77_0"]


def test_missing_files_of_the_re_release(release, tmp_path):
    (tmp_path / "extracted_valid_images").rmdir()
    with pytest.raises(FileNotFoundError, match="`validation_images` should be the fo"):
        read("kaleido_release", release)
    paths = {**release, "train_file": str(tmp_path / "other.txt")}
    with pytest.raises(FileNotFoundError, match="`train_file` should be .*other.txt"):
        read("kaleido_release", paths)
    with pytest.raises(ValueError, match=r"`source` should be one of .*'csv'"):
        read("csv", {})
