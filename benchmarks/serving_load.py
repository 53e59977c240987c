"""Calls of an export and their times: in this process, and by many clients of a server.

For `benchmarks.serving`.
"""

import subprocess
import sys
import threading
import time

import grpc
import numpy as np
from tensorflow_serving.apis import prediction_service_pb2_grpc

from kaleido_tf.serving import warmup

TEXT = " ".join(f"w{i}" for i in range(12))


def example_inputs(model, name, batch):
    """Inputs of a signature, with a text of twelve words in each row."""
    inputs = warmup.example_inputs(model.specs(name), batch)
    if "text" in inputs:
        inputs["text"] = np.array([TEXT.encode()] * batch, object)
    return inputs


def time_calls(call, most, seconds):
    """Milliseconds of calls after a first one that isn't counted: float [n].

    Args:
      call: function without arguments.
      most: number of calls.
      seconds: no call is begun after so many.
    """
    call()
    times, start = [], time.perf_counter()
    while len(times) < most and time.perf_counter() - start < seconds:
        before = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - before))
    return np.array(times)


def percentiles(times):
    """dict p50, p99, calls of times in milliseconds."""
    p50, p99 = np.percentile(times, [50, 99])
    return {"p50": float(p50), "p99": float(p99), "calls": len(times)}


def resident_mb(process_id):
    """Resident memory of a process in MB, from /proc."""
    with open(f"/proc/{process_id}/status", encoding="ascii") as file:
        (row,) = [line for line in file if line.startswith("VmRSS")]
    return int(row.split()[1]) / 1024


def throughput(model_dir, model, settings):
    """Requests a second of a server under concurrent clients, and its memory.

    Each client asks `match` about one picture and one text, one request after another.

    Returns:
      dict: clients, seconds, requests, errors, per_second, p50, p99 (ms), rss_start_mb
      (after the warm-up requests and one of each client), rss_end_mb.
    """
    command = [sys.executable, "-m", "kaleido_tf.serving.server", "--port=0"]
    server = subprocess.Popen(
        [*command, f"--model_dir={model_dir}", f"--workers={settings['workers']}"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        said = server.stdout.readline()
        if not said.startswith("gRPC on port "):
            raise ValueError(f"The server should start. Received: {said!r}")
        port = int(said.split()[3].rstrip(":"))
        return _load(server, port, example_inputs(model, "match", 1), settings)
    finally:
        server.terminate()
        server.wait()


def _load(server, port, inputs, settings):
    request = warmup.make_request("match", inputs)
    times, errors, lock = [], [], threading.Lock()
    ready = threading.Barrier(settings["clients"] + 1)
    until = []

    def client():
        with grpc.insecure_channel(f"localhost:{port}") as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            stub.Predict(request, timeout=300, wait_for_ready=True)
            ready.wait()
            ready.wait()
            while time.perf_counter() < until[0]:
                before = time.perf_counter()
                try:
                    stub.Predict(request, timeout=300)
                except grpc.RpcError as error:
                    with lock:
                        errors.append(str(error.code()))
                    continue
                with lock:
                    times.append(1000 * (time.perf_counter() - before))

    threads = [threading.Thread(target=client) for _ in range(settings["clients"])]
    for thread in threads:
        thread.start()
    ready.wait()
    before, start = resident_mb(server.pid), time.perf_counter()
    until.append(start + settings["seconds"])
    ready.wait()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - start
    return {
        "clients": settings["clients"],
        "seconds": seconds,
        "requests": len(times),
        "errors": len(errors),
        "per_second": len(times) / seconds,
        **{k: v for k, v in percentiles(times or [np.nan]).items() if k != "calls"},
        "rss_start_mb": before,
        "rss_end_mb": resident_mb(server.pid),
    }
