"""What the soak test judges: how processes ended, and how far two runs are apart."""

import numpy as np

from kaleido_tf.config import KaleidoConfig
from kaleido_tf.modeling import build_pretrainer
from kaleido_tf.training import callbacks, checkpoints, stopping

# How the process that is hit may end: SIGTERM before it listens, or after.
_ENDS_OF_HIT = {"SIGKILL": (-9,), "SIGTERM": (143, -15)}
# How the other workers may: a lost worker, a stop in common, or, where they wait for
# one that hasn't come yet, killed by `Life.end`.
_ENDS_OF_OTHERS = (stopping.LOST_WORKER_CODE, 143, -9)


def weights_of(run_dir):
    """Every number of the run's last checkpoint."""
    model = build_pretrainer(KaleidoConfig.from_json(f"{run_dir}/config.json"))
    checkpoints.load_weights(model, str(run_dir))
    return np.concatenate([v.numpy().ravel() for v in model.trainable_variables])


def differences(run_dir, other):
    """How two runs differ: dict.

    Returns:
      "weights": largest difference of a weight; "size": the largest weight;
      "figures": largest relative difference of a figure in metrics.jsonl, NaN where one
      is; "rows": whether both have the same rows with the same figures in them.
    """
    rows, figures = compare_rows(*map(callbacks.read_metrics, (run_dir, other)))
    weights, whole = weights_of(run_dir), weights_of(other)
    return {
        "weights": float(np.abs(weights - whole).max()),
        "size": float(np.abs(whole).max()),
        "figures": figures,
        "rows": rows,
    }


def compare_rows(found, expected):
    """`rows` and `figures` of `differences`, of two lists of rows."""
    kept = [
        [{k: v for k, v in r.items() if k != "samples_per_second"} for r in rows]
        for rows in (found, expected)
    ]
    keys = [[(r["step"], r["split"], sorted(r)) for r in rows] for rows in kept]
    gaps = [
        abs(row[name] - value) / max(abs(value), 1e-3)
        for row, whole in zip(*kept, strict=False)
        for name, value in whole.items()
        if name in row and name not in ("step", "split")
    ]
    return keys[0] == keys[1], float(np.max(gaps, initial=0.0))


def problems(result, tolerance, figure_tolerance):
    """What a soak shows to be wrong.

    Args:
      result: content of soak.json.
      tolerance: largest difference of a weight.
      figure_tolerance: largest relative difference of a figure.

    Returns:
      list of str, empty where all is as promised.
    """
    found = []
    for number, life in enumerate(result["lives"], start=1):
        if reason := _wrong_end(life):
            found.append(f"life {number} ({life['signal']}) {reason}")
    hit = sum(life["hit"] is not None for life in result["lives"])
    asked = result["kills"] + result["terms"]
    if hit != asked:
        found.append(
            f"{hit} lives of {asked} were hit before the run's end (more --num_steps "
            "leave time for all)"
        )
    if not result["rows"]:
        found.append("metrics.jsonl has other rows than the uninterrupted run's")
    for name, most in (("weights", tolerance), ("figures", figure_tolerance)):
        if not result[name] <= most:  # NaN isn't
            found.append(f"{name} differ by {result[name]:.2g}, more than {most:.2g}")
    return found


def _wrong_end(life):
    """What is wrong with the exit codes of a life: str, or None."""
    codes, hit = life["codes"], life["hit"]
    if hit is None:
        return None if not any(codes) else f"ended by itself with {codes}"
    if codes[hit] not in _ENDS_OF_HIT[life["signal"]]:
        expected = " or ".join(map(str, _ENDS_OF_HIT[life["signal"]]))
        return f"should end with {expected}, ended with {codes[hit]} of {codes}"
    others = codes[:hit] + codes[hit + 1 :]
    if wrong := [code for code in others if code not in _ENDS_OF_OTHERS]:
        expected = ", ".join(map(str, _ENDS_OF_OTHERS))
        return (
            f"should end the other workers with one of {expected}, ended with {wrong}"
        )
    return None


def report(result):
    """Prints what came out."""
    lives = result["lives"]
    for name in ("SIGKILL", "SIGTERM"):
        some = [life for life in lives if life["signal"] == name]
        trained = [life for life in some if life["step_after"] > 0]
        print(
            f"{name}: {len(some)}, of these {len(trained)} after the first checkpoint"
        )
    stopped = [c for life in lives for c in life["codes"]]
    print("exit codes:", {code: stopped.count(code) for code in sorted(set(stopped))})
    print(f"(143: stopped with a checkpoint; {stopping.LOST_WORKER_CODE}: lost worker)")
    print(
        f"largest difference of a weight: {result['weights']:.2g} (weights go up to "
        f"{result['size']:.2g}); of a figure: {result['figures']:.2g}; same rows: "
        f"{result['rows']}"
    )
