"""CLI: a small server of an export, where TensorFlow Serving isn't at hand.

  python -m kaleido_tf.serving.server --model_dir=served --port=8500 --rest_port=8501

Speaks TensorFlow Serving's PredictionService (Predict, GetModelMetadata) over gRPC and
of its REST form predict and the model's status, so that a client of these needs no
change. Needs tensorflow-serving-api. It serves one version and doesn't batch requests
of several clients; see docs/serving.md.
"""

import concurrent.futures
import math
import os
import signal

import grpc
import tensorflow as tf
from absl import logging
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from kaleido_tf import cli
from kaleido_tf.serving import loaded, rest

MODEL_NAME = "kaleido"
_CODES = {code.value[0]: code for code in grpc.StatusCode}
_MOST_ALIKE = 1 << 20  # values that one may stand for
_VALUES = [
    f.name for f in tensor_pb2.TensorProto.DESCRIPTOR.fields if f.name.endswith("_val")
]
_MOST_MB = 2047  # gRPC counts bytes in 32 bits


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """TensorFlow Serving's service around a `loaded.LoadedModel`."""

    def __init__(self, model, name=MODEL_NAME):
        self._model, self._name = model, name

    def Predict(self, request, context):  # noqa: N802 (the protocol's name)
        return _answered(context, self._predict, request)

    def GetModelMetadata(self, request, context):  # noqa: N802
        return _answered(context, self._metadata, request)

    def _predict(self, request):
        check_spec(request.model_spec, self._model, self._name)
        inputs = {key: _array(key, proto) for key, proto in request.inputs.items()}
        name = request.model_spec.signature_name
        outputs = self._model.predict(name, inputs)
        response = predict_pb2.PredictResponse()
        self._fill(response.model_spec, name or loaded.DEFAULT)
        wanted = list(request.output_filter) or list(outputs)
        if unknown := sorted(set(wanted) - set(outputs)):
            raise loaded.RequestError(
                tf.errors.INVALID_ARGUMENT,
                f"`output_filter` should name outputs out of {sorted(outputs)}. "
                f"Received: {unknown}",
            )
        for key in wanted:
            response.outputs[key].CopyFrom(tf.make_tensor_proto(outputs[key]))
        return response

    def _metadata(self, request):
        check_spec(request.model_spec, self._model, self._name)
        if list(request.metadata_field) != ["signature_def"]:
            raise loaded.RequestError(
                tf.errors.INVALID_ARGUMENT,
                "`metadata_field` should be ['signature_def']. Received: "
                f"{list(request.metadata_field)}",
            )
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        self._fill(response.model_spec, "")
        response.metadata["signature_def"].Pack(signature_map(self._model.path))
        return response

    def _fill(self, spec, signature):
        spec.name, spec.signature_name = self._name, signature
        spec.version.value = self._model.version


def check_spec(spec, model, name):
    """RequestError where a request is for another model or version."""
    other = spec.HasField("version") and spec.version.value != model.version
    if spec.name != name or other:
        asked = f"{spec.name!r}" + (f" version {spec.version.value}" if other else "")
        raise loaded.RequestError(
            tf.errors.NOT_FOUND,
            f"`model_spec` should be of {name!r} version {model.version}. Received: "
            f"{asked}",
        )


def _array(name, proto):
    try:
        _check_whole(proto)
        return tf.make_ndarray(proto)
    except (TypeError, ValueError, OverflowError) as error:
        raise loaded.RequestError(
            tf.errors.INVALID_ARGUMENT,
            f"`{name}` should be a whole TensorProto. Received one that can't be read: "
            f"{error}",
        ) from error


def _check_whole(proto):
    """ValueError where a TensorProto claims more values than it carries.

    One value may stand for many alike, which TensorFlow would write out: a few bytes
    would take any amount of memory.
    """
    sizes = [d.size for d in proto.tensor_shape.dim]
    claimed = math.prod(sizes)
    if proto.tensor_shape.unknown_rank or min(sizes, default=0) < 0:
        raise ValueError(f"a shape of {sizes}")
    if proto.tensor_content:
        carried = len(proto.tensor_content) // tf.as_dtype(proto.dtype).size
    else:
        carried = max(len(getattr(proto, name)) for name in _VALUES)
    if claimed > max(carried, _MOST_ALIKE):
        raise ValueError(f"{carried} values for a shape of {sizes}")


