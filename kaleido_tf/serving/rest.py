"""TensorFlow Serving's REST form of Predict around a loaded export.

POST /v1/models/NAME[/versions/N]:predict with {"signature_name": ..., "inputs": {...}}
(a column an input) or "instances": [{...}] (a row an object); bytes as {"b64": "..."}.
GET /v1/models/NAME says which version is there.
"""

import base64
import binascii
import http.server
import json
import re
import threading

import numpy as np
import tensorflow as tf
from absl import logging

from kaleido_tf.serving import loaded

_PATH = re.compile(r"/v1/models/([^/:]+)(?:/versions/(\d+))?(:predict)?")
_HTTP = {
    tf.errors.INVALID_ARGUMENT: 400,
    tf.errors.FAILED_PRECONDITION: 400,
    tf.errors.NOT_FOUND: 404,
    tf.errors.RESOURCE_EXHAUSTED: 429,
}


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
            return np.asarray(value, spec.dtype.as_numpy_dtype)
        texts = [value] if not isinstance(value, list) else value
        array = np.empty(len(texts), object)
        array[:] = [_bytes(text) for text in texts]
        return array if isinstance(value, list) else array[0]
    except (TypeError, ValueError, binascii.Error) as error:
        raise _wrong(
            f"`{name}` should be {spec.dtype.name} values, bytes as "
            f'{{"b64": "..."}}. Received what can\'t be read: {error}'
        ) from error


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


def _handler(model, name, limit):
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):  # noqa: N802
            self._answer(lambda: self._status())

        def do_POST(self):  # noqa: N802
            self._answer(lambda: self._predict())

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
            row = {"version": str(model.version), "state": "AVAILABLE"}
            return {"model_version_status": [row]}

        def _predict(self):
            size = int(self.headers.get("Content-Length") or 0)
            if size > limit:
                self.close_connection = True  # the rest of it isn't read
                raise _wrong(f"The body should be of at most {limit} bytes: {size}")
            content = self.rfile.read(size)
            self._find(True)
            try:
                body = json.loads(content)
            except ValueError as error:
                raise _wrong(f"The body should be JSON. Received: {error}") from error
            return predict(model, body)

        def _answer(self, make):
            try:
                status, answer = 200, make()
            except loaded.RequestError as error:
                status, answer = _HTTP.get(error.code, 500), {"error": error.message}
            except Exception:  # whatever it is, it is this request's alone
                logging.exception("a request failed")
                status, answer = 500, {"error": "the server failed; its log says how"}
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format, *args):  # noqa: A002
            logging.debug(format, *args)

    return Handler


def start(model, port, name, max_message_mb=64):
    """Starts the REST server in a thread.

    Args:
      model: `loaded.LoadedModel`.
      port: 0 takes a free one.
      name: of the model, for clients.
      max_message_mb: larger requests are refused.

    Returns:
      (the server, its port).
    """
    handler = _handler(model, name, max_message_mb << 20)
    server = http.server.ThreadingHTTPServer(("", port), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, server.server_address[1]
