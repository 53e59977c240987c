"""WordPiece: BERT-uncased behaviour, the same eager, in tf.data and served."""

import re
import unicodedata

import numpy as np
import pytest
import tensorflow as tf

from data_prep import build_vocab
from kaleido_tf.data import tokenization
from kaleido_tf.data.tokenization import Tokenizer

_PIECES = (
    "navy shirt cafe un ##aff ##able ##s sh ##irt don t ' ! - . % 5 ##0 cot cotton "
    "##ton [ ] mask 中 文"
)
PIECES = [*tokenization.SPECIAL_TOKENS, *_PIECES.split()]
TEXTS = [
    ("Navy SHIRTS!", "navy shirt ##s !"),
    ("CAFÉ cafe\u0301", "cafe cafe"),
    ("unaffable", "un ##aff ##able"),
    ("cotton cottons cot", "cotton cotton ##s cot"),  # the longest match wins
    ("navy-shirt 50%.", "navy - shirt 5 ##0 % ."),
    ("don't", "don ' t"),
    ("shirtx wool", "[UNK] [UNK]"),  # a word is known as a whole or not at all
    ("中文navy", "中 文 navy"),
    ("\tnavy\u2028shirt\u00a0", "navy shirt"),
    ("[MASK] [CLS]", "[ mask ] [ [UNK] ]"),  # a text can't smuggle special pieces in
    ("x" * 300, "[UNK]"),
    ("🙂", "[UNK]"),
    ("", ""),
    (" \n", ""),
]


@pytest.fixture(scope="module")
def small():
    return Tokenizer(PIECES)


def ids(pieces):
    return [PIECES.index(piece) for piece in pieces.split()]


@pytest.mark.parametrize(("text", "pieces"), TEXTS)
def test_bert_uncased(small, text, pieces):
    assert small.tokenize(tf.constant([text])).to_list() == [ids(pieces)]


def test_ideographs_are_the_characters_that_the_tokenizer_splits_off():
    ranges = tokenization.IDEOGRAPHS.split("-")
    edges = {ord(c) + d for part in ranges for c in part for d in (-1, 0, 1)}
    others = {ord(c) for c in "あアー한々〇é한㐀𫜿𫝀"}
    characters = [chr(c) for c in sorted(edges | others)]
    folded = [unicodedata.normalize("NFD", c) for c in characters]
    whole = [c for c, f in zip(characters, folded, strict=True) if c == f]
    later = ["##" + c for c in ("x", *whole)]
    known = Tokenizer([*tokenization.SPECIAL_TOKENS, "x", *whole, *later])
    found = known.tokenize(tf.constant([f"x{c}x" for c in whole])).to_list()
    x = known.vocabulary.index("x")
    split = [c for c, ids in zip(whole, found, strict=True) if ids[-1] == x]
    named = re.compile(f"[{tokenization.IDEOGRAPHS}]")
    assert split == [c for c in whole if named.fullmatch(c)]
    assert 20 < len(split) < len(whole) - 5


def test_the_same_everywhere(small, tmp_path):
    texts = tf.constant([text for text, _ in TEXTS])
    eager = small.encode(texts, 8)
    graph = tf.function(lambda batch: small.encode(batch, 8))(texts)
    data = tf.data.Dataset.from_tensors(texts).map(lambda t: small.encode(t, 8))
    assert data.element_spec["input_word_ids"].shape.as_list() == [None, 8]

    class Served(tf.Module):
        def __init__(self, tokenizer):
            super().__init__()
            self.tokenizer = tokenizer

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
        def __call__(self, batch):
            return self.tokenizer.encode(batch, 8)

    tf.saved_model.save(Served(small), str(tmp_path / "served"))
    served = tf.saved_model.load(str(tmp_path / "served"))(texts)
    for other in (graph, next(iter(data)), served):
        assert set(other) == set(eager)
        for key, value in eager.items():
            assert other[key].dtype == tf.int32
            np.testing.assert_array_equal(other[key], value)


def test_pack_cuts_and_pads(small):
    rows = tf.ragged.constant([[5, 6], [], [5, 6, 7, 8, 9]], dtype=tf.int32)
    packed = small.pack(rows, 5)
    assert packed["input_word_ids"].numpy().tolist() == [
        [2, 5, 6, 3, 0],
        [2, 3, 0, 0, 0],
        [2, 5, 6, 7, 3],
    ]
    assert packed["input_mask"].numpy().tolist() == [
        [1, 1, 1, 1, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 1, 1],
    ]
    assert packed["input_type_ids"].numpy().tolist() == [[0] * 5] * 3


