"""Requests that can't be answered: a clear INVALID_ARGUMENT, and the server lives."""

import struct
import zlib

import grpc
import numpy as np
import pytest
import tensorflow as tf

from kaleido_tf.serving import requests, warmup


def huge_png(side):
    """A PNG that says it has side x side pixels, in under 200 bytes."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    chunks = [
        struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c))
        for k, c in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def huge_jpeg(good, side):
    """A JPEG whose frame says it has side x side pixels."""
    frame = good.index(b"\xff\xc0")
    return good[: frame + 5] + struct.pack(">HH", side, side) + good[frame + 9 :]


def huge_webp(side):
    size = (side - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + size + size
    return b"RIFF" + struct.pack("<I", len(body)) + body


def refused(ask, signature, code=grpc.StatusCode.INVALID_ARGUMENT, **inputs):
    """What the server says to a request that it refuses, with this code."""
    with pytest.raises(grpc.RpcError) as raised:
        ask(signature, **inputs)
    assert raised.value.code() == code, raised.value.details()
    return raised.value.details()


@pytest.fixture(scope="module")
def good(workshop):
    return workshop.pictures["v1"]  # a JPEG


@pytest.fixture(autouse=True)
def alive(ask, good):
    yield
    assert ask("match", image_bytes=[good], text=["navy"])["score"].shape == (1,)


def test_pictures(ask, good, workshop):
    cases = {
        b"": "the file is empty",
        good[:-40]: "the JPEG is truncated or damaged",
        good[:30]: "the JPEG is truncated or damaged: no size found",
        b"GIF89a" + bytes(60): "no JPEG, PNG or WebP picture",
        b"not a picture": "no JPEG, PNG or WebP picture",
        workshop.pictures["v0"][:-20]: "the PNG is truncated or damaged",
        workshop.pictures["v2"][:-20]: "the WebP is truncated: it is shorter",
        huge_png(20_000): "20000 x 20000 pixels: over 50000000",
        huge_jpeg(good, 20_000): "20000 x 20000 pixels: over 50000000",
        huge_webp(20_000): "20000 x 20000 pixels: over 50000000",
        huge_png(7): "7 x 7 pixels: under 8 x 8",
    }
    for data, reason in cases.items():
        details = refused(ask, "image_features", image_bytes=[good, good, data, b""])
        assert f"image_bytes[2]: {reason}" in details


def test_the_place_is_the_requests_own(ask, good):
    # Beyond the first chunk of pictures.
    details = refused(ask, "match", image_bytes=[good] * 18 + [b"x"], text=["navy"])
    assert "image_bytes[18]: no JPEG, PNG or WebP picture" in details


def test_texts(ask, good):
    details = refused(ask, "match", image_bytes=[good], text=["a", "b" * 1_000_000])
    assert f"text[1]: 1000000 bytes: over {requests.MAX_TEXT_BYTES}" in details
    # Stated results: an empty text is [CLS] [SEP]; a long one is cut, as in training;
    # what is no UTF-8 is read as far as it is.
    texts = ["", "navy shirt " * 10, "navy shirt " * 20, b"\xff\xfe navy"]
    scores = ask("match", image_bytes=[good], text=texts)["score"]
    assert np.isfinite(scores).all() and scores[1] == pytest.approx(scores[2])


def test_batch_sizes(ask, good, model):
    said = refused(ask, "match", image_bytes=[good] * 2, text=["a"] * 3)
    assert "`image_bytes` and `text` should be of one length" in said
    assert "Received: 2 and 3" in said
    said = refused(ask, "category", image_bytes=[good], text=["a"] * 2)
    assert "Received: 1 and 2" in said
    features = warmup.example_inputs(model.specs("image_vectors"), 2)
    inputs = {**features, "text": ["a"] * 3}
    for name in ("match_features", "explain", "category_features"):
        assert "`patch_features` and `text`" in refused(ask, name, **inputs)


def test_nothing_asked_is_nothing_answered(ask, good, model):
    assert ask("match", image_bytes=[], text=["a"])["margin"].shape == (0,)
    assert ask("match", image_bytes=[good], text=[])["margin"].shape == (0,)
    assert "Received: 0 and 2" in refused(ask, "match", image_bytes=[], text=["a"] * 2)
    none = warmup.example_inputs(model.specs("image_vectors"), 0)
    assert ask("match_features", **none, text=["a"])["score"].shape == (0,)
    assert ask("explain", **none, text=[])["attention"].shape[::2] == (0, 55)
    assert ask("caption_features", **none)["captions"].shape == (0, 3)
    assert ask("image_features", image_bytes=[])["box"].shape == (0, 4)


def test_requests_that_fit_no_signature(ask, good, channel):
    features = np.zeros([1, 3, 4], np.float32)
    said = refused(ask, "image_vectors", patch_features=features)
    assert "`patch_features` should be float32 [n, 55, 1280]" in said
    assert "Received: float32 [1, 3, 4]" in said
    said = refused(ask, "match", image_bytes=[good])
    assert "should be ['image_bytes', 'text']. Received: ['image_bytes']" in said
    code = grpc.StatusCode.FAILED_PRECONDITION
    assert "one of" in refused(ask, "subcategory", code, image_bytes=[good])
    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    refused(ask, "text_vectors", code, text=["a" * (9 << 20)])


def test_requests_for_another_model_or_half_a_tensor(channel):
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    cases = []
    request = warmup.make_request("info", {}, "other")
    cases.append((request, grpc.StatusCode.NOT_FOUND, "'other'"))
    request = warmup.make_request("info", {})
    request.model_spec.version.value = 9
    cases.append((request, grpc.StatusCode.NOT_FOUND, "version 9"))
    request = warmup.make_request("info", {})
    request.output_filter.append("nothing")
    cases.append((request, grpc.StatusCode.INVALID_ARGUMENT, "output_filter"))
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "kaleido"
    request.model_spec.signature_name = "image_vectors"
    half = tf.make_tensor_proto(np.zeros([1, 55, 1280], np.float32))
    half.tensor_content = half.tensor_content[:1000]
    request.inputs["patch_features"].CopyFrom(half)
    cases.append((request, grpc.StatusCode.INVALID_ARGUMENT, "a whole TensorProto"))
    request = predict_pb2.PredictRequest()
    request.CopyFrom(cases[-1][0])
    few = tf.make_tensor_proto(1.0, shape=[9_000, 55, 1280])  # 25 bytes
    request.inputs["patch_features"].CopyFrom(few)
    cases.append((request, grpc.StatusCode.INVALID_ARGUMENT, "1 values for a shape"))
    for request, code, said in cases:
        with pytest.raises(grpc.RpcError, match=said) as raised:
            stub.Predict(request, timeout=60)
        assert raised.value.code() == code
