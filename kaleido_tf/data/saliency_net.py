"""Kaleido Patch Generator: the small U-Net that finds the product (section 3.2).

The paper: "a very simple U-Net-like network". Trained by `data_prep.saliency_unet`,
kept as a folder with weights and settings, used in graph by data preparation and by
an exported signature alike: image -> foreground probability -> locked box.

One comes with the package (`PACKAGED_FOLDER`): trained on the embedded catalogue alone
(3,000 products of seed 1000), it finds the products of real photographs too
(docs/data.md has the commands and the figures).
"""

import dataclasses
import json
import os
import shutil

import tensorflow as tf
import tf_keras

from kaleido_tf import files
from kaleido_tf.data import locked_box, patches
from kaleido_tf.data.dataset_info import file_sha256

SETTINGS_NAME = "saliency.json"
WEIGHTS_NAME = "saliency.weights.h5"
PACKAGED_FOLDER = os.path.join(os.path.dirname(__file__), "saliency_unet")
_DEPTH_FACTOR = 2  # each level halves the picture


@dataclasses.dataclass(frozen=True)
class SaliencySettings:
    """What decides the network and its box; kept beside the weights.

    Attributes:
      side: of the canvas that the network looks at, in pixels.
      widths: channels of each level, from fine to coarse.
      rule: `locked_box.BoxRule`.
    """

    side: int = 128
    widths: tuple = (8, 16, 32, 48, 64)
    rule: locked_box.BoxRule = locked_box.BoxRule()

    def __post_init__(self):
        step = _DEPTH_FACTOR ** (len(self.widths) - 1)
        if self.side < step or self.side % step:
            raise ValueError(
                f"`side` should be a multiple of {step}, for {len(self.widths)} "
                f"levels. Received: {self.side}"
            )

    @classmethod
    def from_dict(cls, values):
        """From the JSON's values; raises KeyError or TypeError on others."""
        rule = locked_box.BoxRule(**values["rule"])
        return cls(int(values["side"]), tuple(values["widths"]), rule)


def _convolve(x, width, name):
    """Two 3 x 3 convolutions: [B, h, w, C] -> [B, h, w, width]."""
    layers = tf_keras.layers
    for part in "ab":
        own = f"{name}_{part}"
        x = layers.Conv2D(width, 3, padding="same", use_bias=False, name=own)(x)
        # Trainings are short: the moving means have to follow in some dozen steps.
        x = layers.BatchNormalization(momentum=0.9, name=f"{own}_norm")(x)
        x = layers.ReLU(name=f"{own}_relu")(x)
    return x


def build_unet(settings):
    """Builds the U-Net, a functional Keras model.

    Args:
      settings: `SaliencySettings`.

    Returns:
      A model: float32 or uint8 [B, side, side, 3] RGB in 0..255 -> float32
      [B, side, side], the logit of every pixel's being foreground.
    """
    layers, side, widths = tf_keras.layers, settings.side, settings.widths
    pixels = tf_keras.Input([side, side, 3], name="pixels")
    x = layers.Rescaling(1 / 127.5, offset=-1.0, name="rescale")(pixels)
    skips = []
    # Down: [B, s, s, 3] -> [B, s / 2**(L-1), s / 2**(L-1), widths[-1]]
    for level, width in enumerate(widths):
        if level:
            x = layers.MaxPooling2D(name=f"halve_{level}")(x)
        x = _convolve(x, width, f"down_{level}")
        skips.append(x)
    # Up again, each level beside what its size was on the way down
    for level in reversed(range(len(widths) - 1)):
        x = layers.UpSampling2D(name=f"double_{level}")(x)
        x = layers.Concatenate(name=f"join_{level}")([skips[level], x])
        x = _convolve(x, widths[level], f"up_{level}")
    x = layers.Conv2D(1, 1, name="head")(x)
    logits = layers.Reshape([side, side], name="logits")(x)
    return tf_keras.Model(pixels, logits, name="saliency_unet")


