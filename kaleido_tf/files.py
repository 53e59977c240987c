"""Files that are written whole or not at all; JSON and lines of JSON."""

import contextlib
import fcntl
import json
import os


@contextlib.contextmanager
def whole(path, mode="w", synced=False):
    """A file to write, which takes its name when the block ends, and not before.

    A block that fails leaves what had the name before, and no half of the new one.

    Args:
      path: of the file; meanwhile it is PATH.tmp.
      mode: "w" for text in UTF-8, "wb" for bytes.
      synced: have it on the disk, under its name, before this returns.
    """
    text = {} if "b" in mode else {"encoding": "utf-8", "newline": "\n"}
    temporary = f"{path}.tmp"
    try:
        with open(temporary, mode, **text) as file:
            yield file
        if synced:
            sync(temporary)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(temporary)
        raise
    if synced:
        sync(os.path.dirname(path) or ".")


def read_json(path):
    """The content of a JSON file."""
    with open(path, encoding="utf-8") as file:
        try:
            return json.load(file)
        except ValueError as error:
            raise ValueError(f"{path} should be JSON. Received: {error}") from error


def write_json(content, path, synced=False, indent=1):
    """Writes a JSON file.

    Args:
      content: what JSON can hold.
      path: of the file.
      synced: see `whole`.
      indent: spaces, or None for all in one line.
    """
    with whole(path, synced=synced) as file:
        json.dump(content, file, indent=indent, ensure_ascii=False)
        file.write("\n")


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


def write_rows(path, rows, synced=False):
    """Writes lines of JSON; `synced`: see `whole`."""
    with whole(path, synced=synced) as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def append_row(path, row):
    """Writes one more line of JSON, and has it on the disk before this returns."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
        file.flush()
        os.fsync(file.fileno())


def drop_rows_after(path, step):
    """Takes out of lines of JSON what a run wrote after the step it resumes from."""
    if os.path.exists(path):
        rows = [row for row in read_rows(path) if row["step"] <= step]
        write_rows(path, rows, synced=True)


@contextlib.contextmanager
def locked(folder):
    """Holds a folder for one writer; ValueError where there is another.

    Args:
      folder: made if it isn't there.
    """
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, ".lock"), "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(
                f"The output's folder should have one writer at a time. Received: "
                f"{folder}, which another run is writing (wait for it, or stop it)"
            ) from error
        except OSError:  # a file system without locks
            pass
        yield


def sync(path):
    """Has a file's content, or a folder's names, written through to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
