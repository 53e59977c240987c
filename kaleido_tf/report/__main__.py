"""CLI: `python -m kaleido_tf.report` writes the report of a run."""

from kaleido_tf import cli
from kaleido_tf.report.build import write_report


def flag_page():
    """The command's flags; defined on the call, so that importing defines none."""
    page = cli.FlagPage(
        "Writes a report of a run: one self-contained HTML page, and PNG files."
    )
    page.heading("Input")
    page.string("run_dir", None, "Folder of run_pretrain.py.", required=True)
    page.string(
        "data_dir",
        None,
        "Folder of the data that the run was trained on, if it was moved.",
        shown_default="as the run names it",
    )
    page.string(
        "manifest",
        None,
        "Manifest of the catalogue, by which the pictures are found.",
        required=True,
    )
    page.string(
        "retrieval",
        None,
        "retrieval.json of `run_finetune.py --task=retrieval`, of this run.",
        required=True,
    )
    page.string(
        "baseline",
        None,
        "Results of `python -m benchmarks.retrieval_baseline` on the same lists.",
    )
    page.heading("Fine-tuned tasks: each file grows its section")
    page.string("finetuned", None, "retrieval.json of a fine-tuned run, same lists.")
    page.string("category", None, "category.json of `run_finetune.py`.")
    page.string("subcategory", None, "subcategory.json of `run_finetune.py`.")
    page.string(
        "class_baseline",
        None,
        "Results of `python -m benchmarks.classification_baseline`, same data set.",
    )
    page.string("captioning", None, "captioning.json of `run_finetune.py`.")
    page.string(
        "captioning_baseline",
        None,
        "captioning.json of another way to decode (--decoding=mask_all), or of another "
        "run, on the same products.",
    )
    page.heading("Output")
    page.string("output_dir", "report", "Folder for the page and the pictures.")
    page.string(
        "title",
        None,
        "Title of the page.",
        shown_default="Kaleido-BERT on, and the manifest's folder",
    )
    return page


def main(settings):
    """Writes the report with a dict of flags."""
    for path in write_report(**settings):
        print(f"Written: {path}")


if __name__ == "__main__":
    _PAGE = flag_page()
    cli.run(lambda: main(_PAGE.values()), _PAGE)
