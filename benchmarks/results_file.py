"""The JSON file that a benchmark leaves beside its printed table."""

import os

from kaleido_tf import files


def write(content, path):
    """Writes a benchmark's results, whole or not at all, and says where.

    Args:
      content: what JSON can hold.
      path: of the file, its folder made if need be; None or "" writes nothing.
    """
    if not path:
        return
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    files.write_json(content, path)
    print(f"Written to {path}")
