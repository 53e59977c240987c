"""Warm-up requests: a TFRecord of PredictionLogs that TensorFlow Serving replays.

The first request of a signature is the slowest; replaying one of each before a version
is announced keeps that from the first client.
"""

import os

import numpy as np
import tensorflow as tf

from kaleido_tf.serving import signatures

FOLDER = "assets.extra"
FILE_NAME = "tf_serving_warmup_requests"
MODEL_NAME = "kaleido"
_TEXT = "navy cotton shirt with a long sleeve"


def example_picture(height=400, width=300):
    """A JPEG of a block on a plain background: bytes."""
    rows, columns = np.mgrid[:height, :width]
    picture = np.full([height, width, 3], 240, np.uint8)
    inside = (abs(rows - height / 2) < height / 3) & (
        abs(columns - width / 2) < width / 4
    )
    picture[inside] = (30, 60, 120)
    return tf.io.encode_jpeg(picture, quality=95).numpy()


def example_inputs(specs, batch=1):
    """Valid inputs of a signature: dict name -> array.

    Args:
      specs: dict name -> tf.TensorSpec of the signature's inputs.
      batch: rows.
    """
    values = {
        "image_bytes": np.array([example_picture()] * batch, object),
        "text": np.array([_TEXT.encode()] * batch, object),
    }
    found = {name: values.get(name) for name in specs}
    if "patch_features" in specs:
        shape = [batch, *specs["patch_features"].shape[1:]]
        found["patch_features"] = np.random.default_rng(0).random(shape, np.float32)
    return found


def make_request(name, inputs, model_name=MODEL_NAME):
    """A PredictRequest of TensorFlow Serving's API.

    Args:
      name: of the signature.
      inputs: dict name -> array.
      model_name: as the server calls the model.
    """
    from tensorflow_serving.apis import predict_pb2

    request = predict_pb2.PredictRequest()
    request.model_spec.name = model_name
    request.model_spec.signature_name = name
    for key, value in inputs.items():
        request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
    return request


def write(model, version_dir):
    """Writes a request for each signature, as TensorFlow Serving looks for them.

    Args:
      model: `signatures.ServedModel`.
      version_dir: folder of the SavedModel.

    Returns:
      The number of requests.

    Raises:
      OSError: TensorFlow Serving's protos aren't installed.
    """
    try:
        from tensorflow_serving.apis import prediction_log_pb2
    except ImportError as error:
        raise OSError(
            "tensorflow-serving-api should be installed for the warm-up file. "
            "Received: no such package (in the project's folder: pip install -e "
            "'.[serving]')"
        ) from error
    os.makedirs(os.path.join(version_dir, FOLDER), exist_ok=True)
    path = os.path.join(version_dir, FOLDER, FILE_NAME)
    names = [name for name in model.signatures if name != signatures.DEFAULT]
    with tf.io.TFRecordWriter(path) as writer:
        for name in names:
            log = prediction_log_pb2.PredictionLog()
            specs = {s.name: s for s in model.signatures[name].input_signature}
            request = make_request(name, example_inputs(specs))
            log.predict_log.request.CopyFrom(request)
            writer.write(log.SerializeToString())
    return len(names)
