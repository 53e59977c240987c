"""CLI: how fast the matcher scores pairs, and what trimmed texts save.

One model of the chosen size with random weights, the real text lengths of a prepared
data set (or word counts drawn around a mean), random patches. In each of float32 and
bfloat16 three arms score the same pairs: the whole model on texts padded to 64, the
same on batches trimmed to their longest text, and the scorer that evaluation uses; it
besides computes patch embeddings once an image and only position 0 of the last layer.

The arms take turns batch by batch, so whatever else the machine does slows them alike:
what is to be believed are the ratios of their medians.
"""

import time

import numpy as np
import tensorflow as tf
import tf_keras
from absl import logging

from benchmarks import results_file
from kaleido_tf import cli
from kaleido_tf.config import PRESETS, KaleidoConfig
from kaleido_tf.data import candidate_lists
from kaleido_tf.data.dataset_info import DatasetInfo
from kaleido_tf.data.tokenization import Tokenizer
from kaleido_tf.modeling import build_matcher
from kaleido_tf.tasks import retrieval, scoring
from kaleido_tf.tasks.matcher_parts import MatcherParts
from kaleido_tf.training import distribution

PADDED = "padded"
ARMS = (PADDED, "trimmed", "scorer")
_TITLES = {
    PADDED: "padded to {}",
    "trimmed": "trimmed to the longest",
    "scorer": "trimmed, embedded once, last layer cut",
}
_MEAN_PIECES = 30


def draw_lengths(settings, count):
    """Pieces of `count` texts with [CLS] and [SEP]: int [count], and where from.

    Those of the data set's validation texts, in random order; without a data set drawn
    from a Poisson distribution.
    """
    rng = np.random.default_rng(settings["seed"])
    if not settings["data_dir"]:
        lengths = 2 + rng.poisson(_MEAN_PIECES - 2, count)
        source = f"Poisson, mean {_MEAN_PIECES}"
    else:
        info = DatasetInfo.load(settings["data_dir"])
        items = candidate_lists.read_items(info, settings["split"])
        texts = tf.constant([item.text for item in items if item.text.strip()])
        tokens = Tokenizer.from_file(info.vocab_file).encode(
            texts, settings["text_length"]
        )
        lengths = rng.choice(tokens["input_mask"].numpy().sum(axis=1), count)
        source = f"{settings['data_dir']}, {settings['split']}"
    return np.minimum(lengths, settings["text_length"]), source


class _FakeSplit:
    """As much of a `RetrievalSplit` as scoring needs: texts of ids, random patches."""

    def __init__(self, config, lengths, seed):
        rng, size = np.random.default_rng(seed), len(lengths)
        self._lengths = lengths
        self._ids = rng.integers(5, config.vocab_size, (size, config.text_length))
        shape = (size, config.num_patches, config.patch_feature_size)
        self.patch_features = rng.random(shape, np.float32).astype(np.float16)
        self.patch_locations = rng.random((*shape[:2], 5), np.float32)

    def __len__(self):
        return len(self._lengths)

    def text_inputs(self, tokenizer, text_length):
        """All texts padded to `text_length`."""
        del tokenizer
        mask = np.arange(text_length)[None] < self._lengths[:, None]
        ids = (self._ids * mask).astype(np.int32)
        return {
            "input_word_ids": ids,
            "input_mask": mask.astype(np.int32),
            "input_type_ids": np.zeros_like(ids),
        }


def make_arms(config, split, lengths, batch_size):
    """Functions of a batch's places -> scores, by arm; each with the model's weights.

    Args:
      config: `KaleidoConfig`.
      split: `_FakeSplit`.
      lengths: int [n], pieces of the n texts.
      batch_size: pairs a pass.
    """
    matcher = build_matcher(config)
    embedded = retrieval.EmbeddedSplit(MatcherParts(matcher, config), split, None, 64)
    texts = split.text_inputs(None, config.text_length)
    scorer = retrieval.PairScorer(embedded, batch_size)
    # A text's length is free: one trace serves them all.
    signature = {
        key: tf.TensorSpec([batch_size, *value.shape[1:]], value.dtype, name=key)
        for key, value in matcher.input.items()
    }
    whole = tf.function(
        lambda inputs: matcher(inputs, training=False)["itm_logits"],
        input_signature=[signature],
    )

    def model(places, length):
        inputs = {key: array[places, :length] for key, array in texts.items()}
        inputs["patch_features"] = split.patch_features[places].astype(np.float32)
        inputs["patch_locations"] = split.patch_locations[places]
        logits = whole({k: tf.convert_to_tensor(v) for k, v in inputs.items()}).numpy()
        return logits[:, 1] - logits[:, 0]

    return {
        PADDED: lambda places: model(places, config.text_length),
        "trimmed": lambda places: model(places, scoring.trimmed(lengths[places])),
        "scorer": lambda places: scorer.score(places, places),
    }


