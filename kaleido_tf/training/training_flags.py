"""Flags that pre-training and fine-tuning have in common, added to a `cli.FlagPage`."""

from kaleido_tf.training import distribution


def optimizer(page, learning_rate):
    """The optimizer's flags; `learning_rate` is the default."""
    page.float("learning_rate", learning_rate, "Peak of the schedule.", lower_bound=0.0)
    page.integer(
        "warmup_steps",
        None,
        "Linear warm-up, steps. Default: a tenth of num_steps, at most 5000.",
    )
    page.float("weight_decay", 1e-4, "Decoupled decay, times the learning rate.")
    page.float("clip_norm", 1.0, "Bound on the global gradient norm; 0 for none.")


def rounds(page, steps_per_round):
    """Rounds, checkpoints and resuming; `steps_per_round` is the default."""
    page.integer(
        "steps_per_round",
        steps_per_round,
        "Steps between validations and checkpoints; num_steps is rounded up to whole "
        "rounds.",
        lower_bound=1,
    )
    page.integer("keep_checkpoints", 3, "How many of them are kept.", lower_bound=1)
    page.bool(
        "resume", True, "Go on from the last whole checkpoint of run_dir, if any."
    )


def hardware(page):
    """Where and in which number format a run computes."""
    page.heading("Hardware")
    page.enum(
        "strategy",
        "one_device",
        list(distribution.STRATEGIES),
        "one_device; mirrored: every GPU of this machine; multi_worker: the machines "
        "of TF_CONFIG.",
    )
    page.enum(
        "precision",
        "float32",
        list(distribution.PRECISIONS),
        "Number format of the layers; losses and weights stay float32.",
    )
    page.bool("xla", False, "Compile the step's forward and backward pass with XLA.")
