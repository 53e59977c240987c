"""CLI: trains the small U-Net that locks the box, on pictures with drawn masks.

  python -m data_prep.saliency_unet --manifest=CATALOGUE/manifest.jsonl --output_dir=DIR

DIR then is what `--saliency=unet --saliency_weights=DIR` takes: saliency.json and
saliency.weights.h5 (`kaleido_tf.data.saliency_net`); beside them metrics.json, measured
on products that were held back, skipped.jsonl, and checkpoints/, from which a training
that was stopped goes on.
"""

import os
import time

import numpy as np
import tensorflow as tf
import tf_keras
from absl import logging

from data_prep import sources
from data_prep.saliency_parts import saliency_data
from kaleido_tf import cli, files
from kaleido_tf.data import locked_box, saliency_net

METRICS_NAME = "metrics.json"
SKIPPED_NAME = "skipped.jsonl"
TRAINING_NAME = "training.json"
_LOG_EVERY = 50
_WARM_UP = 0.05  # of the steps
_EVALUATION_BATCH = 32
_FULL = (0.0, 0.0, 1.0, 1.0)


def mask_loss(truth, logits):
    """Binary cross entropy plus Dice loss (1 - overlap), each the mean of the images.

    Dice weighs a small object as much as a large one.

    Args:
      truth: float32 [B, h, w], share of foreground, 0 to 1.
      logits: float32 [B, h, w].

    Returns:
      float32 scalar.
    """
    entropy = tf.nn.sigmoid_cross_entropy_with_logits(truth, logits)
    found = tf.sigmoid(logits)
    common = tf.reduce_sum(truth * found, axis=[1, 2])
    both = tf.reduce_sum(truth, axis=[1, 2]) + tf.reduce_sum(found, axis=[1, 2])
    dice = (2.0 * common + 1.0) / (both + 1.0)
    return tf.reduce_mean(entropy) + tf.reduce_mean(1.0 - dice)


class Trainer:
    """The U-Net in training.

    Args:
      settings: `saliency_net.SaliencySettings`.
      learning_rate: its peak, after the warm-up; falls to 0 by a half cosine.
      num_steps: of the whole training.
      seed: of the initial weights and of everything drawn.
    """

    def __init__(self, settings, learning_rate, num_steps, seed):
        tf_keras.utils.set_random_seed(seed)
        self.seed = seed
        self.model = saliency_net.build_unet(settings)
        warm_up = max(1, round(_WARM_UP * num_steps))
        schedule = tf_keras.optimizers.schedules.CosineDecay(
            0.0,
            max(1, num_steps - warm_up),
            warmup_target=learning_rate,
            warmup_steps=warm_up,
        )
        self.optimizer = tf_keras.optimizers.Adam(schedule)
        self.optimizer.build(self.model.trainable_variables)
        self.checkpoint = tf.train.Checkpoint(
            model=self.model, optimizer=self.optimizer
        )

    @property
    def step(self):
        """Steps done: int."""
        return int(self.optimizer.iterations.numpy())

    @tf.function
    def _update(self, canvases, seed):
        pictures, truth = saliency_data.augment(canvases, seed)
        with tf.GradientTape() as tape:
            loss = mask_loss(truth, self.model(pictures, training=True))
        variables = self.model.trainable_variables
        gradients = tape.gradient(loss, variables)
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return loss

    def train_step(self, canvases, batch_size):
        """One step; its batch depends on seed and step alone. Returns the loss.

        Args:
          canvases: uint8 [N, s, s, 4], see `saliency_data.load_canvases`.
          batch_size: pictures drawn from them.
        """
        step = self.step
        rng = np.random.default_rng([self.seed, step])
        chosen = rng.choice(len(canvases), batch_size, len(canvases) < batch_size)
        return float(self._update(canvases[chosen], tf.constant([self.seed, step])))


