"""The transformer layer of the cross-modality encoder, as fast as its products allow.

The same layer as tf-models-official's, with the same variables at the same places, so
checkpoints, ports and decoding fit either. What differs is how it computes: query, key
and value are one product, rows of all texts lie below each other without their padding
(`packing.py`), and what stands between the products goes through memory once
(`fused.py`).
"""

import contextlib

import tensorflow as tf
from official.nlp.modeling import layers as nlp_layers
from tensorflow.python.ops import control_flow_util

from kaleido_tf.modeling import fused
from kaleido_tf.modeling import packing as packing_lib


class EncoderBlock(nlp_layers.TransformerEncoderBlock):
    """Post-LayerNorm self-attention block.

    Call: [sequence [B, S, H], mask [B, S, S]] -> float32 [B, S, H]. The mask is 1 where
    a row's position sees a column's; a sequence alone sees all of itself. With
    `output_range` n, only the first n positions: [B, n, H]; within `only`, others.
    """

    _made = False
    _only = None

    @contextlib.contextmanager
    def only(self, positions):
        """Where a call computes the given positions alone, in their order.

        Args:
          positions: int32 [B, n].
        """
        self._only = positions
        try:
            yield
        finally:
            self._only = None

    def call(self, inputs, output_range=None, training=None):
        if not self._made:
            # The stock layer makes its sub-layers' variables when it is first called.
            self._made = True
            return super().call(inputs, output_range=output_range)
        sequence, mask = inputs if isinstance(inputs, (list, tuple)) else (inputs, None)
        if mask is None:
            mask = tf.ones([tf.shape(sequence)[0], 1, 1], sequence.dtype)
            mask = tf.broadcast_to(mask, tf.concat([tf.shape(sequence)[:2], [1]], 0))
        target = sequence
        if output_range:
            target, mask = (x[:, :output_range] for x in (sequence, mask))
        elif self._only is not None:
            target, mask = (
                tf.gather(x, self._only, batch_dims=1) for x in (sequence, mask)
            )
        packing = self._packing(mask, target, sequence, training)
        context = self._context(sequence, target, mask, packing, training)
        output = self._finish(packing.pack(_rows(target)), context, packing, training)
        return tf.reshape(packing.unpack(output), tf.shape(target))

    def _packing(self, mask, target, sequence, training):
        """Which rows are computed: in training, where all positions are, the seen.

        Not within a function that XLA compiles as a whole: it wants a fixed number.
        """
        whole = target is sequence and mask.shape[1] != 1
        in_xla = control_flow_util.GraphOrParentsInXlaContext(
            tf.compat.v1.get_default_graph()
        )
        if training and whole and not in_xla:
            return packing_lib.Packing(mask)
        return packing_lib.NoPacking(tf.reduce_prod(tf.shape(target)[:2]))

    def _context(self, sequence, target, mask, packing, training):
        """What each position gathers from those it sees: [R, H]."""
        layer = self._attention_layer
        dense = [layer._query_dense, layer._key_dense, layer._value_dense]
        if target is sequence:
            query, key, value = self._project(sequence, dense, packing, training)
        else:
            every = packing_lib.NoPacking(0)
            (query,) = self._project(target, dense[:1], every, training)
            key, value = self._project(sequence, dense[1:], every, training)
        scores = tf.matmul(query, key, transpose_b=True)
        weights = fused.attention_weights(
            scores,
            mask,
            self._seed(layer._dropout_layer, training),
            scale=self._key_dim**-0.5,
            rate=_rate(self._attention_dropout_rate, training),
            compiled=bool(training),
        )
        # [B, N, S, S'], [B, N, S', D] -> [B, N, S, D] -> [B * S, N * D]
        context = tf.transpose(tf.matmul(weights, value), [0, 2, 1, 3])
        return packing.pack(tf.reshape(context, [-1, sequence.shape[-1]]))

    def _project(self, sequence, dense, packing, training):
        """Heads of the projections of a sequence: tuple of [B, N, S, D]."""
        width = sequence.shape[-1]
        kernel = tf.concat([tf.reshape(x.kernel, [width, width]) for x in dense], 1)
        bias = tf.concat([tf.reshape(x.bias, [width]) for x in dense], 0)
        return fused.split_heads(
            packing.unpack(tf.matmul(packing.pack(_rows(sequence)), kernel)),
            bias,
            tf.zeros(tf.shape(sequence)[:1], tf.int32),
            heads=self._num_heads,
            parts=len(dense),
            compiled=bool(training),
        )

    def _finish(self, rows, context, packing, training):
        """What follows on attention: [R, H], [R, H] -> float32 [R, H]."""
        out = self._attention_layer._output_dense
        attended = self._add(
            tf.matmul(context, tf.reshape(out.kernel, [-1, rows.shape[-1]])),
            out.bias,
            rows,
            self._attention_layer_norm,
            self._attention_dropout,
            packing,
            training,
        )
        inner = fused.bias_activation(
            tf.matmul(tf.cast(attended, rows.dtype), self._intermediate_dense.kernel),
            self._intermediate_dense.bias,
            activation=self._inner_activation,
            compiled=bool(training),
        )
        return self._add(
            tf.matmul(inner, self._output_dense.kernel),
            self._output_dense.bias,
            attended,
            self._output_layer_norm,
            self._output_dropout,
            packing,
            training,
        )

    def _add(self, x, bias, residual, norm, dropout, packing, training):
        seed = self._seed(dropout, training)
        return fused.residual_norm(
            x,
            bias,
            residual,
            norm.gamma,
            norm.beta,
            seed,
            packing.rows + seed[2] * packing.count,
            rate=_rate(self._output_dropout_rate, training),
            epsilon=self._norm_epsilon,
            compiled=bool(training),
        )

    def _seed(self, dropout, training):
        """What is drawn from; a constant where nothing is dropped."""
        if _rate(dropout.rate, training):
            return fused.draw_seed(dropout)
        return tf.constant(fused.NO_SEED)


def _rate(rate, training):
    return rate if training else 0.0


def _rows(sequence):
    """[B, S, H] -> [B * S, H]."""
    return tf.reshape(sequence, [-1, sequence.shape[-1]])
