"""What the embedded catalogue says about its sentences, read against its own texts."""

import json
import os

import numpy as np
import pytest

from data_prep import catalogue
from data_prep.catalogue_parts import choices, lexicon, specs, wording
from kaleido_tf.tasks.attribute_lexicon import Lexicon
from kaleido_tf.tasks.attribute_metrics import Truth, attribute_figures

_PRODUCTS = 300


@pytest.fixture(scope="module")
def products():
    """dict number -> (text, truth) of products that are described and not drawn."""
    found = {}
    for index in range(_PRODUCTS):
        rng = np.random.default_rng([7, index])
        spec = specs.SPECS[index % len(specs.SPECS)]
        values = choices.choose_attributes(spec, rng)
        title, description, words = wording.describe(spec, values, rng)
        truth = Truth({**values, "subcategory": spec.name}, frozenset(words))
        found[index] = f"{title}. {description}", truth
    return found


def _figures(products, order):
    truths = {index: truth for index, (_, truth) in products.items()}
    captions = {index: products[other][0] for index, other in order.items()}
    return attribute_figures(captions, truths, Lexicon(lexicon.build_lexicon()))


def test_every_sentence_is_read_and_true(products):
    figures = _figures(products, {index: index for index in products})
    assert figures["num_unread_sentences"] == 0
    # `visible` holds what the description names: all of it is found again.
    assert figures["precision"] == figures["recall"] == 1.0
    assert figures["garment"]["precision"] == figures["garment"]["recall"] == 1.0
    assert figures["num_named"] > 8 * _PRODUCTS


def test_texts_of_other_products_are_wrong(products):
    order = {index: (index + 31) % _PRODUCTS for index in products}
    figures = _figures(products, order)
    assert figures["num_unread_sentences"] == 0
    assert figures["precision"] < 0.15 and figures["garment"]["recall"] == 0.0


def test_a_catalogue_that_was_drawn_before_gets_its_phrases(tmp_path):
    arguments = {
        "version": catalogue.VERSION,
        "num_products": 100,
        "seed": 3,
        "validation_fraction": 0.15,
    }
    (tmp_path / "truth").mkdir()
    record = arguments | {"counts": {"products": 100}}
    (tmp_path / "catalogue.json").write_text(json.dumps(record))
    assert catalogue.draw_catalogue(str(tmp_path), 100, seed=3) == {"products": 100}
    with open(tmp_path / catalogue.PHRASES_NAME, encoding="utf-8") as file:
        assert json.load(file) == lexicon.build_lexicon()
    assert sorted(os.listdir(tmp_path / "truth")) == ["phrases.json"]
