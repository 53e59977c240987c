"""What a training step costs: operations, parameters and memory from a config.

Counted by hand from the layers' shapes, so that a plan needs no GPU: `python -m
kaleido_tf.training.cost` prints it. Operations are floating point ones, two a
multiply-add, of the matrix products alone; norms, softmax and activations add a few
percent of time, hardly any operations.
"""

import dataclasses

from kaleido_tf import cli
from kaleido_tf.config import NUM_CLASSES, PRESETS, KaleidoConfig

# Backward: one product for the input's gradient, one for the weights'.
_TRAINING_FACTOR = 3
_BYTES = {"float32": 4, "mixed_bfloat16": 2, "mixed_float16": 2}


def _dense(rows, inputs, outputs):
    return 2 * rows * inputs * outputs


def forward_flops(config):
    """Operations of a sample's forward pass in pre-training: dict part -> int.

    Args:
      config: `KaleidoConfig`. The text is taken at its full length T, as it is padded.
    """
    hidden, tokens, patches = config.hidden_size, config.text_length, config.num_patches
    length = tokens + patches
    layer = 4 * _dense(length, hidden, hidden)  # query, key, value, output
    layer += 2 * _dense(length, hidden, length)  # scores, and their weighted values
    layer += 2 * _dense(length, hidden, config.intermediate_size)
    embeddings = _dense(patches, config.patch_feature_size, hidden)
    embeddings += _dense(patches, 5, hidden)  # locations
    embeddings += _dense(tokens, config.type_vocab_size, hidden)  # a one-hot product
    embeddings += 2 * _dense(1, hidden, config.contrastive_size)
    masked = config.max_predictions
    words = _dense(masked, hidden, hidden) + _dense(masked, hidden, config.vocab_size)
    others = _dense(1, hidden, hidden) + _dense(1, hidden, 2)  # pooler, matching
    for level in config.levels:
        if level.task not in config.active_tasks:
            continue
        if level.task in NUM_CLASSES:
            width = level.num_patches * hidden
            others += _dense(1, width, NUM_CLASSES[level.task])
        else:
            others += _dense(level.masked, hidden, config.patch_feature_size)
    return {
        "embeddings": embeddings,
        "layers": config.num_layers * layer,
        "masked words": words,
        "other heads": others,
    }


def training_flops(config):
    """Operations of a sample's forward and backward pass: int."""
    return _TRAINING_FACTOR * sum(forward_flops(config).values())


def num_parameters(config):
    """Trained numbers of the pre-trainer: int."""
    hidden, inner = config.hidden_size, config.intermediate_size
    norm = 2 * hidden
    layer = 4 * (hidden * hidden + hidden) + 2 * norm
    layer += hidden * inner + inner + inner * hidden + hidden
    rows = config.vocab_size + config.max_position_embeddings + config.type_vocab_size
    text = rows * hidden + norm
    patch = config.patch_feature_size * hidden + config.patch_type_vocab_size * hidden
    total = config.num_layers * layer + text + len(config.levels) * (patch + norm)
    total += 5 * hidden + hidden * config.contrastive_size
    total += hidden * hidden + hidden  # pooler
    total += hidden * hidden + hidden + norm + config.vocab_size  # masked words
    total += 2 * hidden + 2  # matching
    for level in config.levels:
        if level.task not in config.active_tasks:
            continue
        if level.task in NUM_CLASSES:
            classes = NUM_CLASSES[level.task]
            total += level.num_patches * hidden * classes + classes
        else:
            total += hidden * config.patch_feature_size
    return total


def activation_bytes(config, precision="float32"):
    """Memory that a sample's forward pass keeps for the backward pass, estimated: int.

    Per layer: the input, queries, keys, values, the attention's context and output, the
    two dropouts' results, the two norms' inputs and outputs (10 times S x H), the inner
    activation before and after GELU, and scores, softmax and dropout of every head.
    What a compiler fuses away or keeps twice makes it up to a third less or more.
    """
    hidden, length = config.hidden_size, config.text_length + config.num_patches
    layer = 10 * length * hidden + 2 * length * config.intermediate_size
    layer += 3 * config.num_heads * length * length
    numbers = config.num_layers * layer + 4 * length * hidden
    numbers += config.num_patches * config.patch_feature_size
    logits = 3 * config.max_predictions * config.vocab_size  # float32 in any precision
    return numbers * _BYTES[precision] + logits * 4


def state_bytes(config, precision="float32"):
    """Memory of weights, gradients and AdamW's two moments, and 16 bit copies: int."""
    copies = 0 if precision == "float32" else 2
    return num_parameters(config) * (4 * 4 + copies)


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a run on given devices comes to.

    Attributes:
      config: `KaleidoConfig`.
      batch_size: pairs a step, all devices together.
      devices, accumulate_steps: what share it.
      precision: of the layers.
      teraflops: a device's peak in that precision, in 10^12 operations a second.
      utilization: share of the peak that is reached.
    """

    config: KaleidoConfig
    batch_size: int
    devices: int = 1
    accumulate_steps: int = 1
    precision: str = "float32"
    teraflops: float = 19.5
    utilization: float = 0.35

    @property
    def device_bytes(self):
        """Memory of one device: int."""
        rows = self.batch_size / (self.devices * self.accumulate_steps)
        sample = activation_bytes(self.config, self.precision)
        return int(state_bytes(self.config, self.precision) + rows * sample)

    @property
    def samples_per_second(self):
        """Of all devices together: float."""
        rate = self.teraflops * 1e12 * self.utilization * self.devices
        return rate / training_flops(self.config)

    def text(self):
        """The plan in lines: str."""
        parts = forward_flops(self.config)
        lines = [f"parameters        {num_parameters(self.config) / 1e6:10.1f} million"]
        lines += [f"forward: {n:<16} {v / 1e9:8.3f} GFLOP" for n, v in parts.items()]
        lines += [
            f"a sample's training {training_flops(self.config) / 1e9:8.2f} GFLOP",
            f"memory of a device  {self.device_bytes / 2**30:8.2f} GiB (estimate)",
            f"samples a second    {self.samples_per_second:8.0f} at "
            f"{self.utilization:.0%} of {self.teraflops:g} TFLOP/s x {self.devices}",
        ]
        return "\n".join(lines)


def _make_page():
    page = cli.FlagPage("Plans a training run: operations, memory, throughput.")
    page.enum("model", "base", list(PRESETS), "Size.")
    page.string("config", None, "JSON file of a KaleidoConfig, instead of --model.")
    page.integer("batch_size", 64, "Pairs a step, all devices together.", lower_bound=1)
    page.integer("devices", 1, "Replicas.", lower_bound=1)
    page.integer("accumulate_steps", 1, "Micro-batches a replica.", lower_bound=1)
    page.enum("precision", "float32", list(_BYTES), "Number format of the layers.")
    page.float("teraflops", 19.5, "Peak of a device, 10^12 operations a second.")
    page.float("utilization", 0.35, "Share of the peak that is reached.")
    return page


def _main(values):
    name, path = values.pop("model"), values.pop("config")
    config = KaleidoConfig.from_json(path) if path else KaleidoConfig.preset(name)
    print(Plan(config, **values).text())


if __name__ == "__main__":
    _PAGE = _make_page()
    cli.run(lambda: _main(_PAGE.values()), _PAGE)
