"""TensorFlow Serving's REST form of Predict around a loaded export.

POST /v1/models/NAME[/versions/N]:predict with {"signature_name": ..., "inputs": {...}}
(a column an input) or "instances": [{...}] (a row an object); bytes as {"b64": "..."}.
GET /v1/models/NAME says which version is there.
"""

import base64
import http.server
import json
import re
import socket
import threading
import time

import numpy as np
import tensorflow as tf
from absl import logging

from kaleido_tf.serving import loaded

TIMEOUT = 60  # seconds without a byte, then the connection ends

_PATH = re.compile(r"/v1/models/([^/:]+)(?:/versions/([0-9]{1,18}))?(:predict)?")
_PIECE = 1 << 20  # bytes that are read or written at once
_LONGEST_LINE = 1 << 16  # between chunks
_HTTP = {
    tf.errors.INVALID_ARGUMENT: 400,
    tf.errors.FAILED_PRECONDITION: 400,
    tf.errors.NOT_FOUND: 404,
    tf.errors.RESOURCE_EXHAUSTED: 429,
}


class _BodyError(loaded.RequestError):
    """A body that isn't read to its end, so that the connection can't go on.

    Attributes:
      status: of HTTP.
    """

    def __init__(self, status, message):
        super().__init__(tf.errors.INVALID_ARGUMENT, message)
        self.status = status


def _wrong(message):
    return loaded.RequestError(tf.errors.INVALID_ARGUMENT, message)


def predict(model, body):
    """Answers the body of a request: dict -> dict, see the module."""
    if not isinstance(body, dict) or ("inputs" in body) == ("instances" in body):
        raise _wrong("The body should be an object with either `inputs` or `instances`")
    name = body.get("signature_name", loaded.DEFAULT)
    specs = model.specs(name)
    by_row = "instances" in body
    columns = _columns(body["instances"], specs) if by_row else body["inputs"]
    if not isinstance(columns, dict):  # one input's name may be left out
        columns = {next(iter(specs), ""): columns}
    inputs = {k: _array(k, v, specs[k]) for k, v in columns.items() if k in specs}
    inputs |= {key: None for key in columns if key not in specs}
    outputs = {k: _plain(v) for k, v in model.predict(name, inputs).items()}
    single = next(iter(outputs.values())) if len(outputs) == 1 else None
    if not by_row:
        return {"outputs": single if len(outputs) == 1 else outputs}
    if len(outputs) == 1:
        return {"predictions": single}
    rows = zip(*outputs.values(), strict=True)
    return {"predictions": [dict(zip(outputs, row, strict=True)) for row in rows]}


def _columns(instances, specs):
    """List of rows -> dict of columns."""
    if not isinstance(instances, list) or not instances:
        raise _wrong("`instances` should be a list of at least one row")
    only = next(iter(specs), "")
    rows = [
        row if isinstance(row, dict) and set(row) != {"b64"} else {only: row}
        for row in instances
    ]
    if len({tuple(sorted(row)) for row in rows}) > 1:
        raise _wrong("Every row of `instances` should have the same inputs")
    return {key: [row[key] for row in rows] for key in rows[0]}


def _array(name, value, spec):
    """JSON's value as an array of the input's type."""
    try:
        if spec.dtype != tf.string:
            return _numbers(value, spec.dtype.as_numpy_dtype)
        texts = [value] if not isinstance(value, list) else value
        array = np.empty(len(texts), object)
        array[:] = [_bytes(text) for text in texts]
        return array if isinstance(value, list) else array[0]
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise _wrong(
            f"`{name}` should be {spec.dtype.name} values, bytes as "
            f'{{"b64": "..."}}. Received what can\'t be read: {error}'
        ) from error


def _numbers(value, dtype):
    """JSON's numbers as an array; not null, true or "2.5", which numpy would take."""
    array = np.asarray(value)
    wanted = "iu" if np.issubdtype(dtype, np.integer) else "iuf"
    if array.size and array.dtype.kind not in wanted:
        raise TypeError(f"{array.dtype.name} in place of {np.dtype(dtype).name}")
    return np.asarray(value, dtype)


def _bytes(value):
    if isinstance(value, dict) and set(value) == {"b64"}:
        return base64.b64decode(value["b64"], validate=True)
    if not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} in place of a text")
    return value.encode()


def _plain(array):
    """An output as JSON has it."""
    if array.dtype.kind not in "SO":
        return array.tolist()
    texts = [value.decode(errors="replace") for value in array.ravel().tolist()]
    return np.array(texts, object).reshape(array.shape).tolist()


def _length(headers, limit):
    """Bytes of a body that comes whole, as its headers say."""
    said = headers.get_all("Content-Length", ["0"])
    if len(set(said)) > 1 or not re.fullmatch("[0-9]{1,18}", said[0].strip()):
        raise _BodyError(
            400, f"Content-Length should be a decimal number. Received: {said}"
        )
    _check_size(int(said[0]), limit)
    return int(said[0])


def _check_size(size, limit):
    if size > limit:
        raise _BodyError(
            413,
            f"The body should be of at most {limit} bytes. Received: {size} or more "
            "(ask in several requests, or start the server with a larger "
            "--max_message_mb)",
        )


