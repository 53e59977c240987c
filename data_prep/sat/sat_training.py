"""The captioner's training loop: steps, rounds with validation, checkpoints.

A round ends with the loss and the BLEU-4 of some validation images. The weights of the
best round are kept, as Xu et al. do (section 4.3: likelihood and BLEU part company in
the end). A run that was stopped goes on from its last round, with the same batches and
the same dropout as if it had not been stopped.
"""

import json
import math
import os
import time

import numpy as np
import tensorflow as tf
import tf_keras
from absl import logging

from data_prep.sat import sat_words
from data_prep.sat.captioner import WEIGHTS_NAME
from kaleido_tf import files

METRICS_NAME = "metrics.jsonl"
CHECKPOINT_FOLDER = "checkpoints"
_PROGRESS_SECONDS = 15.0
_BATCH = 32  # images described, or measured, at a time
_CLIP_NORM = 5.0


class Training:
    """The loop: steps of Adam, rounds that end with validation and a checkpoint.

    Args:
      settings: dict of the command's flags.
      model: `ShowAttendTell`.
      table: `sat_words.WordTable`.
      train, validation: `show_attend_tell.Texts`, or what has its `words`, `grids` and
        length.
    """

    def __init__(self, settings, model, table, train, validation):
        self.settings, self.model, self.table = settings, model, table
        self.train, self.validation = train, validation
        most = model.config.max_words
        self._ids = [table.encode(words, most) for words in train.words]
        self._lengths = np.array([len(ids) for ids in self._ids])
        self.batch_size = min(settings["batch_size"], len(train))
        schedule = tf_keras.optimizers.schedules.CosineDecay(
            settings["learning_rate"], settings["num_steps"]
        )
        self.optimizer = tf_keras.optimizers.Adam(schedule, global_clipnorm=_CLIP_NORM)
        self.optimizer.build(model.trainable_variables)
        words = tf.TensorSpec([None, None], tf.int32)
        seed = tf.TensorSpec([2], tf.int32)
        self._step = tf.function(self._train_step, [model.grids_spec, words, seed])
        self._loss = tf.function(model.losses_of, [model.grids_spec, words])
        self.generate = Generator(model, table, settings["beam_size"])
        self.best = tf.Variable(-1.0, trainable=False)
        self._checkpoint = tf.train.Checkpoint(
            model=model, optimizer=self.optimizer, best=self.best
        )
        self._manager = tf.train.CheckpointManager(
            self._checkpoint,
            os.path.join(settings["output_dir"], CHECKPOINT_FOLDER),
            max_to_keep=2,
            checkpoint_name="ckpt",
        )

    def _train_step(self, grids, words, seed):
        with tf.GradientTape() as tape:
            likelihood, uneven = self.model.losses_of(grids, words, seed)
            total = likelihood + self.model.config.doubly_stochastic * uneven
        gradients = tape.gradient(total, self.model.trainable_variables)
        self.optimizer.apply_gradients(
            zip(gradients, self.model.trainable_variables, strict=True)
        )
        return likelihood, uneven

    def resume(self):
        """Restores the last checkpoint; returns its step, 0 if there is none."""
        latest = self._manager.latest_checkpoint
        if not latest:
            return 0
        self._checkpoint.restore(latest).assert_existing_objects_matched()
        return int(self.optimizer.iterations.numpy())

    def batch(self, step):
        """Grids and words of a step: decided by the seed and the step alone."""
        a_epoch = len(self.train) // self.batch_size
        epoch, place = divmod(step, a_epoch)
        if getattr(self, "_epoch", None) != epoch:
            self._epoch = epoch
            self._order = sat_words.epoch_batches(
                self._lengths, self.batch_size, self.settings["seed"], epoch
            )
        places = self._order[place]
        words = sat_words.pad([self._ids[i] for i in places])
        return tf.constant(self.train.grids(places)), tf.constant(words)

    def run(self):
        """Trains to the last step; returns the row of the last round."""
        step, last = self.resume(), self.settings["num_steps"]
        if step:
            logging.info("goes on from step %d", step)
        files.drop_rows_after(self._path(METRICS_NAME), step)
        row = {}
        while step < last:
            end = min(last, step + self.settings["steps_per_round"])
            row = self._round(step, end)
            step = end
        return row

    def _path(self, name):
        return os.path.join(self.settings["output_dir"], name)

    def _round(self, start, end):
        """Steps from `start` to `end`, then validation, weights and checkpoint."""
        sums, began, words = np.zeros(2), time.time(), 0
        mark = began
        for step in range(start, end):
            grids, ids = self.batch(step)
            seed = tf.constant([self.settings["seed"], step], tf.int32)
            losses = np.array([float(v) for v in self._step(grids, ids, seed)])
            _check_finite(losses, step)
            sums += losses
            words += int(np.count_nonzero(ids))
            if time.time() - mark > _PROGRESS_SECONDS:
                mark = time.time()
                self._log(step + 1, (mark - began) / (step + 1 - start), losses)
        count = end - start
        row = {
            "step": end,
            "likelihood": sums[0] / count,
            "per_word": sums[0] * self.batch_size / words,
            "uneven": sums[1] / count,
            "seconds": round(time.time() - began, 1),
            **self.validate(self.settings["eval_images"]),
        }
        self._finish_round(row)
        return row

    def _log(self, step, seconds, losses):
        left = (self.settings["num_steps"] - step) * seconds
        logging.info(
            "step %d of %d: minus log-likelihood %.2f, uneven %.1f | %.0f images/s, "
            "%d:%02d left",
            step,
            self.settings["num_steps"],
            *losses,
            self.batch_size / seconds,
            left // 60,
            left % 60,
        )

    def _finish_round(self, row):
        logging.info("%s", " ".join(f"{key} {value:.4g}" for key, value in row.items()))
        with open(self._path(METRICS_NAME), "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        if row["bleu4"] >= self.best.numpy():
            self.best.assign(row["bleu4"])
            path = self._path(WEIGHTS_NAME)
            self.model.save(f"{path}.tmp")
            os.replace(f"{path}.tmp", path)
        self._manager.save(row["step"])

    def validate(self, most):
        """Loss and BLEU-4 on up to `most` validation images (evenly spaced)."""
        data, longest = self.validation, self.model.config.max_words
        places = spread_places(len(data), most)
        texts = self.generate(data.grids, places)
        wanted = [data.words[i] for i in places]
        cost = count = 0.0
        for first in range(0, len(places), _BATCH):
            chosen = places[first : first + _BATCH]
            ids = sat_words.pad(
                [self.table.encode(data.words[i], longest) for i in chosen]
            )
            mean, _ = self._loss(tf.constant(data.grids(chosen)), tf.constant(ids))
            cost += float(mean) * len(chosen)
            count += np.count_nonzero(ids)
        return {
            "val_per_word": cost / count,
            "bleu4": sat_words.bleu4(texts, wanted),
            "val_images": len(places),
        }


class Generator:
    """Texts for many images, in batches.

    Args:
      model: `ShowAttendTell`.
      table: `sat_words.WordTable`.
      beam_size: see `ShowAttendTell.generate`.
    """

    def __init__(self, model, table, beam_size):
        self.table = table
        self._generate = tf.function(
            lambda grids: model.generate(grids, beam_size), [model.grids_spec]
        )

    def __call__(self, grids_of, places):
        """Describes images.

        Args:
          grids_of: function of places -> float16 [n, G, G, C].
          places: int array.

        Returns:
          list of lists of words.
        """
        texts = []
        for first in range(0, len(places), _BATCH):
            chosen = places[first : first + _BATCH]
            ids = self._generate(tf.constant(grids_of(chosen))).numpy()
            texts += [self.table.decode(row) for row in ids]
        return texts


def spread_places(length, most):
    """Up to `most` evenly spaced places of a list: int array."""
    return np.arange(length)[:: max(1, math.ceil(length / most))]


def _check_finite(losses, step):
    if not np.isfinite(losses).all():
        raise ValueError(
            f"The loss should be finite. Received {losses} at step {step}. Train in "
            "another folder with a lower --learning_rate"
        )
