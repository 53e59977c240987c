"""How a run ends before its end: signals, lost workers; and its exit codes.

SIGTERM and SIGINT end a run at the end of the step, with a checkpoint of that very
step; the same command then goes on from there.
"""

import contextlib
import signal
import sys
import threading

import tensorflow as tf
from absl import logging

SIGNALS = (signal.SIGTERM, signal.SIGINT)
# sysexits.h's "try again": another worker was lost, the same command goes on.
LOST_WORKER_CODE = 75
# What TensorFlow raises where another worker is lost.
LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
)


class Stopped(SystemExit):
    """A run stopped on request, after a checkpoint; exit code 128 + signal number."""

    def __init__(self, signum):
        super().__init__(128 + signum)


class StopRequest:
    """Whether a signal has asked for a stop.

    Attributes:
      signum: number of the signal, or None.
    """

    def __init__(self):
        self.signum = None

    def _note(self, signum, frame):
        del frame
        self.signum = signum
        # The second one ends the process at once, as if nobody listened.
        signal.signal(signum, signal.SIG_DFL)
        logging.info(
            "%s: a checkpoint at the end of this step, then the end",
            signal.Signals(signum).name,
        )

    @contextlib.contextmanager
    def listening(self):
        """Takes the signals within; from the main thread alone, as Python has it."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before = {signum: signal.signal(signum, self._note) for signum in SIGNALS}
        try:
            yield self
        finally:
            for signum, handler in before.items():
                signal.signal(signum, handler)


@contextlib.contextmanager
def ending_with_lost_workers(workers):
    """Where several workers train within: what TensorFlow raises when one is lost.

    It holds from the making of the strategy on, which waits for all of them: variables
    are sent around, and a start is compared, long before the first step.

    Args:
      workers: their number.

    Raises:
      SystemExit: instead, with `LOST_WORKER_CODE`.
    """
    try:
        yield
    except tf.errors.OpError as error:
        aborted = "Collective ops is aborted" in str(error)
        if workers == 1 or not (aborted or isinstance(error, LOST)):
            raise
        reason = str(error).strip().splitlines()[0]
        print(
            f"error: every one of the {workers} workers should be there. Received: "
            f"{reason} (start all of them again with the same command: they go on from "
            "the last whole checkpoint)",
            file=sys.stderr,
            flush=True,
        )
        raise SystemExit(LOST_WORKER_CODE) from error
