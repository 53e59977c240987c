"""The sections of a report's page, each a function that returns HTML."""

import json
import os
import shlex

from kaleido_tf.report import curves, markup
from kaleido_tf.report.inputs import DIRECTIONS, RECALLS

_LEVEL_NOTES = {
    "fixed": "one fixed grid over the picture",
    "kaleido": "kaleido levels over the picture",
    "kaleido+saliency": "kaleido levels within the locked box",
}


def header(title, run, retrieval, catalogue):
    """Title, the four figures to look at first, and what was trained on what."""
    size = run.flags["model"]
    lead = (
        f"Kaleido-BERT, size {size}, pre-trained on {catalogue} for {run.steps:,} "
        f"steps; zero-shot retrieval on the {retrieval.get('split', '')} split."
    )
    return (
        f"<header><h1>{markup.text(title)}</h1>"
        f'<p class="note">{markup.text(lead)}</p></header>'
        f'<div class="tiles">{"".join(_tiles(run, retrieval))}</div>'
    )


def _tiles(run, retrieval):
    for direction in DIRECTIONS:
        figures = retrieval["sampled"][direction]
        candidates = figures["lists"][0]["num_candidates"]
        yield _tile(
            f"{figures['rank@1']['mean']:.1f}%",
            f"{direction.upper()} Rank@1 of {candidates}",
            f"chance {figures['chance']['rank@1']:.1f}%",
        )
    for panel in curves.panels(run, "accuracy"):
        if panel.chance is not None:
            note = f"chance {panel.chance:.1%}"
            yield _tile(f"{panel.end[1]:.1%}", f"{panel.title}, accuracy", note)


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
        ("Vocabulary", f"{info.vocab_size:,} word pieces"),
        ("Left out", f"{values['skipped']:,} lines" if "skipped" in values else None),
    ]


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


def retrieval_figures(retrieval, baseline, bars, draw, run):
    """The retrieval table beside chance and baseline; published figures apart.

    Args:
      retrieval, baseline: dicts of `inputs.load_retrieval`; baseline may be None.
      bars: list of `curves.Bars`.
      draw: function of a chart -> HTML of its picture.
      run: `inputs.Run`.
    """
    first = retrieval["sampled"]["itr"]["lists"]
    count = f"{len(first)} list{'s' * (len(first) > 1)}"
    note = (
        f"Sampled protocol: {count} of {first[0]['num_queries']} queries "
        f"with {first[0]['num_candidates']} candidates for each direction; mean ± "
        "standard deviation over the lists, in percent. Ties count against the model. "
        f"Score: {retrieval.get('score')}."
    )
    rows = _sampled_rows(retrieval, baseline) + _gallery_rows(retrieval, baseline)
    head = ("", *(key.capitalize() for key in RECALLS))
    return (
        f'<h2>Retrieval</h2><p class="note">{markup.text(note)}</p>'
        f"{_foreign_checkpoint(retrieval, run)}"
        f'<div class="panels wide">{_panels(bars, draw)}</div>'
        f'<div class="card">{markup.table(head, rows)}{_below(retrieval, baseline)}'
        f"{markup.details('The candidate lists', _lists(retrieval))}</div>"
        f"{_published(retrieval)}"
    )


def _foreign_checkpoint(retrieval, run):
    prefix = os.path.realpath(str(retrieval.get("checkpoint", "")))
    if prefix.startswith(os.path.realpath(run.folder) + os.sep):
        return ""
    note = (
        f"These figures are of the checkpoint {retrieval.get('checkpoint')}, which "
        f"does not lie in the run folder {run.folder}."
    )
    return f'<p class="warn">{markup.text(note)}</p>'


def _spread(figures):
    # The space after the sign doesn't break: on a phone the deviation stays whole.
    return [f"{figures[k]['mean']:.2f} ±\u00a0{figures[k]['std']:.2f}" for k in RECALLS]


def _plain(figures):
    return [f"{figures[key]:.2f}" for key in RECALLS]


