"""The page of a report: whole in itself, and what stands on it."""

import base64
import io
import json
import re
import shlex

from PIL import Image

from kaleido_tf.report import __main__ as command_line
from kaleido_tf.report import inputs, sections, task_inputs


def test_page_is_whole_in_itself(write, made, tmp_path):
    baseline = tmp_path / "baseline.json"
    gallery = {"rank@1": 12.34, "rank@5": 2.0, "rank@10": 3.0}
    gallery = {**gallery, "num_queries": 9, "chance": gallery}
    full = {"itr": gallery, "tir": gallery}
    baseline.write_text(
        json.dumps(made.make_results(rank1=31.5) | {"full_gallery": full})
    )
    paths, text = write(baseline=str(baseline))
    page = made.Page(text)
    # 2 losses, 2 accuracies and 2 bar charts, light and dark; 2 ranked rows of 2
    # pictures, one with its right picture besides; 1 image query.
    assert len(page.sources) == 2 * 6 + (2 + 3) + 1
    for source in page.sources:
        kind, data = re.fullmatch(r"data:image/(png|jpeg);base64,(.+)", source).groups()
        picture = Image.open(io.BytesIO(base64.b64decode(data)))
        assert picture.format.lower() == kind and min(picture.size) >= 100
    words = re.sub(';base64,[^"]*', "", text)  # letters come by chance in there
    assert "http" not in words and "url(" not in words and "script" not in page.tags
    assert "@import" not in text and 'name="viewport"' in text
    words = " ".join(page.words)
    assert words.count(made.nasty) == 2  # the text query; the right text beyond the top
    assert "<script" not in text
    # The right ones: framed in place, framed at the end of the row, the seventh text.
    assert page.right == ["figure", "figure", "li"]
    assert (
        "rank 2" in words
        and "rank 9" in words
        and '<li class="right" value="7">' in text
    )
    for value in ("25.00 ±\u00a05.00", "31.50 ±\u00a05.00", "12.34", "5.0 ×", "27.99"):
        assert value in words
    assert "9 x 9 <pairs> are too many" in words and "lite<0>" in words
    assert "does not lie in the run folder" in words and "ab" * 8 in words
    assert [path.rsplit("/", 1)[1] for path in paths] == [
        "report.html",
        "losses.png",
        "accuracies.png",
        "retrieval.png",
        "ranked_images.png",
        "ranked_texts.png",
    ]
    assert all(Image.open(path).width > 300 for path in paths[1:])


def test_header_and_table(write, made, no_charts):
    _, text = write(title="A & B")
    words = [word.strip() for word in made.Page(text).words]
    assert words.count("A & B") == 2  # of the window, and the heading
    for name, value in (
        ("Catalogue", "shop"),
        ("Images", "1,234 train, 56 validation"),
        ("Steps", "20 of 8 pairs"),
        ("Speed", "80 samples/s (median of the rounds)"),
        ("Time", "0 min 03 s without validation"),  # 80 / 40 + 80 / 80
        ("python", "3.x"),
        ("Left out", "3 lines"),
        ("Aligned pairs", "none: masks are drawn at random"),
    ):
        assert words[words.index(name) + 1] == value
    start = words.index("Losses", words.index("Start and end"))
    end = words.index("Start: step 0. End: step 20.")
    assert [word for word in words[start:end] if word] == [
        *("Losses", "Matching (ITM)", "0.700", "0.500"),
        *("V Blank to colour", "2.500", "1.500"),
        *("Accuracies", "Matching (ITM)", "40.0%", "81.2%", "75.0%"),
        *("I Rotation", "25.0%", "87.5%", "25.0%"),
    ]
    assert "baseline" not in words and "Parameters" not in words


def test_aligned_pairs_are_told(write, data_dir, no_charts, made):
    path = data_dir / "dataset_info.json"
    values = json.loads(path.read_text())
    values["alignments"] = {"pairs": 1290 * 3, "paired_texts": 1200}
    path.write_text(json.dumps(values))
    words = [word.strip() for word in made.Page(write()[1]).words]
    assert words[words.index("Aligned pairs") + 1] == "3.0 a text, 1,200 texts"


def test_command_gives_the_same_flags(run_dir):
    flags = inputs.load_run(run_dir).flags | {"init": "a b", "akpm_tasks": []}
    assert shlex.split(sections.command(flags))[2:] == [
        f"--data_dir={flags['data_dir']}",
        f"--run_dir={run_dir}",
        "--model=tiny",
        "--batch_size=8",
        "--mismatch_rate=0.25",
        "--matched_only_losses=mlm,grey",
        "--resume=true",
        "--init=a b",
        "--akpm_tasks=",
    ]


def test_command_line(run_dir, retrieval, manifest, tmp_path, capsys):
    settings = command_line.flag_page().defaults() | {
        "run_dir": str(run_dir),
        "retrieval": str(retrieval),
        "manifest": str(manifest),
        "output_dir": str(tmp_path / "report"),
    }
    assert set(task_inputs.NAMES) < set(settings)
    command_line.main(settings)
    assert f"{tmp_path}/report/report.html" in capsys.readouterr().out
