"""CLI: fine-tunes a pre-trained model on one of the tasks, evaluates it, predicts.

The table of tasks is `kaleido_tf.tasks.TASKS`; this file holds their flags only.
"""

from kaleido_tf import cli
from kaleido_tf.config import PRESETS
from kaleido_tf.tasks import MODES, TASKS, list_flags
from kaleido_tf.training import training_flags

# What a mode can't do without, besides --task and --data_dir.
_NEEDED = {
    "train": ("run_dir",),
    "evaluate": ("checkpoint", "output_dir"),
    "predict": ("checkpoint", "output_dir"),
}


def _start_flags(page):
    page.heading("What to do")
    summaries = " ".join(f"{name}: {task.summary}." for name, task in TASKS.items())
    page.enum("task", None, list(TASKS), summaries, required=True)
    page.enum(
        "mode",
        "evaluate",
        list(MODES),
        "train: fine-tune. evaluate: figures. predict: a file of answers.",
    )
    page.string(
        "data_dir",
        None,
        "Folder of a prepared data set (python -m data_prep.prepare).",
        required=True,
    )


def _training_flags(page):
    page.heading("--mode=train")
    page.string(
        "run_dir", None, "Folder for config, checkpoints and logs (needed to train)."
    )
    page.string(
        "init_checkpoint",
        None,
        "Weights to start from: a run folder or checkpoint of ours, of the original "
        "release, of Google's BERT or Hugging Face's; it decides the model's sizes. "
        "none: from scratch.",
    )
    page.enum(
        "model",
        "base",
        list(PRESETS),
        "Size, where --init_checkpoint isn't a run of ours.",
    )
    page.string(
        "config", None, "JSON file with KaleidoConfig fields that override all others."
    )
    page.integer(
        "text_length",
        None,
        "Word pieces of a text, [CLS] and [SEP] included.",
        shown_default="as pre-trained",
        lower_bound=3,
    )
    page.integer("num_steps", 5000, "Length of the run, steps.", lower_bound=1)
    page.integer(
        "batch_size", 64, "Products a step, all replicas together.", lower_bound=1
    )
    training_flags.optimizer(page, learning_rate=2e-5)
    page.float(
        "dropout",
        0.1,
        "Share of the pooled output's numbers, 0 to 0.9, that a step drops under the "
        "classes' dense layer.",
        lower_bound=0,
        upper_bound=0.9,
    )
    page.float(
        "dev_fraction",
        0.1,
        "Share of the training products, 0 to 1, chosen by a hash of their ids, that "
        "is left out of training and chooses the best checkpoint.",
        lower_bound=0,
        upper_bound=1,
    )
    training_flags.rounds(page, steps_per_round=250)
    training_flags.faults(page)
    page.integer(
        "patience",
        5,
        "Rounds without a better figure on the dev part that end the run; 0: it never "
        "ends early.",
        lower_bound=0,
    )
    training_flags.seed(page, "new weights, order and what a task draws")


def _evaluation_flags(page):
    page.heading("--mode=evaluate and --mode=predict")
    page.string(
        "checkpoint",
        None,
        "Fine-tuned run folder (its best checkpoint) or the prefix of a checkpoint; "
        "for zero-shot retrieval a pre-training run (needed).",
    )
    page.string("output_dir", None, "Folder for the results (needed).")
    page.string("split", "validation", "Which records.")
    page.integer(
        "eval_batch_size",
        256,
        "Records or pairs that are computed at once.",
        lower_bound=1,
    )
    page.integer(
        "top_k", 10, "Labels, or ranked items, a line of predictions.", lower_bound=1
    )


def _task_flags(page):
    page.heading("--task=retrieval")
    list_flags.add(page, max_full_pairs=250_000)
    page.enum(
        "score",
        "match",
        ["match", "cosine", "both"],
        "match: the matching head's probability. cosine: the vectors from before the "
        "fusion layers. both: the head's log-odds plus the cosine over its "
        "temperature.",
    )
    page.integer(
        "rerank",
        100,
        "Candidates that the first stage, by vectors, leaves to the matching head "
        "where a split is too large for all pairs.",
        lower_bound=1,
    )
    page.float(
        "hard_rate",
        0.5,
        "In training, the share, 0 to 1, of mismatched pairs from the same "
        "sub-category.",
        lower_bound=0,
        upper_bound=1,
    )
    page.float(
        "contrastive_weight",
        None,
        "In training, factor of the loss on the vectors in the total.",
        shown_default="as pre-trained",
        lower_bound=0,
    )
    page.heading("--task=captioning")
    page.enum(
        "objective",
        "next_word",
        ["next_word", "masked", "mask_all"],
        "In training. next_word: every position foretells the next piece. masked: "
        "seven tenths of the pieces are masked and restored. mask_all: the whole "
        "text, for --decoding=mask_all.",
    )
    page.float(
        "word_dropout",
        0.0,
        "In training by next_word, the share, 0 to 1, of the pieces read that are "
        "hidden: the picture has to tell what they did.",
        lower_bound=0,
        upper_bound=1,
    )
    page.enum(
        "decoding",
        "beam",
        ["beam", "greedy", "mask_all"],
        "mask_all: all pieces at once from a masked text, the arm to beat.",
    )
    page.string(
        "truth",
        None,
        "Truth folder of an embedded catalogue (CATALOGUE/truth), for precision and "
        "recall of the attributes that captions name.",
    )
    page.integer("beam_size", 5, "Captions kept by beam search.", lower_bound=1)
    page.integer("max_length", 64, "Word pieces of a caption at most.", lower_bound=1)
    page.float(
        "length_penalty",
        0.6,
        "Exponent of beam search's length normalisation; 0 favours short captions.",
        lower_bound=0,
    )


def flag_page():
    """The command's flags; defined on the call, so that importing defines none."""
    page = cli.FlagPage("Fine-tunes Kaleido-BERT on a task, evaluates it, predicts.")
    _start_flags(page)
    _training_flags(page)
    _evaluation_flags(page)
    _task_flags(page)
    training_flags.hardware(page)
    return page


def main(settings):
    """Runs the chosen task and mode with a dict of flags."""
    needed = _NEEDED.get(settings["mode"], ())
    if missing := [f"`--{name}`" for name in needed if not settings[name]]:
        raise ValueError(
            f"{', '.join(missing)} should be given for --mode={settings['mode']}. "
            "Received: no value"
        )
    return TASKS[settings["task"]].run(settings["mode"], settings)


if __name__ == "__main__":
    _PAGE = flag_page()
    cli.run(lambda: main(_PAGE.values()), _PAGE)
