"""The locked box: where the dominant object of a product picture is (section 3.2).

The methods of data preparation, by name (`make_locker`):

unet         a small U-Net, the packaged one or the folder of another that
             `data_prep.saliency_unet` trained; an exported signature can lock the same
             box, it is TensorFlow throughout
opencv       no network: plain backgrounds and GrabCut (`saliency_parts`)
onnx         a published salient-object network as an ONNX file, run by cv2.dnn
saved_model  any other network, as a SavedModel
none         the whole picture

Where a method finds nothing salient, the box is the whole picture, counted as "whole".
"""

import abc
import dataclasses
import threading

import cv2
import numpy as np
import tensorflow as tf

from data_prep.saliency_parts import saliency_masks, saliency_networks, saliency_opencv
from data_prep.saliency_parts.saliency_opencv import lock_box
from kaleido_tf.data.locked_box import BoxRule
from kaleido_tf.data.saliency_net import PACKAGED_FOLDER, SaliencyNet

METHODS = ("unet", "opencv", "onnx", "saved_model", "none")
DEFAULT_METHOD = "unet"


class Locker(abc.ABC):
    """Finds the box of a picture's dominant object; may be called from many threads.

    Attributes:
      rule: `BoxRule` by which a mask becomes the box; None where there is no mask.
    """

    rule = None

    @abc.abstractmethod
    def lock(self, image):
        """Finds the box.

        Args:
          image: uint8 [h, w, 3] RGB.

        Returns:
          (float32 [4] y1, x1, y2, x2 in [0, 1] of the image; name of what found it,
          "whole" where nothing did).
        """

    @abc.abstractmethod
    def lock_with_mask(self, image):
        """Finds the box and shows what it was taken from.

        Returns:
          (box and name as `lock`; bool [h', w'], the cleaned mask over the whole image
          at the method's or the image's own size, or None).
        """

    @abc.abstractmethod
    def describe(self):
        """What locks the boxes, for dataset_info.json: plain JSON values."""

    def export(self, folder):
        """Writes what a serving graph needs to lock the same boxes into a folder.

        Returns:
          True; False for methods that can't run in graph (nothing is written).
        """
        del folder
        return False


class OpenCVLocker(Locker):
    """See `saliency_opencv`; names what found the box of its `METHODS`."""

    rule = saliency_opencv.RULE

    def lock(self, image):
        return lock_box(image)

    def lock_with_mask(self, image):
        mask, box, name = saliency_opencv.find_mask(image)
        if mask is not None:
            mask = saliency_masks.clean_mask(mask, saliency_opencv.RULE)
        return box, name, mask

    def describe(self):
        return {"method": "opencv"}


class WholeLocker(Locker):
    """Takes every picture whole."""

    def lock(self, image):
        del image
        return np.array(saliency_masks.WHOLE, np.float32), "none"

    def lock_with_mask(self, image):
        return *self.lock(image), None

    def describe(self):
        return {"method": "none"}


class UNetLocker(Locker):
    """The trained U-Net, by the graph that serving uses.

    Args:
      folder: what `data_prep.saliency_unet` wrote.
    """

    def __init__(self, folder):
        self.net = SaliencyNet.load(folder)
        self.rule = self.net.settings.rule
        # Traced here: threads that call it first would each trace it.
        picture = tf.TensorSpec([None, None, 3], tf.uint8)
        self._lock = tf.function(self.net.lock).get_concrete_function(picture)

    def lock(self, image):
        box, found = self._lock(tf.constant(image))
        return box.numpy(), "unet" if found else "whole"

    def lock_with_mask(self, image):
        probabilities, inside = (t.numpy() for t in self.net.predict(image))
        side = len(probabilities)
        top, left, bottom, right = np.round(inside * side).astype(int)
        resized = _resize(probabilities[top:bottom, left:right], image.shape[:2])
        mask = saliency_masks.clean_mask(resized, self.rule)
        return *self.lock(image), mask

    def describe(self):
        return {"method": "unet", **self.net.describe()}

    def export(self, folder):
        self.net.save(folder)
        return True


class NetworkLocker(Locker):
    """A network that runs outside of our graphs; its masks become boxes by OpenCV.

    Args:
      name: what `lock` calls it.
      network: `saliency_networks.Network`.
      rule: `BoxRule`.
    """

    def __init__(self, name, network, rule=None):
        self.name = name
        self.network = network
        self.rule = rule or BoxRule()
        self._one_at_a_time = threading.Lock()  # cv2.dnn keeps its input in the net

    def probabilities(self, image):
        """uint8 [h, w, 3] RGB -> float32 [h', w']; ValueError on an unfit network."""
        resized = _resize(image, self.network.size)
        with self._one_at_a_time:
            found = self.network.predict(resized.astype(np.float32))
        if not np.isfinite(found).all() or found.min() < -1e-3 or found.max() > 1.001:
            raise saliency_networks.UnfitNetworkError(
                f"the {self.name} network should give probabilities from 0 to 1. "
                f"Received: {found.min()} to {found.max()} (end it with a sigmoid)"
            )
        return found

    def lock(self, image):
        return self._box(self.probabilities(image))

    def lock_with_mask(self, image):
        probabilities = self.probabilities(image)
        resized = _resize(probabilities, image.shape[:2])
        mask = saliency_masks.clean_mask(resized, self.rule)
        return *self._box(probabilities), mask

    def _box(self, probabilities):
        mask = probabilities >= self.rule.threshold
        box = saliency_masks.mask_box(mask, self.rule)
        if box is None:
            return np.array(saliency_masks.WHOLE, np.float32), "whole"
        return box, self.name

    def describe(self):
        return {
            "method": self.name,
            "weights_sha256": self.network.weights_sha256,
            "rule": dataclasses.asdict(self.rule),
        }


def _resize(pixels, size):
    """[h, w] or [h, w, C] to another (h, w), averaged where it shrinks."""
    shrinks = pixels.shape[0] >= size[0] and pixels.shape[1] >= size[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(pixels, (int(size[1]), int(size[0])), interpolation=how)


def make_locker(method, weights=None):
    """Builds the method that locks boxes; load it once in a process.

    Args:
      method: name out of `METHODS`.
      weights: path of what the method needs: a folder for "saved_model", a file for
        "onnx", None or a folder for "unet" (None: the packaged network), None for the
        others.

    Returns:
      A `Locker`.

    Raises:
      ValueError: unknown method, weights missing or given needlessly, or broken.
      FileNotFoundError: no such weights.
    """
    if method not in METHODS:
        raise ValueError(
            f"`method` should be one of {list(METHODS)}. Received: {method!r}"
        )
    if method in _WEIGHTLESS:
        if weights:
            raise ValueError(
                f"`weights` should be left out for the method {method!r}. Received: "
                f"{weights!r} (methods with weights: unet, onnx, saved_model)"
            )
        return _WEIGHTLESS[method]()
    if method == "unet":
        return UNetLocker(weights or PACKAGED_FOLDER)
    if not weights:
        raise ValueError(
            f"`weights` should be the path of the network of method {method!r}. "
            f"Received: {weights!r}"
        )
    locker = NetworkLocker(method, saliency_networks.LOADERS[method](weights))
    try:  # now, and not at the first of many thousand pictures
        locker.probabilities(np.zeros([8, 8, 3], np.uint8))
    except saliency_networks.UnfitNetworkError as error:
        raise ValueError(
            f"`weights` don't fit. Received: {weights}: {error}"
        ) from error
    return locker


_WEIGHTLESS = {"opencv": OpenCVLocker, "none": WholeLocker}