def _answered(context, answer, request):
    """The answer; an error ends this call alone, with the code of what is wrong."""
    try:
        return answer(request)
    except loaded.RequestError as error:
        context.abort(_CODES[error.code], error.message)
    except Exception:  # whatever it is, it is this request's alone
        logging.exception("a request failed")
        context.abort(grpc.StatusCode.INTERNAL, "the server failed; its log says how")


def signature_map(path):
    """The signatures of a SavedModel as GetModelMetadata gives them."""
    with open(os.path.join(path, "saved_model.pb"), "rb") as file:
        saved = saved_model_pb2.SavedModel.FromString(file.read())
    result = get_model_metadata_pb2.SignatureDefMap()
    for name, definition in saved.meta_graphs[0].signature_def.items():
        result.signature_def[name].CopyFrom(definition)
    return result


def start(model, port, name=MODEL_NAME, workers=4, max_message_mb=64, host=""):
    """Starts the gRPC server.

    Args:
      model: `loaded.LoadedModel`.
      port: 0 takes a free one.
      name: of the model, for clients.
      workers: requests that are answered at once.
      max_message_mb: larger requests and answers are refused.
      host: address that it listens on; "" for every one of the machine's.

    Returns:
      (grpc.Server, the port). OSError where the address can't be had.
    """
    size = max_message_mb << 20
    server = grpc.server(
        concurrent.futures.ThreadPoolExecutor(workers),
        options=[
            ("grpc.max_receive_message_length", size),
            ("grpc.max_send_message_length", size),
            ("grpc.so_reuseport", 0),  # a port that is taken is an error
        ],
    )
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        PredictionService(model, name), server
    )
    try:
        bound = server.add_insecure_port(f"{host or '[::]'}:{port}")
    except RuntimeError as error:
        raise OSError(
            f"`host` should be this machine's and `port` free. Received: {host!r}, "
            f"{port} ({error})"
        ) from error
    server.start()
    return server, bound


def flag_page():
    """The command's flags; defined on the call, so that importing defines none."""
    page = cli.FlagPage("Serves an export by TensorFlow Serving's protocols.")
    page.string("model_dir", None, "Folder of an export's versions.", required=True)
    page.integer("port", 8500, "Of gRPC.", lower_bound=0, upper_bound=65535)
    page.integer("rest_port", 0, "Of REST; 0: none.", lower_bound=0, upper_bound=65535)
    page.string(
        "host",
        "",
        "Address to listen on, such as 127.0.0.1. There is neither encryption nor a "
        "log-in.",
        shown_default="every address of the machine",
    )
    page.string("model_name", MODEL_NAME, "What clients call the model.")
    page.integer(
        "workers", 4, "Requests answered at once, by gRPC and by REST.", lower_bound=1
    )
    page.integer(
        "max_message_mb",
        64,
        "Larger requests are refused, MB.",
        lower_bound=1,
        upper_bound=_MOST_MB,
    )
    page.integer(
        "max_rows",
        loaded.MAX_ROWS,
        "Requests of more pictures, texts or features are refused.",
        lower_bound=1,
    )
    return page


def main(settings):
    """Serves until it is stopped, by Ctrl-C or SIGTERM."""
    model = loaded.LoadedModel(settings["model_dir"], settings["max_rows"])
    logging.info("%d warm-up requests answered", model.warm_up())
    name, limit = settings["model_name"], settings["max_message_mb"]
    workers, host = settings["workers"], settings["host"]
    server, port = start(model, settings["port"], name, workers, limit, host)
    print(f"gRPC on port {port}: {name} version {model.version}", flush=True)
    if settings["rest_port"]:
        _, rest_port = rest.start(
            model, settings["rest_port"], name, limit, workers, host
        )
        print(f"REST on port {rest_port}", flush=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        server.wait_for_termination()
    except KeyboardInterrupt:
        server.stop(grace=5).wait()


if __name__ == "__main__":
    _PAGE = flag_page()
    cli.run(lambda: main(_PAGE.values()), _PAGE)