def evaluate(net, canvases):
    """Measures a network on canvases with masks.

    Args:
      net: `saliency_net.SaliencyNet`.
      canvases: uint8 [N, s, s, 4].

    Returns:
      dict: images; mask_iou and box_iou, means over the images (the predicted box
      with its margin against the mask's own bounds); found, the share of images where
      an object was found.
    """
    whole = tf.constant([_FULL] * _EVALUATION_BATCH)
    exact = locked_box.BoxRule(keep_share=0.0, min_area=0.0, max_area=1.0, margin=0.0)

    @tf.function
    def measure(batch):
        insides = whole[: tf.shape(batch)[0]]
        truth = tf.cast(batch[..., 3], tf.float32) / 255.0
        found = net.probabilities(batch[..., :3])
        rule = net.settings.rule
        boxes, locked = locked_box.lock_boxes(found, insides, rule)
        true_boxes, _ = locked_box.lock_boxes(truth, insides, exact)
        masks = locked_box.main_components(found >= rule.threshold, rule.keep_share)
        return _mask_iou(masks, truth >= 0.5), box_iou(boxes, true_boxes), locked

    parts = [
        [
            value.numpy()
            for value in measure(canvases[start : start + _EVALUATION_BATCH])
        ]
        for start in range(0, len(canvases), _EVALUATION_BATCH)
    ]
    values = [np.concatenate(column) for column in zip(*parts, strict=True)]
    names = ("mask_iou", "box_iou", "found")
    means = {n: float(v.mean()) for n, v in zip(names, values, strict=True)}
    return {"images": len(canvases), **means}


def _mask_iou(masks, truth):
    common = tf.math.count_nonzero(masks & truth, axis=[1, 2], dtype=tf.float32)
    either = tf.math.count_nonzero(masks | truth, axis=[1, 2], dtype=tf.float32)
    return tf.math.divide_no_nan(common, either)


def box_iou(boxes, others):
    """Intersection over union: float32 [B, 4] twice, y1, x1, y2, x2 -> [B]."""
    low = tf.maximum(boxes[:, :2], others[:, :2])
    high = tf.minimum(boxes[:, 2:], others[:, 2:])
    common = tf.reduce_prod(tf.maximum(high - low, 0.0), axis=1)
    areas = [tf.reduce_prod(b[:, 2:] - b[:, :2], axis=1) for b in (boxes, others)]
    return tf.math.divide_no_nan(common, areas[0] + areas[1] - common)


def load_splits(settings, side):
    """Canvases of both splits: dict of uint8 [N, side, side, 4]; writes what is left.

    Args:
      settings: dict of flags.
      side: of a canvas in pixels.
    """
    skipped, images = sources.SkipList(), []
    for manifest in settings["manifest"]:
        images += saliency_data.read_masked_manifest(
            manifest, skipped, settings["validation_fraction"]
        )
    limits = {
        "train": settings["max_images"],
        "validation": settings["max_validation_images"],
    }
    rng, canvases = np.random.default_rng(settings["seed"]), {}
    for split, limit in limits.items():
        chosen = [image for image in images if image.split == split]
        if not chosen:
            raise ValueError(
                f"`manifest` should have products in both splits. Received: none in "
                f"{split} of {len(images)} images (change --validation_fraction)"
            )
        chosen = [chosen[i] for i in rng.permutation(len(chosen))[:limit]]
        canvases[split] = saliency_data.load_canvases(chosen, side, skipped)
        logging.info("%s: %d pictures with masks", split, len(canvases[split]))
    files.write_rows(os.path.join(settings["output_dir"], SKIPPED_NAME), skipped.rows)
    if skipped.rows:
        logging.warning("left out, listed in %s: %s", SKIPPED_NAME, skipped.counts())
    return canvases


def _check_same_training(settings):
    """Raises ValueError if the folder holds another training."""
    path = os.path.join(settings["output_dir"], TRAINING_NAME)
    if not os.path.exists(path):
        return
    there, values = files.read_json(path), _what_is_trained(settings)
    if there != values:
        raise ValueError(
            f"`output_dir` should be new or hold a training with {values}. Received: "
            f"{settings['output_dir']}, with {there} (choose another folder)"
        )


def _widths(given):
    if not all(str(width).isdecimal() and int(width) for width in given):
        raise ValueError(
            f"`widths` should be whole numbers of at least 1. Received: {given}"
        )
    return tuple(int(width) for width in given)


def _what_is_trained(settings):
    return {key: v for key, v in settings.items() if key != "output_dir"}


