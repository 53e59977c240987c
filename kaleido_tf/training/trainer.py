"""The training loop: Keras fit over a step that compiles as a whole.

Keras's "epoch" is a round here: a number of steps that ends with validation and a
checkpoint (`callbacks.py`).
"""

import tensorflow as tf
import tf_keras

from kaleido_tf.modeling import losses as losses_lib
from kaleido_tf.training import metrics as metrics_lib


class TrainingModel(tf_keras.Model):
    """A model with its losses, metrics and training step.

    Args:
      network: the model whose weights are trained.
      losses: function (labels, outputs) -> dict name -> float32 scalar; the total is
        their sum.
      accuracies: function (labels, outputs) -> dict name -> (value, weight).
      loss_names, accuracy_names: the names these return.
      use_xla: compile forward and backward pass with XLA. The optimizer stays outside
        of the compiled part, which is what lets XLA run under MirroredStrategy.
    """

    def __init__(
        self, network, losses, accuracies, loss_names, accuracy_names, use_xla=False
    ):
        super().__init__(name="training")
        self.network = network
        self._losses, self._accuracies = losses, accuracies
        self._gradients = tf.function(self._loss_and_gradients, jit_compile=use_xla)
        self._forward = tf.function(self._evaluate, jit_compile=False)
        names = ["loss/total"] + [f"loss/{name}" for name in loss_names]
        names += [f"accuracy/{name}" for name in accuracy_names]
        self._means = {name: tf_keras.metrics.Mean(name=name) for name in names}

    @property
    def metrics(self):
        return list(self._means.values())

    def call(self, inputs, training=False):
        return self.network(inputs, training=training)

    def _evaluate(self, inputs, labels, training=False):
        """Losses, and accuracies with weights."""
        outputs = self.network(inputs, training=training)
        return self._losses(labels, outputs), self._accuracies(labels, outputs)

    def _loss_and_gradients(self, inputs, labels, loss_scale):
        with tf.GradientTape() as tape:
            losses, accuracies = self._evaluate(inputs, labels, training=True)
            total = tf.add_n(list(losses.values()))
            scaled = total * loss_scale
        gradients = tape.gradient(scaled, self.network.trainable_variables)
        return losses, accuracies, gradients

    def train_step(self, data):
        inputs, labels = data
        replicas = self.distribute_strategy.num_replicas_in_sync
        scaling = isinstance(
            self.optimizer, tf_keras.mixed_precision.LossScaleOptimizer
        )
        scale = self.optimizer.loss_scale if scaling else 1.0
        scale = tf.cast(scale, tf.float32) / replicas
        losses, accuracies, gradients = self._gradients(inputs, labels, scale)
        if scaling:
            gradients = self.optimizer.get_unscaled_gradients(gradients)
        pairs = zip(gradients, self.network.trainable_variables, strict=True)
        # A task may leave a part of the encoder unused (its pooler, the alignment).
        self.optimizer.apply_gradients([pair for pair in pairs if pair[0] is not None])
        return self._update_metrics(losses, accuracies, inputs)

    def test_step(self, data):
        inputs, labels = data
        losses, accuracies = self._forward(inputs, labels)
        return self._update_metrics(losses, accuracies, inputs)

    def _update_metrics(self, losses, accuracies, inputs):
        rows = tf.shape(tf.nest.flatten(inputs)[0])[0]
        self._means["loss/total"].update_state(tf.add_n(list(losses.values())), rows)
        for name, value in losses.items():
            self._means[f"loss/{name}"].update_state(value, rows)
        for name, (value, weight) in accuracies.items():
            self._means[f"accuracy/{name}"].update_state(value, weight)
        return {name: mean.result() for name, mean in self._means.items()}


class PretrainingModel(TrainingModel):
    """A pre-trainer with the losses and accuracies of the paper's tasks.

    Args:
      pretrainer: model of `build_pretrainer`.
      config: `KaleidoConfig`.
      use_xla: see `TrainingModel`.
    """

    def __init__(self, pretrainer, config, use_xla=False):
        extra = ("contrastive",) if config.contrastive_size else ()
        super().__init__(
            pretrainer,
            lambda labels, outputs: losses_lib.pretraining_losses(
                labels, outputs, config
            ),
            lambda labels, outputs: metrics_lib.task_accuracies(
                labels, outputs, config
            ),
            config.loss_names + extra,
            [name for name in config.loss_names if name not in ("grey", "blank")],
            use_xla,
        )

    @property
    def pretrainer(self):
        return self.network
