"""The command line of `prepare.py`: its flags and what they mean."""

from data_prep import saliency, sources
from kaleido_tf import cli
from kaleido_tf.config import PATCH_ARMS
from kaleido_tf.data import backbone as backbone_lib

SALIENCY_METHODS = saliency.METHODS


def source_flags(page):
    """Declares the flags that name a catalogue, under the heading Input."""
    page.heading("Input")
    page.enum(
        "source",
        "manifest",
        list(sources.SOURCES),
        "Kind of catalogue: manifest (yours), fashion_gen (its two HDF5 files), "
        "kaleido_release (the re-release's lines and PNG folders), kaggle (Fashion "
        "Product Images). docs/data.md shows each.",
    )
    page.string(
        "manifest",
        None,
        "manifest: JSON lines or CSV, one line an image, with product_id, image "
        "(path relative to the manifest), a text in text, title or description, and "
        "optionally image_id, category, subcategory, split.",
    )
    page.string(
        "train_file",
        None,
        "fashion_gen: fashiongen_256_256_train.h5; kaleido_release: "
        "full_train_info.txt.",
    )
    page.string(
        "validation_file",
        None,
        "The same for validation; without it products of train_file are held out.",
    )
    page.string(
        "train_images",
        None,
        "kaleido_release: folder of the pictures; default: extracted_train_images "
        "beside train_file.",
    )
    page.string(
        "validation_images",
        None,
        "The same for validation; default: extracted_valid_images.",
    )
    page.bool(
        "allow_other_keys",
        False,
        "fashion_gen: take files with other keys than the published 16.",
    )
    page.string("styles", None, "kaggle: styles.csv; the pictures in images beside it.")
    page.string("category_column", None, "kaggle: column; default: subCategory.")
    page.string("subcategory_column", None, "kaggle: column; default: articleType.")
    page.list(
        "text_fields",
        [],
        "Fields joined into the text, comma-separated. Default: text,title,description "
        "(manifest), description (fashion_gen, kaleido_release), title (kaggle).",
    )


def _network_flags(page):
    page.heading("Locked box and aligned pairs")
    page.enum(
        "saliency",
        saliency.DEFAULT_METHOD,
        list(SALIENCY_METHODS),
        "What finds the object, with kaleido+saliency. unet: the packaged U-Net, or "
        "your own by --saliency_weights (data_prep.saliency_unet trains it). opencv: "
        "plain background, else GrabCut. onnx, saved_model: a published network. "
        "none: the whole picture.",
    )
    page.string(
        "saliency_weights",
        None,
        "Folder of a U-Net, the ONNX file or the SavedModel.",
    )
    page.string(
        "alignments",
        None,
        "Folder of a trained captioner (data_prep.show_attend_tell): records get "
        "aligned <token, patch> pairs.",
    )


def page():
    page = cli.FlagPage(
        "Prepares a catalogue: images and texts -> TFRecord shards of patch features."
    )
    source_flags(page)
    page.float(
        "validation_fraction",
        0.1,
        "Share of products held out where the catalogue names no split.",
        lower_bound=0.0,
        upper_bound=1.0,
    )
    page.integer(
        "max_images",
        None,
        "Take only the first so many lines (images); of two files, the validation file "
        "gives validation_fraction of them.",
    )
    page.float(
        "max_bad_fraction",
        0.02,
        "Fail when more than this share of lines can't be used; they are listed in "
        "skipped.jsonl either way.",
        lower_bound=0.0,
        upper_bound=1.0,
    )
    page.heading("Output")
    page.string("output_dir", None, "Folder of the data set.", required=True)
    page.integer("images_per_shard", 256, "Upper bound, images.", lower_bound=1)
    page.heading("Text")
    page.string("vocab_file", None, "A BERT vocab.txt; without it one is learnt.")
    page.integer(
        "vocab_size",
        4000,
        "Upper bound of a learnt vocabulary, word pieces.",
        lower_bound=200,
    )
    page.integer(
        "max_tokens",
        510,
        "Word pieces stored of a text; longer ones are cut.",
        lower_bound=1,
    )
    page.heading("Patches and features")
    page.enum(
        "patches",
        "kaleido+saliency",
        list(PATCH_ARMS),
        "fixed: one 8 x 8 grid over the picture. kaleido: 55 patches at five scales. "
        "kaleido+saliency: the same within the locked box of the object.",
    )
    page.enum(
        "backbone",
        "efficientnet_lite0",
        sorted(backbone_lib.FEATURE_SIZES),
        "Network that turns a patch into a vector (1280 or 2048 numbers).",
    )
    page.string(
        "backbone_weights",
        None,
        "File with the backbone's ImageNet weights; without it the ones from its "
        "package (efficientnet_lite0) or Keras's download (resnet50).",
    )
    page.integer(
        "patch_size",
        64,
        "Side of a patch for the backbone, pixels; 224 as published.",
        lower_bound=32,
    )
    page.integer(
        "coarse_patch_size",
        128,
        "Side of level 1's patch and its rotations, pixels, where that is larger than "
        "patch_size: the whole object shows poorly at 64.",
        lower_bound=0,
    )
    page.integer(
        "canvas_size",
        256,
        "Side that pictures are brought to first, pixels.",
        lower_bound=32,
    )
    page.integer(
        "images_per_batch",
        16,
        "Pictures whose patches share a batch (x 74 patches).",
        lower_bound=1,
    )
    _network_flags(page)
    page.heading("Apache Beam")
    page.list(
        "beam_args",
        [],
        "Options for Beam, comma-separated, such as "
        "--runner=FlinkRunner,--parallelism=8; the default runs on this machine.",
    )
    return page
