"""CLI: what the key/value cache saves a beam search for captions.

One captioner of the chosen size with random weights and random patches, [SEP] so
unlikely that every search goes to its end. Two arms in turns, so that whatever else the
machine does slows them alike: with the cache, and with the whole sequence of text and
patches computed at every step (there, too, words are predicted at the last place
alone). What is to be believed is the ratio.
"""

import dataclasses
import os
import platform
import time
import types

import numpy as np
import tensorflow as tf
import tf_keras
from absl import logging

from benchmarks import results_file
from kaleido_tf import cli
from kaleido_tf.config import PRESETS, KaleidoConfig
from kaleido_tf.modeling import build_captioner
from kaleido_tf.modeling.decoding import QUESTIONS, CaptionDecoder, DecodingSettings
from kaleido_tf.training import distribution

_SHOWN = (
    "model",
    "precision",
    "objective",
    "batch_size",
    "beam_size",
    "max_length",
    "repeats",
)
_NEVER_ENDS = -1e4  # bias of [SEP]


def make_decoders(settings):
    """The decoders and the images they read.

    Returns:
      (dict name -> `CaptionDecoder`, (patch_features, patch_locations)). The names:
      "cached" up to `max_length`; "whole" without a cache up to `whole_length`; and
      "cached_short" to compare with it, where that is less.
    """
    distribution.set_precision(settings["precision"])
    tf_keras.utils.set_random_seed(settings["seed"])
    config = KaleidoConfig.preset(
        settings["model"],
        text_length=settings["max_length"] + 1,
        patch_feature_size=settings["feature_size"],
    )
    captioner = build_captioner(config)
    tokenizer = types.SimpleNamespace(
        **{"pad_id": 0, "unknown_id": 1, "cls_id": 2, "sep_id": 3, "mask_id": 4},
        special_ids=np.arange(5),
        vocab_size=config.vocab_size,
    )
    bias = captioner.get_layer("mlm_head").bias
    bias.assign(_NEVER_ENDS * tf.one_hot(tokenizer.sep_id, config.vocab_size))
    cached = DecodingSettings(
        objective=settings["objective"],
        beam_size=settings["beam_size"],
        max_length=settings["max_length"],
    )
    short = dataclasses.replace(cached, max_length=whole_length(settings))
    whole = dataclasses.replace(short, use_cache=False)
    arms = {"cached": cached, "whole": whole}
    if short != cached:
        arms["cached_short"] = short
    decoders = {
        name: CaptionDecoder(captioner, config, tokenizer, arm)
        for name, arm in arms.items()
    }
    rng = np.random.default_rng(settings["seed"])
    shape = settings["batch_size"], config.num_patches
    images = (
        tf.constant(rng.random((*shape, config.patch_feature_size), np.float32)),
        tf.constant(rng.random((*shape, 5), np.float32)),
    )
    return decoders, images


def whole_length(settings):
    return min(
        settings["whole_length"] or settings["max_length"], settings["max_length"]
    )


def measure(decoders, images, repeats):
    """Seconds of every decoder, in turns, after one image to warm up.

    Returns:
      (dict name -> float [repeats, 2], seconds by the clock and of the processors;
      dict name -> its captions).
    """
    seconds, captions = {name: [] for name in decoders}, {}
    for decoder in decoders.values():
        decoder.decode(*(x[:1] for x in images))
    for repeat in range(repeats):
        for name, decoder in decoders.items():
            start = time.perf_counter(), time.process_time()
            results = decoder.decode(*images)
            captions[name] = {key: value.numpy() for key, value in results.items()}
            stop = time.perf_counter(), time.process_time()
            seconds[name].append(np.subtract(stop, start))
            took = seconds[name][-1][0]
            logging.info("%s, %d of %d: %.1f s", name, repeat + 1, repeats, took)
    return {name: np.array(each) for name, each in seconds.items()}, captions


def summarize(settings, seconds, captions):
    """What `run` returns, of what `measure` gave."""
    medians = {name: np.median(each, axis=0) for name, each in seconds.items()}
    # A step's work grows with the positions before it, so that a shorter search scaled
    # by its steps is a lower bound of what the long one takes.
    whole = medians["whole"] * settings["max_length"] / whole_length(settings)
    speedup = whole / medians["cached"]
    one, other = captions.get("cached_short", captions["cached"]), captions["whole"]
    same = np.all(one["caption_ids"] == other["caption_ids"], axis=-1)
    apart = np.abs(one["caption_scores"] / other["caption_scores"] - 1)
    return {
        **{key: settings[key] for key in _SHOWN},
        "whole_length": whole_length(settings),
        "seconds": {"cached": medians["cached"].tolist(), "whole": whole.tolist()},
        "speedup": float(speedup[0]),
        "speedup_processor": float(speedup[1]),
        "same_captions": float(same.mean()),
        "score_difference": float(apart.max()),
        "environment": environment(),
    }


