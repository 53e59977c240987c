"""Show, Attend and Tell, the captioner behind the alignments (paper, section 3.3).

The network of Xu et al. (ICML 2015) with soft attention: at every word an LSTM looks
at a weighted mean of a CNN's grid of features, and the weights are that word's heat
map. Equation numbers below are theirs.
"""

import dataclasses

import safetensors
import safetensors.numpy
import tensorflow as tf
import tf_keras
from official.nlp.modeling.ops import beam_search

PAD, START, END, UNKNOWN = range(4)  # ids of the words that aren't words
SPECIAL_WORDS = ("<pad>", "<start>", "<end>", "<unknown>")


@dataclasses.dataclass(frozen=True)
class SatConfig:
    """Sizes of the network; letters of the shapes used below.

    Attributes:
      num_words: V, words it can say, the special ones included.
      grid: G, cells along a side; there are L = G * G.
      channels: C, numbers in a cell of the CNN's grid.
      annotation_size: D, of a cell after one learnt layer on the frozen CNN.
      attention_size: A, of the layer in which cells and state meet.
      hidden_size: H, of the LSTM.
      embedding_size: E, of a word; the deep output is as long.
      dropout: rate on words going in and on the deep output.
      doubly_stochastic: lambda of equation 14.
      max_words: most words of a text, without start and end.
    """

    num_words: int
    grid: int = 14
    channels: int = 112
    annotation_size: int = 128
    attention_size: int = 64
    hidden_size: int = 256
    embedding_size: int = 128
    dropout: float = 0.4
    doubly_stochastic: float = 0.1
    max_words: int = 64


class AttentionCell(tf_keras.layers.AbstractRNNCell):
    """One word's step: attention, gate, LSTM (equations 1 to 6 and 13).

    Args:
      config: `SatConfig`.
    """

    def __init__(self, config, **kwargs):
        super().__init__(**kwargs)
        self.config = config
        dense = tf_keras.layers.Dense
        self.lstm = tf_keras.layers.LSTMCell(config.hidden_size, name="lstm")
        self.from_state = dense(config.attention_size, name="from_state")
        self.score = dense(1, use_bias=False, name="score")
        self.gate = dense(1, activation="sigmoid", name="gate")

    @property
    def state_size(self):
        return [self.config.hidden_size, self.config.hidden_size]

    @property
    def output_size(self):
        size = self.config
        return size.hidden_size + size.annotation_size + size.grid**2 + 1

    def build(self, input_shape):
        size = self.config
        for layer, width in (
            (self.lstm, size.embedding_size + size.annotation_size),
            (self.from_state, size.hidden_size),
            (self.score, size.attention_size),
            (self.gate, size.hidden_size),
        ):
            with tf.name_scope(layer.name):  # names tell the weights apart in a file
                layer.build([None, width])
        super().build(input_shape)

    def call(self, inputs, states, constants):
        """A step.

        Args:
          inputs: float32 [B, E], the word before.
          states: [h, c], float32 [B, H].
          constants: (annotations float32 [B, L, D], their keys [B, L, A]).

        Returns:
          (float32 [B, H + D + L + 1]: the new h, what the LSTM saw of the image,
          attention and gate, see `split_outputs`; the new states).
        """
        annotations, keys = constants
        # [B, L, A] + [B, 1, A] -> [B, L]: equation 4, an MLP of cell and state
        met = tf.tanh(keys + self.from_state(states[0])[:, None])
        attention = tf.nn.softmax(self.score(met)[..., 0])
        # The scalar beta says how much the image counts for this word (section 4.2.1).
        gate = self.gate(states[0])
        # [B, 1, L] x [B, L, D] -> [B, D]: equation 13
        context = gate * (attention[:, None] @ annotations)[:, 0]
        _, states = self.lstm(tf.concat([inputs, context], axis=1), states)
        return tf.concat([states[0], context, attention, gate], axis=1), states

    def split_outputs(self, outputs):
        """[..., H + D + L + 1] -> h, context, attention, gate."""
        size = self.config
        lengths = [size.hidden_size, size.annotation_size, size.grid**2, 1]
        return tf.split(outputs, lengths, axis=-1)


