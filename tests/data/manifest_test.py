"""CSV manifests with quotes: rows of several lines, and quotes that nobody closes."""

import csv

import pytest

from kaleido_tf.data import manifest
from kaleido_tf.search.manifest import read_items

HEADER = "product_id,image,title,description"


@pytest.fixture
def read(tmp_path):
    """Reads lines as a CSV: (dict line -> row, dict line -> (reason, detail))."""

    def read_lines(lines, end="\n"):
        path = tmp_path / "manifest.csv"
        path.write_bytes(end.join([*lines, ""]).encode())
        found = list(manifest.read_lines(path))
        assert len(dict(found)) == len(found)
        return (
            {n: row for n, row in found if isinstance(row, dict)},
            {n: row for n, row in found if not isinstance(row, dict)},
        )

    return read_lines


def row(n, title="Bag", description="Soft, of wool."):
    return f'p{n},i{n}.png,{title},"{description}"'


def plain(n, title="Bag"):
    return f"p{n},i{n}.jpg,{title},soft"


@pytest.mark.parametrize("make", [row, plain])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_quote_that_is_not_closed_costs_its_line_only(read, make, end):
    lines = [HEADER, *(make(n) for n in range(1000))]
    lines[11] = plain(10, '"14 inch bag')
    rows, bad = read(lines, end)
    assert [*rows] == [n for n in range(2, 1002) if n != 12]
    assert rows[13]["product_id"] == "p11"
    ((number, (reason, detail)),) = bad.items()
    assert (number, reason) == (12, "unclosed quote")
    assert '"14 inch bag' in detail
    assert "line 13 is a row" in detail or "before a text" in detail


def test_the_rest_is_read_whatever_the_quotes(read):
    """Two strays whose fields would end each other's, the last with the file."""
    lines = [HEADER, *(plain(n) for n in range(40))]
    lines[10] = plain(9, '"14 inch bag')
    lines[11] = plain(10, 'bag of 14"')  # would close the field: a row is lost in it
    lines[20] = plain(19, '"15 inch bag')
    lines[40] = plain(39, '"16 inch bag')
    rows, bad = read(lines)
    assert {number: reason for number, (reason, _) in bad.items()} == {
        11: "unclosed quote",
        21: "unclosed quote",
        41: "unclosed quote",
    }
    assert "rows of their own" in bad[11][1]
    assert "the file ends" in bad[41][1]
    assert len(rows) == 37
    assert rows[12]["title"] == 'bag of 14"'


def test_pictures_without_an_ending(read):
    """Nothing says then what a row is, but the next quote, or how many lines pass."""
    lines = [HEADER, *(f"p{n},i{n},Bag,soft" for n in range(300))]
    lines[10] = 'p9,i9,"14 inch bag,soft'
    rows, bad = read(lines)
    assert (len(rows), [*bad]) == (299, [11])
    assert "within 200 lines" in bad[11][1]
    lines[15] = 'p14,i14,"Nice, soft bag",soft'
    rows, bad = read(lines)
    assert (len(rows), [*bad]) == (299, [11])
    assert rows[16]["title"] == "Nice, soft bag"


@pytest.mark.parametrize(
    "description",
    [
        "Soft.\nWarm, light, of wool.\n\nMade in Italy",
        'Soft, 14"" wide,\n""fine"", as seen, in black.png, or grey\n""',
        "\n".join(f"{n}, and so on" for n in range(150)),
    ],
)
@pytest.mark.parametrize(
    "header", [HEADER, "description,title,image,product_id", "product_id,title"]
)
def test_descriptions_of_several_lines(read, description, header):
    """As `csv` reads them, wherever the columns stand."""
    names = header.split(",")
    values = {"product_id": "p", "image": "i.png", "title": "Bag"}
    values["description"] = f'"{description}"'
    if "description" not in names:
        names.append("description")
    lines = [",".join(names)]
    lines += [
        ",".join({**values, "product_id": f"p{n}"}[k] for k in names) for n in (0, 1)
    ]
    rows, bad = read(lines)
    assert bad == {}
    text = "\n".join([*lines, ""])
    reader = csv.DictReader(text.splitlines(keepends=True))
    assert list(rows.values()) == list(reader)
    assert len(rows) == 2


def test_a_row_with_two_fields_of_several_lines(read):
    """The line that ends the one and opens the other holds the row's own picture."""
    lines = ["text,image,product_id,title", '"Soft\nWarm",i.png,p,"Nice\nbag"']
    rows, bad = read(lines)
    assert (bad, rows[4]["text"], rows[4]["title"]) == ({}, "Soft\nWarm", "Nice\nbag")


def test_rows_that_are_short_long_or_blank_are_as_csv_reads_them(read):
    lines = [HEADER, "p0,i.png", "", "p1,i.png,a,b,c,d", 'p2,i.png,"a" b,14" "c"']
    rows, bad = read(lines)
    assert bad == {}
    assert list(rows) == [2, 4, 5]
    assert list(rows.values()) == list(csv.DictReader(lines))


def test_a_header_that_is_none(read):
    with pytest.raises(ValueError, match="a header, .* unclosed quote, .*'product_id"):
        read(['product_id,image,"title', plain(1), plain(2)])
    assert read([]) == ({}, {})


def test_search_lists_the_line_too(read, tmp_path):
    lines = [HEADER, plain(0), plain(1, '"14 inch bag'), plain(2)]
    read(lines)
    items, skipped = read_items(tmp_path / "manifest.csv")
    assert [item.image_id for item in items] == ["i0", "i2"]
    assert [(r["line"], r["reason"]) for r in skipped] == [(3, "unclosed quote")]
