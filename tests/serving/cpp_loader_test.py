"""The C++ loader that TensorFlow Serving is built on takes the export and answers."""

import glob
import os
import shutil
import subprocess

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_text

from kaleido_tf.serving import server

SOURCE = os.path.join(os.path.dirname(__file__), "load_saved_model.cc")
TEXT = "Navy shirt. Long sleeve"


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """The compiled loader."""
    if shutil.which("g++") is None:
        pytest.skip("no g++ to compile the loader with")
    package = os.path.dirname(tf.__file__)
    if not os.path.exists(os.path.join(package, "libtensorflow_cc.so.2")):
        pytest.skip("this TensorFlow has no libtensorflow_cc.so.2")
    path = str(tmp_path_factory.mktemp("cpp") / "load_saved_model")
    libraries = ["-l:libtensorflow_cc.so.2", "-l:libtensorflow_framework.so.2"]
    command = ["g++", SOURCE, "-o", path, *tf.sysconfig.get_compile_flags()]
    # Nothing of the program's own names the library of kernels: it has to stay linked.
    command += [f"-L{package}", "-Wl,--no-as-needed", *libraries]
    done = subprocess.run(
        [*command, f"-Wl,-rpath,{package}"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return path


def text_libraries():
    """The op libraries of tensorflow-text, which TensorFlow Serving has linked in."""
    folder = os.path.dirname(tensorflow_text.__file__)
    return sorted(glob.glob(os.path.join(folder, "python", "ops", "*.so")))


def test_it_answers_as_python_does(program, exported, workshop, ask, tmp_path):
    picture = tmp_path / "picture.jpg"
    picture.write_bytes(workshop.pictures["v1"])
    signatures = server.signature_map(exported).signature_def
    match = signatures["serving_default"]
    names = [match.inputs[key].name for key in ("image_bytes", "text")]
    names.append(match.outputs["margin"].name)
    names.append(signatures["info"].outputs["info_json"].name)
    done = subprocess.run(
        [program, exported, str(picture), TEXT, *names, *text_libraries()],
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [line.split(" ", 1) for line in done.stdout.splitlines() if " " in line]
    found = [float(value) for key, value in lines if key == "margin"]
    expected = ask("match", image_bytes=[workshop.pictures["v1"]], text=[TEXT, ""])
    np.testing.assert_allclose(found, expected["margin"], atol=1e-4)
    others = {key: value for key, value in lines if key != "margin"}
    assert int(others["info"]) > 1000
    assert others["refused"].startswith(str(tf.errors.INVALID_ARGUMENT))
    assert "image_bytes[1]: the JPEG is truncated or damaged" in others["refused"]
