"""Optimizer: AdamW, linear warm-up and decay, clipping, no decay of norms, biases."""

import tensorflow as tf
import tf_keras
from absl import logging
from official.modeling.optimization import lr_schedule

# Variables without weight decay (the release excludes LayerNorm and bias).
NO_DECAY = ("bias", "gamma", "beta")
# A float32 less a smaller share of itself is itself: half its distance to the next, and
# a thousandth less for the share's own rounding.
_LEAST_DECAY = 0.999 * 2.0**-25


def make_schedule(learning_rate, num_steps, warmup_steps):
    """Linear decay from `learning_rate` to 0 at `num_steps` after a linear warm-up.

    With W warm-up steps of N the rate rises in a line to the decay's at step W,
    `learning_rate` * (1 - W / N), and follows the decay from there. The release
    (EasyTransfer's `get_train_op`) multiplies the decay by step / W instead, which is
    up to 1 / (1 - W / N) times as much within the warm-up and the same after it.

    Args:
      learning_rate: of step 0, were there no warm-up.
      num_steps: length of the whole run, steps.
      warmup_steps: length of the warm-up, steps; 0 for none.
    """
    if not 0 <= warmup_steps < num_steps:
        raise ValueError(
            "`warmup_steps` should be at least 0 and less than `num_steps`. Received: "
            f"{warmup_steps} of {num_steps}"
        )
    decay = tf_keras.optimizers.schedules.PolynomialDecay(
        learning_rate, num_steps, end_learning_rate=0.0
    )
    if not warmup_steps:
        return decay
    return lr_schedule.LinearWarmup(decay, warmup_steps, warmup_learning_rate=0.0)


class AdamW(tf_keras.optimizers.AdamW):
    """Keras's AdamW whose update is one pass over memory; same slots, same numbers.

    A dense update by Keras's own operations reads and writes each variable a dozen
    times. TensorFlow's fused kernel computes the same formula. A decay of
    0 costs no pass.
    """

    def _apply_weight_decay(self, variables):
        """Nothing yet: `update_step` does it, variable by variable."""

    def update_step(self, gradient, variable):
        if self.weight_decay and self._use_weight_decay(variable):
            rate = tf.cast(self.weight_decay * self.learning_rate, variable.dtype)
            variable.assign_sub(variable * rate)
        if isinstance(gradient, tf.IndexedSlices) or self.amsgrad:
            super().update_step(gradient, variable)
            return
        place = self._index_dict[self._var_key(variable)]
        step = tf.cast(self.iterations + 1, variable.dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[place].handle,
            v=self._velocities[place].handle,
            beta1_power=tf.pow(tf.cast(self.beta_1, variable.dtype), step),
            beta2_power=tf.pow(tf.cast(self.beta_2, variable.dtype), step),
            lr=tf.cast(self.learning_rate, variable.dtype),
            beta1=tf.cast(self.beta_1, variable.dtype),
            beta2=tf.cast(self.beta_2, variable.dtype),
            epsilon=tf.cast(self.epsilon, variable.dtype),
            grad=gradient,
            use_locking=False,
        )


def decays(learning_rate, weight_decay):
    """Whether a decoupled decay changes float32 weights at all.

    A step takes `learning_rate` * `weight_decay` of a weight off it. Below 2^-25, 3e-8,
    the difference rounds to the weight: so with the paper's 2e-5 and 1e-4.
    """
    return learning_rate * weight_decay > _LEAST_DECAY


def make_optimizer(
    learning_rate,
    num_steps,
    warmup_steps,
    weight_decay=1e-4,
    clip_norm=1.0,
    beta_2=0.999,
    loss_scaling=False,
):
    """AdamW as the release's script configures it, over `make_schedule`.

    Args:
      learning_rate, num_steps, warmup_steps: see `make_schedule`.
      weight_decay: decoupled decay, times the learning rate; left out, which the log
        says, where it changes nothing, see `decays`.
      clip_norm: bound on the gradients' global norm; 0 for none.
      beta_2: decay of the second moment.
      loss_scaling: True for mixed_float16.
    """
    if weight_decay and not decays(learning_rate, weight_decay):
        logging.info(
            "a weight decay of %g changes no weight at a learning rate of %g: the "
            "difference is below what float32 holds (%g, their product, of 3e-8)",
            weight_decay,
            learning_rate,
            weight_decay * learning_rate,
        )
        weight_decay = 0.0
    optimizer = AdamW(
        make_schedule(learning_rate, num_steps, warmup_steps),
        weight_decay=weight_decay,
        beta_1=0.9,
        beta_2=beta_2,
        epsilon=1e-6,
        global_clipnorm=clip_norm or None,
    )
    optimizer.exclude_from_weight_decay(var_names=list(NO_DECAY))
    if loss_scaling:
        optimizer = tf_keras.mixed_precision.LossScaleOptimizer(optimizer)
    return optimizer
