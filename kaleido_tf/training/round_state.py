"""The state of a round that isn't over: what a checkpoint in its middle has besides.

Weights and optimizer are in every checkpoint, dropout and batches depend on the step
alone; the means of the round so far are all that is left.
"""


def read(model):
    """Sum and count of every mean of the round so far: dict name -> [float, float].

    With several workers, all of them must call it.
    """
    return {
        mean.name: [float(mean.total.read_value()), float(mean.count.read_value())]
        for mean in model.metrics
    }


def write(model, state):
    """Sets the means of a `TrainingModel` to what `read` returned.

    Raises:
      ValueError: other means.
    """
    names = {mean.name for mean in model.metrics}
    if names != set(state):
        raise ValueError(
            f"The checkpoint's round should have the means {sorted(names)}. Received: "
            f"{sorted(state)} (name another --run_dir for another run)"
        )
    for mean in model.metrics:
        total, count = state[mean.name]
        mean.total.assign(total)
        mean.count.assign(count)
