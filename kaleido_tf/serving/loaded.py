"""An export that answers requests, without the code that made it.

TensorFlow and tensorflow-text are all it takes: nothing of `kaleido_tf` is needed to
load an export, nor by a client.
"""

import os
import re

import numpy as np
import tensorflow as tf
import tensorflow_text  # noqa: F401  (registers the ops of the exported tokenizer)

DEFAULT = "serving_default"
MAX_ROWS = 1024  # of a server's request: their features are 290 MB
WARMUP = os.path.join("assets.extra", "tf_serving_warmup_requests")


class RequestError(Exception):
    """What is wrong with a request.

    Attributes:
      code: TensorFlow's error code, which is gRPC's too: int.
      message: str.
    """

    def __init__(self, code, message):
        super().__init__(message)
        self.code, self.message = code, message


def newest_version(model_dir):
    """(number, folder) of the newest version of an export.

    Args:
      model_dir: folder of numbered versions.

    Raises:
      FileNotFoundError: there is none.
    """
    names = os.listdir(model_dir) if os.path.isdir(model_dir) else []
    found = [
        (int(name), os.path.join(model_dir, name))
        for name in names
        if name.isdigit()
        and os.path.isfile(os.path.join(model_dir, name, "saved_model.pb"))
    ]
    if not found:
        raise FileNotFoundError(
            "`model_dir` should hold numbered versions, as `python -m "
            f"kaleido_tf.serving.export` writes them. Received: {model_dir}"
        )
    return max(found)


class LoadedModel:
    """The newest version of an export.

    Args:
      model_dir: folder of numbered versions.
      max_rows: requests with an input of more rows are refused; None: none is. A
        request's features are held together, and no request is stopped.

    Attributes:
      version: int.
      path: its folder.
      signatures: dict name -> concrete function.
    """

    def __init__(self, model_dir, max_rows=None):
        self._max_rows = max_rows
        self.version, self.path = newest_version(os.fspath(model_dir))
        self._model = tf.saved_model.load(self.path)  # keeps its variables alive
        self.signatures = dict(self._model.signatures)

    def specs(self, name):
        """Inputs of a signature: dict name -> tf.TensorSpec."""
        name = name or DEFAULT
        if not isinstance(name, str) or name not in self.signatures:
            raise RequestError(
                tf.errors.FAILED_PRECONDITION,
                f"`signature_name` should be one of {sorted(self.signatures)}. "
                f"Received: {name!r} (an export has the signatures of the checkpoints "
                "that it was made from)",
            )
        return dict(self.signatures[name].structured_input_signature[1])

    def predict(self, name, inputs):
        """Answers a request.

        Args:
          name: of the signature; "": the default one.
          inputs: dict name -> array; strings are object arrays of bytes.

        Returns:
          dict name -> numpy array.

        Raises:
          RequestError: what is wrong with it.
        """
        specs = self.specs(name)
        if set(specs) != set(inputs):
            raise RequestError(
                tf.errors.INVALID_ARGUMENT,
                f"The inputs of {name or DEFAULT} should be {sorted(specs)}. "
                f"Received: {sorted(inputs)}",
            )
        tensors = {key: _tensor(key, inputs[key], spec) for key, spec in specs.items()}
        self._check_rows(tensors)
        try:
            found = self.signatures[name or DEFAULT](**tensors)
        except tf.errors.OpError as error:
            raise RequestError(error.error_code, plain_message(error)) from error
        return {key: np.asarray(value.numpy()) for key, value in found.items()}

    def _check_rows(self, tensors):
        rows = {key: int(t.shape[0]) for key, t in tensors.items() if t.shape.rank}
        if self._max_rows and max(rows.values(), default=0) > self._max_rows:
            raise RequestError(
                tf.errors.INVALID_ARGUMENT,
                f"A request should have at most {self._max_rows} rows (--max_rows). "
                f"Received: {rows} (ask in several requests)",
            )

    def warm_up(self):
        """Replays the export's warm-up requests; returns how many there are."""
        from tensorflow_serving.apis import prediction_log_pb2

        path, count = os.path.join(self.path, WARMUP), 0
        if not os.path.exists(path):
            return count
        for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
            log = prediction_log_pb2.PredictionLog.FromString(record)
            request = log.predict_log.request
            inputs = {k: tf.make_ndarray(v) for k, v in request.inputs.items()}
            self.predict(request.model_spec.signature_name, inputs)
            count += 1
        return count


def _tensor(name, value, spec):
    """An input as a tensor; RequestError where it has another type or shape."""
    value = np.asarray(value)
    is_text = value.dtype == object or value.dtype.kind in "SU"
    kind = tf.string if is_text else tf.as_dtype(value.dtype)
    if kind != spec.dtype or not spec.shape.is_compatible_with(value.shape):
        raise RequestError(
            tf.errors.INVALID_ARGUMENT,
            f"`{name}` should be {spec.dtype.name} {_shape(spec.shape)}. Received: "
            f"{kind.name} {list(value.shape)}",
        )
    if spec.dtype.is_floating and not np.isfinite(value).all():
        raise RequestError(
            tf.errors.INVALID_ARGUMENT,
            f"`{name}` should be finite numbers. Received: NaN or infinity among them",
        )
    return tf.constant(value, spec.dtype)


def _shape(shape):
    return "[" + ", ".join("n" if d is None else str(d) for d in shape) + "]"


def plain_message(error):
    """What the graph's own check says; of another error TensorFlow's first line."""
    found = re.search(r"assertion failed: \[(.*)\]", error.message)
    if found:
        return found[1]
    return error.message.split("\n")[0]
