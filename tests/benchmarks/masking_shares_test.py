"""What AGM's benchmark counts, on a data set whose pairs are known."""

import json

import pytest

from benchmarks import masking_shares
from kaleido_tf.config import KALEIDO_LEVELS
from kaleido_tf.data.masking import MaskingSettings


@pytest.fixture(scope="module")
def found(make_data_set, tmp_path_factory):
    """The figures over 1,000 texts of 12 images, of which four have pairs."""
    folder = tmp_path_factory.mktemp("shares")
    make_data_set(folder / "data")
    output = folder / "shares.json"
    results = masking_shares.run(
        {
            "data_dir": str(folder / "data"),
            "examples": 1000,
            "text_length": 20,
            "output": str(output),
        }
    )
    assert json.loads(output.read_text()) == results
    return results


def test_texts_and_pairs(found):
    counts = found["counts"]
    assert counts["texts"] == 1000
    # p0 has three pairs on levels 3 to 5, p2 two; each has two of the twelve images.
    assert counts["texts with pairs"] == pytest.approx(1000 / 3, abs=2)
    assert counts["usable pairs"] == pytest.approx(10 * 1000 / 12, abs=6)


def test_the_coin_falls_to_either_side_once_a_text(found):
    coin = found["coin"]
    assert sum(coin.values()) == found["counts"]["texts with pairs"]
    assert coin["word"] / sum(coin.values()) == pytest.approx(0.5, abs=0.1)


def test_levels(found):
    counts = found["counts"]
    for level in KALEIDO_LEVELS:
        name = f"level {level.level}"
        assert counts[f"{name} patches"] == 1000 * level.num_patches
        assert counts[f"{name} masked"] == 1000 * level.masked
        by_pair = counts[f"{name} masked, by a pair"]
        assert (by_pair > 0) == (level.masked > 0)
        # A text has at most two pairs on a level, a coin decides on each.
        assert by_pair < 2 * counts["texts with pairs"]


def test_pieces(found):
    counts = found["counts"]
    masked = counts["masked pieces"]
    assert counts["special pieces or padding masked"] == 0
    assert 0 < counts["masked pieces, by a pair"] < masked
    share = counts["masked pieces that are [MASK]"] / masked
    assert share == pytest.approx(0.8, abs=0.05)
    assert 1000 <= masked <= 0.3 * counts["pieces"]


def test_the_table_says_what_was_counted(found):
    settings = MaskingSettings(levels=KALEIDO_LEVELS)
    table = masking_shares.format_table(found["counts"], found["coin"], settings)
    assert table.startswith("1000 texts, 0.8 usable pairs a text")
    assert "level 3: patches masked" in table and "11.1% of 9000" in table
