"""What a step of `benchmarks/train_step.py` is made of: products, rates, traces."""

import contextlib
import glob
import os
import time

import tensorflow as tf
from tensorflow.tsl.profiler.protobuf import xplane_pb2

_TYPES = {"float32": tf.float32, "mixed_bfloat16": tf.bfloat16}
# Kinds of operations: (kind, parts of the name of an operation's type). The first that
# fits counts.
_KINDS = (
    ("optimizer", ("ResourceApplyAdam", "AssignSub", "L2Loss")),
    ("matrix products", ("MatMul", "Einsum")),
    ("changes of number format", ("Cast",)),
    ("reading and gathering", ("Gather", "ReadVariable", "Iterator", "Segment")),
    ("copies: transpose, concat, slice", ("Transpose", "Concat", "Slice", "Split")),
)
CHAINS = "compiled chains between them"
OTHER = "everything else"


def layer_products(config):
    """(inner, outer) sizes of one layer's products of rows with weights: list."""
    width, inner = config.hidden_size, config.intermediate_size
    return [(width, 3 * width), (width, width), (width, inner), (inner, width)]


def step_flops(config, lengths, work):
    """Floating-point operations of the matrix products of a step: float.

    Only what is read counts: of the last layer the places of the heads, in scoring
    (where keys and values alone are counted of it) position 0. A backward pass is twice
    a forward one, but for what stands on the input. Padding doesn't count, though some
    of it is computed.

    Args:
      config: `KaleidoConfig`.
      lengths: int [B], pieces of each text.
      work: "train" or "score".
    """
    return sum(_pair_flops(config, int(length), work) for length in lengths)


def _pair_flops(config, length, work):
    width, layers = config.hidden_size, config.num_layers
    places = length + config.num_patches
    weights = sum(a * b for a, b in layer_products(config))
    layer = 2 * places * weights + 4 * places * places * width
    keys = 4 * places * width * width  # and values: the last layer's, of all places
    project = 2 * config.num_patches * config.patch_feature_size * width
    if work == "score":
        return project + (layers - 1) * layer + keys
    rebuilt = sum(lv.masked for lv in config.levels if lv.task in ("grey", "blank"))
    classified = sum(
        lv.num_patches for lv in config.levels if lv.task not in ("grey", "blank")
    )
    read = 1 + classified + rebuilt + config.max_predictions
    last = keys + 2 * read * (weights - 2 * width * width) + 4 * read * places * width
    words = 2 * config.max_predictions * width * (width + config.vocab_size)
    patches = 2 * rebuilt * width * config.patch_feature_size
    encoder = (layers - 1) * layer + last
    return 2 * project + 3 * (encoder + words + patches)


class ProductRates:
    """The machine's rate at a layer's nine kinds of products, forward and backward."""

    def __init__(self, config, precision):
        self._products, self._type = layer_products(config), _TYPES[precision]
        self._made = {}

    def _arguments(self, rows):
        made = []
        for inner, outer in self._products:
            x, y, w = (
                tf.cast(tf.random.normal(shape), self._type)
                for shape in ([rows, inner], [rows, outer], [inner, outer])
            )
            made += [(x, w, {}), (x, y, {"transpose_a": True})]
            made += [(y, w, {"transpose_b": True})]
        return made

    def measure(self, rows):
        """GFLOP/s of each product once, after one that isn't counted."""
        if rows not in self._made:
            self._made[rows] = self._arguments(rows)
            self.measure(rows)
        seconds = 0.0
        for a, b, sides in self._made[rows]:
            start = time.perf_counter()
            tf.matmul(a, b, **sides)
            seconds += time.perf_counter() - start
        flops = 6 * rows * sum(inner * outer for inner, outer in self._products)
        return flops / seconds / 1e9


@contextlib.contextmanager
def tracing(folder):
    """Writes a trace of what runs within to a folder."""
    tf.profiler.experimental.start(folder)
    try:
        yield
    finally:
        tf.profiler.experimental.stop()


def seconds_by_kind(folder):
    """Seconds that operations of each kind took in a trace: dict, the longest first.

    Operations may run side by side, so the sum can exceed the step.
    """
    (path,) = glob.glob(os.path.join(folder, "**", "*.xplane.pb"), recursive=True)
    space = xplane_pb2.XSpace()
    with open(path, "rb") as file:
        space.ParseFromString(file.read())
    kinds = {}
    for plane in space.planes:
        if "CPU" not in plane.name:
            continue
        for line in plane.lines:
            for name, seconds in _own_times(plane, line):
                if kind := kind_of(name):
                    kinds[kind] = kinds.get(kind, 0.0) + seconds
    return dict(sorted(kinds.items(), key=lambda item: -item[1]))


def kind_of(name):
    """The kind of an event of a trace: str, or None for what holds operations.

    Operations of a graph are "path:type"; XLA's loops are "something.clone".
    """
    if name.endswith(".clone"):
        return CHAINS
    path, _, type_name = name.rpartition(":")
    if not path or path.endswith(":"):  # Executor::Process
        return None
    for kind, types in _KINDS:
        if any(part in type_name for part in types):
            return kind
    return OTHER


def _own_times(plane, line):
    """(name, seconds without what ran inside of it) of a thread's events."""
    events = sorted(line.events, key=lambda e: (e.offset_ps, -e.duration_ps))
    open_events, results = [], []
    for event in events:
        while open_events and open_events[-1][0] <= event.offset_ps:
            open_events.pop()
        if open_events:
            open_events[-1][1][1] -= event.duration_ps
        result = [plane.event_metadata[event.metadata_id].name, event.duration_ps]
        open_events.append((event.offset_ps + event.duration_ps, result))
        results.append(result)
    return [(name, picoseconds / 1e12) for name, picoseconds in results]
