"""Optimizer: AdamW, linear warm-up and decay, clipping, no decay of norms, biases."""

import tf_keras
from official.modeling.optimization import lr_schedule

# Variables without weight decay (the release excludes LayerNorm and bias).
NO_DECAY = ("bias", "gamma", "beta")


def make_schedule(learning_rate, num_steps, warmup_steps):
    """Linear warm-up to `learning_rate`, then linear decay to 0 at `num_steps`.

    Args:
      learning_rate: peak.
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
      weight_decay: decoupled decay, times the learning rate.
      clip_norm: bound on the gradients' global norm; 0 for none.
      beta_2: decay of the second moment.
      loss_scaling: True for mixed_float16.
    """
    optimizer = tf_keras.optimizers.AdamW(
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
