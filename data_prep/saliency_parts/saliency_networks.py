"""Published saliency networks for the locked box, by path: ONNX and SavedModel.

The paper names BASNet, EGNet and ICON in place of its own small network (footnote in
section 3.2). None comes with this project.
"""

import dataclasses
import hashlib
import os
import pathlib
import typing

import cv2
import numpy as np
import tensorflow as tf

from kaleido_tf.data.dataset_info import file_sha256

# As U2-Net's own code prepares a picture: RescaleT(320) and ToTensorLab(flag=0).
ONNX_SIDE = 320
_IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_IMAGENET_STD = np.array([0.229, 0.224, 0.225], np.float32)
_FREE_SIDE = 320  # of a SavedModel that takes pictures of any size


class UnfitNetworkError(RuntimeError):
    """A network that isn't what its method needs; says nothing about the picture."""


@dataclasses.dataclass(frozen=True)
class Network:
    """A salient-object network.

    Attributes:
      predict: function, float32 [h, w, 3] RGB in 0..255, of `size` -> float32
        [h', w'], foreground probabilities. May not be called from two threads at once.
      size: (h, w) of its input in pixels.
      weights_sha256: of the file, or over all files of the folder.
    """

    predict: typing.Callable
    size: tuple
    weights_sha256: str


def load_onnx(path):
    """A published salient-object network, such as U2-Net's u2net.onnx or u2netp.onnx.

    Its input is [1, 3, 320, 320]: RGB divided by the picture's maximum, then ImageNet's
    mean and deviation, as in U2-Net's own code; its first output is [1, 1, h, w],
    probabilities. That code stretches each picture's to 0..1; here they stay as they
    are, or no picture would ever be without an object.

    Args:
      path: the .onnx file.

    Raises:
      FileNotFoundError: no such file.
      ValueError: OpenCV can't read it.
    """
    _check_exists(path, os.path.isfile, "an .onnx file")
    try:
        net = cv2.dnn.readNetFromONNX(os.fspath(path))
    except cv2.error as error:
        raise ValueError(
            "`weights` should be an ONNX network that OpenCV can read. Received: "
            f"{path}: {error}"
        ) from error
    return Network(onnx_predictor(net), (ONNX_SIDE, ONNX_SIDE), file_sha256(path))


def onnx_predictor(net):
    """`Network.predict` of a `cv2.dnn.Net`: pre- and post-processing of `load_onnx`."""
    first = net.getUnconnectedOutLayersNames()[0]

    def predict(pixels):
        x = pixels / max(float(pixels.max()), 1.0)
        x = (x - _IMAGENET_MEAN) / _IMAGENET_STD
        # [h, w, 3] -> [1, 3, h, w]
        net.setInput(np.ascontiguousarray(x.transpose(2, 0, 1)[None], np.float32))
        try:
            found = net.forward(first)
        except cv2.error as error:
            raise UnfitNetworkError(
                f"the ONNX network should take [1, 3, {ONNX_SIDE}, {ONNX_SIDE}]. "
                f"Received: {error}"
            ) from error
        return _as_mask(found, "ONNX network's first output")

    return predict


def load_saved_model(folder):
    """Any network as a SavedModel.

    Its signature "serving_default" has one input, float32 [1, H, W, 3] RGB in 0..255
    (320 x 320 where H and W are free; what normalisation it needs is its own), and one
    output, float32 [1, h, w] or [1, h, w, 1], foreground probabilities.

    Args:
      folder: the SavedModel.

    Raises:
      FileNotFoundError: no such folder.
      ValueError: no SavedModel, or another signature.
    """
    _check_exists(folder, os.path.isdir, "the folder of a SavedModel")
    try:
        # Never tf_keras.models.load_model: it can read wrong weights in silence.
        model = tf.saved_model.load(os.fspath(folder))
        signature = model.signatures["serving_default"]
    except (OSError, KeyError, ValueError, tf.errors.OpError) as error:
        raise ValueError(
            "`weights` should be a SavedModel with a signature serving_default. "
            f"Received: {folder}: {type(error).__name__}: {error}"
        ) from error
    size = _signature_size(signature)
    (key,) = signature.structured_input_signature[1]

    def predict(pixels, model=model):
        del model  # held here: the signature alone doesn't keep its variables
        try:
            (found,) = signature(**{key: tf.constant(pixels[None])}).values()
        except tf.errors.OpError as error:
            raise UnfitNetworkError(
                f"the SavedModel should take float32 {[1, *pixels.shape]}. Received: "
                f"{error.message}"
            ) from error
        return _as_mask(found.numpy(), "SavedModel's output")

    return Network(predict, size, _folder_sha256(folder))


LOADERS = {"onnx": load_onnx, "saved_model": load_saved_model}


def _signature_size(signature):
    """(h, w) that a SavedModel's signature takes; ValueError if it isn't a mask's."""
    inputs = list(signature.structured_input_signature[1].values())
    outputs = signature.structured_outputs
    if (
        len(inputs) != 1
        or len(outputs) != 1
        or inputs[0].dtype != tf.float32
        or not inputs[0].shape.is_compatible_with([1, None, None, 3])
    ):
        raise ValueError(
            "`weights` should be a SavedModel with one float32 input [1, H, W, 3] and "
            f"one output. Received: {inputs}, {outputs}"
        )
    return tuple(side or _FREE_SIDE for side in inputs[0].shape[1:3])


def _as_mask(array, name):
    """[1, h, w], [1, 1, h, w] or [1, h, w, 1] -> float32 [h, w]."""
    sides = [side for side in array.shape if side != 1]
    if len(sides) != 2:
        raise UnfitNetworkError(
            f"the {name} should be a mask, [1, 1, h, w], [1, h, w, 1] or [1, h, w]. "
            f"Received: {list(array.shape)}"
        )
    return np.asarray(array, np.float32).reshape(sides)


def _check_exists(path, exists, what):
    if not exists(path):
        raise FileNotFoundError(
            f"`weights` should be {what}. Received: {os.fspath(path)!r} (check the "
            "path)"
        )


def _folder_sha256(folder):
    """Hash over names and bytes of all files of a folder."""
    digest = hashlib.sha256()
    for path in sorted(p for p in pathlib.Path(folder).rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        digest.update(f"{name} {file_sha256(path)}\n".encode())
    return digest.hexdigest()
