"""Captioning as `run_finetune.py` runs it: a text from the image alone (docs/tasks.md).

Evaluation makes one caption for every product, of its first image by id, and compares
it to the product's texts, whole as they are; the decoding never looks at them. Training
is in `captioning_train`, decoding in `kaleido_tf.modeling.decoding`.
"""

import dataclasses

import numpy as np
from absl import logging

from kaleido_tf.data import candidate_lists
from kaleido_tf.data.input_pipeline import naming_damage
from kaleido_tf.modeling import build_captioner, decoding
from kaleido_tf.tasks import attribute_metrics, caption_metrics, results
from kaleido_tf.tasks.caption_text import readable
from kaleido_tf.tasks.captioning_table import PUBLISHED, format_table
from kaleido_tf.tasks.captioning_train import train
from kaleido_tf.training import checkpoints, finetuning

__all__ = ["evaluate", "predict", "train"]

TASK = "captioning"
_NUM_EXAMPLES = 12  # shown in the report


@dataclasses.dataclass(frozen=True)
class Asked:
    """What is captioned of a product.

    Attributes:
      product_id, image_id: str; the image is the product's first by id.
      subcategory: str, of that image's record.
      references: the product's different texts, list of str.
    """

    product_id: str
    image_id: str
    subcategory: str
    references: list


def choose_images(items):
    """One image for every product that has a text: list of `Asked`, by product id.

    Args:
      items: list of `candidate_lists.Item`.
    """
    products = {}
    for item in sorted(items, key=lambda item: item.image_id):
        products.setdefault(item.product_id, []).append(item)
    asked = []
    for product_id, views in sorted(products.items()):
        texts = {}
        for view in views:
            texts.setdefault(candidate_lists.fold_text(view.text), view.text)
        texts.pop("", None)
        if texts:
            first = views[0]
            asked.append(
                Asked(
                    product_id, first.image_id, first.subcategory, list(texts.values())
                )
            )
    return asked


def evaluate(settings):
    """Measures a run on a split, by the figures of the COCO caption toolkit.

    Args:
      settings: dict of the flags of `run_finetune.py`; `truth`, if it is there, names
        the truth folder of an embedded catalogue (`attribute_metrics`).

    Returns:
      dict, the content of OUTPUT_DIR/captioning.json; the table is printed and the
      captions are written to OUTPUT_DIR/predictions.jsonl.

    Raises:
      FileNotFoundError, ValueError: what is missing or doesn't fit, and what to do.
    """
    context, decoder = _open(settings)
    items = _read_items(context)
    asked = {each.image_id: each for each in choose_images(items)}
    num_products = len({item.product_id for item in items})
    if not asked:
        raise ValueError(
            "`split` should have products with a text to compare to. Received: "
            f"{settings['split']!r} of {settings['data_dir']} with {num_products} "
            "products, none of which has one (--mode=predict needs no text)"
        )
    judge = _judge(settings.get("truth"), asked)
    rows = list(_captions(context, decoder, set(asked)))
    captions = {row["product_id"]: row["caption"] for row in rows}
    references = {each.product_id: each.references for each in asked.values()}
    figures = caption_metrics.caption_figures(captions, references)
    figures["num_without_reference"] += num_products - len(asked)
    content = {
        "task": TASK,
        "checkpoint": context.checkpoint,
        "trained": context.task.get("objective", "pre-training alone"),
        "data_dir": settings["data_dir"],
        "split": settings["split"],
        "precision": settings["precision"],
        **_decoding_facts(context, decoder),
        **_reference_facts(context, decoder, references),
        **figures,
        "attributes": _attributes(judge, rows, asked),
        "examples": _examples(rows, asked, judge),
        "published": PUBLISHED,
    }
    path = results.write_results(content, settings["output_dir"])
    others, _ = results.write_predictions(rows, settings["output_dir"])
    print(format_table(content))
    print(f"Written to {path} and {others}")
    return content


def predict(settings):
    """Writes OUTPUT_DIR/predictions.jsonl, a caption for every image of a split.

    Each line holds image_id, product_id, caption, its score (log probability over the
    length penalty; null where nothing was found) and, of a beam search, all captions
    that it ended with, best first.

    Returns:
      dict: path, num_examples.
    """
    context, decoder = _open(settings)
    _read_items(context)
    rows = _captions(context, decoder)
    path, count = results.write_predictions(rows, settings["output_dir"])
    print(f"{count} captions written to {path}")
    return {"path": path, "num_examples": count}


