"""A side of `benchmarks/train_step.py`: a process that steps when it is told to.

A request is a JSON line with `do`, the name of a method, and what that reads; the
answer is a JSON line. So both sides stand ready with their models and step in turn:
what else the machine does slows them alike.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import venv

PEER_PACKAGES = ("torch==2.13.0", "transformers==5.24.0", "numpy")


def peer_python(folder):
    """The peer's interpreter in its own environment, which is made where it isn't."""
    python = os.path.join(folder, "bin", "python")
    ready = os.path.join(folder, ".ready")
    if os.path.exists(ready):
        return python
    print(f"Making the peer's environment in {folder}", flush=True)
    venv.create(folder, with_pip=True)
    install = [python, "-m", "pip", "install", "--quiet", *PEER_PACKAGES]
    if subprocess.run(install, check=False).returncode:
        raise ValueError(
            f"{' '.join(PEER_PACKAGES)} should be installable into {folder}. Received: "
            "an error of pip, see above (--peer=false measures our side alone)"
        )
    with open(ready, "w", encoding="utf-8") as file:
        file.write("\n".join(PEER_PACKAGES))
    return python


class Side:
    """One side's process; ends with the `with` block.

    Args:
      command: list of str.
      threads: how many each operation may use.
    """

    def __init__(self, command, threads):
        self._command = command
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(threads),
            "TF_NUM_INTRAOP_THREADS": str(threads),
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed in __exit__)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=environment,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(BrokenPipeError):  # it has ended by itself
            self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()

    def ask(self, do, **request):
        """Sends a request and waits for its answer: dict.

        Raises:
          ValueError: the process ended instead.
        """
        try:
            self._process.stdin.write(json.dumps({"do": do, **request}) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if answer:
            return json.loads(answer)
        self._process.wait()
        self._errors.seek(0)
        last = self._errors.read().strip().splitlines()[-8:]
        raise ValueError(
            f"{self._command[-1]} should answer `{do}`. Received: it ended with "
            f"{self._process.returncode}, after\n" + "\n".join(last)
        )


def our_side(threads):
    return Side([sys.executable, "-m", "benchmarks.step_ours"], threads)


def peer_side(folder, threads):
    script = os.path.join(os.path.dirname(__file__), "step_peer.py")
    return Side([peer_python(folder), script], threads)