def run(settings):
    """Measures both arms and prints the table.

    Args:
      settings: dict of the command's flags.

    Returns:
      dict: sizes, `seconds` (medians by the clock and of the processors), `speedup`,
      `speedup_processor`, `same_captions` (share), `score_difference` (largest,
      relative), environment.

    Raises:
      ValueError: float32 captions that differ, or a speedup below `at_least`.
    """
    seconds, captions = measure(*make_decoders(settings), settings["repeats"])
    content = summarize(settings, seconds, captions)
    print(format_table(content))
    results_file.write(content, settings["output"])
    _check(content, settings)
    return content


def environment():
    """What the figures depend on besides the settings: dict."""
    return {
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "processors": os.cpu_count(),
        "gpus": len(tf.config.list_physical_devices("GPU")),
        "machine": platform.machine(),
    }


def _check(content, settings):
    if settings["precision"] == "float32" and content["score_difference"] > 1e-4:
        raise ValueError(
            "Scores with and without the cache should be the same. Received: "
            f"{content['score_difference']} off"
        )
    if content["speedup"] < settings["at_least"]:
        raise ValueError(
            f"The cache should be at least {settings['at_least']} x as fast. "
            f"Received: {content['speedup']:.1f}"
        )


def format_table(content):
    """The figures as lines of text."""
    short = content["whole_length"] < content["max_length"]
    bound = "at least " if short else ""
    rows = [
        ("with the cache", content["seconds"]["cached"], ""),
        ("whole sequence every step", content["seconds"]["whole"], bound),
    ]
    lines = [
        f"{content['model']}, {content['precision']}, {content['objective']}: beam "
        f"{content['beam_size']}, batch {content['batch_size']}, "
        f"{content['max_length']} tokens; medians of {content['repeats']}",
        f"{'':26}  seconds  processor seconds  captions/s",
    ]
    for title, (clock, processor), note in rows:
        rate = content["batch_size"] / clock
        line = f"{title:26}  {clock:7.1f}  {processor:17.1f}  {rate:10.2f}  {note}"
        lines.append(line.rstrip())
    lines += [
        f"{bound}{content['speedup']:.1f} x as fast "
        f"({content['speedup_processor']:.1f} x by processor time)",
        f"captions the same: {content['same_captions']:.0%}; scores "
        f"{content['score_difference']:.1e} apart, relatively",
    ]
    if short:
        lines.append(
            f"The whole sequence was searched up to {content['whole_length']} tokens; "
            f"its seconds up to {content['max_length']} are scaled by steps, and later "
            "steps take longer."
        )
    lines.append(", ".join(f"{k} {v}" for k, v in content["environment"].items()))
    return "\n".join(lines)


def flag_page():
    """The command's flags; defined on the call, so that importing defines none."""
    page = cli.FlagPage("Beam search for captions with and without a key/value cache.")
    page.heading("Model")
    page.enum("model", "base", list(PRESETS), "Size; the weights are random.")
    page.integer("feature_size", 2048, "Numbers per patch.", lower_bound=1)
    page.enum("precision", "float32", list(distribution.PRECISIONS), "Number format.")
    page.heading("Search")
    page.enum("objective", "next_word", list(QUESTIONS), "How the next token is asked.")
    page.integer("beam_size", 5, "Hypotheses an image.", lower_bound=1)
    page.integer("max_length", 64, "Tokens of every caption.", lower_bound=1)
    page.heading("Measurement")
    page.integer("batch_size", 16, "Images at once.", lower_bound=1)
    page.integer("repeats", 3, "Times that each arm is timed.", lower_bound=1)
    page.integer(
        "whole_length",
        0,
        "Search without the cache up to this many tokens only and scale its seconds by "
        "steps, a lower bound; 0 for max_length.",
        lower_bound=0,
    )
    page.float("at_least", 0.0, "A smaller speedup than this ends with an error.")
    page.integer("seed", 0, "Of weights and patches.")
    page.string("output", None, "JSON file for the figures.")
    return page


if __name__ == "__main__":
    _PAGE = flag_page()
    cli.run(lambda: run(_PAGE.values()), _PAGE)
