"""A report's first sections: what was trained, and how it learnt.

Each is a function that returns HTML; every task has a module of its own.
"""

import json
import shlex

from kaleido_tf.report import curves, markup
from kaleido_tf.report.inputs import DIRECTIONS

_LEVEL_NOTES = {
    "fixed": "one fixed grid over the picture",
    "kaleido": "kaleido levels over the picture",
    "kaleido+saliency": "kaleido levels within the locked box",
}


def header(title, run, retrieval, catalogue, tasks):
    """Title, the figures to look at first, and what was trained on what.

    Args:
      title: of the page.
      run: `inputs.Run`.
      retrieval: dict of `task_inputs.load_retrieval`, of the run itself.
      catalogue: its name.
      tasks: list of (value, name, note) of the fine-tuned tasks.
    """
    size = run.flags["model"]
    lead = (
        f"Kaleido-BERT, size {size}, pre-trained on {catalogue} for {run.steps:,} "
        f"steps; zero-shot retrieval on the {retrieval.get('split', '')} split."
    )
    tiles = "".join(_tile(*each) for each in [*_tiles(run, retrieval), *tasks])
    return (
        f"<header><h1>{markup.text(title)}</h1>"
        f'<p class="note">{markup.text(lead)}</p></header>'
        f'<div class="tiles">{tiles}</div>'
    )


def _tiles(run, retrieval):
    """(value, name, note) of the run's own figures."""
    for direction in DIRECTIONS:
        figures = retrieval["sampled"][direction]
        candidates = figures["lists"][0]["num_candidates"]
        yield (
            f"{figures['rank@1']['mean']:.1f}%",
            f"{direction.upper()} Rank@1 of {candidates}",
            f"chance {figures['chance']['rank@1']:.1f}%",
        )
    for panel in curves.panels(run, "accuracy"):
        if panel.chance is not None:
            note = f"chance {panel.chance:.1%}"
            yield f"{panel.end[1]:.1%}", f"{panel.title}, accuracy", note


def task_tiles(finetuned, classes, captioning):
    """(value, name, note) of the fine-tuned tasks that there are results of: list.

    Args:
      finetuned: dict of `task_inputs.load_retrieval`, or None.
      classes: dict task -> dict of `task_inputs.load_classification`.
      captioning: dict of `task_inputs.load_captioning`, or None.
    """
    tiles = []
    for direction in DIRECTIONS if finetuned else ():
        value = finetuned["sampled"][direction]["rank@1"]["mean"]
        tiles.append((f"{value:.1f}%", f"{direction.upper()} Rank@1", "fine-tuned"))
    for task, results in classes.items():
        name = "Sub-category" if task == "subcategory" else "Category"
        note = f"macro-F {results['macro_f']:.3f}"
        tiles.append((f"{results['accuracy']:.1%}", f"{name}, accuracy", note))
    if captioning:
        note = f"CIDEr {captioning['cider']:.1f}"
        tiles.append((f"{captioning['bleu_4']:.1f}", "Captioning, BLEU-4", note))
    return tiles


def _tile(value, name, note):
    name, note = markup.text(name), markup.text(note)
    return (
        f'<div class="card tile"><b>{markup.text(value)}</b>{name}<span>{note}</span>'
        "</div>"
    )


def what_was_trained(run, catalogue):
    """Model, data, training and software, and the command to do it again."""
    cards = [
        markup.facts("Model", _model_facts(run)),
        markup.facts("Training", _training_facts(run)),
        markup.facts("Data", _data_facts(run, catalogue)),
        markup.facts("Software", run.versions.items()),
    ]
    config = json.dumps(json.loads(run.config.to_json()), indent=1)
    return (
        "<h2>What was trained</h2>"
        f'<div class="facts">{"".join(cards)}</div>'
        '<div class="card"><h3>The same run again</h3>'
        f"<pre><code>{markup.text(command(run.flags))}</code></pre>"
        f"{_config_note(run)}"
        f"{markup.details('Model config', f'<pre>{markup.text(config)}</pre>')}</div>"
    )


def _model_facts(run):
    config = run.config
    millions = run.num_parameters and f"{run.num_parameters / 1e6:.1f} million"
    transformer = (
        f"{config.num_layers} layers, {config.hidden_size} hidden, "
        f"{config.num_heads} heads"
    )
    sequence = f"{config.text_length} word pieces + {config.num_patches} patches"
    return [
        ("Size", run.flags["model"]),
        ("Parameters", millions),
        ("Transformer", transformer),
        ("Input", sequence),
        ("Patch tasks", ", ".join(config.active_tasks) or "none"),
        ("Before fusion", "aligned" if config.contrastive_size else None),
        ("Dropout", config.hidden_dropout),
    ]


