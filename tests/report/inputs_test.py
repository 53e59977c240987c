"""What a report is made from: read, and checked before anything is written."""

import csv
import json

import pytest
import tensorflow as tf

from kaleido_tf.report import inputs


def test_csv_manifest(tmp_path):
    path = tmp_path / "catalogue.csv"
    with open(path, "w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file).writerows([("image", "image_id"), ("a/x.png", ""), ("y", "7")])
    assert inputs.picture_paths(str(path), ["x", "7"]) == {
        "x": str(tmp_path / "a/x.png"),
        "7": str(tmp_path / "y"),
    }


def test_csv_lines_that_cannot_be_read_are_passed_over(tmp_path):
    """A field beyond the csv module's limit, a byte that isn't UTF-8."""
    path = tmp_path / "catalogue.csv"
    lines = ["image,image_id,text", "a.png,1,x", f"b.png,2,{'x' * 140_000}"]
    lines += ["c\udcff.png,3,x", "d.png,3,x"]
    path.write_bytes("\r\n".join(lines).encode(errors="surrogateescape"))
    found = inputs.picture_paths(str(path), ["1", "2", "3"])
    assert found.pop("2", str(tmp_path / "b.png")) == str(tmp_path / "b.png")
    assert found == {"1": str(tmp_path / "a.png"), "3": str(tmp_path / "d.png")}


def test_json_lines_that_cannot_be_used_are_passed_over(tmp_path):
    path = tmp_path / "catalogue.jsonl"
    rows = [b"no JSON", b"[1]", b'{"image": "\xff.png", "image_id": "1"}', b""]
    rows += [b'{"image": ["b.png"], "image_id": "1"}', b'{"image_id": "1"}']
    rows += [b'{"image": " c.png ", "image_id": "1"}', b'{"image": 7}']
    rows += [b'{"image": "d.png", "image_id": "1"}']
    path.write_bytes(b"\n".join(rows))
    assert inputs.picture_paths(str(path), ["1", "7", "b"]) == {
        "1": str(tmp_path / "c.png"),
        "7": str(tmp_path / "7"),
    }


def test_manifest_of_another_kind(tmp_path):
    (tmp_path / "catalogue.txt").write_text("{}")
    with pytest.raises(ValueError, match="end with .jsonl or .csv. Received: .*txt"):
        inputs.picture_paths(str(tmp_path / "catalogue.txt"), ["1"])


def _without_speed(run_dir, steps):
    """Rewrites metrics.jsonl as a run does that stopped at those rounds' last step."""
    path = run_dir / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()[:-1]]
    for row in rows:
        if row["step"] in steps:
            row.pop("samples_per_second", None)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_rounds_without_a_speed_are_left_out(run_dir, write, no_charts):
    _without_speed(run_dir, [10])
    run = inputs.load_run(run_dir)
    assert run.samples_per_second == 80
    assert run.training_seconds == pytest.approx(80 / 80)  # of steps 11 to 20
    _without_speed(run_dir, [10, 20])
    run = inputs.load_run(run_dir)
    assert (run.samples_per_second, run.training_seconds) == (None, 0)
    assert "samples/s" not in write()[1]


def test_data_that_were_moved(run_dir):
    (run_dir.parent / "prepared").rename(run_dir.parent / "moved")
    with pytest.raises(FileNotFoundError, match="be named by --data_dir"):
        inputs.load_run(run_dir)
    run = inputs.load_run(run_dir, run_dir.parent / "moved")
    assert run.info.directory.endswith("moved")


def test_parameters_of_a_checkpoint(tmp_path):
    checkpoint = tf.train.Checkpoint(
        encoder=tf.train.Checkpoint(a=tf.Variable(tf.zeros([3, 5]))),
        itm_head=tf.train.Checkpoint(b=tf.Variable(tf.zeros([7]))),
        optimizer=tf.train.Checkpoint(m=tf.Variable(tf.zeros([100]))),
    )
    prefix = checkpoint.write(str(tmp_path / "ckpt-3"))
    assert inputs.count_parameters(prefix) == 22
    assert inputs.count_parameters(tmp_path / "none") is None


def _without(path, *keys):
    values = json.loads(path.read_text())
    inner = values
    for key in keys[:-1]:
        inner = inner[key]
    del inner[keys[-1]]
    path.write_text(json.dumps(values))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda r, t, m: (r / "flags.json").unlink(), "flags.json should be the flags"),
        (lambda r, t, m: (r / "versions.json").write_text("{"), "as JSON. Received"),
        (lambda r, t, m: (r / "metrics.jsonl").unlink(), "finish a round"),
        (lambda r, t, m: t.unlink(), "no such file .*run_finetune.py"),
        (lambda r, t, m: t.write_text("[1]"), "hold a JSON object. Received: list"),
        (lambda r, t, m: _without(t, "sampled", "tir", "lists"), "sampled.tir.lists"),
        (lambda r, t, m: _without(t, "top_ranked", "itr"), "top_ranked.itr"),
        (lambda r, t, m: m.unlink(), "`manifest` should be the catalogue's"),
        (lambda r, t, m: m.write_text('{"image": "z.png"}'), "names none of them"),
        (
            lambda r, t, m: (r.parent / "prepared/dataset_info.json").unlink(),
            "not a finished data set",
        ),
    ],
)
def test_says_what_is_wrong(
    run_dir, retrieval, manifest, tmp_path, write, spoil, message
):
    spoil(run_dir, retrieval, manifest)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        write()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["baseline", "finetuned"])
def test_results_of_other_lists(write, made, retrieval, tmp_path, name):
    other = json.loads(retrieval.read_text()) | made.make_results(sha="cd" * 32)
    path = tmp_path / "other.json"
    path.write_text(json.dumps(other))
    message = f"`{name}` should .*same lists .*abababab, 4 x 20.*cdcdcdcd"
    with pytest.raises(ValueError, match=message):
        write(**{name: str(path)})


def _change(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda p: p["category"].unlink(), "no such file .*--task=category"),
        (lambda p: _without(p["category"], "confusions"), r"keys: \['confusions'\]"),
        (lambda p: _change(p["category"], task="subcategory"), "of 'subcategory'"),
        (
            lambda p: _without(p["class_baseline"], "category", "macro_f"),
            r"keys: \['category.macro_f'\] .*classification_baseline",
        ),
        (
            lambda p: _change(p["category"], num_examples=13),
            r"records of `category`: \('validation', 13\). Received: .* 12\)",
        ),
        (lambda p: _without(p["captioning"], "examples"), "--task=captioning"),
        (
            lambda p: _change(p["captioning"], num_products=3),
            r"products of `captioning`: \('validation', 3\).* 2\)",
        ),
        (lambda p: p.pop("captioning"), "`captioning` should be given"),
        (lambda p: p.pop("category"), "`category` or `subcategory` should be given"),
    ],
)
def test_says_what_is_wrong_with_tasks(
    write, category, class_baseline, captioning, mask_all, tmp_path, spoil, message
):
    paths = {
        "category": category,
        "class_baseline": class_baseline,
        "captioning": captioning,
        "captioning_baseline": mask_all,
    }
    spoil(paths)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        write(**{name: str(path) for name, path in paths.items()})
    assert not (tmp_path / "out").exists()
