"""Tests of Show, Attend and Tell's network against the published equations."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from data_prep.sat import sat_model
from data_prep.sat.sat_model import END, PAD, START, UNKNOWN, SatConfig, ShowAttendTell

TINY = SatConfig(
    num_words=11,
    grid=3,
    channels=5,
    annotation_size=7,
    attention_size=6,
    hidden_size=8,
    embedding_size=4,
    dropout=0.4,
    max_words=6,
)
WORDS = np.array([[4, 9, 4, END], [5, END, PAD, PAD], [10, 6, END, PAD]], np.int32)


@pytest.fixture(scope="module")
def grids():
    return np.random.default_rng(3).normal(size=(3, 3, 3, 5)).astype(np.float16)


def _tiny(seed=1):
    tf_keras.utils.set_random_seed(seed)
    model = ShowAttendTell(TINY)
    model.channel_mean.assign(np.linspace(-0.2, 0.3, 5))
    model.channel_std.assign(np.linspace(0.5, 1.5, 5))
    return model


@pytest.fixture(scope="module")
def model():
    return _tiny()


# --- The network: values --------------------------------------------------------------


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def _numpy_read(weights, grid, words):
    """Equations 1 to 7, 13 and 14 for one image, word by word."""

    def dense(name, x):
        return x @ weights[f"{name}/kernel:0"] + weights.get(f"{name}/bias:0", 0)

    cells = grid.reshape(9, 5).astype(np.float64)
    cells = (cells - weights["channel_mean:0"]) / weights["channel_std:0"]
    cells = np.maximum(dense("annotate", cells), 0)
    h, c = (np.tanh(dense(f"initial_{part}", cells.mean(0))) for part in "hc")
    rows = {"logits": [], "attention": [], "gate": []}
    for before in [START, *words[:-1]]:
        inside = "rnn/attention"
        met = np.tanh(dense("keys", cells) + dense(f"{inside}/from_state", h))
        scores = np.exp(dense(f"{inside}/score", met)[:, 0])
        attention = scores / scores.sum()
        gate = _sigmoid(dense(f"{inside}/gate", h))
        context = gate * (attention @ cells)
        embedded = weights["embedding/embeddings:0"][before]
        gates = np.concatenate([embedded, context])
        gates = dense(f"{inside}/lstm", gates)
        gates = gates + h @ weights[f"{inside}/lstm/recurrent_kernel:0"]
        i, f, g, o = np.split(gates, 4)
        c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
        h = _sigmoid(o) * np.tanh(c)
        mixed = embedded + dense("from_hidden", h) + dense("from_context", context)
        rows["logits"].append(dense("to_words", mixed))
        rows["attention"].append(attention)
        rows["gate"].append(gate[0])
    return {key: np.stack(value) for key, value in rows.items()}


def test_read_is_the_published_network(model, grids):
    weights = {w.name: w.numpy().astype(np.float64) for w in model.weights}
    assert len(weights) == len(model.weights)  # names tell them apart
    found = model.read(grids, WORDS)
    for row in range(3):
        wanted = _numpy_read(weights, grids[row], WORDS[row])
        for key, value in wanted.items():
            np.testing.assert_allclose(found[key][row], value, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(np.sum(found["attention"], axis=2), 1.0, rtol=1e-5)
    assert found["attention"].shape == (3, 4, 9)


def test_closed_gate_hides_where_things_are(grids):
    model = _tiny()
    turned = grids[:, ::-1]  # the same mean annotation, other places
    open_gate = [model.read(g, WORDS)["logits"].numpy() for g in (grids, turned)]
    np.testing.assert_allclose(*open_gate, rtol=1e-3, atol=1e-5)  # attention follows
    noisy = grids.copy()
    noisy[:, 0, 0], noisy[:, 2, 2] = grids[:, 2, 2], grids[:, 0, 0] * 1.5
    changed = model.read(noisy, WORDS)["logits"].numpy()
    assert np.abs(changed - open_gate[0]).max() > 1e-3
    model.cell.gate.kernel.assign(tf.zeros([8, 1]))
    model.cell.gate.bias.assign([-60.0])
    closed = model.read(grids, WORDS)
    assert np.all(closed["gate"] < 1e-20)
    # Without the image, what is said hangs on the words and the first state alone.
    annotations, _ = model.annotations(grids)
    h, c = model.initial_states(annotations)
    embedded = model.embedding(tf.fill([3], START))
    seen = tf.concat([embedded, tf.zeros([3, 7])], axis=1)
    h, _ = model.cell.lstm(seen, [h, c])
    wanted = model.deep_output(embedded, h, tf.zeros([3, 7]))
    np.testing.assert_allclose(closed["logits"][:, 0], wanted, rtol=1e-4, atol=1e-6)


def test_doubly_stochastic_penalty_by_hand():
    attention = np.array(
        [[[0.5, 0.5], [0.25, 0.75], [0.9, 0.1]], [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]],
        np.float32,
    )
    real = np.array([[1, 1, 0], [1, 0, 0]], np.float32)
    penalty = sat_model.doubly_stochastic_penalty(attention, real)
    # first text: sums 0.75 and 1.25; second: 1 and 0
    wanted = ((0.25**2 + 0.25**2) + (0 + 1)) / 2
    np.testing.assert_allclose(penalty, wanted, rtol=1e-6)


def test_losses_count_real_words_only(model, grids):
    likelihood, uneven = model.losses_of(grids, tf.constant(WORDS))
    longer = np.pad(WORDS, [[0, 0], [0, 2]], constant_values=PAD)
    again = model.losses_of(grids, tf.constant(longer))
    np.testing.assert_allclose(again, (likelihood, uneven), rtol=1e-5)
    logits = model.read(grids, WORDS)["logits"].numpy()
    shares = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    wanted = -sum(
        np.log(shares[row, place, word])
        for (row, place), word in np.ndenumerate(WORDS)
        if word != PAD
    )
    np.testing.assert_allclose(likelihood, wanted / 3, rtol=1e-5)


def test_dropout_repeats_with_its_seed(model, grids):
    words = tf.constant(WORDS)
    first, again, other = (
        model.losses_of(grids, words, tf.constant(seed))[0].numpy()
        for seed in ([0, 1], [0, 1], [0, 2])
    )
    assert first == again
    assert first != other
    assert first != model.losses_of(grids, words)[0].numpy()


# --- Beam search ----------------------------------------------------------------------


SHORT = dataclasses.replace(TINY, max_words=2)


def _all_texts(model, grid):
    """Every text of at most two words with its log-likelihood, the best first.

    The special words that are never said have no share in it.
    """
    words = range(UNKNOWN + 1, TINY.num_words)
    texts = [[END], *([a, END] for a in words)]
    texts += [[a, b, END] for a in words for b in words]
    padded = np.array([[*text, PAD, PAD][:3] for text in texts], np.int32)
    logits = model.read(np.repeat(grid[None], len(texts), axis=0), padded)["logits"]
    logits = logits.numpy()
    logits[..., [PAD, START, UNKNOWN]] = -1e9
    logits -= np.log(np.exp(logits).sum(axis=2, keepdims=True))
    scores = [
        sum(logits[row, place, word] for place, word in enumerate(text))
        for row, text in enumerate(texts)
    ]
    return [(scores[row], texts[row]) for row in np.argsort(scores)[::-1]]


def test_wide_beam_finds_the_likeliest_text(grids):
    tf_keras.utils.set_random_seed(3)
    model = ShowAttendTell(SHORT)
    for layer, scale in ((model.to_words, 4.0), (model.embedding, 20.0)):
        layer.weights[0].assign(scale * layer.weights[0])
    # What must not be said is likeliest of all, and the end is likely.
    model.to_words.bias.assign([9, 9, 1.0, 9, 0, 0, 0, 0, 0, 0, 0])
    found = model.generate(grids, beam_size=60).numpy()
    greedy = model.generate(grids, beam_size=1).numpy()
    better = 0
    for row in range(3):
        ranked = _all_texts(model, grids[row])
        best = [word for word in found[row] if word != PAD]
        assert best == ranked[0][1]
        assert ranked[0][0] - ranked[1][0] > 1e-4  # no tie decides this
        better += [word for word in greedy[row] if word != PAD] != best
        assert np.all(found[row][len(best) :] == PAD)
    assert better  # a narrow beam misses some of them


# --- Weights on disk ------------------------------------------------------------------


def test_weights_on_disk(model, grids, tmp_path):
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    model.save(first)
    model.save(second)
    assert first.read_bytes() == second.read_bytes()
    other = _tiny(seed=9)
    before = other.read(grids, WORDS)["logits"].numpy()
    other.load(first)
    after = other.read(grids, WORDS)["logits"].numpy()
    np.testing.assert_array_equal(after, model.read(grids, WORDS)["logits"])
    assert np.abs(after - before).max() > 1e-3


def test_weights_of_another_network_are_refused(model, tmp_path):
    path = tmp_path / "weights.safetensors"
    model.save(path)
    wider = ShowAttendTell(dataclasses.replace(TINY, hidden_size=9))
    with pytest.raises(ValueError, match="other names or shapes"):
        wider.load(path)
    path.write_bytes(b"no tensors")
    with pytest.raises(ValueError, match="should hold the weights of a captioner"):
        model.load(path)