def _data_facts(run, catalogue):
    info, values = run.info, run.info.values
    counts = ", ".join(
        f"{info.num_examples(split):,} {split}" for split in sorted(values["splits"])
    )
    backbone = values.get("backbone", {})
    hashed = backbone.get("weights_hash", "")[:12]
    shape = f"{backbone.get('patch_size')} pixels, {info.feature_size} features each"
    coarse = values.get("coarse_patch_size", 0)
    if coarse > backbone.get("patch_size", 0):
        shape += f"; level 1: {coarse} pixels"
    boxes = ", ".join(f"{n:,} {name}" for name, n in values.get("boxes", {}).items())
    return [
        ("Catalogue", catalogue),
        ("Data set", info.directory),
        ("Images", counts),
        ("Patches", f"{info.patch_arm}: {_LEVEL_NOTES[info.patch_arm]}"),
        ("Patch size", shape),
        ("Backbone", f"{backbone.get('name')}, {backbone.get('weights')} ({hashed})"),
        ("Boxes by", boxes or None),
        ("Aligned pairs", _pairs_fact(info)),
        ("Vocabulary", f"{info.vocab_size:,} word pieces"),
        ("Left out", f"{values['skipped']:,} lines" if "skipped" in values else None),
    ]


def _pairs_fact(info):
    """How many pairs masking has to go by: str."""
    found = info.values.get("alignments")
    if not found:
        return "none: masks are drawn at random"
    images = sum(info.num_examples(split) for split in info.values["splits"])
    return f"{found['pairs'] / images:.1f} a text, {found['paired_texts']:,} texts"


def _training_facts(run):
    flags = run.flags
    hardware = f"{flags.get('strategy')}, {flags.get('precision')}"
    rate = run.samples_per_second
    minutes, seconds = divmod(round(run.training_seconds), 60)
    return [
        ("Steps", f"{run.steps:,} of {flags['batch_size']} pairs"),
        ("Samples", f"{run.steps * flags['batch_size']:,}"),
        ("Speed", rate and f"{rate:,.0f} samples/s (median of the rounds)"),
        ("Time", f"{minutes} min {seconds:02d} s without validation"),
        ("Learning rate", flags.get("learning_rate")),
        ("Masking", flags.get("masking")),
        ("Seed", flags.get("seed")),
        ("Hardware", hardware + (", XLA" if flags.get("xla") else "")),
        ("Run folder", run.folder),
    ]


def _config_note(run):
    if not run.flags.get("config"):
        return ""
    note = (
        f"The fields of --config={run.flags['config']} are part of the model config "
        "below, which the run folder holds as config.json."
    )
    return f'<p class="note">{markup.text(note)}</p>'


def command(flags):
    """The command line that gives these flags to run_pretrain.py: str."""
    words = ["python", "run_pretrain.py"]
    for name, value in flags.items():
        if value is None:
            continue
        if isinstance(value, bool):
            value = str(value).lower()
        elif isinstance(value, list | tuple):
            value = ",".join(str(item) for item in value)
        words.append(f"--{name}={value}")
    return shlex.join(words)


def learning(losses, accuracies, draw):
    """Curves of every loss and accuracy, and the table of start and end.

    Args:
      losses, accuracies: lists of `curves.Panel`.
      draw: function of a chart -> HTML of its picture.
    """
    table = markup.table(
        ("On the validation split", "start", "end", "chance"),
        [("group", ("Losses",))]
        + [_loss_row(panel) for panel in losses]
        + [("group", ("Accuracies",))]
        + [_accuracy_row(panel) for panel in accuracies],
    )
    first, last = losses[0].start[0], losses[0].end[0]
    steps = f"Start: step {first:,}. End: step {last:,}."
    return (
        "<h2>Losses</h2>"
        '<p class="note">Validation split, over the steps (the paper’s figure 6). '
        "Light behind: the mean over each round of training, in its middle.</p>"
        f'<div class="panels">{_panels(losses, draw)}</div>'
        "<h2>Accuracies of the tasks with classes</h2>"
        '<p class="note">Dashed: chance.</p>'
        f'<div class="panels">{_panels(accuracies, draw)}</div>'
        f'<h2>Start and end</h2><div class="card">{table}'
        f'<p class="note">{steps}</p></div>'
    )


def _panels(charts, draw):
    return "".join(markup.figure(draw(chart), chart.title) for chart in charts)


def _loss_row(panel):
    return "", (panel.title, f"{panel.start[1]:.3f}", f"{panel.end[1]:.3f}", "")


def _accuracy_row(panel):
    chance = "" if panel.chance is None else f"{panel.chance:.1%}"
    ends = (f"{panel.start[1]:.1%}", f"{panel.end[1]:.1%}")
    return "", (panel.title, *ends, chance)
