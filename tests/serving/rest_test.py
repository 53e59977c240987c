"""REST's bodies: headers, chunks, limits; who is answered, and how a server ends."""

import json
import os
import signal
import socket
import threading
import time
import types

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_service_pb2_grpc

from kaleido_tf.serving import loaded, rest, server, warmup

PATH = "/v1/models/kaleido:predict"
GOOD = b'{"inputs": {"text": ["ab", "abc"]}}'


class Lengths(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def lengths(self, text):
        return {"length": tf.strings.length(text)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def halves(self, x):
        return {"half": x / 2}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A model of two small signatures."""
    folder, module = tmp_path_factory.mktemp("small"), Lengths()
    signatures = {"serving_default": module.lengths, "halves": module.halves}
    tf.saved_model.save(module, str(folder / "1"), signatures)
    return loaded.LoadedModel(folder, max_rows=3)


@pytest.fixture
def connect(small):
    """Function -> a connection to a server that takes 1 MB."""
    running, port = rest.start(small, 0, "kaleido", max_message_mb=1)
    opened = []

    def call():
        opened.append(socket.create_connection(("localhost", port), timeout=20))
        return opened[-1]

    yield call
    for connection in opened:
        connection.close()
    running.shutdown()
    running.server_close()


def post(content=b"", *headers):
    """The bytes of a request."""
    lines = [f"POST {PATH} HTTP/1.1", "Host: localhost", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + content


def plain(content):
    return post(content, f"Content-Length: {len(content)}")


def receive(file):
    """(status, answer, whether the connection ends) of the next answer."""
    status, size, ends = int(file.readline().split()[1]), 0, False
    while (line := file.readline().strip().lower()) != b"":
        size = int(line[15:]) if line.startswith(b"content-length:") else size
        ends |= line == b"connection: close"
    return status, json.loads(file.read(size)), ends


def asked(connection, content):
    connection.sendall(content)
    return receive(connection.makefile("rb"))


@pytest.mark.parametrize("said", ["-1", "abc", "1e3", "+5", "9" * 5000, "5, 5"])
def test_a_length_that_is_no_number(connect, said):
    status, answer, ends = asked(connect(), post(b"{}", f"Content-Length: {said}"))
    assert (status, ends) == (400, True)
    assert "a decimal number" in answer["error"]


def test_two_lengths(connect):
    two = post(GOOD, "Content-Length: 3", f"Content-Length: {len(GOOD)}")
    assert asked(connect(), two)[0] == 400
    both = post(b"0\r\n\r\n", "Content-Length: 5", "Transfer-Encoding: chunked")
    assert asked(connect(), both)[0] == 400


def test_over_the_limit(connect):
    # More than the socket's buffers hold, sent whole before anything is read.
    for size in ((1 << 20) + 1, 4 << 20):
        connection = connect()
        status, answer, ends = asked(connection, plain(b" " * size))
        assert (status, ends) == (413, True)
        assert "at most 1048576 bytes" in answer["error"]
        assert connection.recv(1) == b""
    whole = GOOD + b" " * ((1 << 20) - len(GOOD))
    assert asked(connect(), plain(whole))[:2] == (200, {"outputs": [2, 3]})


def test_chunks(connect):
    connection = connect()
    file = connection.makefile("rb")
    pieces = GOOD[:5], GOOD[5:20], GOOD[20:]
    chunks = b"".join(b"%X;a=b\r\n%s\r\n" % (len(p), p) for p in pieces)
    request = post(chunks + b"0\r\nA: b\r\n\r\n", "Transfer-Encoding: Chunked")
    # The connection is kept, and the next request isn't mixed up with this one.
    for content in (request, plain(GOOD), request + plain(GOOD)):
        connection.sendall(content)
        assert receive(file) == (200, {"outputs": [2, 3]}, False)
    assert receive(file)[0] == 200


@pytest.mark.parametrize(
    "body, code, said",
    [
        (b"x\r\n", 400, "start with its size"),
        (b"-1\r\n", 400, "start with its size"),
        (b"2\r\n{}x\r\n", 400, "end after its 2 bytes"),
        (b"0\r\n" + b"A: b\r\n" * 20_000, 400, "an empty line"),
        (b"FFFFFFFFFFFFFFF\r\n", 413, "at most"),
        ((b"80000\r\n" + b" " * 0x80000 + b"\r\n") * 5, 413, "at most"),
    ],
)
def test_chunks_that_are_refused(connect, body, code, said):
    request = post(body, "Transfer-Encoding: chunked")
    status, answer, ends = asked(connect(), request)
    assert (status, ends) == (code, True)
    assert said in answer["error"]


def test_other_codings(connect):
    status, answer, ends = asked(connect(), post(b"", "Transfer-Encoding: gzip"))
    assert (status, ends) == (411, True)
    assert "Received: Transfer-Encoding: gzip" in answer["error"]


def test_a_body_that_does_not_come(small, monkeypatch):
    monkeypatch.setattr(rest, "TIMEOUT", 0.3)
    running, port = rest.start(small, 0, "kaleido")
    with socket.create_connection(("localhost", port), timeout=20) as connection:
        status, answer, ends = asked(connection, post(b"{", "Content-Length: 9"))
        assert (status, ends) == (408, True)
        assert connection.recv(1) == b""
    with socket.create_connection(("localhost", port), timeout=20) as connection:
        connection.sendall(post(b"{", "Content-Length: 9"))
        connection.shutdown(socket.SHUT_WR)
        status, answer, _ = receive(connection.makefile("rb"))
        assert status == 400 and "after 1 of 9 bytes" in answer["error"]
    running.shutdown()
    running.server_close()


@pytest.mark.parametrize(
    "body, said",
    [
        (b'{"signature_name": ["a"], "inputs": {}}', "`signature_name` should be"),
        (b'{"signature_name": {"a": 1}, "inputs": {}}', "`signature_name` should be"),
        (b"[" * 200_000, "should be JSON"),
        (b'{"signature_name": "halves", "inputs": [1, null]}', "object in place of"),
        (b'{"signature_name": "halves", "inputs": ["2.5"]}', "in place of float32"),
        (b'{"signature_name": "halves", "inputs": [true]}', "bool in place of"),
        (b'{"signature_name": "halves", "inputs": [NaN]}', "should be finite"),
        (b'{"signature_name": "halves", "inputs": [1, 2, 3, 4]}', "at most 3 rows"),
        (b'{"inputs": ' + b"[" * 900 + b"]" * 900 + b"}", "can't be read"),
        (
            b'{"signature_name": "halves", "inputs": [1' + b"0" * 400 + b"]}",
            "can't be read",
        ),
        (
            b'{"signature_name": "halves", "inputs": ' + b"[" * 900 + b"]" * 900 + b"}",
            "can't be read|should be float32",
        ),
    ],
)
def test_bodies_that_are_refused(connect, body, said):
    connection = connect()
    status, answer, ends = asked(connection, plain(body))
    assert (status, ends) == (400, False)
    assert any(part in answer["error"] for part in said.split("|")), answer
    assert asked(connection, plain(GOOD))[0] == 200


class _Slow:
    """A model that counts its answers, and those at the same time."""

    version = 1

    def __init__(self, seconds):
        self.count = self.now = self.most = 0
        self._seconds, self._lock = seconds, threading.Lock()

    def specs(self, name):
        return {"text": tf.TensorSpec([None], tf.string)}

    def predict(self, name, inputs):
        with self._lock:
            self.count += 1
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(self._seconds)
        with self._lock:
            self.now -= 1
        return {"length": np.array([len(text) for text in inputs["text"]])}


def test_so_many_clients_at_once():
    """More wait than are answered, and all of them are."""
    slow = _Slow(0.02)
    running, port = rest.start(slow, 0, "kaleido", workers=2)
    connections = [socket.create_connection(("localhost", port)) for _ in range(40)]
    for connection in connections:
        connection.settimeout(20)
        connection.sendall(plain(GOOD))
    answers = [receive(connection.makefile("rb")) for connection in connections]
    assert [status for status, *_ in answers] == [200] * 40
    assert slow.most == 2
    for connection in connections:
        connection.close()
    running.shutdown()
    running.server_close()


def test_a_client_that_gave_up_waiting_is_not_answered():
    slow = _Slow(0.5)
    running, port = server.start(slow, 0, workers=1)
    text = {"text": np.array([b"ab"], object)}
    request = warmup.make_request("serving_default", text)
    with grpc.insecure_channel(f"localhost:{port}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        first = stub.Predict.future(request, timeout=20)
        while not slow.now:
            time.sleep(0.01)
        with pytest.raises(grpc.RpcError, match="DEADLINE"):
            stub.Predict(request, timeout=0.2)
        assert tf.make_ndarray(first.result().outputs["length"]).tolist() == [2]
        stub.Predict(request, timeout=20)
    running.stop(grace=0).wait()
    assert slow.count == 2


@pytest.mark.parametrize("start", [server.start, rest.start])
def test_an_address_to_listen_on(start):
    """127.0.0.2 is this machine's too, but not the one that was named."""
    running, port = start(_Slow(0.0), 0, "kaleido", host="127.0.0.1")
    socket.create_connection(("127.0.0.1", port), timeout=20).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port), timeout=20)
    if start is rest.start:
        running.shutdown()
        running.server_close()
    else:
        running.stop(grace=0).wait()


