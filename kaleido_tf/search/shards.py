"""Append-only files of an index: arrays by the hash of what they were made from.

A folder holds numbered shards; a shard is a folder of .npy files with one row a key and
keys.txt. A shard is written beside and then renamed: it is whole or it isn't there, so
an interrupted run goes on after the last whole shard. Rows are found by their key:
pictures with the same bytes, and texts with the same letters, are stored once. No
file stays open: the number of shards isn't bound by the limit of open files.
"""

import os
import shutil

import numpy as np

from kaleido_tf.search import mapped

_KEYS = "keys.txt"
_UNFINISHED = ".unfinished"


class Shards:
    """Rows of arrays by key.

    Args:
      folder: made where it is missing.
      fields: dict name -> (shape of a row, dtype).

    Raises:
      ValueError: a damaged shard.
      FileNotFoundError: a shard that another process removed meanwhile.
      OSError: the system's limits, or files that mayn't be read: says nothing of the
        shards.
    """

    def __init__(self, folder, fields):
        self.folder, self.fields = os.fspath(folder), fields
        os.makedirs(self.folder, exist_ok=True)
        self._arrays, self._keys, self._places = {}, {}, {}
        for name in sorted(os.listdir(self.folder)):
            if name.isdecimal():
                self._open(name)

    def __len__(self):
        return len(self._places)

    def __contains__(self, key):
        return key in self._places

    def _open(self, name):
        path = os.path.join(self.folder, name)
        try:
            with open(os.path.join(path, _KEYS), encoding="utf-8") as file:
                keys = file.read().split()
            arrays = {
                field: mapped.load(os.path.join(path, f"{field}.npy"))
                for field in self.fields
            }
        except (FileNotFoundError, NotADirectoryError, ValueError) as error:
            if not os.path.lexists(path):
                raise FileNotFoundError(
                    f"{path} should still exist. Received: removed while it was being "
                    "opened (by a run of kaleido_tf.search.index: open it again)"
                ) from error
            raise ValueError(self._damaged(path, error)) from error
        for field, (shape, dtype) in self.fields.items():
            wanted, found = (len(keys), *shape), arrays[field]
            if found.shape != wanted or found.dtype != dtype:
                received = f"{field} {found.shape} {found.dtype} instead of {wanted}"
                raise ValueError(self._damaged(path, received))
        self._arrays[name], self._keys[name] = arrays, keys
        self._places |= {key: (name, row) for row, key in enumerate(keys)}

    @staticmethod
    def _damaged(path, reason):
        return (
            f"{path} should be a whole shard of an index. Received: {reason} (delete "
            "this folder and run kaleido_tf.search.index again: it computes what is "
            "missing)"
        )

    def append(self, keys, arrays):
        """Writes one shard.

        Args:
          keys: list of str without white space.
          arrays: dict field -> array [len(keys), ...].
        """
        if not keys:
            return
        number = 1 + max((int(name) for name in self._arrays), default=-1)
        name = f"{number:06d}"
        path = os.path.join(self.folder, name)
        shutil.rmtree(path + _UNFINISHED, ignore_errors=True)
        os.makedirs(path + _UNFINISHED)
        for field, (shape, dtype) in self.fields.items():
            array = np.asarray(arrays[field], dtype).reshape(len(keys), *shape)
            np.save(os.path.join(path + _UNFINISHED, f"{field}.npy"), array)
        with open(os.path.join(path + _UNFINISHED, _KEYS), "w", encoding="utf-8") as f:
            f.write("\n".join(keys) + "\n")
        os.rename(path + _UNFINISHED, path)
        self._open(name)

    def read(self, field, keys):
        """Rows of a field in the order of the keys: array [len(keys), ...]."""
        shape, dtype = self.fields[field]
        result = np.empty((len(keys), *shape), dtype)
        for place, key in enumerate(keys):
            name, row = self._places[key]
            result[place] = self._arrays[name][field][row]
        return result

    def remove_dead(self, live, least_live=0.5):
        """Drops shards of which little is in use; what is, moves to a new shard.

        Args:
          live: set of keys that are in use.
          least_live: share of a shard's keys from which on it stays as it is.

        Returns:
          Number of rows that are gone.
        """
        before = len(self)
        for name in os.listdir(self.folder):
            if name.endswith(_UNFINISHED):  # of a run that was interrupted
                shutil.rmtree(os.path.join(self.folder, name))
        for name in list(self._arrays):
            kept = [key for key in self._keys[name] if key in live]
            if len(kept) >= least_live * len(self._keys[name]):
                continue
            if kept:
                self.append(kept, {f: self.read(f, kept) for f in self.fields})
            for key in self._keys.pop(name):
                if self._places.get(key, ("",))[0] == name:
                    del self._places[key]
            del self._arrays[name]
            path = os.path.join(self.folder, name)
            # At once no shard any more, for whoever opens the folder meanwhile.
            shutil.rmtree(path + _UNFINISHED, ignore_errors=True)
            os.rename(path, path + _UNFINISHED)
            shutil.rmtree(path + _UNFINISHED)
        return before - len(self)
