"""A learnt vocabulary: what it was learnt from, and when it is learnt again."""

import json
import logging
import os

import pytest

from data_prep import build_vocab
from data_prep.shards import receipts
from kaleido_tf import files
from kaleido_tf.data import tokenization

TEXTS = ["navy shirt", "red dress", "navy shirt"]


def test_many_letters_are_pieces():
    """A script of 1,500 letters; the learner itself would keep 1,000."""
    letters = [chr(0x4E00 + n) for n in range(1500)]
    pieces = build_vocab.build_vocabulary(["".join(letters)], 4000, min_count=1)
    assert set(letters) <= set(pieces) and len(pieces) <= 4000
    few = build_vocab.build_vocabulary(["".join(letters)], 200, min_count=1)
    assert len(few) <= 200


@pytest.fixture
def learn(tmp_path, monkeypatch, caplog):
    """Puts a vocabulary in place: (its pieces, whether it was learnt, log records)."""
    calls = []

    def build(texts, vocab_size):
        calls.append(vocab_size)
        words = sorted({word for text in texts for word in text.split()})
        return [*tokenization.SPECIAL_TOKENS, *words, f"##{vocab_size}"]

    monkeypatch.setattr(build_vocab, "build_vocabulary", build)
    path = tmp_path / "vocab.txt"

    def put(texts=TEXTS, vocab_size=300):
        calls.clear()
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="absl"):
            build_vocab.learn_vocabulary(iter(texts), vocab_size, str(path))
        pieces = tokenization.read_vocabulary(str(path))
        return pieces[5:], bool(calls), caplog.records[:]

    put.path = path
    return put


def test_the_same_texts_keep_it(learn):
    pieces, learnt, _ = learn()
    assert (pieces, learnt) == (["dress", "navy", "red", "shirt", "##300"], True)
    before = learn.path.stat().st_mtime_ns
    # Views more of the same texts say nothing new.
    assert learn([*TEXTS, "red dress", " "])[:2] == (pieces, False)
    assert learn.path.stat().st_mtime_ns == before


def test_other_texts_or_another_size_are_learnt_again(learn):
    learn()
    pieces, learnt, log = learn(["green hat"])
    assert (pieces, learnt) == (["green", "hat", "##300"], True)
    assert "learnt again: texts_sha256 changed" in log[0].getMessage()
    pieces, learnt, log = learn(["green hat"], 400)
    assert (pieces, learnt) == (["green", "hat", "##400"], True)
    assert "learnt again: vocab_size changed" in log[0].getMessage()
    assert not learn(["green hat"], 400)[1]


@pytest.mark.parametrize("content", [None, "{", "[]", '{"vocab_size": 300}'])
def test_a_vocabulary_that_nothing_is_said_of_is_kept(learn, content):
    """Of an earlier version, or put there by hand."""
    learn()
    receipt = receipts.receipt_path(str(learn.path))
    os.remove(receipt)
    if content:
        with open(receipt, "w", encoding="utf-8") as file:
            file.write(content)
    pieces, learnt, log = learn(["green hat"])
    assert (pieces[0], learnt) == ("dress", False)
    assert log[0].levelno == logging.WARNING
    assert "nothing says what it was learnt from" in log[0].getMessage()


def test_a_vocabulary_that_was_replaced_is_kept(learn):
    learn()
    learn.path.write_text("\n".join([*tokenization.SPECIAL_TOKENS, "mine"]))
    pieces, learnt, log = learn(["green hat"])
    assert (pieces, learnt, log[0].levelno) == (["mine"], False, logging.WARNING)


@pytest.mark.parametrize("broken", ["write_json", "write_vocabulary"])
def test_a_run_that_ends_in_between_learns_again(learn, monkeypatch, broken):
    learn()
    module = files if broken == "write_json" else build_vocab
    with monkeypatch.context() as patch:
        patch.setattr(module, broken, lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            learn(["green hat"])
    assert learn(["green hat"])[:2] == (["green", "hat", "##300"], True)
    assert not learn(["green hat"])[1]


def test_texts_without_a_word_leave_the_old_one(learn, monkeypatch):
    learn()
    monkeypatch.undo()
    with pytest.raises(ValueError, match="at least one text with a word"):
        build_vocab.learn_vocabulary([" "], 300, str(learn.path))
    assert "shirt" in learn.path.read_text()
    receipt = json.loads((learn.path.parent / "vocab.txt.receipt.json").read_text())
    assert set(receipt) == {"vocab_size", "texts_sha256", "vocab_sha256"}
