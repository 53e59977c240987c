"""Flags that pre-training and fine-tuning have in common, added to a `cli.FlagPage`."""

from kaleido_tf.training import distribution

# Flags of this module that don't decide what a run computes: a run that goes on may
# have others.
FREE = (
    "resume",
    "keep_checkpoints",
    "save_steps",
    "skip_nan_steps",
    "profile_steps",
)
_LAST_SEED = 2**32 - 1  # NumPy's


def optimizer(page, learning_rate):
    """The optimizer's flags; `learning_rate` is the default."""
    page.float(
        "learning_rate",
        learning_rate,
        "Of AdamW, per step: a line from here at step 0 to 0 at num_steps, which a "
        "warm-up from 0 meets at warmup_steps.",
        lower_bound=0.0,
    )
    page.integer(
        "warmup_steps",
        None,
        "Length of the linear warm-up, steps, less than num_steps; 0 for none.",
        shown_default="a tenth of num_steps, at most 5000",
        lower_bound=0,
    )
    page.float(
        "weight_decay",
        1e-4,
        "Decoupled decay: share of a weight, times the learning rate, that a step "
        "takes off; 0 for none. Norms and biases have none. Where the product of the "
        "two is below 3e-8, as with the defaults and the paper's, float32 doesn't hold "
        "the difference: nothing decays.",
        lower_bound=0.0,
    )
    page.float(
        "clip_norm",
        1.0,
        "Bound on the Euclidean norm of a step's gradients, all together; 0 for none.",
        lower_bound=0.0,
    )


def seed(page, of):
    """The seed of a run; `of` says what is drawn by it."""
    page.integer(
        "seed",
        0,
        f"Any integer from 0 to {_LAST_SEED}, by which these are drawn: {of}.",
        lower_bound=0,
        upper_bound=_LAST_SEED,
    )


def rounds(page, steps_per_round):
    """Rounds, checkpoints and resuming; `steps_per_round` is the default."""
    page.integer(
        "steps_per_round",
        steps_per_round,
        "Steps between validations and checkpoints; num_steps is rounded up to whole "
        "rounds.",
        lower_bound=1,
    )
    page.integer(
        "save_steps",
        0,
        "Steps between checkpoints within a round; 0: at its end alone. SIGTERM and "
        "SIGINT save wherever they come.",
        lower_bound=0,
    )
    page.integer(
        "keep_checkpoints", 3, "Checkpoints that are kept, the newest.", lower_bound=1
    )
    page.bool(
        "resume", True, "Go on from the last whole checkpoint of run_dir, if any."
    )


def faults(page):
    """What is done about a loss that isn't finite."""
    page.integer(
        "skip_nan_steps",
        0,
        "Steps of the whole run whose update is left out because their loss or "
        "gradient is NaN or infinite; one more ends the run. 0: the first one does.",
        lower_bound=0,
    )


def hardware(page):
    """Where and in which number format a run computes."""
    page.heading("Hardware")
    page.enum(
        "strategy",
        "one_device",
        list(distribution.STRATEGIES),
        "one_device; mirrored: every GPU of this machine; multi_worker: the machines "
        "of TF_CONFIG (docs/training.md).",
    )
    page.integer(
        "accumulate_steps",
        1,
        "Micro-batches that a device computes its part of a batch in, one after the "
        "other, for one update: less memory, the same result.",
        lower_bound=1,
    )
    page.enum(
        "worker_data",
        "same_batch",
        ["same_batch", "own_share"],
        "With several machines. same_batch: each makes the whole batch and takes its "
        "rows, so that a batch is the same for any number of machines. own_share: each "
        "makes its part of a batch from shards of its own, which is less work.",
    )
    page.enum(
        "precision",
        "float32",
        list(distribution.PRECISIONS),
        "Number format of the layers; losses and weights stay float32.",
    )
    page.bool("xla", False, "Compile the step's forward and backward pass with XLA.")
    page.list(
        "profile_steps",
        [],
        "First and last step to trace for TensorBoard's profiler, A,B; without them "
        "none is.",
    )
