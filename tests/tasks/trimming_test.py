"""Fine-tuning cuts a batch's texts, and that changes nothing but the time."""

import json

import numpy as np
import pytest

import run_finetune
from benchmarks import finetuning_step
from kaleido_tf.data.input_pipeline import TEXT_INPUTS
from kaleido_tf.tasks import captioning_train, classification, retrieval_train
from kaleido_tf.training import task_context

LENGTH = 40
SIZES = {
    "hidden_size": 8,
    "num_layers": 1,
    "num_heads": 2,
    "intermediate_size": 8,
    "contrastive_size": 4,
    "text_length": LENGTH,
}
JOBS = {
    "subcategory": (classification.make_job, {}),
    "retrieval": (retrieval_train.make_job, {}),
    "captioning": (captioning_train.make_job, {"word_dropout": 0.5}),
    "masked": (captioning_train.make_job, {"objective": "masked"}),
}


def make_job(name, folder, make_data_set, more=None):
    """(context, job) of a tiny data set, whose texts have at most 8 pieces."""
    make_data_set(folder / "data")
    (folder / "sizes.json").write_text(json.dumps(SIZES))
    make, flags = JOBS[name]
    task = "captioning" if make is captioning_train.make_job else name
    settings = run_finetune.flag_page().defaults() | {
        "task": task,
        "data_dir": str(folder / "data"),
        "model": "tiny",
        "config": str(folder / "sizes.json"),
        "batch_size": 4,
        "dev_fraction": 0.75,  # p1, p2 and p3, by the hashes of their ids
        **flags,
        **(more or {}),
    }
    context = task_context.make_context(settings)
    return context, make(context)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.long if name == "masked" else ())
        for name in JOBS
    ],
)
def test_the_losses_are_those_of_padded_texts(name, make_data_set, tmp_path):
    context, job = make_job(name, tmp_path, make_data_set)
    data = context.data.with_needs(job.needs)
    totals = []
    for dataset in (
        data.training_dataset(job.make_training_batch).take(1),
        data.dev_dataset(job.make_batch).take(1),
    ):
        (inputs, labels), *_ = dataset
        length = inputs["input_mask"].shape[1]
        assert length < LENGTH and length % 8 == 0
        assert {inputs[key].shape[1] for key in TEXT_INPUTS} == {length}
        own = job.losses(labels, job.model(inputs, training=False))
        inputs, labels = (finetuning_step.padded(v, LENGTH) for v in (inputs, labels))
        assert {inputs[key].shape[1] for key in TEXT_INPUTS} == {LENGTH}
        whole = job.losses(labels, job.model(inputs, training=False))
        assert set(own) == set(whole) == set(job.loss_names)
        for key, value in own.items():
            np.testing.assert_allclose(value, whole[key], rtol=1e-5)
        totals.append(sum(map(float, own.values())))
    assert max(totals) > 0.1


def test_where_all_is_masked_every_place_stays(make_data_set, tmp_path):
    more = {"objective": "mask_all"}
    context, job = make_job("captioning", tmp_path, make_data_set, more)
    data = context.data.with_needs(job.needs)
    (inputs, labels), *_ = data.training_dataset(job.make_training_batch).take(1)
    shapes = {inputs[key].shape[1] for key in TEXT_INPUTS}
    assert shapes | {value.shape[1] for value in labels.values()} == {LENGTH}
