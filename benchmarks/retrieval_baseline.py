"""CLI: a retrieval baseline worth beating, on the same frozen candidate lists.

Ridge regression from the words and bigrams of a text to the whole image's features
(the data set's backbone, no patches), trained on the same pairs as the model, ranked by
cosine. It knows no patch and no word order beyond two words; a model that doesn't beat
it has learnt less than a linear map of counts. Its strength and the scaling of the
features are chosen on products held back from the training split, never on the split
that is evaluated.
"""

import dataclasses

from benchmarks import results_file, whole_image
from benchmarks.text_ridge import SCALINGS, ScaledSpace, TextRidge, choose
from kaleido_tf import cli
from kaleido_tf.data import candidate_lists
from kaleido_tf.data.dataset_info import DatasetInfo
from kaleido_tf.tasks import list_flags, retrieval, retrieval_run


def fit_scorer(train, split, vectors_of, scalings=SCALINGS):
    """Chooses and fits the baseline; scores of the evaluated split.

    Args:
      train: list of `Item` of the training split, each with a text.
      split: `RetrievalSplit` to score.
      vectors_of: function of a list of image ids -> float32 [n, F].
      scalings: see `text_ridge.choose`.

    Returns:
      (`VectorScorer`, dict that describes what was fitted).
    """
    texts = [item.text for item in train]
    features = vectors_of([item.image_id for item in train])
    choices = choose(texts, [item.product_id for item in train], features, scalings)
    best = choices[0]
    space = ScaledSpace(features, best.scaling)
    ridge = TextRidge(best.strength).fit(texts, features - space.mean)
    scorer = retrieval.VectorScorer(
        space.vectors(ridge.predict(split.texts)),
        space.vectors(vectors_of(split.image_ids) - space.mean),
    )
    return scorer, {
        "name": "ridge regression, words and bigrams to whole image",
        "strength": best.strength,
        "scaling": best.scaling,
        "num_terms": ridge.num_terms,
        "num_training_pairs": len(train),
        "tried_on_training_products": [dataclasses.asdict(c) for c in choices],
    }


def run(settings):
    """Fits and measures the baseline.

    Args:
      settings: dict of the command's flags.

    Returns:
      dict, the content of the output file; its table is printed.

    Raises:
      FileNotFoundError, ValueError: what is missing or doesn't fit, and what to do.
    """
    lists = retrieval_run.load_lists(settings)
    info = DatasetInfo.load(settings["data_dir"])
    train = candidate_lists.read_items(info, "train")
    evaluated = candidate_lists.read_items(info, lists["itr"][0]["split"])
    vectors_of, backbone = whole_image.vectors_of([*train, *evaluated], info, settings)
    # Without patches a split is but its texts: it is always read whole.
    split = retrieval_run.load_split(info, lists, whole=True, with_patches=False)
    scorer, fitted = fit_scorer(
        [item for item in train if item.text.strip()],
        split,
        vectors_of,
        settings["scalings"],
    )
    plan = retrieval.GalleryPlan(scorer, scorer, settings["max_full_pairs"])
    results = {
        "task": "retrieval",
        "data_dir": settings["data_dir"],
        "baseline": {**fitted, "backbone": backbone.describe()},
        **retrieval_run.measure(plan, split, lists),
    }
    print(retrieval_run.format_table(results))
    results_file.write(results, settings["output"])
    return results


def flag_page():
    """The command's flags; defined on the call, so that importing defines none."""
    page = cli.FlagPage(
        "Retrieval by ridge regression from words to whole images, as a baseline."
    )
    whole_image.add_flags(page)
    page.list(
        "scalings",
        list(SCALINGS),
        "Scalings of the features to choose from, comma-separated; centre alone is the "
        "plainest baseline.",
    )
    page.heading("Retrieval")
    list_flags.add(page, max_full_pairs=5_000_000, lists_required=True)
    return page


if __name__ == "__main__":
    _PAGE = flag_page()
    cli.run(lambda: run(_PAGE.values()), _PAGE)
