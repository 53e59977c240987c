"""CLI: trains the captioner whose heat maps align words with patches (section 3.3).

Show, Attend and Tell (`sat_model`) on a catalogue's own images and texts:

  python -m data_prep.show_attend_tell --manifest=CATALOGUE/manifest.jsonl \\
      --output_dir=SAT

SAT/config.json           sizes, settings, and the backbone and placing of the images
SAT/words.txt             its vocabulary, one word a line
SAT/weights.safetensors   of the round with the best validation BLEU-4
SAT/results.json, metrics.jsonl, captions.jsonl, skipped.jsonl
                          the last figures, those of every round, examples, what was
                          left out
SAT/checkpoints/, grids/  what a run that was stopped goes on from: the last rounds, and
                          the images' features, which may be deleted after the training

`captioner.load` reads such a folder for the alignment generator (`alignment`).
"""

import dataclasses
import json
import os
import time

import numpy as np
import tf_keras
from absl import logging

from data_prep import saliency
from data_prep import sources as sources_lib
from data_prep.sat import sat_grids, sat_training, sat_words
from data_prep.sat.captioner import (
    CONFIG_NAME,
    WEIGHTS_NAME,
    WORDS_NAME,
    captioner_sha256,
)
from data_prep.sat.sat_model import SatConfig, ShowAttendTell
from data_prep.shards import prepare_flags
from kaleido_tf import cli, files
from kaleido_tf.config import PATCH_ARMS
from kaleido_tf.data import backbone as backbone_lib

# Settings that make another captioner; a run must not go on with others.
_DECISIVE = ("num_steps", "batch_size", "learning_rate", "seed", "max_images")


class Texts:
    """One split's images and texts, as the captioner reads them.

    Args:
      products: list of `sources.Product`; one whose picture can't be read is left out.
      grids: `sat_grids.Grids`.
      first: row of the first product in `grids`.
      words: lists of words, one a product.
    """

    def __init__(self, products, grids, first, words):
        kept = [i for i in range(len(products)) if first + i not in grids.bad]
        self.products = [products[i] for i in kept]
        self.words = [words[i] for i in kept]
        self.rows = np.array(kept, np.int64) + first
        self._grids = grids

    def __len__(self):
        return len(self.rows)

    def grids(self, places):
        """float16 [n, G, G, C]."""
        return self._grids.take(self.rows[places])

    def statistics(self, most=512):
        """Mean and deviation of the channels over some of the images."""
        return self._grids.statistics(
            self.rows[sat_training.spread_places(len(self), most)]
        )


def read_data(settings, extractor, place):
    """Images and texts of both splits.

    Args:
      settings: dict of the command's flags.
      extractor: `sat_grids.GridExtractor`.
      place: `sat_grids.Placer`.

    Returns:
      (training `Texts`, validation `Texts`, number of rows and pictures left out).

    Raises:
      ValueError: a split without a picture that can be read.
    """
    skipped = sources_lib.SkipList()
    products = sources_lib.read(
        settings["source"],
        skipped,
        settings,
        validation_fraction=settings["validation_fraction"],
        text_fields=tuple(settings["text_fields"] or ()) or None,
        max_images=settings["max_images"] or None,
    )
    products.sort(key=lambda p: p.split)  # stable: training first, the source's order
    folder = os.path.join(settings["output_dir"], "grids")
    grids = sat_grids.cached_grids(products, folder, place, extractor)
    for row, reason in grids.bad.items():
        skipped.add("unreadable image", reason, image_id=products[row].image_id)
    with open(os.path.join(settings["output_dir"], "skipped.jsonl"), "w") as file:
        file.writelines(json.dumps(row) + "\n" for row in skipped.rows)
    words = sat_words.split_texts([p.text for p in products])
    first = sum(p.split == "train" for p in products)
    train = Texts(products[:first], grids, 0, words[:first])
    validation = Texts(products[first:], grids, first, words[first:])
    if not len(train) or not len(validation):
        raise ValueError(
            "Both splits should have a picture that can be read. Received: "
            f"{len(train)} and {len(validation)}; left out: {skipped.counts()}"
        )
    return train, validation, len(skipped.rows)


def train(settings):
    """Trains a captioner; the flags of the command line, see their help.

    Args:
      settings: dict of the flags.

    Returns:
      dict, the content of results.json: BLEU-4 over all validation images and more.

    Raises:
      ValueError: `output_dir` holds a run with other settings, data that can't be used.
    """
    folder = settings["output_dir"]
    os.makedirs(folder, exist_ok=True)
    tf_keras.utils.set_random_seed(settings["seed"])
    extractor = sat_grids.GridExtractor(
        settings["backbone"], settings["backbone_weights"]
    )
    place = sat_grids.Placer(
        settings["patches"],
        settings["canvas_size"],
        settings["saliency"],
        settings["saliency_weights"] or None,
    )
    data, validation, left_out = read_data(settings, extractor, place)
    table = sat_words.WordTable.of(
        data.words, settings["vocab_size"], settings["min_count"]
    )
    config = SatConfig(
        num_words=len(table),
        grid=sat_grids.GRID,
        channels=extractor.channels,
        max_words=settings["max_words"],
        doubly_stochastic=settings["doubly_stochastic"],
        dropout=settings["dropout"],
    )
    _settle(folder, config, settings, place, extractor, table)
    model = ShowAttendTell(config)
    mean, spread = data.statistics()
    model.channel_mean.assign(mean)
    model.channel_std.assign(spread)
    training = sat_training.Training(settings, model, table, data, validation)
    logging.info("%d training images, %d words", len(data), len(table))
    training.run()
    return _finish(training, folder, left_out)


