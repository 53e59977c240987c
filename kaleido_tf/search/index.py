"""CLI: `python -m kaleido_tf.search.index` makes the index of a catalogue.

Run again, it computes what is new or changed and drops what is gone; interrupted, it
goes on where it was.
"""

import time

from kaleido_tf import cli
from kaleido_tf.data.manifest import TEXT_FIELDS
from kaleido_tf.search import nearest


def flag_page():
    """The command's flags; defined on the call, so that importing defines none."""
    page = cli.FlagPage(
        "Indexes a catalogue for search: pictures and texts -> features and vectors."
    )
    page.heading("Input")
    page.string(
        "export",
        None,
        "Folder of `python -m kaleido_tf.serving.export`; its newest version is taken.",
        required=True,
    )
    page.string(
        "manifest",
        None,
        "Catalogue: JSON lines or CSV, one line an image, with product_id, image (path "
        "relative to the manifest), a text, and optionally image_id, category, "
        "subcategory, split.",
    )
    page.string(
        "data_dir",
        None,
        "Data set of data_prep.prepare that the export's model was made for: its "
        "features are taken over instead of computed. With --manifest the rest is "
        "computed; alone, the index has no pictures to show.",
    )
    page.list(
        "text_fields",
        list(TEXT_FIELDS),
        "Fields of the manifest joined into the text.",
    )
    page.integer("max_images", None, "Only the first so many images.", lower_bound=1)
    page.float(
        "max_bad_fraction",
        0.02,
        "More left out than this share of the lines ends it: the index stays as it is.",
        lower_bound=0.0,
        upper_bound=1.0,
    )
    page.heading("Output")
    page.string("index_dir", None, "Folder of the index.", required=True)
    page.bool(
        "replace",
        False,
        "Remove an index of another export that is there, instead of refusing.",
    )
    page.enum(
        "index",
        "flat",
        list(nearest.KINDS),
        "How vectors are searched. flat: all of them, exact. hnsw, ivf: approximate, "
        "for millions.",
    )
    page.integer(
        "batch_size", 16, "Pictures at once through the export.", lower_bound=1
    )
    return page


def main(settings):
    """Makes the index with a dict of flags; prints what was done."""
    from kaleido_tf.search.builder import build_index
    from kaleido_tf.search.exported import Export

    start = time.time()
    settings = dict(settings)
    settings["text_fields"] = tuple(settings["text_fields"])
    done = build_index(Export(settings.pop("export")), **settings)
    print(
        f"{settings['index_dir']}: {done['images']} images of {done['products']} "
        f"products, {done['texts']} texts. Pictures computed {done['computed']}, "
        f"copied {done['copied']}; texts encoded {done['encoded']}; left out "
        f"{done['skipped']} (skipped.jsonl). {time.time() - start:.0f} s"
    )


if __name__ == "__main__":
    PAGE = flag_page()
    cli.run(lambda: main(PAGE.values()), PAGE)
