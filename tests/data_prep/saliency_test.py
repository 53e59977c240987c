"""The methods that lock the box: their contracts, fall-back to the whole picture."""

import json

import numpy as np
import pytest
import tensorflow as tf

from data_prep import saliency
from data_prep.saliency_parts import saliency_masks, saliency_networks, saliency_opencv
from kaleido_tf.data.locked_box import BoxRule

TRUTH = (20, 24, 60, 72)  # y1, x1, y2, x2 of a red object in 80 x 96 pixels
SHAPE = (80, 96)


@pytest.fixture(scope="module")
def picture(draw_picture):
    return draw_picture(*SHAPE, TRUTH, colour=(220, 20, 20))


@pytest.fixture(scope="module")
def empty():
    return np.full((*SHAPE, 3), 128, np.uint8)


def check_locks(locker, picture, empty, name):
    """A box on the object, tight but for the rule's margin; whole where nothing is."""
    box, found_by = locker.lock(picture)
    assert found_by == name
    assert box.dtype == np.float32
    true_box = np.array(TRUTH) / np.array([*SHAPE, *SHAPE])
    inner = box + locker.rule.margin * np.array([1, 1, -1, -1])
    np.testing.assert_allclose(inner, true_box, atol=0.02)
    same_box, same_name, mask = locker.lock_with_mask(picture)
    np.testing.assert_array_equal(same_box, box)
    assert same_name == name
    assert abs(mask.mean() - 40 * 48 / (80 * 96)) < 0.02
    box, found_by = locker.lock(empty)
    assert found_by == "whole" and box.tolist() == [0, 0, 1, 1]


def test_opencv_is_the_default_of_old(picture, empty):
    locker = saliency.make_locker("opencv")
    for image in (picture, empty):
        box, name = locker.lock(image)
        expected_box, expected_name = saliency_opencv.lock_box(image)
        np.testing.assert_array_equal(box, expected_box)
        assert name == expected_name
    check_locks(locker, picture, empty, "plain")
    assert locker.describe() == {"method": "opencv"}


def test_none_takes_every_picture_whole(picture):
    locker = saliency.make_locker("none")
    box, name = locker.lock(picture)
    assert name == "none" and box.tolist() == [0, 0, 1, 1]
    assert box.dtype == np.float32
    assert locker.describe() == {"method": "none"}
    assert locker.export("nowhere") is False


@pytest.mark.parametrize(
    ("method", "weights", "error", "message"),
    [
        ("u-net", None, ValueError, "`method` should be one of"),
        ("opencv", "some/file", ValueError, "should be left out"),
        ("saved_model", None, ValueError, "should be the path"),
        ("onnx", "", ValueError, "should be the path"),
        ("unet", "missing", FileNotFoundError, "no trained U-Net"),
        ("onnx", "missing.onnx", FileNotFoundError, "an .onnx file"),
        ("saved_model", "missing", FileNotFoundError, "folder of a SavedModel"),
    ],
)
def test_arguments_that_do_not_fit(method, weights, error, message):
    with pytest.raises(error, match=message):
        saliency.make_locker(method, weights)


# ONNX: a network of one 1 x 1 convolution and a sigmoid, written byte by byte.


