"""The retrieval section of a report: recalls beside chance, baseline and published.

What is compared are arms: a dict label -> results of retrieval. The first is of the
run itself; "fine-tuned" and "baseline" may follow.
"""

import os

from kaleido_tf.report import markup
from kaleido_tf.report.bars import DIRECTION_TITLES
from kaleido_tf.report.inputs import DIRECTIONS, RECALLS

BASELINE = "baseline"


def retrieval_figures(arms, bars, draw, run):
    """The retrieval table beside chance; published figures apart.

    Args:
      arms: dict label -> dict of `task_inputs.load_retrieval`.
      bars: list of `bars.Bars`.
      draw: function of a chart -> HTML of its picture.
      run: `inputs.Run`.
    """
    first = next(iter(arms.values()))
    rows = _sampled_rows(arms) + _gallery_rows(arms)
    head = ("", *(key.capitalize() for key in RECALLS))
    panels = "".join(markup.figure(draw(chart), chart.title) for chart in bars)
    return (
        f'<h2>Retrieval</h2><p class="note">{markup.text(_protocol(arms))}</p>'
        f"{_foreign_checkpoint(first, run)}"
        f'<div class="panels wide">{panels}</div>'
        f'<div class="card">{markup.table(head, rows)}{_below(arms)}'
        f"{markup.details('The candidate lists', _lists(first))}</div>"
        f"{_published(first)}"
    )


def _protocol(arms):
    first = next(iter(arms.values()))
    lists = first["sampled"]["itr"]["lists"]
    scores = [f"{label} by {r.get('score')}" for label, r in arms.items()]
    return (
        f"Sampled protocol: {len(lists)} list{'s' * (len(lists) > 1)} of "
        f"{lists[0]['num_queries']} queries with {lists[0]['num_candidates']} "
        "candidates for each direction; mean ± standard deviation over the lists, in "
        f"percent. Ties count against the model. Score: {', '.join(scores)}."
    )


def _foreign_checkpoint(results, run):
    prefix = os.path.realpath(str(results.get("checkpoint", "")))
    if prefix.startswith(os.path.realpath(run.folder) + os.sep):
        return ""
    note = (
        f"These figures are of the checkpoint {results.get('checkpoint')}, which "
        f"does not lie in the run folder {run.folder}."
    )
    return f'<p class="warn">{markup.text(note)}</p>'


def _spread(figures):
    # The space after the sign doesn't break: on a phone the deviation stays whole.
    return [f"{figures[k]['mean']:.2f} ±\u00a0{figures[k]['std']:.2f}" for k in RECALLS]


def _plain(figures):
    return [f"{figures[key]:.2f}" for key in RECALLS]


def _kind(label):
    return "" if label == BASELINE else "ours"


def _sampled_rows(arms):
    rows = []
    for direction in DIRECTIONS:
        rows.append(("group", (DIRECTION_TITLES[direction],)))
        sampled = {label: r["sampled"][direction] for label, r in arms.items()}
        for label, figures in sampled.items():
            rows.append((_kind(label), (label, *_spread(figures))))
        chance = next(iter(sampled.values()))["chance"]
        rows.append(("faint", ("chance", *_plain(chance))))
        for label, figures in sampled.items():
            if label != BASELINE:
                times = [figures[k]["mean"] / chance[k] for k in RECALLS]
                cells = (f"{label} / chance", *(f"{t:.1f} ×" for t in times))
                rows.append(("faint", cells))
    return rows


def _gallery_rows(arms):
    rows = []
    for direction in DIRECTIONS:
        found = {label: r["full_gallery"].get(direction) for label, r in arms.items()}
        found = {label: figures for label, figures in found.items() if figures}
        if not found:
            continue
        known = next(iter(found.values()))
        title = DIRECTION_TITLES[direction]
        heading = f"{title}, full gallery, {known['num_queries']:,} queries"
        rows.append(("group", (heading,)))
        for label, figures in found.items():
            rows.append((_kind(label), (label, *_plain(figures))))
            first = arms[label]["full_gallery"].get("first_stage")
            if first:
                cells = (f"{label}, first stage alone", *_plain(first[direction]))
                rows.append(("faint", cells))
        rows.append(("faint", ("chance", *_plain(known["chance"]))))
    return rows


def _below(arms):
    """Sums, pairs and what was left out, under the table."""
    lines = []
    for label, results in arms.items():
        total, pairs = results["sampled"]["sum_of_recalls"], results["pairs"]
        line = f"SumR, {label}: {total['mean']:.2f} ± {total['std']:.2f}."
        if pairs.get("auc") is not None:
            line += (
                f" Of {pairs['num_pairs']:,} pairs, half true: AUC {pairs['auc']:.3f}"
            )
            accuracy = pairs.get("pair_accuracy")
            line += "." if accuracy is None else f", accuracy {accuracy:.1%}."
        lines.append(line + _gallery_note(results["full_gallery"]))
    if fitted := arms.get(BASELINE, {}).get("baseline"):
        lines.append(
            f"Baseline: {fitted['name']}, penalty {fitted['strength']:g}, scaling "
            f"{fitted['scaling']}, {fitted['num_terms']:,} terms, "
            f"{fitted['num_training_pairs']:,} training pairs; ranked by "
            f"{arms[BASELINE]['score']}."
        )
    return "".join(f'<p class="note">{markup.text(line)}</p>' for line in lines)


def _gallery_note(full):
    """How the full gallery was ranked, where it wasn't pair by pair."""
    if "skipped" in full:
        return f" Full gallery: skipped, {full['skipped']}."
    first = full.get("first_stage")
    if not first:
        return ""
    if not first["rerank"]:
        return f" Full gallery: by {first['score']} alone."
    found = ", ".join(f"{d.upper()} {first[d]['found']:.1f}" for d in DIRECTIONS)
    return (
        f" Full gallery in two stages: {first['score']} chooses {first['rerank']}, "
        f"which are ranked anew; the right one is among them in {found} percent."
    )


def _lists(results):
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
        for one in results["sampled"][direction]["lists"]
    ]
    head = ("", "seed", "queries × candidates", "Rank@1", "sha256, first 16")
    note = f"sha256 of the split’s ids: {results.get('dataset_sha256', '')[:16]}"
    return markup.table(head, rows) + f'<p class="note">{markup.text(note)}</p>'


def _published(results):
    published = results.get("published")
    if not published:
        return ""
    rows = [("faint", (DIRECTION_TITLES[d], *_plain(published[d]))) for d in DIRECTIONS]
    head = ("", *(key.capitalize() for key in RECALLS))
    return (
        '<div class="card"><h3>Theirs, on another data set</h3>'
        f'<p class="note">{markup.text(published["source"])}. Fine-tuned, and on other '
        "candidate lists: for orientation only, not to be compared.</p>"
        f"{markup.table(head, rows)}</div>"
    )