class ShowAttendTell(tf_keras.Model):
    """The captioner.

    Args:
      config: `SatConfig`.

    Example:
      >>> model = ShowAttendTell(SatConfig(num_words=500))
      >>> words = model.generate(grids, beam_size=3)  # [B, 14, 14, 112] -> [B, T]
      >>> model.read(grids, words)["attention"].shape
      TensorShape([B, T, 196])
    """

    def __init__(self, config, name="show_attend_tell"):
        super().__init__(name=name)
        self.config = config
        dense = tf_keras.layers.Dense
        self.annotate = dense(config.annotation_size, "relu", name="annotate")
        self.keys = dense(config.attention_size, use_bias=False, name="keys")
        self.initial = [
            dense(config.hidden_size, "tanh", name=f"initial_{part}") for part in "hc"
        ]
        self.embedding = tf_keras.layers.Embedding(
            config.num_words, config.embedding_size, name="embedding"
        )
        self.cell = AttentionCell(config, name="attention")
        self.rnn = tf_keras.layers.RNN(self.cell, return_sequences=True, name="rnn")
        self.from_hidden = dense(config.embedding_size, name="from_hidden")
        self.from_context = dense(
            config.embedding_size, use_bias=False, name="from_context"
        )
        self.to_words = dense(config.num_words, name="to_words")
        self.channel_mean = self._constant("channel_mean", "zeros")
        self.channel_std = self._constant("channel_std", "ones")
        grids = tf.zeros([1, config.grid, config.grid, config.channels])
        self.read(grids, tf.constant([[END]]))  # makes the variables

    @property
    def grids_spec(self):
        """Of the grids of a batch as they are kept."""
        size = self.config
        shape = [None, size.grid, size.grid, size.channels]
        return tf.TensorSpec(shape, tf.float16)

    def _constant(self, name, start):
        return self.add_weight(
            name, [self.config.channels], initializer=start, trainable=False
        )

    def annotations(self, grids):
        """Annotation vectors and what attention needs of them.

        Args:
          grids: float [B, G, G, C], the CNN's.

        Returns:
          (float32 [B, L, D], float32 [B, L, A]).
        """
        size = self.config
        cells = tf.reshape(
            tf.cast(grids, tf.float32), [-1, size.grid**2, size.channels]
        )
        annotations = self.annotate((cells - self.channel_mean) / self.channel_std)
        return annotations, self.keys(annotations)

    def initial_states(self, annotations):
        """h and c before the first word, from the mean annotation: float32 [B, H]."""
        mean = tf.reduce_mean(annotations, axis=1)
        return [layer(mean) for layer in self.initial]

    def deep_output(self, embedded, hidden, context, seed=None):
        """Logits of the next word (equation 7): [..., E], [..., H], [..., D] -> V."""
        mixed = embedded + self.from_hidden(hidden) + self.from_context(context)
        return self.to_words(self._drop(mixed, seed, 1))

    def _drop(self, values, seed, place):
        """Dropout in training, the same for the same seed."""
        if seed is None or not self.config.dropout:
            return values
        seed = tf.random.experimental.stateless_fold_in(seed, place)
        return tf.nn.experimental.stateless_dropout(values, self.config.dropout, seed)

    def read(self, grids, words, seed=None):
        """Goes through texts word by word, given the words before (teacher forcing).

        Args:
          grids: float [B, G, G, C].
          words: int32 [B, T], the texts; the first word follows `START`.
          seed: int32 [2] for dropout in training; None drops nothing.

        Returns:
          dict of float32: `logits` [B, T, V] of every word, `attention` [B, T, L], its
          heat map, row-major, and `gate` [B, T], how much the image counted.
        """
        annotations, keys = self.annotations(grids)
        before = tf.concat([tf.fill([tf.shape(words)[0], 1], START), words[:, :-1]], 1)
        embedded = self._drop(self.embedding(before), seed, 0)
        outputs = self.rnn(
            embedded,
            initial_state=self.initial_states(annotations),
            constants=[annotations, keys],
        )
        hidden, context, attention, gate = self.cell.split_outputs(outputs)
        logits = self.deep_output(embedded, hidden, context, seed)
        return {"logits": logits, "attention": attention, "gate": gate[..., 0]}

    def losses_of(self, grids, words, seed=None):
        """The two terms of equation 14, means over the batch's texts.

        Args: as for `read`; a text ends with `END`, `PAD` follows.

        Returns:
          (minus the log-likelihood of a text, penalty of uneven attention).
        """
        outputs = self.read(grids, words, seed)
        real = tf.cast(words != PAD, tf.float32)
        costs = tf.nn.sparse_softmax_cross_entropy_with_logits(words, outputs["logits"])
        likelihood = tf.reduce_mean(tf.reduce_sum(costs * real, axis=1))
        return likelihood, doubly_stochastic_penalty(outputs["attention"], real)

    def generate(self, grids, beam_size=3, length_penalty=0.0):
        """Describes images by beam search, in graph.

        Args:
          grids: float [B, G, G, C].
          beam_size: texts followed at a time.
          length_penalty: alpha of Wu et al. (2016); 0 ranks by likelihood alone, as
            published.

        Returns:
          int32 [B, T] with T at most max_words + 1: the words, `END`, then `PAD`.
        """
        annotations, keys = self.annotations(grids)
        states = self.initial_states(annotations)
        constants = [tf.repeat(part, beam_size, axis=0) for part in (annotations, keys)]
        never = tf.one_hot([PAD, START, UNKNOWN], self.config.num_words, -1e9, 0.0)

        def next_word(ids, index, cache):
            del index
            embedded = self.embedding(ids[:, -1])
            outputs, states = self.cell(
                embedded, [cache["h"], cache["c"]], constants=constants
            )
            hidden, context, _, _ = self.cell.split_outputs(outputs)
            logits = self.deep_output(embedded, hidden, context)
            logits += tf.reduce_sum(never, axis=0)
            return logits, {"h": states[0], "c": states[1]}

        found, _ = beam_search.sequence_beam_search(
            next_word,
            tf.fill([tf.shape(annotations)[0]], START),
            {"h": states[0], "c": states[1]},
            self.config.num_words,
            beam_size,
            length_penalty,
            self.config.max_words + 1,
            END,
        )
        return found[:, 0, 1:]  # the best of each beam, START taken off

    def save(self, path):
        """Writes all weights; the same weights make the same bytes."""
        values = {weight.name: weight.numpy() for weight in self.weights}
        with open(path, "wb") as file:
            file.write(safetensors.numpy.save(values))

    def load(self, path):
        """Reads what `save` wrote.

        Raises:
          ValueError: no such file of weights, or of a network of other sizes.
        """
        try:
            values = safetensors.numpy.load_file(path)
        except safetensors.SafetensorError as error:
            raise ValueError(
                f"{path} should hold the weights of a captioner. Received: {error}"
            ) from error
        shapes = {weight.name: tuple(weight.shape) for weight in self.weights}
        if shapes != {name: value.shape for name, value in values.items()}:
            raise ValueError(
                f"{path} should hold the weights that the config.json beside it "
                "describes. Received: other names or shapes (train it again)"
            )
        for weight in self.weights:
            weight.assign(values[weight.name])


def doubly_stochastic_penalty(attention, real):
    """Mean over texts of sum over cells of (1 - sum over words of attention)^2.

    Attention sums to 1 over the cells of a word by its softmax; this asks that it also
    sums to the same over the words of a cell, so that no part of the image is left out
    (section 4.2.1). Which constant stands in the place of 1 makes no difference to the
    gradient, since the sums of a text add up to its number of words.

    Args:
      attention: float32 [B, T, L].
      real: float32 [B, T], 1 for words and the end, 0 for padding.

    Returns:
      float32 scalar.
    """
    looked = tf.reduce_sum(attention * real[..., None], axis=1)
    return tf.reduce_mean(tf.reduce_sum((1.0 - looked) ** 2, axis=1))
