"""Small files of a run: JSON and lines of JSON, written whole or not at all."""

import json
import os


def read_json(path):
    """The content of a JSON file."""
    with open(path, encoding="utf-8") as file:
        try:
            return json.load(file)
        except ValueError as error:
            raise ValueError(f"{path} should be JSON. Received: {error}") from error


def write_json(content, path, synced=False):
    """Writes a JSON file.

    Args:
      content: what JSON can hold.
      path: of the file.
      synced: have it on the disk, under its name, before this returns.
    """
    with open(f"{path}.tmp", "w", encoding="utf-8") as file:
        json.dump(content, file, indent=1, ensure_ascii=False)
        file.write("\n")
    if synced:
        sync(f"{path}.tmp")
    os.replace(f"{path}.tmp", path)
    if synced:
        sync(os.path.dirname(path) or ".")


def read_rows(path):
    """Lines of JSON: list of dicts; a last line that was cut off is left out."""
    rows = []
    with open(path, encoding="utf-8") as file:
        for line in file:
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                break
    return rows


def write_rows(path, rows):
    """Writes lines of JSON."""
    with open(f"{path}.tmp", "w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    os.replace(f"{path}.tmp", path)


def sync(path):
    """Has a file's content, or a folder's names, written through to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
