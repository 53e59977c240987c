"""The release's schema strings and file lists, and single columns of its lines."""

import numpy as np
import pytest

from data_prep.release import release_lines, release_shards
from data_prep.release.release_lines import Column, LineError, LineParser


def test_the_three_schemas():
    for kind, text in release_lines.SCHEMAS.items():
        columns = release_lines.parse_schema(text)
        assert release_lines.schema_kind(columns) == kind
        sizes = release_shards.sizes_of(columns)
        assert (sizes["text_length"], sizes["feature_size"]) == (64, 2048)
    by_name = {c.name: c.length for c in columns}
    assert [by_name[f"img_feature_convert_{n}"] for n in release_lines.LEVEL_NAMES] == [
        2048,
        8192,
        18432,
        32768,
        51200,
    ]
    assert [by_name[f"img_loc_position_{n}"] for n in release_lines.LEVEL_NAMES] == [
        5,
        20,
        35,
        80,
        125,
    ]
    pretrain = release_lines.parse_schema(release_lines.SCHEMAS["pretrain"])
    assert [c.name for c in pretrain][:2] == ["input_ids", "input_mask"]
    assert len(pretrain) == 25
    assert release_shards.sizes_of(pretrain)["max_predictions"] == 10


def test_numbers_are_read_exactly():
    """As Python reads them, of any notation, in single precision."""
    texts = ["0.1", "1e-3", "-2.5E+4", "3", "1.17549435e-38", "0.30000001192092896"]
    parser = LineParser((Column("a", "float", 6), Column("b", "int", 2)))
    values = parser.parse((",".join(texts) + "\t-7,9000000000\r\n").encode())
    expected = np.array([float(text) for text in texts], np.float32)
    np.testing.assert_array_equal(values["a"], expected)
    assert values["a"].dtype == np.float32
    assert values["b"].tolist() == [-7, 9_000_000_000]


@pytest.mark.parametrize(
    "text", [b"1,,2", b"1,2,x", b"1,2,\xe9", b"", b"1,2,3,4", b"1,2,inf", b"1;2;3"]
)
def test_what_is_no_vector(text):
    with pytest.raises(LineError) as error:
        LineParser((Column("a", "float", 3),)).parse(text + b"\n")
    assert error.value.reason == ("length" if text == b"1,2,3,4" else "numbers")
    assert "`a`" in error.value.detail


def test_a_look_at_some_columns():
    columns = (Column("a", "str", 1), Column("b", "float", 2), Column("c", "str", 1))
    parser = LineParser(columns)
    assert parser.peek(b"x\t?\ty\n", ["c", "a"]) == {"c": b"y", "a": b"x"}
    assert parser.peek(b"x\ty\n", ["a"]) == {}


def test_lists_of_files(tmp_path):
    folder = tmp_path / "shards"
    folder.mkdir()
    paths = [str(folder / f"part-{n}") for n in range(3)]
    for path in paths:
        (tmp_path / "shards" / path[-6:]).write_text("x")
    for text in ("part-1\npart-0\n\n", "part-1,part-0"):
        (folder / "train.list_csv").write_text(text)
        found = release_lines.list_files(str(folder / "train.list_csv"))
        assert found == [paths[1], paths[0]]
    assert release_lines.list_files(str(folder / "part-*")) == paths
    assert release_lines.list_files(f"{paths[2]},{paths[0]}") == [paths[2], paths[0]]
    with pytest.raises(FileNotFoundError, match="Received: .*part-9, no such file"):
        release_lines.list_files(f"{paths[2]},{folder}/part-9")
