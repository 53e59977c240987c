"""The clients of docs/serving.md, run as they stand there."""

import http.client
import json
import pathlib
import re

import numpy as np
import pytest

from kaleido_tf.serving import rest

DOC = pathlib.Path(__file__).parents[2] / "docs" / "serving.md"


def client(mark):
    """The doc's one Python example with this word in it."""
    blocks = re.findall(r"```python\n(.*?)```", DOC.read_text(), re.DOTALL)
    (found,) = [block for block in blocks if mark in block]
    return found


@pytest.fixture
def picture(workshop, tmp_path, monkeypatch):
    (tmp_path / "picture.jpg").write_bytes(workshop.pictures["v1"])
    monkeypatch.chdir(tmp_path)
    return workshop.pictures["v1"]


@pytest.fixture(scope="module")
def rest_port(model):
    server, port = rest.start(model, 0, "kaleido")
    yield port
    server.shutdown()


@pytest.fixture
def expected(ask, picture):
    texts = ["navy cotton shirt", "red dress"]
    return ask("match", image_bytes=[picture], text=texts)["score"]


def run(source):
    names = {}
    exec(compile(source, "docs/serving.md", "exec"), names)
    return names


def test_grpc(port, expected):
    names = run(client("grpc").replace("8500", str(port)))
    np.testing.assert_allclose(names["answer"]["score"], expected, atol=1e-6)
    assert names["features"].shape == (1, 55, 1280)
    names["channel"].close()


def test_rest(rest_port, expected):
    names = run(client("urllib").replace("8501", str(rest_port)))
    np.testing.assert_allclose(names["answer"]["score"], expected, atol=1e-6)


def send(port, content, path="/v1/models/kaleido:predict"):
    """(status, answer) of a request."""
    connection = http.client.HTTPConnection("localhost", port, timeout=60)
    body = content if isinstance(content, bytes) else json.dumps(content)
    connection.request("POST" if content is not None else "GET", path, body)
    response = connection.getresponse()
    found = response.status, json.loads(response.read())
    connection.close()
    return found


def test_rest_by_rows_and_what_it_refuses(rest_port, model, workshop, ask):
    texts = ["navy shirt", ""]
    expected = ask("text_vectors", text=texts)["text_vectors"]
    for rows in (texts, [{"text": text} for text in texts]):
        body = {"signature_name": "text_vectors", "instances": rows}
        status, answer = send(rest_port, body)
        assert status == 200
        np.testing.assert_allclose(answer["predictions"], expected, atol=1e-6)
    status, answer = send(rest_port, {"signature_name": "info", "inputs": {}})
    assert status == 200 and "export_sha256" in answer["outputs"]
    status, answer = send(rest_port, None, "/v1/models/kaleido")
    assert answer["model_version_status"][0]["version"] == "1"
    for body, code, said in (
        (b"{", 400, "should be JSON"),
        ({}, 400, "either `inputs` or `instances`"),
        ({"inputs": {"text": ["a"]}}, 400, "Received: \\['text'\\]"),
        ({"inputs": {"text": ["a"], "image_bytes": [{"b64": "?"}]}}, 400, "b64"),
        ({"inputs": {"text": ["a"], "image_bytes": ["x"]}}, 400, "image_bytes\\[0\\]"),
        ({"instances": []}, 400, "at least one row"),
        ({"signature_name": "nothing", "inputs": {}}, 400, "one of"),
    ):
        status, answer = send(rest_port, body)
        assert status == code
        assert re.search(said, answer["error"]), answer
    assert send(rest_port, {"inputs": {}}, "/v1/models/other:predict")[0] == 404