def _open(settings):
    """`Context` of the run, and its `CaptionDecoder` with weights."""
    context = finetuning.open_run(settings)
    if context.task:
        finetuning.check_task(context, TASK)
    objective = context.task.get("objective")
    how = decoding.DecodingSettings(
        method=settings["decoding"],
        # Pre-training and mask_all know a place by the [MASK] in it.
        objective=objective if objective in decoding.QUESTIONS else "masked",
        beam_size=settings["beam_size"],
        max_length=settings["max_length"],
        length_penalty=settings["length_penalty"],
    )
    if objective and (objective == "mask_all") != (how.method == "mask_all"):
        logging.warning(
            "--decoding=%s reads words in another way than --objective=%s was trained "
            "(--decoding=%s is made for it)",
            how.method,
            objective,
            "mask_all" if objective == "mask_all" else "beam",
        )
    captioner = build_captioner(context.config, how.attention)
    checkpoints.load_weights(captioner, context.checkpoint)
    decoder = decoding.CaptionDecoder(captioner, context.config, context.tokenizer, how)
    if decoder.max_length < how.max_length:
        logging.info(
            "captions end after %d pieces: the model's text_length is %d",
            decoder.max_length,
            context.config.text_length,
        )
    return context, decoder


def _read_items(context):
    split = context.settings["split"]
    items = candidate_lists.read_items(context.info, split)
    if not items:
        raise ValueError(
            f"`split` should have records. Received: {split!r} of "
            f"{context.info.directory}, which is empty"
        )
    return items


def _captions(context, decoder, image_ids=None):
    """Yields a row of `predict` for every record of the split, in order.

    Args:
      context: `Context`.
      decoder: `CaptionDecoder`.
      image_ids: set of the images that are wanted; None: all.
    """
    split, size = context.settings["split"], context.settings["eval_batch_size"]
    done = 0
    with naming_damage(context.info, (split,)):
        for batch in context.data.split_dataset(split, size):
            keys = ("image_id", "product_id")
            names = [[v.decode() for v in batch[key].numpy()] for key in keys]
            ids = list(zip(*names, strict=True))
            places = [i for i, pair in enumerate(ids) if _wanted(pair[0], image_ids)]
            # Every caption of a beam is computed: so many at once, not images.
            parts = -(-len(places) * decoder.num_captions // size)
            for part in np.array_split(places, parts) if places else ():
                yield from _decode(context, decoder, batch, part, ids)
            done += len(places)
            logging.log_every_n_seconds(logging.INFO, "%d images captioned", 30, done)


def _wanted(image_id, image_ids):
    return image_ids is None or image_id in image_ids


def _decode(context, decoder, batch, places, ids):
    """Yields the rows of some places of a batch."""
    features, locations = (
        batch[key].numpy()[places] for key in ("patch_features", "patch_locations")
    )
    found = decoder.decode(features, locations)
    columns = (found["caption_ids"].numpy(), found["caption_scores"].numpy())
    if np.isnan(columns[1]).any():
        raise ValueError(
            f"The scores should be numbers. Received: NaN from {context.checkpoint} "
            "(the model diverged, or its weights are damaged)"
        )
    for place, pieces, scores in zip(places, *columns, strict=True):
        # A score of -inf stands beside no caption at all.
        captions = [
            {"caption": readable(context.tokenizer.decode(p)), "score": float(s)}
            for p, s in zip(pieces, scores, strict=True)
            if np.isfinite(s)
        ]
        best = captions[0] if captions else {"caption": "", "score": None}
        row = {"image_id": ids[place][0], "product_id": ids[place][1], **best}
        yield row | ({"captions": captions} if decoder.num_captions > 1 else {})


def _decoding_facts(context, decoder):
    settings = context.settings
    facts = {"decoding": settings["decoding"], "max_length": decoder.max_length}
    if settings["decoding"] == "beam":
        facts |= {key: settings[key] for key in ("beam_size", "length_penalty")}
    return facts


def _reference_facts(context, decoder, references):
    """What the references are: printed with the figures."""
    texts = [text for each in references.values() for text in each]
    pieces = context.tokenizer.tokenize(texts).row_lengths().numpy()
    fields = context.info.values.get("text_fields")
    return {
        "text_field": " + ".join(fields) if fields else "text of the prepared records",
        "truncation": "none: references are whole",
        # [SEP] is one of the pieces that a caption can have.
        "num_references_longer": int(np.sum(pieces + 1 > decoder.max_length)),
    }


def _judge(folder, asked):
    """`Judge` of a truth folder for a dict image_id -> `Asked`; None without one."""
    if not folder:
        return None
    garments = {image_id: each.subcategory for image_id, each in asked.items()}
    return attribute_metrics.Judge.load(folder, garments)


def _attributes(judge, rows, asked):
    """The captions' figures and, as `references`, those of the products' own texts."""
    if judge is None:
        return None
    captions = {row["image_id"]: row["caption"] for row in rows}
    texts = {image_id: each.references[0] for image_id, each in asked.items()}
    return {**judge.figures(captions), "references": judge.figures(texts)}


def _examples(rows, asked, judge):
    """The first captions by product id, for people to look at."""
    shown = sorted(rows, key=lambda row: row["product_id"])[:_NUM_EXAMPLES]
    return [
        {
            **{key: row[key] for key in ("image_id", "product_id", "caption", "score")},
            "references": asked[row["image_id"]].references,
            "claims": judge and judge.claims(row["image_id"], row["caption"]),
        }
        for row in shown
    ]