class SaliencyNet(tf.Module):
    """A trained U-Net with its box rule: image -> locked box, eagerly or in a graph.

    Example:
      net = SaliencyNet.load("saliency")
      lock = tf.function(
          net.lock, input_signature=[tf.TensorSpec([None, None, 3], tf.uint8)]
      )
      box, found = lock(image)

    Args:
      settings: `SaliencySettings`.
      model: `build_unet(settings)`.
    """

    def __init__(self, settings, model):
        super().__init__(name="saliency_net")
        self.settings = settings
        self.model = model
        self._source = None  # folder that it was loaded from

    def probabilities(self, canvases):
        """Foreground: uint8 or float32 [B, side, side, 3] -> float32 [B, side, side].

        The RGB pixels are in 0..255, as `patches.to_canvas` gives them.
        """
        return tf.sigmoid(self.model(tf.cast(canvases, tf.float32), training=False))

    def lock_canvases(self, canvases, insides):
        """Locks a batch: uint8 [B, side, side, 3] and float32 [B, 4] -> boxes, found.

        Args and returns: as `locked_box.lock_boxes`, from canvases of this network's
        side (`patches.to_canvas`) instead of probabilities.
        """
        return locked_box.lock_boxes(
            self.probabilities(canvases), insides, self.settings.rule
        )

    def predict(self, image):
        """One picture of any size -> its canvas's probabilities, its place there.

        Args:
          image: uint8 [h, w, 3] RGB.

        Returns:
          (float32 [side, side]; float32 [4], see `patches.to_canvas`).
        """
        canvas, inside = patches.to_canvas(image, self.settings.side)
        return self.probabilities(canvas[None])[0], inside

    def lock(self, image):
        """Locks one picture of any size.

        Args:
          image: uint8 [h, w, 3] RGB.

        Returns:
          (float32 [4] y1, x1, y2, x2 in [0, 1] of the picture; bool [], whether an
          object was found: where not, the box is the whole picture).
        """
        probabilities, inside = self.predict(image)
        boxes, found = locked_box.lock_boxes(
            probabilities[None], inside[None], self.settings.rule
        )
        return boxes[0], found[0]

    def save(self, folder):
        """Writes settings and weights; a network that was loaded is copied as it is."""
        os.makedirs(folder, exist_ok=True)
        weights = os.path.join(folder, WEIGHTS_NAME)
        if self._source is None:
            self.model.save_weights(weights)
        elif not os.path.exists(weights) or not os.path.samefile(folder, self._source):
            shutil.copyfile(os.path.join(self._source, WEIGHTS_NAME), weights)
        values = dataclasses.asdict(self.settings)
        values["weights_sha256"] = file_sha256(weights)
        path = os.path.join(folder, SETTINGS_NAME)
        files.write_json(values, path, indent=2)

    @classmethod
    def load(cls, folder):
        """Reads what `save` wrote.

        Raises:
          FileNotFoundError: no such folder, or one of its two files is missing.
          ValueError: settings that aren't ours, or weights other than the settings'
            hash says, or that don't fit the network.
        """
        folder = os.fspath(folder)
        values = _read_settings(folder)
        weights = os.path.join(folder, WEIGHTS_NAME)
        if not os.path.isfile(weights):
            raise FileNotFoundError(
                f"{weights} should be the U-Net's weights. Received: no such file "
                "(train one with python -m data_prep.saliency_unet)"
            )
        try:
            expected = values.pop("weights_sha256")
            settings = SaliencySettings.from_dict(values)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{SETTINGS_NAME} of {folder} should hold side, widths, rule and "
                f"weights_sha256. Received: {type(error).__name__}: {error}"
            ) from error
        received = file_sha256(weights)
        if received != expected:
            raise ValueError(
                f"{weights} should have the SHA-256 {expected} of {SETTINGS_NAME}. "
                f"Received: {received} (a broken copy: copy the whole folder again)"
            )
        net = cls(settings, build_unet(settings))
        _load_weights(net.model, weights)
        net._source = folder
        return net

    def describe(self):
        """What locked the boxes, for dataset_info.json: plain JSON values."""
        values = dataclasses.asdict(self.settings) | {"widths": [*self.settings.widths]}
        if self._source is not None:
            weights = os.path.join(self._source, WEIGHTS_NAME)
            values["weights_sha256"] = file_sha256(weights)
        return values


def _read_settings(folder):
    path = os.path.join(folder, SETTINGS_NAME)
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f"{path} should exist. Received: a folder that holds no trained U-Net "
            "(train one with python -m data_prep.saliency_unet)"
        )
    with open(path, encoding="utf-8") as file:
        try:
            values = json.load(file)
        except ValueError as error:  # JSONDecodeError or UnicodeDecodeError
            raise ValueError(f"{path} should be JSON. Received: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} should hold a JSON object. Received: {values!r:.80}")
    return values


def _load_weights(model, path):
    try:
        model.load_weights(path)
    except Exception as error:  # h5py and Keras raise OSError, KeyError, ValueError.
        raise ValueError(
            f"{path} should hold the weights of the U-Net that {SETTINGS_NAME} "
            f"describes. Received: {type(error).__name__}: {error}"
        ) from error