def _sampled_rows(retrieval, baseline):
    rows = []
    for direction in DIRECTIONS:
        figures = retrieval["sampled"][direction]
        rows.append(("group", (curves.DIRECTION_TITLES[direction],)))
        rows.append(("ours", ("this run", *_spread(figures))))
        if baseline:
            theirs = _spread(baseline["sampled"][direction])
            rows.append(("", ("baseline", *theirs)))
        rows.append(("faint", ("chance", *_plain(figures["chance"]))))
        times = [figures[k]["mean"] / figures["chance"][k] for k in RECALLS]
        rows.append(("faint", ("this run / chance", *(f"{t:.1f} ×" for t in times))))
    return rows


def _gallery_rows(retrieval, baseline):
    full, rows = retrieval["full_gallery"], []
    other = (baseline or {}).get("full_gallery", {})
    for direction in DIRECTIONS:
        ours, theirs = full.get(direction), other.get(direction)
        if ours is None and theirs is None:
            continue
        known = ours or theirs
        title = curves.DIRECTION_TITLES[direction]
        heading = f"{title}, full gallery, {known['num_queries']:,} queries"
        rows.append(("group", (heading,)))
        if ours:
            rows.append(("ours", ("this run", *_plain(ours))))
        if theirs:
            rows.append(("", ("baseline", *_plain(theirs))))
        rows.append(("faint", ("chance", *_plain(known["chance"]))))
    return rows


def _below(retrieval, baseline):
    """Sums, pairs and what was left out, under the table."""
    lines = []
    for label, results in (("this run", retrieval), ("baseline", baseline)):
        if not results:
            continue
        total, pairs = results["sampled"]["sum_of_recalls"], results["pairs"]
        line = f"SumR, {label}: {total['mean']:.2f} ± {total['std']:.2f}."
        if pairs.get("auc") is not None:
            line += (
                f" Of {pairs['num_pairs']:,} pairs, half true: AUC {pairs['auc']:.3f}"
            )
            accuracy = pairs.get("pair_accuracy")
            line += "." if accuracy is None else f", accuracy {accuracy:.1%}."
        lines.append(line)
    if skipped := retrieval["full_gallery"].get("skipped"):
        lines.append(f"Full gallery: skipped, {skipped}.")
    if baseline and (fitted := baseline.get("baseline")):
        lines.append(
            f"Baseline: {fitted['name']}, penalty {fitted['strength']:g}, scaling "
            f"{fitted['scaling']}, {fitted['num_terms']:,} terms, "
            f"{fitted['num_training_pairs']:,} training pairs; ranked by "
            f"{baseline['score']}."
        )
    return "".join(f'<p class="note">{markup.text(line)}</p>' for line in lines)


def _lists(retrieval):
    rows = [
        (
            "",
            (
                direction.upper(),
                one["seed"],
                f"{one['num_queries']} × {one['num_candidates']}",
                f"{one['rank@1']:.2f}",
                one["sha256"][:16],
            ),
        )
        for direction in DIRECTIONS
        for one in retrieval["sampled"][direction]["lists"]
    ]
    head = ("", "seed", "queries × candidates", "Rank@1", "sha256, first 16")
    note = f"sha256 of the split’s ids: {retrieval.get('dataset_sha256', '')[:16]}"
    return markup.table(head, rows) + f'<p class="note">{markup.text(note)}</p>'


def _published(retrieval):
    published = retrieval.get("published")
    if not published:
        return ""
    rows = [
        ("faint", (curves.DIRECTION_TITLES[d], *_plain(published[d])))
        for d in DIRECTIONS
    ]
    head = ("", *(key.capitalize() for key in RECALLS))
    return (
        '<div class="card"><h3>Published, other data set</h3>'
        f'<p class="note">{markup.text(published["source"])}. Fine-tuned, and on other '
        "candidate lists: for orientation only, not to be compared.</p>"
        f"{markup.table(head, rows)}</div>"
    )
