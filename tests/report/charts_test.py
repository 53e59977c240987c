"""A report's charts: what they are made of, and what is drawn."""

import json

import numpy as np
from matplotlib.container import BarContainer
from matplotlib.figure import Figure

from kaleido_tf.report import bars, confusion, curves, inputs, theme


def test_panels_and_their_lines(run_dir):
    run = inputs.load_run(run_dir)
    assert [panel.name for panel in curves.panels(run, "loss")] == ["itm", "blank"]
    itm, rotation = curves.panels(run, "accuracy")
    assert itm.chance == 0.75  # always "match" at a mismatch rate of a quarter
    assert rotation.validation == [(0, 0.25), (10, 0.625), (20, 0.875)]
    assert rotation.train == [(5, 0.5), (15, 0.75)]  # in the middle of its round
    axes = Figure().subplots()
    rotation.draw(axes, theme.LIGHT)
    lines = {line.get_label(): line for line in axes.get_lines()}
    assert list(lines["validation"].get_ydata()) == [0.25, 0.625, 0.875]
    assert list(lines["training"].get_xdata()) == [5, 15]
    assert set(lines["chance"].get_ydata()) == {0.25}
    assert lines["chance"].is_dashed()
    assert lines["training"].get_zorder() <= lines["validation"].get_zorder()
    assert axes.texts[0].get_text() == "87.5%"


def _heights(axes):
    return {
        group.get_label(): [bar.get_height() for bar in group]
        for group in axes.containers
        if isinstance(group, BarContainer)
    }


def test_bars_show_the_recalls(made):
    arms = {
        "zero-shot": made.make_results(),
        "fine-tuned": made.make_results(rank1=62.5),
        "baseline": made.make_results(rank1=31.5),
    }
    axes = Figure().subplots()
    bars.recall_bars(arms)[1].draw(axes, theme.DARK)
    assert _heights(axes) == {
        "zero-shot": [25.0, 50.0, 75.0],
        "fine-tuned": [62.5, 50.0, 75.0],
        "baseline": [31.5, 50.0, 75.0],
        "chance": [5.0, 25.0, 50.0],
    }
    colours = {
        group.get_label(): group.patches[0].get_facecolor()
        for group in axes.containers
        if isinstance(group, BarContainer)
    }
    assert len(set(colours.values())) == 4
    alone = bars.recall_bars({"this run": made.make_results()})
    assert [row[0] for row in alone[0].rows] == ["this run", "chance"]


def test_confusion_is_put_together_again(category):
    chart = confusion.Confusion.of("title", json.loads(category.read_text()))
    # Most frequent first; "hats" is never right, "belts" is a prediction only.
    assert chart.names == ["bags", "dresses <3", "hats", "belts"]
    expected = [[5, 1, 0, 0], [0, 3, 0, 1], [2, 0, 0, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(chart.counts, expected)
    axes = Figure().subplots()
    chart.draw(axes, theme.LIGHT)
    (image,) = axes.get_images()
    np.testing.assert_allclose(image.get_array()[0], [5 / 6, 1 / 6, 0, 0])
    assert sorted(text.get_text() for text in axes.texts) == ["1", "1", "2", "3", "5"]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["bags (6)", "dresses <3 (4)", "hats (2)", "belts (0)"]