def field(number, value):
    """One field of a protocol buffer: int, or bytes with their length."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def varint(value):
    data = b""
    while value > 127:
        data += bytes([value & 127 | 128])
        value >>= 7
    return data + bytes([value])


def tensor(name, array):
    dims = b"".join(field(1, side) for side in array.shape)
    return dims + field(2, 1) + field(8, name) + field(9, array.astype("<f4").tobytes())


def value_info(name, shape):
    dims = b"".join(field(1, field(1, side)) for side in shape)
    return field(1, name) + field(2, field(1, field(1, 1) + field(2, dims)))


def node(kind, inputs, output):
    names = b"".join(field(1, name) for name in inputs)
    return names + field(2, output) + field(4, kind)


def onnx_bytes(side, ends=("Sigmoid",)):
    """Salient is what is red: sigmoid of 4 * (red - green) of the normalised pixels."""
    kernel = np.array([4.0, -4.0, 0.0]).reshape(1, 3, 1, 1)
    nodes = [node("Conv", ["x", "kernel", "bias"], "y0")]
    nodes += [node(kind, [f"y{i}"], f"y{i + 1}") for i, kind in enumerate(ends)]
    graph = b"".join(field(1, one) for one in nodes) + field(2, "graph")
    graph += field(5, tensor("kernel", kernel)) + field(5, tensor("bias", -np.ones(1)))
    graph += field(11, value_info("x", (1, 3, side, side)))
    graph += field(12, value_info(f"y{len(ends)}", (1, 1, side, side)))
    return field(1, 8) + field(7, graph) + field(8, field(1, "") + field(2, 13))


def test_onnx(picture, empty, tmp_path):
    path = tmp_path / "red.onnx"
    path.write_bytes(onnx_bytes(saliency_networks.ONNX_SIDE))
    locker = saliency.make_locker("onnx", str(path))
    check_locks(locker, picture, empty, "onnx")
    description = json.loads(json.dumps(locker.describe()))
    assert description["method"] == "onnx"
    assert len(description["weights_sha256"]) == 64
    assert locker.export(str(tmp_path / "out")) is False


def test_broken_onnx(tmp_path):
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"this is no protocol buffer")
    with pytest.raises(ValueError, match="ONNX network that OpenCV can read"):
        saliency.make_locker("onnx", str(path))


class FakeNet:
    """Stands in for cv2.dnn.Net; keeps its input."""

    def __init__(self, output):
        self.output, self.input = output, None

    def getUnconnectedOutLayersNames(self):  # noqa: N802
        return ["first", "second"]

    def setInput(self, array):  # noqa: N802
        self.input = array

    def forward(self, name):
        assert name == "first"
        return self.output


def test_onnx_input_is_normalised_as_u2net_does_it():
    net = FakeNet(np.full((1, 1, 5, 7), 0.25, np.float32))
    pixels = np.zeros((6, 4, 3), np.float32)
    pixels[2, 1] = (200, 100, 50)  # 200 is the picture's maximum
    found = saliency_networks.onnx_predictor(net)(pixels)
    assert found.shape == (5, 7) and (found == 0.25).all()
    assert net.input.shape == (1, 3, 6, 4) and net.input.dtype == np.float32
    expected = [(1.0 - 0.485) / 0.229, (0.5 - 0.456) / 0.224, (0.25 - 0.406) / 0.225]
    np.testing.assert_allclose(net.input[0, :, 2, 1], expected, rtol=1e-5)
    black = [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225]
    np.testing.assert_allclose(net.input[0, :, 0, 0], black, rtol=1e-5)


@pytest.mark.parametrize("value", [3.0, -1.0, np.nan])
def test_outputs_that_are_no_probabilities(value):
    output = np.full((1, 1, 5, 7), value, np.float32)
    predict = saliency_networks.onnx_predictor(FakeNet(output))
    network = saliency_networks.Network(predict, (8, 8), "")
    locker = saliency.NetworkLocker("onnx", network)
    # Not a ValueError: it isn't the picture that is broken.
    with pytest.raises(saliency_networks.UnfitNetworkError, match="from 0 to 1"):
        locker.lock(np.zeros((9, 9, 3), np.uint8))


def test_output_that_is_no_mask():
    predict = saliency_networks.onnx_predictor(FakeNet(np.zeros((1, 10), np.float32)))
    with pytest.raises(saliency_networks.UnfitNetworkError, match="should be a mask"):
        predict(np.zeros((4, 4, 3), np.float32))


class RedIsSalient(tf.Module):
    """A SavedModel's content: what is red, with a variable."""

    def __init__(self):
        super().__init__()
        self.gain = tf.Variable(0.1)

    @tf.function
    def __call__(self, pictures):
        red = pictures[..., :1] - pictures[..., 1:2]
        return {"mask": tf.sigmoid(self.gain * (red - 100.0))}


def save_model(folder, shape):
    model = RedIsSalient()
    spec = tf.TensorSpec(shape, tf.float32, name="pictures")
    signature = model.__call__.get_concrete_function(spec)
    tf.saved_model.save(model, str(folder), signatures=signature)


def test_saved_model(picture, empty, tmp_path):
    save_model(tmp_path / "red", [None, 64, 72, 3])
    locker = saliency.make_locker("saved_model", str(tmp_path / "red"))
    check_locks(locker, picture, empty, "saved_model")
    assert locker.describe()["method"] == "saved_model"
    save_model(tmp_path / "free", [1, None, None, 3])
    assert saliency.make_locker("saved_model", tmp_path / "free").network.size == (
        320,
        320,
    )


def test_saved_models_that_do_not_fit(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="should be a SavedModel"):
        saliency.make_locker("saved_model", str(tmp_path / "empty"))
    save_model(tmp_path / "pixels", [None, 8])
    with pytest.raises(ValueError, match="one float32 input"):
        saliency.make_locker("saved_model", str(tmp_path / "pixels"))


def test_a_second_object_and_a_hole():
    """What the networks' masks go through."""
    probabilities = np.zeros((40, 40), np.float32)
    probabilities[4:20, 4:16] = 1.0
    probabilities[10:12, 8:10] = 0.0
    probabilities[8:20, 24:34] = 0.6
    probabilities[30:32, 30:32] = 1.0
    network = saliency_networks.Network(lambda _: probabilities, (40, 40), "")
    locker = saliency.NetworkLocker("onnx", network, BoxRule(margin=0.0))
    box, name, mask = locker.lock_with_mask(np.zeros((40, 40, 3), np.uint8))
    assert name == "onnx"
    np.testing.assert_allclose(box * 40, [4, 4, 20, 34], atol=1e-5)
    assert mask[10, 8] and not mask[30, 30]
    assert mask.sum() == 16 * 12 + 12 * 10
    assert saliency_masks.WHOLE == (0.0, 0.0, 1.0, 1.0)
