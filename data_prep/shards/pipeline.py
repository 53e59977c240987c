"""The one Apache Beam pipeline of data preparation: an element is an output shard.

Used by `prepare.py` and `convert_release.py`, which differ in what writes a shard. One
worker in this process by default: TensorFlow's threads keep the cores busy, and nothing
is left hanging when a run is killed.
"""

import _thread
import contextlib
import re
import signal
import threading
import time

import apache_beam as beam
import tensorflow as tf
from absl import logging
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability import fn_api_runner

from data_prep.shards import receipts

_SIGNAL = signal.SIGUSR1
_GOES_ON = "what is finished is kept: the same command goes on from there"


class WriteShards(beam.DoFn):
    """Beam's side of a shard writer: models are loaded once a worker.

    Args:
      make_writer: function without arguments -> object with `write(path, rows)`, which
        returns a receipt; must be picklable.
      total: number of rows, for the progress line.
    """

    def __init__(self, make_writer, total):
        self._make_writer = make_writer
        self._total = total
        self._done = 0
        self._start = None

    def setup(self):
        self._writer = self._make_writer()

    def process(self, shard):
        path, rows = shard
        self._start = self._start or time.time()
        try:
            receipt = self._writer.write(path, rows)
        except tf.errors.OpError as error:  # TensorFlow's file errors are no OSError
            raise OSError(f"{path} can't be written: {error.message}") from error
        self._done += len(rows)
        rate = self._done / max(time.time() - self._start, 1e-9)
        logging.info(
            "%s: %d records; this worker: %d of %d rows, %.1f rows/s",
            receipt["file"],
            receipt["num_examples"],
            self._done,
            self._total,
            rate,
        )
        yield path


def write_shards(shards, make_writer, beam_args=()):
    """Runs the pipeline over planned shards.

    Args:
      shards: list of (path, rows), rows with a length.
      make_writer: see `WriteShards`.
      beam_args: options for Beam.

    Returns:
      The shards' receipts in order.

    Raises:
      OSError, ValueError: what a worker raised, such as a full disk; or a worker that
        was killed.
    """
    total = sum(len(rows) for _, rows in shards)
    # DirectRunner first tries to download another runner; this is its local engine.
    local = not any(arg.startswith("--runner") for arg in beam_args)
    runner = fn_api_runner.FnApiRunner() if local else None
    options = PipelineOptions(list(beam_args))
    with (
        _watched(),
        _plain_errors(),
        beam.Pipeline(runner, options=options) as pipeline,
    ):
        _ = (
            pipeline
            | "Shards" >> beam.Create(shards, reshuffle=len(shards) > 1)
            | "Write" >> beam.ParDo(WriteShards(make_writer, total))
        )
    return [receipts.load(path) for path, _ in shards]


@contextlib.contextmanager
def _plain_errors():
    """Gives an OSError or ValueError of a worker back as such, in its own words.

    Beam adds its step to the text; and raises a RuntimeError, whose text ends with the
    error's own last line, where the error isn't made of one text.
    """
    try:
        yield
    except (RuntimeError, OSError, ValueError) as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        last = re.sub(r" \[while running .*\]$", "", lines[-1]) if lines else ""
        found = re.match(r"(\w+): (.*)", last) if type(error) is RuntimeError else None
        name, text = found.groups() if found else (type(error).__name__, last)
        if name == "ValueError":
            raise ValueError(text) from error
        if name in _OS_ERRORS:
            raise OSError(f"{text} ({_GOES_ON})") from error
        raise


def _names_of(kind):
    names = {kind.__name__}
    for child in kind.__subclasses__():
        names |= _names_of(child)
    return names


_OS_ERRORS = _names_of(OSError)


@contextlib.contextmanager
def _watched():
    """Ends a run of which a worker process was killed, such as for want of memory.

    In its mode of several processes (--direct_running_mode=multi_processing) Beam would
    wait for such a worker for ever: the thread that started it dies of an error, and
    nobody looks at it.
    """
    before_hook, died = threading.excepthook, []

    def hook(args):
        before_hook(args)
        if "Worker subprocess exited" in str(args.exc_value):
            died.append(str(args.exc_value))
            _thread.interrupt_main(_SIGNAL)

    def end(*_):
        raise OSError(
            f"A worker process of Beam's ended: {died} (137: killed, mostly for want "
            "of memory)"
        )

    if threading.current_thread() is not threading.main_thread():
        yield  # signals reach the main thread only
        return
    # Not SIGINT: a process started in the background may ignore it.
    before_handler = signal.signal(_SIGNAL, end)
    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = before_hook
        signal.signal(_SIGNAL, before_handler)
