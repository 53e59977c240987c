"""Our side of `benchmarks/train_step.py`: the step that run_pretrain.py runs.

Flags, model, optimizer and the compiled train function are run_pretrain's own, with the
defaults of its flags. Requests and answers: see `step_process.py`.
"""

import json
import os
import queue
import resource
import sys
import tempfile
import time

import numpy as np
import tensorflow as tf

import run_pretrain
from benchmarks import step_trace
from kaleido_tf.config import KaleidoConfig
from kaleido_tf.data import input_pipeline
from kaleido_tf.modeling import build_matcher, build_pretrainer, fused
from kaleido_tf.tasks.matcher_parts import MatcherParts
from kaleido_tf.training import loop
from kaleido_tf.training.trainer import PretrainingModel


def make_labels(config, batch):
    """Labels for every head beside the batch's own: dict of arrays."""
    rng = np.random.default_rng(0)
    rows, size = len(batch["itm_labels"]), config.patch_feature_size

    def classes(count):
        return rng.integers(0, count, rows).astype(np.int32)

    return {
        "masked_lm_ids": batch["masked_lm_ids"],
        "masked_lm_weights": np.ones_like(batch["masked_lm_ids"], np.float32),
        "itm_labels": batch["itm_labels"],
        "pair_weights": np.ones(rows, np.float32),
        "rotation_labels": classes(4),
        "jigsaw_labels": classes(24),
        "camouflage_labels": classes(9),
        "grey_targets": rng.random((rows, 2, size), np.float32),
        "blank_targets": rng.random((rows, 3, size), np.float32),
    }


def make_inputs(config, batch):
    """The batch as the input pipeline hands it on: (inputs, labels), texts trimmed."""
    rows = len(batch["itm_labels"])
    given = {
        **batch,
        "grey_positions": np.tile(np.int32([[1, 9]]), (rows, 1)),
        "blank_positions": np.tile(np.int32([[2, 7, 20]]), (rows, 1)),
    }
    inputs = {name: given[name] for name in input_pipeline.input_names(config)}
    return input_pipeline.trim_texts(inputs), make_labels(config, batch)


def _spec(values):
    """Signature of a structure of arrays: rows fixed, a text's length free."""

    def one(name, value):
        shape = list(value.shape)
        if name in input_pipeline.TEXT_INPUTS:
            shape[1] = None
        return tf.TensorSpec(shape, value.dtype)

    return {name: one(name, value) for name, value in values.items()}


class Ours:
    """The model with what a step needs; one request after the other."""

    def make(self, request):
        tf.config.threading.set_intra_op_parallelism_threads(request["threads"])
        self.flags = {
            **run_pretrain.make_page().defaults(),
            "precision": request["precision"],
            "batch_size": request["batch_size"],
        }
        loop.start_process(self.flags)
        self.config = KaleidoConfig(**request["sizes"])
        self.rates = step_trace.ProductRates(self.config, request["precision"])
        self._run = self._trainer() if request["work"] == "train" else self._scorer()
        return {"name": f"kaleido_tf, TensorFlow {tf.__version__}"}

    def _trainer(self):
        """Function of a batch that does a training step; returns its loss."""
        model = PretrainingModel(
            build_pretrainer(self.config),
            self.config,
            self.flags["xla"],
            **loop.step_settings(self.flags),
        )
        loop.compile_model(self.flags, model, self.flags["num_steps"])
        train, waiting = model.make_train_function(), queue.SimpleQueue()
        iterator = None

        def step(batch):
            nonlocal iterator
            data = tf.nest.map_structure(np.asarray, make_inputs(self.config, batch))
            waiting.put(data)
            if iterator is None:
                dataset = tf.data.Dataset.from_generator(
                    lambda: iter(waiting.get, None),
                    output_signature=tuple(map(_spec, data)),
                )
                iterator = iter(dataset.prefetch(1))
            # The pipeline reads on while the step computes: it isn't timed here.
            time.sleep(0.2)
            start = time.perf_counter()
            value = float(train(iterator)["loss/total"])
            return time.perf_counter() - start, value

        return step

    def _scorer(self):
        """Function of a batch that scores its pairs as evaluation does."""
        matcher = build_matcher(self.config)
        parts = MatcherParts(matcher, self.config)
        names = list(matcher.input)

        @tf.function(reduce_retracing=True)
        def score(inputs):
            with fused.compiling():  # as `scoring.PairScorer` does for many pairs
                return logits(inputs)[:, 1]

        def logits(inputs):
            text = parts.embed_text(inputs["input_word_ids"], inputs["input_type_ids"])
            patches = parts.embed_patches(
                inputs["patch_features"], inputs["patch_locations"]
            )
            return parts.logits(text, inputs["input_mask"], patches)

        def step(batch):
            inputs, _ = make_inputs(self.config, batch)
            inputs = {name: tf.convert_to_tensor(inputs[name]) for name in names}
            start = time.perf_counter()
            value = float(score(inputs).numpy().sum())
            return time.perf_counter() - start, value

        return step

    def step(self, request):
        with np.load(request["batch"]) as file:
            batch = {key: file[key] for key in file.files}
        seconds, value = self._run(batch)
        return {"seconds": seconds, "value": value}

    def rate(self, request):
        """The machine's rate of matrix products at these rows: GFLOP/s."""
        return {"gigaflops": self.rates.measure(request["rows"])}

    def breakdown(self, request):
        """Where the time of a step goes: seconds by kind."""
        with tempfile.TemporaryDirectory() as folder:
            with step_trace.tracing(folder):
                answer = self.step(request)
            return {**answer, "kinds": step_trace.seconds_by_kind(folder)}

    def memory(self, request):
        """Most memory this process has held so far."""
        del request
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return {"peak_megabytes": peak / 1024}


def main():
    # What libraries print goes to the error stream: the answers stay alone.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    ours = Ours()
    for line in sys.stdin:
        request = json.loads(line)
        answers.write(json.dumps(getattr(ours, request["do"])(request)) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
