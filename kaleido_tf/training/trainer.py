"""The training step: Keras fit over a step that compiles as a whole.

Keras's "epoch" is a round here: a number of steps that ends with validation and a
checkpoint (`callbacks.py`). A step takes a global batch, which replicas and
micro-batches share; losses and gradients are those of the whole batch (`shares.py`).
"""

import re

import tensorflow as tf
import tf_keras
from absl import logging

from kaleido_tf.modeling import losses as losses_lib
from kaleido_tf.training import dropout, shares
from kaleido_tf.training import metrics as metrics_lib

# Places of `TrainingModel.status`: the request to stop, then the last bad steps.
STOP = 0
RECENT_STEPS = 16


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
      counts: function of labels -> dict loss name -> float32 scalar, what that loss is
        a mean over; a loss that it doesn't name, or None: rows.
      alignment: `shares.Alignment` that is one of the losses, or None.
      unused: patterns (`re.search`) of the variables that may get no gradient.
      accumulate_steps: micro-batches that a replica's rows are computed in, one after
        the other; one update is made of all.
      skips_bad_steps: leave out the update of a bad step: one whose loss or gradient
        isn't finite. A gradient that overflows is no bad step while loss scaling can
        still lower its factor.
      seed: int, the run's, of dropout.

    Attributes:
      status: int64 [1 + RECENT_STEPS] variable: whether any worker has asked for a
        stop; then, for each of the last RECENT_STEPS steps, its number if it was a bad
        one (1 is the run's first step), else 0. See `bad_steps`.
      asks_stop: int64 variable; 1 is this worker asking.
    """

    def __init__(
        self,
        network,
        losses,
        accuracies,
        loss_names,
        accuracy_names,
        use_xla=False,
        *,
        counts=None,
        alignment=None,
        unused=(),
        accumulate_steps=1,
        skips_bad_steps=False,
        seed=0,
    ):
        super().__init__(name="training")
        self.network = network
        dropout.prepare(network)
        self._losses, self._accuracies = losses, accuracies
        self._loss_names = tuple(loss_names)
        self._counts, self._alignment = counts, alignment
        self._unused, self._parts = unused, accumulate_steps
        self._skips, self._seed = skips_bad_steps, seed
        self._said_unused = False
        self._gradients = tf.function(self._loss_and_gradients, jit_compile=use_xla)
        self._vectors = tf.function(self._aligned_outputs, jit_compile=use_xla)
        self._forward = tf.function(self._evaluate, jit_compile=False)
        names = ["loss/total"] + [f"loss/{name}" for name in loss_names]
        names += [f"accuracy/{name}" for name in accuracy_names]
        self._means = {name: tf_keras.metrics.Mean(name=name) for name in names}
        once = {
            "trainable": False,
            "dtype": tf.int64,
            "aggregation": tf.VariableAggregation.ONLY_FIRST_REPLICA,
        }
        self.status = tf.Variable([0] * (1 + RECENT_STEPS), name="status", **once)
        self.asks_stop = tf.Variable(0, name="asks_stop", **once)

    @property
    def metrics(self):
        return list(self._means.values())

    def bad_steps(self):
        """Numbers of the bad ones among the last RECENT_STEPS steps: sorted list."""
        return sorted(int(step) for step in self.status.numpy()[1:] if step)

    def call(self, inputs, training=False):
        return self.network(inputs, training=training)

    # What XLA compiles.

    def _evaluate(self, inputs, labels, training=False):
        """Losses, accuracies with weights, and outputs."""
        outputs = self.network(inputs, training=training)
        losses = self._losses(labels, outputs)
        return losses, self._accuracies(labels, outputs), outputs

    def _loss_and_gradients(self, inputs, labels, weights, pulls, place):
        """One part of the batch.

        Args:
          inputs, labels: its rows.
          weights: float32 [losses], in the order of `loss_names`.
          pulls: dict of the gradients at the alignment's outputs; {} where the loss is
            taken here.
          place: int64 [2], step and part, of dropout.
        """
        with dropout.drawing(self._seed, place[0], place[1]):
            with tf.GradientTape() as tape:
                losses, accuracies, outputs = self._evaluate(inputs, labels, True)
                values = tf.stack([losses[name] for name in self._loss_names])
                total = tf.reduce_sum(values * weights)
                for name, pull in pulls.items():
                    total += tf.reduce_sum(outputs[name] * pull)
            gradients = tape.gradient(total, self.network.trainable_variables)
        # Dense ones: a table's rows that come twice count in the norm as they add up,
        # with micro-batches and without.
        gradients = [
            gradient if gradient is None else tf.convert_to_tensor(gradient)
            for gradient in gradients
        ]
        return values, accuracies, gradients

    def _aligned_outputs(self, inputs, place):
        """The outputs that the alignment reads, with the step's own dropout.

        The graph holds nothing else: what stands behind the vectors is pruned.
        """
        with dropout.drawing(self._seed, place[0], place[1]):
            outputs = self.network(inputs, training=True)
        return {name: outputs[name] for name in self._alignment.outputs}

    # The steps that Keras calls, in a replica's context.

    @property
    def _replicas(self):
        return self.distribute_strategy.num_replicas_in_sync

    def train_step(self, data):
        parts = shares.split(tuple(data), self._parts)
        step = tf.cast(self.optimizer.iterations, tf.int64)
        scaling = isinstance(
            self.optimizer, tf_keras.mixed_precision.LossScaleOptimizer
        )
        one = tf.constant(1.0)
        scale = self.optimizer.get_scaled_loss(one) if scaling else one
        weights = self._weights([labels for _, labels in parts])
        places = self._places(step)
        pulls, aligned = self._pulls(parts, places, weights)
        results, gradients = [], None
        for index, (inputs, labels) in enumerate(parts):
            # One part after the other: their activations don't stand side by side.
            with tf.control_dependencies(_tensors(gradients)):
                place = tf.identity(places[index])
                inputs = tf.nest.map_structure(tf.identity, inputs)
            pull = {name: value * scale for name, value in pulls[index].items()}
            values, accuracies, more = self._gradients(
                inputs, labels, weights[index] * scale, pull, place
            )
            results.append((values, accuracies))
            gradients = more if gradients is None else _add(gradients, more)
        if scaling:
            gradients = self.optimizer.get_unscaled_gradients(gradients)
        losses = self._whole_losses(results, weights, aligned)
        finite = tf.math.is_finite(tf.reduce_sum(losses))
        finite &= self._has_finite(gradients, scaling)
        self._note_status(finite, step)
        self._apply(gradients, finite)
        rows = shares.rows_of(data)
        return self._update_metrics(losses, [a for _, a in results], rows, finite)

    def test_step(self, data):
        inputs, labels = data
        losses, accuracies, outputs = self._forward(inputs, labels)
        values = tf.stack([losses[name] for name in self._loss_names])
        aligned = None
        if self._alignment and self._replicas > 1:
            aligned = self._alignment.loss(*self._gathered(labels, outputs))
        weights = self._weights([labels])
        losses = self._whole_losses([(values, accuracies)], weights, aligned)
        rows = shares.rows_of(inputs)
        return self._update_metrics(losses, [accuracies], rows, tf.constant(True))

    def _places(self, step):
        """Step and number of each part of this replica's rows: list of int64 [2]."""
        first = tf.cast(shares.replica_index(), tf.int64) * self._parts
        return [tf.stack([step, first + index]) for index in range(self._parts)]

    def _weights(self, labels_of_parts):
        """Each part's share in every loss's count: list of float32 [losses]."""
        if len(labels_of_parts) == 1 and self._replicas == 1:
            return [tf.ones([len(self._loss_names)])]
        counts = []
        for labels in labels_of_parts:
            known = self._counts(labels) if self._counts else {}
            rows = tf.cast(shares.rows_of(labels), tf.float32)
            counts.append(tf.stack([known.get(n, rows) for n in self._loss_names]))
        whole = shares.sum_over_replicas(tf.add_n(counts), self._replicas)
        return [tf.math.divide_no_nan(count, whole) for count in counts]

    def _gathered(self, labels, outputs):
        """The alignment's labels and outputs of the global batch: two dicts."""
        chosen = (
            {name: labels[name] for name in self._alignment.labels},
            {name: outputs[name] for name in self._alignment.outputs},
        )
        return shares.gather_replicas(chosen, self._replicas)

    def _pulls(self, parts, places, weights):
        """The alignment's gradient at each part's own vectors, where there are parts.

        Takes the alignment out of `weights` (a list that is changed).

        Returns:
          (list of dicts name -> [rows, D], the loss of the global batch or None).
        """
        if not self._alignment or len(parts) * self._replicas == 1:
            return [{}] * len(parts), None
        vectors = [self._vectors(p[0], at) for p, at in zip(parts, places, strict=True)]
        own = {n: tf.concat([v[n] for v in vectors], 0) for n in vectors[0]}
        names = self._alignment.labels
        labels = {n: tf.concat([p[1][n] for p in parts], 0) for n in names}
        labels, outputs = self._gathered(labels, own)
        with tf.GradientTape() as tape:
            tape.watch(outputs)
            loss = self._alignment.loss(labels, outputs)
        pulls = tape.gradient(loss, outputs)
        rows = shares.rows_of(own)
        start = shares.replica_index() * rows
        pulls = {name: pull[start : start + rows] for name, pull in pulls.items()}
        others = [float(n != self._alignment.name) for n in self._loss_names]
        weights[:] = [weight * others for weight in weights]
        return shares.split(pulls, len(parts)), loss

    def _whole_losses(self, results, weights, aligned):
        """Losses of the global batch, the same on every replica: [losses]."""
        own = tf.add_n([v * w for (v, _), w in zip(results, weights, strict=True)])
        losses = shares.sum_over_replicas(own, self._replicas)
        if aligned is None:
            return losses
        here = tf.constant([n == self._alignment.name for n in self._loss_names])
        return tf.where(here, aligned, losses)

    def _has_finite(self, gradients, scaling):
        """Whether every replica's gradients are finite: bool scalar.

        Clipping takes the same norm, so the graph computes it once. A norm that is
        infinite because its square is too large is as useless.
        """
        norm = tf.linalg.global_norm([g for g in gradients if g is not None])
        finite = tf.math.is_finite(shares.sum_over_replicas(norm, self._replicas))
        # With loss scaling the optimizer leaves such a step out and halves its factor.
        return finite | (self.optimizer.loss_scale > 1) if scaling else finite

    def _note_status(self, finite, step):
        asked = shares.sum_over_replicas(tf.identity(self.asks_stop), self._replicas)
        number = step + 1
        here = tf.range(RECENT_STEPS, dtype=tf.int64) == number % RECENT_STEPS
        recent = tf.where(
            here, tf.where(finite, tf.zeros_like(number), number), self.status[1:]
        )
        self.status.assign(tf.concat([tf.minimum(asked, 1)[None], recent], 0))

    def _apply(self, gradients, finite):
        variables = self.network.trainable_variables
        pairs = list(zip(gradients, variables, strict=True))
        self._check_unused([v.name for g, v in pairs if g is None])
        pairs = [pair for pair in pairs if pair[0] is not None]
        if not self._skips:
            self.optimizer.apply_gradients(pairs)
            return
        optimizer = getattr(self.optimizer, "inner_optimizer", self.optimizer)
        gradients = [g for g, _ in optimizer.aggregate_gradients(pairs)]
        variables = [v for _, v in pairs]

        def apply(gradients):
            self.optimizer.apply_gradients(
                list(zip(gradients, variables, strict=True)),
                skip_gradients_aggregation=True,
            )

        def across_replicas(strategy, gradients, finite):
            # Replicas agree on `finite`; a branch can't hold a replica's update.
            agreed = strategy.experimental_local_results(finite)[0]
            call = strategy.extended.call_for_each_replica
            _if_finite(agreed, lambda: call(apply, args=(gradients,)), optimizer)

        if tf.__internal__.distribute.strategy_supports_no_merge_call():
            _if_finite(finite, lambda: apply(gradients), optimizer)
        else:
            context = tf.distribute.get_replica_context()
            context.merge_call(across_replicas, args=(gradients, finite))

    def _check_unused(self, names):
        """Says which variables aren't trained; while the step is traced, so once.

        Raises:
          ValueError: one of them isn't among the expected ones.
        """
        patterns = self._unused
        strange = [n for n in names if not any(re.search(p, n) for p in patterns)]
        if strange:
            raise ValueError(
                "The losses should depend on every trained variable"
                + (f" but {list(patterns)}" if patterns else "")
                + f". Received no gradient for {strange} (set `trainable = False` on "
                "what is not to be trained)"
            )
        if names and not self._said_unused:
            logging.info("without a gradient, not trained: %s", ", ".join(names))
        self._said_unused = True

    def _update_metrics(self, losses, accuracies_of_parts, rows, finite):
        rows = tf.cast(rows, tf.float32)
        if self._skips:  # a step that is left out counts nowhere
            rows *= tf.cast(finite, tf.float32)
            losses = tf.where(finite, losses, 0.0)
        self._means["loss/total"].update_state(tf.reduce_sum(losses), rows)
        for name, value in zip(self._loss_names, tf.unstack(losses), strict=True):
            self._means[f"loss/{name}"].update_state(value, rows)
        for accuracies in accuracies_of_parts:
            for name, (value, weight) in accuracies.items():
                if self._skips:
                    weight *= tf.cast(finite, weight.dtype)
                self._means[f"accuracy/{name}"].update_state(value, weight)
        return {name: mean.result() for name, mean in self._means.items()}


def _tensors(gradients):
    flat = tf.nest.flatten(gradients, expand_composites=True)
    return [gradient for gradient in flat if gradient is not None]


def _add(gradients, more):
    """Sums of two lists of gradients; None stays."""
    return [
        None if one is None else one + other
        for one, other in zip(gradients, more, strict=True)
    ]


def _if_finite(finite, update, optimizer):
    """The update, or a step that only counts."""

    def skip():
        optimizer.iterations.assign_add(1, read_value=False)

    def apply():
        update()

    tf.cond(finite, apply, skip)


class PretrainingModel(TrainingModel):
    """A pre-trainer with the losses and accuracies of the paper's tasks.

    Args:
      pretrainer: model of `build_pretrainer`.
      config: `KaleidoConfig`.
      use_xla: see `TrainingModel`.
      **kwargs: `accumulate_steps`, `skips_bad_steps` and `seed` of `TrainingModel`.
    """

    def __init__(self, pretrainer, config, use_xla=False, **kwargs):
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
            counts=lambda labels: shares.pretraining_counts(labels, config),
            alignment=shares.pretraining_alignment(config),
            **kwargs,
        )

    @property
    def pretrainer(self):
        return self.network
