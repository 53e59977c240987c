"""Command lines: the help page, values, and errors of one line."""

import ast
import importlib
import pathlib
import re
import subprocess
import sys

import pytest
from absl import flags

import run_finetune
import run_pretrain
from kaleido_tf.tasks import MODES, TASKS
from kaleido_tf.training import finetuning

ROOT = pathlib.Path(__file__).parents[1]
COMMAND = """
from kaleido_tf import cli

def main(page):
    values = page.values()
    if values["size"] == 13:
        raise ValueError("`size` should be lucky. Received: 13")
    if values["size"] == 14:
        raise KeyError("a bug")
    print(values)

if __name__ == "__main__":
    page = cli.FlagPage("Tries things.")
    page.heading("Input")
    page.string("folder", None, "Folder of the\\n  pictures.", required=True)
    page.enum("kind", None, ["a", "b"], "a: one. b: two.", required=True)
    page.heading("Sizes")
    page.integer("size", 8, "Side, pixels.", lower_bound=2)
    page.integer("limit", None, "Bound.")
    page.integer("warmup", None, "Steps.", shown_default="a tenth of size")
    page.integer("cooldown", None, "Steps. Default: a fifth of size.")
    page.float("rate", 0.5, "Share.", lower_bound=0, upper_bound=1)
    page.bool("quick", True, "Quick.")
    page.list("names", ["x", "y"], "Names.")
    page.list("others", [], "Others.")
    cli.run(lambda: main(page), page)
"""
GIVEN = ("--folder=x", "--kind=a")
HELP = """usage: python {program} --FLAG=VALUE ...

Tries things.

Input:
  --folder=STRING  (required)
      Folder of the pictures.
  --kind=a|b  (required)
      a: one. b: two.

Sizes:
  --size=INT  (default: 8)
      Side, pixels.
  --limit=INT  (default: none)
      Bound.
  --warmup=INT  (default: a tenth of size)
      Steps.
  --cooldown=INT  (default: see below)
      Steps. Default: a fifth of size.
  --rate=FLOAT  (default: 0.5)
      Share.
  --quick=true|false  (default: true)
      Quick.
  --names=A,B,...  (default: x,y)
      Names.
  --others=A,B,...  (default: none)
      Others.
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    (folder / "command.py").write_text(COMMAND)

    def run_command(*arguments, program=("command.py",)):
        return subprocess.run(
            [sys.executable, *program, *arguments],
            cwd=folder,
            env={"PYTHONPATH": str(ROOT), "PATH": ""},
            capture_output=True,
            text=True,
        )

    return run_command


@pytest.mark.parametrize(
    ("program", "shown"),
    [(("command.py",), "command.py"), (("-m", "command"), "-m command")],
)
def test_help_page(run, program, shown):
    done = run("--help", program=program)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == HELP.format(program=shown)


def test_values_and_defaults(run):
    done = run(*GIVEN, "--noquick", "--size", "4", "--names=", "--others=p, q")
    assert done.returncode == 0, done.stderr
    assert ast.literal_eval(done.stdout) == {
        "folder": "x",
        "kind": "a",
        "size": 4,
        "limit": None,
        "warmup": None,
        "cooldown": None,
        "rate": 0.5,
        "quick": False,
        "names": [],
        "others": ["p", "q"],
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "`--folder`, `--kind` should be given. Received: no value"),
        (("--kind=a", "--folder="), "`--folder` should be given. Received: no value"),
        ((*GIVEN, "--size=x"), "`--size` should be an integer of at least 2. .* 'x'"),
        ((*GIVEN, "--size=1"), "`--size` should be an integer of at least 2. .* '1'"),
        ((*GIVEN, "--limit=1.5"), "`--limit` should be an integer. Received: '1.5'"),
        ((*GIVEN, "--rate=7"), "`--rate` should be a number from 0 to 1. .* '7'"),
        ((*GIVEN, "--kind=c"), "`--kind` should be one of a, b. Received: 'c'"),
        ((*GIVEN, "--quick=si"), "`--quick` should be true or false. Received: 'si'"),
        ((*GIVEN, "--sizes=3"), "Unknown command line flag 'sizes'. .* size ?"),
        ((*GIVEN, "--folder"), "Missing value for flag --folder"),
        ((*GIVEN, "size=3", "y"), "Received besides: size=3 y"),
    ],
)
def test_wrong_flags_end_in_one_line(run, arguments, message):
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert line.endswith(" (--help explains every flag)")
    assert re.search(message, line)


def test_expected_errors_have_no_traceback(run):
    done = run(*GIVEN, "--size=13")
    assert done.returncode == 1
    assert done.stderr == "error: `size` should be lucky. Received: 13\n"
    shown = run(*GIVEN, "--size=13", "--verbosity=1")
    assert shown.returncode == 1
    assert "Traceback" in shown.stderr


def test_bugs_keep_their_traceback(run):
    done = run(*GIVEN, "--size=14")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "KeyError: 'a bug'" in done.stderr


@pytest.mark.parametrize(
    ("command", "titles", "required", "flag"),
    [
        (
            "run_pretrain.py",
            ["Data", "Model", "Training", "Hardware"],
            ["data_dir", "run_dir"],
            "--batch_size=INT  (default: 64)",
        ),
        (
            "run_finetune.py",
            ["What to do", "--mode=train", "--task=captioning", "Hardware"],
            ["data_dir"],
            "--task=category|subcategory|retrieval|captioning  (required)",
        ),
    ],
)
def test_every_flag_is_explained(command, titles, required, flag):
    done = subprocess.run(
        [sys.executable, command, "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    page = done.stdout
    assert page.startswith(f"usage: python {command} --FLAG=VALUE ...\n")
    places = [page.index(f"\n{title}:\n") for title in titles]
    assert places == sorted(places)
    for name in required:
        assert f"  --{name}=STRING  (required)\n" in page
    assert f"  {flag}\n" in page
    rows = [line for line in page.splitlines() if line.startswith("  --")]
    assert all(row.endswith(")") and "  (" in row for row in rows)
    texts = page.split("\n  --")[1:]
    assert all("\n      " in text for text in texts)


# What says in what a number is, or what is counted.
UNITS = (
    r"steps?\b|rounds?\b|pairs\b|pieces\b|images\b|texts\b|products\b|records\b|"
    r"queries\b|lists\b|candidates\b|labels\b|captions\b|checkpoints\b|batches\b|"
    r"numbers\b|any integer|0 to 1|per step|share\b|norm\b|factor\b|exponent\b"
)


@pytest.mark.parametrize("make", [run_pretrain.make_page, run_finetune.flag_page])
def test_numbers_have_units_and_computed_defaults_are_told(make):
    rows = make().help_text("x").split("\n  --")[1:]
    computed = {}
    for row in rows:
        head, text = row.split("\n", 1)
        if "=INT" in head or "=FLOAT" in head:
            assert re.search(UNITS, text, re.IGNORECASE), row
            computed[head.split("=")[0]] = head
        assert "none" not in head or "default:" not in text.lower(), row
    assert computed["warmup_steps"].endswith(
        "(default: a tenth of num_steps, at most 5000)"
    )
    # On these two pages a number that isn't given is always worked out.
    assert not [head for head in computed.values() if head.endswith("(default: none)")]


@pytest.mark.parametrize("make", [run_pretrain.make_page, run_finetune.flag_page])
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("--weight_decay=-1", "a number of at least 0.0"),
        ("--clip_norm=-3", "a number of at least 0.0"),
        ("--warmup_steps=-1", "an integer of at least 0"),
        ("--seed=-1", "an integer from 0 to 4294967295"),
    ],
)
def test_values_below_the_bounds_are_refused(make, given, message):
    page = make()
    with pytest.raises(flags.Error) as error:
        page.flags(["x", given])
    name, value = given.split("=")
    assert page.explain(error.value) == (
        f"`{name}` should be {message}. Received: {value!r}"
    )


def test_finetuning_has_every_task_and_mode():
    defaults = run_finetune.flag_page().defaults()
    assert (defaults["mode"], defaults["batch_size"], defaults["seed"]) == (
        "evaluate",
        64,
        0,
    )
    assert set(finetuning.EVALUATION_FLAGS) < set(defaults)
    for task in TASKS.values():
        module = importlib.import_module(task.module)
        assert all(callable(getattr(module, mode)) for mode in MODES)
    with pytest.raises(ValueError, match="`mode` should be one of .*Received: 'fit'"):
        TASKS["category"].run("fit", {})
    with pytest.raises(ValueError, match="`--run_dir` should be given for --mode=tr"):
        run_finetune.main({**defaults, "task": "category", "mode": "train"})
