"""CLI: fine-tunes or evaluates a pre-trained model on one of the tasks.

The table of tasks is `kaleido_tf.tasks.TASKS`; this file holds their flags only.
"""

from kaleido_tf import cli
from kaleido_tf.tasks import MODES, TASKS


def flag_page():
    """The command's flags; defined on the call, so that importing defines none."""
    page = cli.FlagPage("Evaluates a pre-trained Kaleido-BERT on a task.")
    page.heading("What to do")
    summaries = " ".join(f"{name}: {task.summary}." for name, task in TASKS.items())
    page.enum("task", None, list(TASKS), summaries, required=True)
    page.enum("mode", "evaluate", list(MODES), "What to do with the model.")
    page.heading("Data and model")
    page.string("data_dir", None, "Prepared data set.", required=True)
    page.string(
        "checkpoint",
        None,
        "Run folder of run_pretrain.py (its last checkpoint), or the prefix of a "
        "checkpoint within it.",
        required=True,
    )
    page.string("output_dir", None, "Folder for the results.", required=True)
    page.heading("Retrieval")
    page.string(
        "lists_dir",
        None,
        "Folder of frozen candidate lists (needed for --task=retrieval), made by "
        "`python -m data_prep.retrieval_lists --data_dir=PREPARED --output_dir=DIR`.",
    )
    page.integer("num_lists", 5, "Lists for each direction: the seeds 0, 1, ...")
    page.integer("num_queries", 0, "Queries of each list, from its start; 0 is all.")
    page.integer(
        "max_full_pairs",
        250_000,
        "Rank the whole split too if it has at most so many pairs (texts x images).",
    )
    page.enum(
        "score",
        "match",
        ["match", "cosine", "both"],
        "match: the matching head's probability. cosine: the vectors from before the "
        "fusion layers. both: the sum of the two.",
    )
    page.heading("Speed")
    page.integer("batch_size", 256, "Pairs scored at once.", lower_bound=1)
    page.enum(
        "precision",
        "float32",
        ["float32", "mixed_bfloat16"],
        "Arithmetic of the layers; scores are taken in float32 either way.",
    )
    return page


def main(settings):
    """Runs the chosen task and mode with a dict of flags."""
    return TASKS[settings["task"]].run(settings["mode"], settings)


if __name__ == "__main__":
    _PAGE = flag_page()
    cli.run(lambda: main(_PAGE.values()), _PAGE)