def test_status(connect):
    request = b"GET /v1/models/kaleido HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"
    connection = connect()
    for _ in range(2):
        status, answer, _ = asked(connection, request)
        assert status == 200
        row = {"version": "1", "state": "AVAILABLE"}
        row["status"] = {"error_code": "OK", "error_message": ""}
        assert answer == {"model_version_status": [row]}


def test_a_version_that_is_no_number(connect):
    path = f"/v1/models/kaleido/versions/{'9' * 5000}"
    assert asked(connect(), f"GET {path} HTTP/1.1\r\n\r\n".encode())[0] == 404


def test_sigterm_has_the_grace_of_ctrl_c(small, monkeypatch):
    stopped = []

    def stop(grace):
        stopped.append(grace)
        return types.SimpleNamespace(wait=lambda: None)

    running = types.SimpleNamespace(
        wait_for_termination=lambda: os.kill(os.getpid(), signal.SIGTERM), stop=stop
    )
    monkeypatch.setattr(server, "start", lambda *_: (running, 8500))
    before = signal.getsignal(signal.SIGTERM)
    try:
        folder = os.path.dirname(small.path)
        server.main(server.flag_page().defaults() | {"model_dir": folder})
    finally:
        signal.signal(signal.SIGTERM, before)
    assert stopped == [5]
