"""Answers requests with an export where kaleido_tf can't be imported.

  python load_alone.py VERSION_FOLDER REQUESTS.npz ANSWERS.npz

The keys of both files are SIGNATURE/NAME.
"""

import sys

# Only TensorFlow and tensorflow-text: whatever else the export needed would fail.
for name in ("kaleido_tf", "data_prep", "tf_keras", "official", "cv2"):
    sys.modules[name] = None

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
import tensorflow_text  # noqa: E402, F401

# Its work on the graphs takes longer than the few answers.
tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


def main(folder, requests, answers):
    signatures = tf.saved_model.load(folder).signatures
    given, found = {}, {}
    for key, value in np.load(requests, allow_pickle=True).items():
        signature, name = key.split("/")
        given.setdefault(signature, {})[name] = tf.constant(value.tolist())
    for signature, inputs in given.items():
        for name, value in signatures[signature](**inputs).items():
            found[f"{signature}/{name}"] = value.numpy()
    np.savez(answers, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