def measure(arms, batches):
    """Seconds and scores of every arm on every batch, after one batch to warm up.

    Args:
      arms: dict name -> function of places.
      batches: list of int arrays, the places of a batch's pairs.

    Returns:
      (dict arm -> float [batches] seconds, dict arm -> largest difference of its scores
      from those of the padded arm).
    """
    seconds = {name: [] for name in arms}
    apart = dict.fromkeys(arms, 0.0)
    for arm in arms.values():
        arm(batches[0])
    for number, places in enumerate(batches):
        scores = {}
        for name, arm in arms.items():
            start = time.perf_counter()
            scores[name] = arm(places)
            seconds[name].append(time.perf_counter() - start)
            difference = float(abs(scores[name] - scores[PADDED]).max())
            apart[name] = max(apart[name], difference)
        logging.info("batch %d of %d", number + 1, len(batches))
    return {name: np.array(each) for name, each in seconds.items()}, apart


def run(settings):
    """Measures every arm in every precision.

    Args:
      settings: dict of the command's flags.

    Returns:
      dict: text lengths, and a row per precision and arm with pairs_per_second,
      speedup (median over batches of the padded arm's seconds by this one's) and
      difference (largest, of log-odds). The table is printed.

    Raises:
      ValueError: scores in float32 that differ by more than 1e-3.
    """
    count = settings["batch_size"] * settings["num_batches"]
    lengths, source = draw_lengths(settings, count)
    lengths = np.sort(lengths)[::-1]  # as the scorer sorts the pairs of a list
    batches = np.split(np.arange(count), settings["num_batches"])
    rows = []
    for precision in settings["precisions"]:
        rows += _measure_precision(settings, precision, lengths, batches)
    content = {
        "model": settings["model"],
        "batch_size": settings["batch_size"],
        "num_batches": settings["num_batches"],
        "text_length": settings["text_length"],
        "pieces": {
            "source": source,
            "mean": float(lengths.mean()),
            "longest": int(lengths.max()),
        },
        "rows": rows,
    }
    print(format_table(content))
    results_file.write(content, settings["output"])
    exact = [row["difference"] for row in rows if row["precision"] == "float32"]
    if (worst := max(exact, default=0.0)) > 1e-3:
        raise ValueError(f"The arms' scores should be the same. Received: {worst} off")
    return content


def _measure_precision(settings, precision, lengths, batches):
    """The rows of one precision."""
    distribution.set_precision(precision)
    tf_keras.utils.set_random_seed(settings["seed"])
    config = KaleidoConfig.preset(
        settings["model"],
        text_length=settings["text_length"],
        patch_feature_size=settings["feature_size"],
    )
    split = _FakeSplit(config, lengths, settings["seed"])
    arms = make_arms(config, split, lengths, settings["batch_size"])
    seconds, apart = measure(arms, batches)
    distribution.set_precision("float32")
    return [
        {
            "precision": precision,
            "arm": name,
            "pairs_per_second": settings["batch_size"] / float(np.median(each)),
            "speedup": float(np.median(seconds[PADDED] / each)),
            "difference": apart[name],
        }
        for name, each in seconds.items()
    ]


def format_table(content):
    """The rows as lines of text."""
    pieces = content["pieces"]
    lines = [
        f"{content['model']}, {content['num_batches']} batches of "
        f"{content['batch_size']}; texts of {pieces['mean']:.1f} pieces on average, "
        f"{pieces['longest']} at most ({pieces['source']})",
        f"{'':16}  {'':40}  pairs/s  x padded  difference",
    ]
    first = {row["precision"]: row for row in content["rows"] if row["arm"] == PADDED}
    for row in content["rows"]:
        title = _TITLES[row["arm"]].format(content["text_length"])
        lines.append(
            f"{row['precision']:16}  {title:40}  {row['pairs_per_second']:7.1f}  "
            f"{row['speedup']:8.2f}  {row['difference']:.1e}"
        )
    if len(first) == 2:
        one, other = first.values()
        ratio = other["pairs_per_second"] / one["pairs_per_second"]
        lines.append(f"{other['precision']} / {one['precision']}, padded: {ratio:.2f}")
    lines.append(
        "Median over batches, the arms in turns. The scorer's patch embeddings are "
        "computed before the clock: once an image, whatever the number of its pairs."
    )
    return "\n".join(lines)


def flag_page():
    """The command's flags; defined on the call, so that importing defines none."""
    page = cli.FlagPage("Pairs a second of the matcher, trimmed against padded texts.")
    page.heading("Texts")
    page.string(
        "data_dir",
        None,
        "Prepared data set, for the lengths of its texts. Default: drawn lengths, "
        f"{_MEAN_PIECES} pieces on average.",
    )
    page.string("split", "validation", "Which of its records.")
    page.integer("text_length", 64, "What padding pads to, pieces.", lower_bound=3)
    page.heading("Model")
    page.enum("model", "base", list(PRESETS), "Size; the weights are random.")
    page.integer("feature_size", 2048, "Numbers per patch.", lower_bound=1)
    page.list(
        "precisions", ["float32", "mixed_bfloat16"], "Number formats, comma-separated."
    )
    page.heading("Measurement")
    page.integer("batch_size", 16, "Pairs a pass.", lower_bound=1)
    page.integer("num_batches", 5, "Batches that are timed.", lower_bound=1)
    page.integer("seed", 0, "Of weights, texts and patches.")
    page.string("output", None, "JSON file for the figures.")
    return page


if __name__ == "__main__":
    _PAGE = flag_page()
    cli.run(lambda: run(_PAGE.values()), _PAGE)
