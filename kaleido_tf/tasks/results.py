"""The files that evaluation and prediction leave, whole or not at all."""

import json
import os

from kaleido_tf import files

PREDICTIONS_NAME = "predictions.jsonl"


def write_results(results, output_dir):
    """Writes OUTPUT_DIR/<task>.json; returns its path.

    Args:
      results: dict with the key "task".
      output_dir: folder, made if it isn't there.
    """
    os.makedirs(output_dir, exist_ok=True)
    path = os.path.join(output_dir, f"{results['task']}.json")
    files.write_json(results, path)
    return path


def write_predictions(rows, output_dir):
    """Writes OUTPUT_DIR/predictions.jsonl, a row a line; returns (path, rows).

    Args:
      rows: iterable of dicts; it may compute them as it goes.
      output_dir: folder, made if it isn't there.
    """
    os.makedirs(output_dir, exist_ok=True)
    path = os.path.join(output_dir, PREDICTIONS_NAME)
    count = 0
    with files.whole(path) as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return path, count