def _finish(training, folder, left_out):
    """Measures the best weights on all of validation; writes figures and examples."""
    training.model.load(os.path.join(folder, WEIGHTS_NAME))
    results = {
        **training.validate(len(training.validation)),
        "training_images": len(training.train),
        "left_out": left_out,
        "words": len(training.table),
        "sha256": captioner_sha256(folder),
    }
    files.write_json(results, os.path.join(folder, "results.json"))
    _write_captions(training, os.path.join(folder, "captions.jsonl"))
    return results


def _settle(folder, config, settings, place, extractor, table):
    """Writes config.json and words.txt, or checks that they are the same."""
    values = {
        "model": dataclasses.asdict(config),
        "placing": place.describe(),
        "backbone": extractor.backbone.describe(),
        "training": {key: settings[key] for key in _DECISIVE},
    }
    path = os.path.join(folder, CONFIG_NAME)
    if not os.path.exists(path):
        table.save(os.path.join(folder, WORDS_NAME))
        files.write_json(values, path)
        return
    with open(path, encoding="utf-8") as file:
        there = json.load(file)
    kept = sat_words.WordTable.load(os.path.join(folder, WORDS_NAME))
    changed = [key for key in values if there.get(key) != values[key]]
    changed += ["words"] if kept.words != table.words else []
    if changed:
        raise ValueError(
            "`output_dir` should be empty or hold a run of the same settings and "
            f"texts. Received: {folder}, where other {changed} stand in {CONFIG_NAME} "
            "(choose another folder, or delete that one)"
        )


def _write_captions(training, path, most=20):
    """Some validation images with what was said of them and what their texts say."""
    data = training.validation
    places = sat_training.spread_places(len(data), most)
    texts = training.generate(data.grids, places)
    with open(path, "w", encoding="utf-8") as file:
        for place, words in zip(places, texts, strict=True):
            row = {
                "image_id": data.products[place].image_id,
                "generated": " ".join(words),
                "text": " ".join(data.words[place]),
            }
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def flag_page():
    """The command's flags; defined on the call, so that importing defines none."""
    page = cli.FlagPage("Trains Show, Attend and Tell on a catalogue.")
    prepare_flags.source_flags(page)
    page.float(
        "validation_fraction",
        0.1,
        "Share of products held out where the catalogue names no split.",
        lower_bound=0.0,
        upper_bound=1.0,
    )
    page.integer("max_images", None, "Take only the first so many lines (images).")
    page.heading("Output")
    page.string("output_dir", None, "Folder of the captioner.", required=True)
    page.heading("Images, as for data_prep.prepare: heat maps lie on the locked image")
    page.enum("patches", "kaleido+saliency", list(PATCH_ARMS), "Arm of the patches.")
    page.integer("canvas_size", 256, "Side of the canvas, pixels.", lower_bound=32)
    page.enum(
        "saliency",
        saliency.DEFAULT_METHOD,
        list(saliency.METHODS),
        "What finds the object.",
    )
    page.string("saliency_weights", None, "Its network, where it is one.")
    page.enum(
        "backbone",
        "efficientnet_lite0",
        sorted(backbone_lib.GRID_SIZES),
        "Network whose 14 x 14 grid is looked at; need not be the data set's.",
    )
    page.string("backbone_weights", None, "File with its weights, if not the default.")
    page.heading("Words")
    page.integer("vocab_size", 10_000, "Upper bound, words.", lower_bound=10)
    page.integer("min_count", 3, "Rarer words are left out.", lower_bound=1)
    page.integer("max_words", 64, "Words read and said of a text.", lower_bound=4)
    _training_flags(page)
    return page


def _training_flags(page):
    page.heading("Training")
    page.integer("num_steps", 1500, "Length of the run, steps.", lower_bound=1)
    page.integer("batch_size", 32, "Images a step.", lower_bound=1)
    page.float("learning_rate", 2e-3, "Adam's peak; decays to 0 by a cosine.")
    page.float("dropout", 0.4, "On words going in and on the deep output.")
    page.float(
        "doubly_stochastic",
        0.1,
        "Weight of the penalty of uneven attention (lambda of equation 14); with 1 the "
        "heat maps stay nearly even, and a quarter as many pairs are found.",
    )
    page.integer(
        "steps_per_round", 250, "Between validations and checkpoints.", lower_bound=1
    )
    page.integer("seed", 0, "Of everything drawn.", lower_bound=0)
    page.heading("Validation")
    page.integer("beam_size", 3, "Texts followed at a time.", lower_bound=1)
    page.integer(
        "eval_images", 200, "Images described at the end of a round.", lower_bound=1
    )


def main(settings):
    """Trains with a dict of flags; prints the result."""
    start = time.time()
    results = train(settings)
    print(
        f"BLEU-4 {results['bleu4']:.3f} on {results['val_images']} validation images, "
        f"{results['val_per_word']:.3f} nats a word, after {time.time() - start:.0f} s"
    )
    print(f"Written to {settings['output_dir']}; left out: {results['left_out']}")


if __name__ == "__main__":
    _PAGE = flag_page()
    cli.run(lambda: main(_PAGE.values()), _PAGE)