def run(settings):
    """Trains, or goes on with a training, and measures.

    Args:
      settings: dict of the flags (`--help`).

    Returns:
      The content of metrics.json.
    """
    folder = settings["output_dir"]
    os.makedirs(folder, exist_ok=True)
    _check_same_training(settings)
    widths = _widths(settings["widths"])
    rule = locked_box.BoxRule(margin=settings["margin"])
    config = saliency_net.SaliencySettings(settings["side"], widths, rule)
    canvases = load_splits(settings, config.side)
    trainer = Trainer(
        config, settings["learning_rate"], settings["num_steps"], settings["seed"]
    )
    # Only now: flags that end before any training don't keep the folder to themselves.
    files.write_json(_what_is_trained(settings), os.path.join(folder, TRAINING_NAME))
    seconds = _train(trainer, canvases["train"], settings)
    net = saliency_net.SaliencyNet(config, trainer.model)
    net.save(folder)
    metrics = evaluate(net, canvases["validation"]) | {
        "steps": trainer.step,
        "train_images": len(canvases["train"]),
        "seconds_of_last_start": round(seconds, 1),
        "parameters": trainer.model.count_params(),
    }
    files.write_json(metrics, os.path.join(folder, METRICS_NAME))
    return metrics


def _train(trainer, canvases, settings):
    """Runs the steps that are left; returns the seconds they took."""
    manager = tf.train.CheckpointManager(
        trainer.checkpoint, os.path.join(settings["output_dir"], "checkpoints"), 1
    )
    if manager.latest_checkpoint:
        trainer.checkpoint.restore(manager.latest_checkpoint).assert_consumed()
        logging.info("Goes on at step %d", trainer.step)
    losses, start = [], time.time()
    while trainer.step < settings["num_steps"]:
        losses.append(trainer.train_step(canvases, settings["batch_size"]))
        step = trainer.step
        if step % _LOG_EVERY == 0:
            recent = np.mean(losses[-_LOG_EVERY:])
            logging.info("step %d: loss %.4f", step, recent)
        if step % settings["steps_per_checkpoint"] == 0:
            manager.save(step)
    if losses:
        manager.save(trainer.step)
    return time.time() - start


def flag_page():
    """The command's flags; defined on the call, so that importing defines none."""
    page = cli.FlagPage("Trains the U-Net that finds a picture's dominant object.")
    page.heading("Data")
    page.list(
        "manifest",
        None,
        "Manifests (JSON lines or CSV) whose lines have `image` and `mask`, a grey "
        "picture of the same size; the embedded catalogue's needs no `mask`.",
        required=True,
    )
    page.string("output_dir", None, "Folder for the network.", required=True)
    page.integer("max_images", 4000, "Training pictures held in memory.", lower_bound=1)
    page.integer(
        "max_validation_images", 400, "Pictures that are measured.", lower_bound=1
    )
    page.float(
        "validation_fraction",
        0.1,
        "Share of products held back, where lines have no `split`.",
        lower_bound=0.0,
        upper_bound=0.9,
    )
    page.heading("Network")
    page.integer("side", 128, "Side of the canvas it looks at, pixels.", lower_bound=16)
    page.list(
        "widths", ["8", "16", "32", "48", "64"], "Channels of its levels, fine first."
    )
    page.float(
        "margin", 0.005, "Added around a box, in parts of the side.", lower_bound=0.0
    )
    page.heading("Training")
    page.integer("num_steps", 1000, "Steps.", lower_bound=1)
    page.integer("batch_size", 16, "Pictures a step.", lower_bound=1)
    page.float("learning_rate", 3e-3, "Its peak, by Adam.", lower_bound=0.0)
    page.integer("steps_per_checkpoint", 100, "Steps between saves.", lower_bound=1)
    page.integer(
        "seed",
        0,
        "Of weights, batches and augmentation.",
        lower_bound=0,
        upper_bound=2**31 - 1,
    )
    return page


def main(settings):
    """Trains with a dict of flags; prints what it reached."""
    metrics = run(settings)
    print(
        f"{metrics['images']} pictures of products held back: mask IoU "
        f"{metrics['mask_iou']:.3f}, box IoU {metrics['box_iou']:.3f}, object found in "
        f"{metrics['found']:.1%}"
    )
    print(f"Written to {settings['output_dir']}")


if __name__ == "__main__":
    _PAGE = flag_page()
    cli.run(lambda: main(_PAGE.values()), _PAGE)
