"""CLI: which angles a pre-trained run takes for which, on the validation split.

  python -m benchmarks.rotation_errors --data_dir=demo/data --run_dir=demo/run

Level 1 of every picture is turned by angles drawn as in training (matched pairs, texts
masked), and the head's answers are counted. A garment that is the same left and right,
turned by 90 degrees, is the mirror image of itself turned by 270; backbones are trained
on mirrored pictures too, and hardly tell these apart. How alike the features are is
printed besides.
"""

import numpy as np
import tensorflow as tf

from benchmarks import results_file
from kaleido_tf import cli
from kaleido_tf.data import records as records_lib
from kaleido_tf.data.dataset_info import DatasetInfo
from kaleido_tf.data.input_pipeline import PretrainingData
from kaleido_tf.data.tokenization import Tokenizer
from kaleido_tf.modeling import build_pretrainer
from kaleido_tf.training import checkpoints

ANGLES = (0, 90, 180, 270)
_MIRRORED = (1, 3)  # places of 90 and 270


def count_answers(model, data, serialized, draws=4):
    """What the rotation head answers.

    Args:
      model: pre-trainer.
      data: `PretrainingData`, with `mismatch_rate` 0.
      serialized: iterable of records, string [B].
      draws: times that every picture's angle is drawn.

    Returns:
      (int [4, 4]: angle that was, angle that was answered; dict category -> (right
      ones, all)).
    """
    counts, categories = np.zeros([4, 4], int), {}
    answer = tf.function(lambda inputs: model(inputs, training=False))
    spec = {"category": tf.io.FixedLenFeature([], tf.string, "")}
    for number, rows in enumerate(serialized):
        names = tf.io.parse_example(rows, spec)["category"].numpy()
        for draw in range(draws):
            seed = tf.constant([data.seed + draw, number])
            inputs, labels = data.make_batch(rows, seed)
            outputs = answer(inputs)["rotation_logits"]
            answers = np.argmax(np.reshape(outputs, [-1, 4]), axis=1)
            angles = np.reshape(labels["rotation_labels"], [-1])
            np.add.at(counts, (angles, answers), 1)
            for name, right in zip(names, answers == angles, strict=True):
                before = categories.get(name.decode(), (0, 0))
                categories[name.decode()] = before[0] + int(right), before[1] + 1
    return counts, categories


def angle_cosines(features):
    """Mean cosines of pictures' features at the four angles: float [4, 4].

    Args:
      features: float [N, 4, F]; the mean of all is taken off first.
    """
    centred = features - features.mean(axis=(0, 1))
    unit = centred / np.linalg.norm(centred, axis=-1, keepdims=True)
    return np.einsum("nif,njf->ij", unit, unit) / len(unit)


def level_1_features(serialized, shapes):
    """Level 1 of every picture at the four angles: float32 [N, 4, F].

    Args:
      serialized: iterable of records, string [B].
      shapes: `RecordShapes` of the data set.
    """
    found = []
    for rows in serialized:
        batch = records_lib.decode_records(rows, shapes)
        upright = batch["patch_features"][:, :1]
        found.append(tf.concat([upright, batch["rotated_features"]], 1).numpy())
    return np.concatenate(found)


def summary(counts):
    """dict: accuracy, errors, and the share of these between 90 and 270 degrees."""
    right, total = int(np.trace(counts)), int(counts.sum())
    mirrored = int(counts[_MIRRORED] + counts[_MIRRORED[::-1]])
    return {
        "accuracy": right / total,
        "errors": total - right,
        "between_90_and_270": mirrored / max(total - right, 1),
    }


def format_table(counts, categories, cosines):
    """The figures as lines of text, the worst category first."""
    found = summary(counts)
    lines = ["turned by   answered " + "".join(f"{a:>7}" for a in ANGLES)]
    for angle, row in zip(ANGLES, counts, strict=True):
        lines.append(f"{angle:>9}" + " " * 12 + "".join(f"{n:>7}" for n in row))
    lines.append(
        f"right: {found['accuracy']:.1%}; {found['errors']} errors, "
        f"{found['between_90_and_270']:.0%} of them between 90 and 270"
    )
    lines += ["cosines of level 1's features at two angles"]
    for angle, row in zip(ANGLES, cosines, strict=True):
        lines.append(f"{angle:>9}" + " " * 12 + "".join(f"{c:7.2f}" for c in row))
    shares = {name: right / total for name, (right, total) in categories.items()}
    for name in sorted(shares, key=shares.get):
        lines.append(f"{name or '(no category)':24}{shares[name]:>8.1%}")
    return "\n".join(lines)


def run(settings):
    """Measures with a dict of flags; prints a table, returns what --output holds."""
    info = DatasetInfo.load(settings["data_dir"])
    prefix = checkpoints.checkpoint_prefix(settings["run_dir"])
    config = checkpoints.run_config(prefix)
    model = build_pretrainer(config)
    checkpoints.load_weights(model, prefix)
    tokenizer = Tokenizer.from_file(info.vocab_file)
    data = PretrainingData(
        info, tokenizer, config, settings["batch_size"], mismatch_rate=0.0
    )
    records = tf.data.TFRecordDataset(info.shard_paths("validation"))
    batches = records.batch(settings["batch_size"])
    counts, categories = count_answers(model, data, batches, settings["draws"])
    cosines = angle_cosines(level_1_features(batches, info.shapes))
    print(format_table(counts, categories, cosines))
    content = {"checkpoint": prefix, "counts": counts.tolist(), **summary(counts)}
    content |= {"cosines": cosines.tolist(), "categories": categories}
    results_file.write(content, settings["output"])
    return content


def flag_page():
    """The command's flags; defined on the call, so that importing defines none."""
    page = cli.FlagPage("Counts which angles a run takes for which.")
    page.string("data_dir", None, "Prepared data set.", required=True)
    page.string("run_dir", None, "Pre-training run or checkpoint.", required=True)
    page.integer("batch_size", 128, "Pictures at once.", lower_bound=2)
    page.integer("draws", 4, "Times that a picture's angle is drawn.", lower_bound=1)
    page.string("output", None, "JSON file for the figures.")
    return page


if __name__ == "__main__":
    _PAGE = flag_page()
    cli.run(lambda: run(_PAGE.values()), _PAGE)
