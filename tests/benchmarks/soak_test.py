"""The soak test: whom it hits, and what it judges: exit codes, two runs apart."""

import math
import re
import signal

import pytest

from benchmarks import soak, soak_judging


def make_life(name="SIGKILL", codes=(-9,), hit=0):
    return {"signal": name, "codes": list(codes), "hit": hit}


def make_result(*lives, **changes):
    result = {"lives": list(lives), "kills": len(lives), "terms": 0, "rows": True}
    return result | {"weights": 0.0, "figures": 0.0} | changes


def found_in(result):
    return soak_judging.problems(result, tolerance=1e-6, figure_tolerance=1e-4)


@pytest.mark.parametrize(
    "life",
    [
        make_life(),
        make_life("SIGTERM", [143]),
        make_life("SIGTERM", [-15]),
        make_life("SIGTERM", [143, 143], hit=1),
        make_life("SIGKILL", [75, -9], hit=1),
        make_life("SIGKILL", [-9, -9], hit=0),  # the other waited for it
        make_life("SIGTERM", [-15, 75], hit=0),
    ],
)
def test_promised_ends(life):
    assert found_in(make_result(life)) == []


@pytest.mark.parametrize(
    ("life", "message"),
    [
        (make_life(codes=[1]), r"life 2 \(SIGKILL\) should end with -9, ended with 1"),
        (make_life(codes=[0]), "ended with 0"),
        (make_life("SIGTERM", [0]), "should end with 143 or -15, ended with 0"),
        # It didn't listen and had to be killed.
        (make_life("SIGTERM", [-9]), "should end with 143 or -15, ended with -9"),
        (make_life(codes=[75]), "should end with -9, ended with 75"),
        (make_life(codes=[-9, 1]), r"other workers .* 75, 143, -9, ended with \[1\]"),
        (make_life(codes=[-9, 0]), r"ended with \[0\]"),
        (make_life(codes=[-6, 75], hit=1), r"ended with 75 of \[-6, 75\]"),
    ],
)
def test_other_ends_are_named(life, message):
    (problem,) = found_in(make_result(make_life(), life))
    assert re.search(message, problem)


class _AtOnce:
    """Draws the moment at the very start."""

    random = uniform = staticmethod(lambda *_: 0)


@pytest.mark.parametrize(
    ("arguments", "signum", "hit", "code"),
    [
        (["sleep", "60"], signal.SIGKILL, 0, -9),
        (["sleep", "60"], signal.SIGTERM, 0, -15),
        (["false"], signal.SIGKILL, None, 1),
    ],
)
def test_who_is_hit(tmp_path, arguments, signum, hit, code):
    life = soak.Life(arguments, 1, tmp_path / "log.txt")
    if hit is None:
        life.processes[0].wait()
    found = soak.interrupt(life, tmp_path, signum, 3, _AtOnce(), most_steps=2)
    assert found == {"step_before": 0, "hit": hit, "codes": [code]}


def test_workers_are_hit_in_turn(tmp_path):
    for turn, hit in enumerate((0, 1, 0)):
        life = soak.Life(["sleep", "0.5"], 2, tmp_path / "log.txt")
        found = soak.interrupt(life, tmp_path, signal.SIGKILL, turn, _AtOnce(), 2)
        assert found["hit"] == hit
        assert (found["codes"][hit], found["codes"][1 - hit]) == (-9, 0)


def test_every_life_has_to_be_hit():
    late = make_life(codes=[0], hit=None)
    assert found_in(make_result(make_life(), kills=2, terms=1)) == [
        "1 lives of 3 were hit before the run's end (more --num_steps leave time for "
        "all)"
    ]
    (problem,) = found_in(make_result(make_life(), late))
    assert problem.startswith("1 lives of 2 were hit")
    broken = make_life(codes=[1], hit=None)
    assert "life 1 (SIGKILL) ended by itself with [1]" in found_in(make_result(broken))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": False}, "other rows"),
        ({"weights": 2e-6}, "weights differ by 2e-06, more than 1e-06"),
        ({"figures": 2e-4}, "figures differ by 0.0002, more than 0.0001"),
        ({"figures": math.nan}, "figures differ by nan"),
        ({"weights": math.nan}, "weights differ by nan"),
    ],
)
def test_differences_are_named(changes, message):
    (problem,) = found_in(make_result(make_life(), **changes))
    assert message in problem


def test_rows_are_compared_figure_by_figure():
    row = {"step": 4, "split": "train", "loss": 2.0, "samples_per_second": 9.0}
    other = {"step": 4, "split": "train", "loss": 2.5}
    assert soak_judging.compare_rows([row], [row]) == (True, 0.0)
    assert soak_judging.compare_rows([other], [row]) == (True, 0.25)
    assert soak_judging.compare_rows([], [row]) == (False, 0.0)
    assert soak_judging.compare_rows([{**row, "more": 1.0}], [row])[0] is False
    assert soak_judging.compare_rows([{**row, "step": 5}], [row])[0] is False
    assert math.isnan(soak_judging.compare_rows([{**row, "loss": math.nan}], [row])[1])