def _read(file, size):
    content = file.read(size)
    if len(content) < size:
        raise _BodyError(400, f"The body ended after {len(content)} of {size} bytes")
    return content


def _read_chunks(file, limit):
    """A body in chunks: `Transfer-Encoding: chunked`."""
    content = bytearray()
    while True:
        line = file.readline(_LONGEST_LINE)
        size = re.fullmatch(rb"([0-9A-Fa-f]{1,15})[ \t]*(;.*)?\r?\n", line)
        if not size:
            raise _BodyError(
                400, f"A chunk should start with its size. Received: {line[:40]}"
            )
        size = int(size[1], 16)
        if not size:
            break
        _check_size(len(content) + size, limit)
        content += _read(file, size)
        if file.readline(3) not in (b"\r\n", b"\n"):
            raise _BodyError(400, f"A chunk should end after its {size} bytes")
    left = _LONGEST_LINE  # for headers behind the body, which say nothing to us
    while (line := file.readline(left)) not in (b"\r\n", b"\n"):
        left -= len(line)
        if not line or left <= 0:
            raise _BodyError(400, "The body should end with an empty line")
    return bytes(content)


class _Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128  # connections that wait to be taken; 5 by default


def _handler(model, name, limit, gate):
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = TIMEOUT

        def do_GET(self):  # noqa: N802
            self._answer(lambda content: self._status())

        def do_POST(self):  # noqa: N802
            self._answer(self._predict)

        def _find(self, is_predict):
            found = _PATH.fullmatch(self.path)
            version = found and int(found[2] or model.version)
            fits = found and found[1] == name and version == model.version
            if not fits or bool(found[3]) != is_predict:
                raise loaded.RequestError(
                    tf.errors.NOT_FOUND,
                    f"The path should be /v1/models/{name}:predict. Received: "
                    f"{self.path}",
                )

        def _status(self):
            self._find(False)
            status = {"error_code": "OK", "error_message": ""}
            row = {"version": str(model.version), "state": "AVAILABLE"}
            return {"model_version_status": [row | {"status": status}]}

        def _predict(self, content):
            self._find(True)
            try:
                body = json.loads(content)
            except (ValueError, RecursionError) as error:
                raise _wrong(f"The body should be JSON. Received: {error}") from error
            with gate:
                return predict(model, body)

        def _body(self):
            coding = self.headers.get("Transfer-Encoding")
            try:
                if coding is None:
                    return _read(self.rfile, _length(self.headers, limit))
                if "Content-Length" in self.headers:
                    said = "The body should come with Content-Length or in chunks, once"
                    raise _BodyError(400, said)
                if coding.strip().lower() == "chunked":
                    return _read_chunks(self.rfile, limit)
            except TimeoutError:
                said = f"The body should come without a break of {TIMEOUT} s"
                raise _BodyError(408, said) from None
            raise _BodyError(
                411,
                "The body should come with Content-Length or as Transfer-Encoding: "
                f"chunked. Received: Transfer-Encoding: {coding}",
            )

        def _answer(self, make):
            is_read = True
            try:
                status, answer = 200, make(self._body())
            except _BodyError as error:
                is_read = False
                status, answer = error.status, {"error": error.message}
            except loaded.RequestError as error:
                status, answer = _HTTP.get(error.code, 500), {"error": error.message}
            except ConnectionError:  # the client is gone
                self.close_connection = True
                return
            except Exception:  # whatever it is, it is this request's alone
                logging.exception("a request failed")
                status, answer = 500, {"error": "the server failed; its log says how"}
            try:
                self._send(status, json.dumps(answer).encode(), is_read)
                if not is_read:
                    self._drain()
            except OSError as error:  # the client is gone, or doesn't read
                logging.debug("an answer wasn't read: %s", error)
                self.close_connection = True

        def _send(self, status, content, keeps_connection):
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            if not keeps_connection:
                self.send_header("Connection", "close")
            self.end_headers()
            for start in range(0, len(content), _PIECE):  # a timeout each
                self.wfile.write(content[start : start + _PIECE])

        def _drain(self):
            """Reads on: a client that still sends would lose the answer."""
            self.connection.shutdown(socket.SHUT_WR)
            left, end = 4 * limit, time.monotonic() + TIMEOUT
            while left > 0 and time.monotonic() < end:
                piece = self.rfile.read1(min(left, _PIECE))
                if not piece:
                    break
                left -= len(piece)

        def log_message(self, format, *args):  # noqa: A002
            logging.debug(format, *args)

    return Handler


def start(model, port, name, max_message_mb=64, workers=4, host=""):
    """Starts the REST server in a thread.

    Args:
      model: `loaded.LoadedModel`.
      port: 0 takes a free one.
      name: of the model, for clients.
      max_message_mb: larger requests are refused.
      workers: requests that are answered at once; others wait.
      host: address that it listens on; "" for every one by IPv4.

    Returns:
      (the server, its port).
    """
    gate = threading.BoundedSemaphore(workers)
    handler = _handler(model, name, max_message_mb << 20, gate)
    server = _Server((host, port), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, server.server_address[1]