def test_pack_takes_both_kinds_of_row_splits(small):
    values, splits = [5, 6, 7], [0, 2, 3]
    for dtype in (tf.int32, tf.int64):
        row_splits = tf.constant(splits, dtype)
        rows = tf.RaggedTensor.from_row_splits(tf.constant(values), row_splits)
        packed = small.pack(rows, 4)["input_word_ids"].numpy().tolist()
        assert packed == [[2, 5, 6, 3], [2, 7, 3, 0]]


def test_decode(small):
    packed = small.encode(tf.constant(["Navy unaffable shirts!"]), 12)
    assert small.decode(packed["input_word_ids"][0]) == "navy unaffable shirts !"
    assert small.decode(ids("[CLS] ##able [UNK] [MASK] navy [SEP]")) == (
        "##able [UNK] navy"
    )


def test_attributes(small):
    special = (
        small.pad_id,
        small.unknown_id,
        small.cls_id,
        small.sep_id,
        small.mask_id,
    )
    assert special == (0, 1, 2, 3, 4)
    assert small.special_ids.tolist() == [0, 1, 2, 3, 4]
    assert small.vocab_size == len(PIECES)
    continued = np.flatnonzero(small.continues_word)
    assert " ".join(PIECES[i] for i in continued) == "##aff ##able ##s ##irt ##0 ##ton"
    assert small.sha256 == Tokenizer(list(PIECES)).sha256
    assert small.sha256 != Tokenizer([*PIECES, "more"]).sha256


def write(tmp_path, content):
    path = tmp_path / "vocab.txt"
    path.write_bytes(content)
    return str(path)


def test_reading_a_vocabulary(tmp_path):
    # A line separator of Unicode is a piece like any other; Windows ends are not.
    pieces = [*PIECES, "\u2028", "é"]
    path = write(tmp_path, "\r\n".join(pieces).encode())
    assert tokenization.read_vocabulary(path) == pieces
    assert Tokenizer.from_file(path).vocab_size == len(pieces)


SPECIAL = b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (SPECIAL + b"\xff\xfe\n", "vocab.txt should be UTF-8 text. Received: .*0xff"),
        (SPECIAL[6:] + b"a\n", r"Missing: \['\[PAD\]'\] of 5 lines"),
        (b"", "should hold one word piece a line.* of 0 lines"),
        (SPECIAL + b"a\nb\na\nb\n", r"each piece once. Doubled: \['a', 'b'\]"),
        (SPECIAL + b"a\n\nb\n", "Received an empty line: 7"),
    ],
)
def test_broken_vocabularies(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        tokenization.read_vocabulary(write(tmp_path, content))


def test_missing_vocabulary(tmp_path):
    with pytest.raises(FileNotFoundError, match="`vocab_file` should name .*nowhere"):
        tokenization.read_vocabulary(str(tmp_path / "nowhere"))


CORPUS = [
    "Navy cotton shirt with long sleeves.",
    "Navy cotton trousers with belt.",
    "Café dress: long sleeves, belt!",
]


def test_learning_a_vocabulary(tmp_path):
    pieces = build_vocab.build_vocabulary(CORPUS * 40, 300, min_count=1)
    assert pieces[:5] == list(tokenization.SPECIAL_TOKENS)
    assert len(pieces) == len(set(pieces)) <= 300
    assert {"navy", "cotton", "sleeves", "belt", "cafe", "."} <= set(pieces)
    assert not any(piece != piece.lower() for piece in pieces[5:])
    # The copies of a text count once.
    assert pieces == build_vocab.build_vocabulary(iter(CORPUS), 300, min_count=1)
    # A word that is too rare is spelt out.
    assert "navy" not in build_vocab.build_vocabulary(CORPUS, 300, min_count=10)
    path = str(tmp_path / "vocab.txt")
    build_vocab.write_vocabulary(pieces, path)
    assert tokenization.read_vocabulary(path) == pieces
    learnt = Tokenizer(pieces)
    for text in CORPUS:
        assert (
            learnt.unknown_id not in learnt.tokenize(tf.constant([text])).to_list()[0]
        )


def test_learning_from_nothing():
    with pytest.raises(ValueError, match="`texts` should hold at least one text"):
        build_vocab.build_vocabulary(["", "  "], 300)
