"""Catalogue -> index folder: computes what is new, drops what is gone."""

import dataclasses
import os
import time

import numpy as np
from absl import logging

from kaleido_tf import files
from kaleido_tf.search import manifest as manifest_lib
from kaleido_tf.search import sources
from kaleido_tf.search.store import (
    SKIPPED,
    Row,
    Store,
    text_key,
)

PICTURES_PER_SHARD = 256


class Progress:
    """Says in the log how far a stage is, at most every ten seconds."""

    def __init__(self, what, total):
        self._what, self._total, self._done = what, total, 0
        self._start = self._said = time.monotonic()

    def add(self, count):
        self._done += count
        now = time.monotonic()
        if now - self._said < 10 and self._done < self._total:
            return
        self._said = now
        rate = self._done / max(now - self._start, 1e-9)
        left = (self._total - self._done) / max(rate, 1e-9)
        logging.info(
            "%s: %d of %d, %.1f/s, ETA %.0f s",
            self._what,
            self._done,
            self._total,
            rate,
            left,
        )


class PictureWriter:
    """Collects pictures' arrays and writes a shard whenever there are enough.

    Args:
      store: `Store`.
    """

    def __init__(self, store):
        self._store = store
        self._keys, self._arrays = [], {"features": [], "vectors": [], "boxes": []}

    def add(self, keys, features, vectors, boxes):
        self._keys += keys
        for name, array in zip(self._arrays, (features, vectors, boxes), strict=True):
            self._arrays[name].append(np.asarray(array))
        if len(self._keys) >= PICTURES_PER_SHARD:
            self.flush()

    def flush(self):
        if self._keys:
            arrays = {n: np.concatenate(parts) for n, parts in self._arrays.items()}
            self._store.pictures.append(self._keys, arrays)
        self._keys, self._arrays = [], {name: [] for name in self._arrays}


def build_index(
    export,
    index_dir,
    manifest=None,
    data_dir=None,
    index="flat",
    batch_size=16,
    text_fields=manifest_lib.TEXT_FIELDS,
    max_images=None,
    replace=False,
    max_bad_fraction=0.02,
):
    """Makes an index, or brings one up to date.

    Args:
      export: `Export`.
      index_dir: folder of the index.
      manifest: catalogue whose pictures and texts are indexed; None with `data_dir`
        alone.
      data_dir: prepared data set of the export's own features, which then needn't be
        computed; pictures that it hasn't, of another product or text than its record,
        or changed after it was made, are.
      index: kind of the vectors' index, of `nearest.KINDS`.
      batch_size: pictures at once through the export.
      text_fields: of the manifest, see `read_items`.
      max_images: index the first so many lines of the catalogue.
      replace: make the index anew where there is one of another export.
      max_bad_fraction: share of the lines that may be left out; with more, the index
        stays as it was (what was computed is kept for the next time).

    Returns:
      dict: `images`, `products`, `pictures` and `texts` of the index, `computed` and
      `copied` pictures, `encoded` texts, and `skipped` lines.

    Raises:
      ValueError: neither source, an index of another export, another run that writes
        it, too much or all of the catalogue left out, or more images than a model
        without vectors can search.
    """
    if not manifest and not data_dir:
        raise ValueError(
            "`manifest` or `data_dir` should be given. Received: neither of them"
        )
    with files.locked(index_dir):
        store = Store.open_or_create(index_dir, export, replace)
        prepared = sources.PreparedData(data_dir, export) if data_dir else None
        if manifest:
            items, skipped = manifest_lib.read_items(manifest, text_fields, max_images)
            rows, failed = keyed_rows(items, store.rows())
        else:
            items, skipped = prepared.items()
            items = items[:max_images]
            rows = [Row(i, prepared.key(i.image_id), text_key(i.text)) for i in items]
            failed = []
        export.check_size(len(rows))
        done, bad = _add_pictures(store, export, rows, prepared, batch_size)
        read = len(items) + len(skipped)
        skipped += failed + bad
        files.write_rows(os.path.join(index_dir, SKIPPED), skipped)
        rows = [row for row in rows if row.picture in store.pictures]
        if not rows:
            raise ValueError(
                "The catalogue should have a picture that can be read. Received: "
                f"{len(items)} lines, none of them (reasons in "
                f"{os.path.join(index_dir, SKIPPED)})"
            )
        if len(skipped) > max_bad_fraction * read:
            raise ValueError(
                f"At most {max_bad_fraction:.1%} of the catalogue's {read} lines "
                "should be left out (--max_bad_fraction). Received: "
                f"{len(skipped)}, listed with the reasons in "
                f"{os.path.join(index_dir, SKIPPED)}; the index stays as it was"
            )
        done["encoded"] = _add_texts(store, export, rows)
        folder = os.path.dirname(os.path.abspath(manifest)) if manifest else ""
        store.finish(
            [_relative(row, folder) for row in rows], index, pictures_dir=folder
        )
    return {**store.values["counts"], **done, "skipped": len(skipped)}


def _relative(row, folder):
    """A row whose picture's path is relative to the catalogue, which may move."""
    image = row.item.image
    if image and folder:
        inside = os.path.relpath(image, folder)
        image = image if inside.startswith("..") else inside
    return dataclasses.replace(row, item=dataclasses.replace(row.item, image=image))


def keyed_rows(items, before=()):
    """Items with their keys: (list of `Row`, skipped dicts).

    A picture of the same path, size and time as last time isn't read again.

    Args:
      items: list of `Item`.
      before: rows of the index as it is.
    """
    known = {row.item.image_id: row for row in before}
    rows, skipped = [], []
    for item in items:
        stamp, old = sources.picture_stamp(item.image), known.get(item.image_id)
        same = old and item.image.endswith(old.item.image) and old.stamp == stamp
        try:
            picture = (
                old.picture
                if same and stamp
                else sources.picture_key(sources.read_picture(item.image))
            )
        except ValueError as error:
            skipped.append(_skip(item, error))
            continue
        rows.append(Row(item, picture, text_key(item.text), stamp))
    return rows, skipped


def _skip(item, error):
    return {
        "reason": "unreadable picture",
        "detail": str(error),
        "image_id": item.image_id,
        "image": item.image,
    }


def _add_pictures(store, export, rows, prepared, batch_size):
    """Stores the pictures that are missing: ({copied, computed}, skipped dicts)."""
    done = {"copied": 0, "computed": 0}
    missing = _missing(store, rows)
    if prepared and missing:
        wanted = {
            row.item.image_id: row
            for row in missing.values()
            if not row.stamp or _older(row.item.image, prepared.made)
        }
        _copy(store, export, prepared, wanted)
        done["copied"] = sum(key in store.pictures for key in missing)
        missing = _missing(store, rows)
    pictures = {key: row for key, row in missing.items() if row.item.image}
    bad = _compute(store, export, pictures, batch_size)
    done["computed"] = sum(key in store.pictures for key in pictures)
    skipped = [_skip(row.item, bad[row.picture]) for row in rows if row.picture in bad]
    return done, skipped


def _older(path, time_ns):
    """Whether a picture was there and as it is before a time."""
    try:
        return sources.changed_at(path) <= time_ns
    except OSError:
        return False


def _missing(store, rows):
    """Pictures that aren't stored, each once: dict key -> its first `Row`."""
    missing = {}
    for row in rows:
        if row.picture not in store.pictures:
            missing.setdefault(row.picture, row)
    return missing


def _copy(store, export, prepared, wanted):
    """Takes features over from a prepared data set.

    Which picture a record was made from it doesn't say: one is taken for it that has
    its image_id, product and text, and wasn't changed since. One that was replaced
    between being read and the data set's last file isn't noticed.
    """
    writer = PictureWriter(store)
    progress = Progress("pictures, from the prepared data", len(wanted))
    for keys, features, boxes in prepared.features(wanted):
        vectors = np.zeros((len(keys), 0), np.float32)
        if export.vector_size:
            vectors = export.image_vectors(features)
        writer.add(keys, features, vectors, boxes)
        progress.add(len(keys))
    writer.flush()


def _compute(store, export, missing, batch_size):
    """Sends pictures through the export: dict key -> error of the bad ones."""
    writer, bad = PictureWriter(store), {}
    progress = Progress("pictures, by the export", len(missing))
    keys = list(missing)
    for start in range(0, len(keys), batch_size):
        batch = {}
        for key in keys[start : start + batch_size]:
            try:
                data = sources.read_picture(missing[key].item.image)
                if sources.picture_key(data) != key:
                    raise ValueError("it changed while it was being indexed: run again")
                batch[key] = data
            except ValueError as error:
                bad[key] = error
        for found in _features(export, batch, bad):
            writer.add(*found)
        progress.add(min(batch_size, len(keys) - start))
    writer.flush()
    return bad


def _features(export, batch, bad):
    """Features of a batch; one bad picture fails a batch, which then goes singly."""
    if not batch:
        return []
    try:
        return [_picture_arrays(export, list(batch), list(batch.values()))]
    except ValueError as error:
        if len(batch) == 1:
            bad[next(iter(batch))] = error
            return []
    return [
        found
        for key, data in batch.items()
        for found in _features(export, {key: data}, bad)
    ]


def _picture_arrays(export, keys, pictures):
    """(keys, features float16, vectors, boxes) of pictures' bytes."""
    outputs = export.call("image_features", image_bytes=pictures)
    features = outputs["patch_features"]
    stored = features.astype(np.float16)
    if not np.isfinite(stored).all():
        raise ValueError("its features should be finite in float16")
    vectors = np.zeros((len(keys), 0), np.float32)
    if export.vector_size:
        vectors = outputs.get("image_vectors")
        vectors = export.image_vectors(features) if vectors is None else vectors
    return keys, stored, vectors, outputs["box"]


def _add_texts(store, export, rows, per_shard=4096):
    """Stores the vectors of texts that are missing: how many."""
    texts = {row.text: row.item.text for row in rows if row.text not in store.texts}
    if not export.vector_size:
        return 0
    keys, progress = list(texts), Progress("texts", len(texts))
    for start in range(0, len(keys), per_shard):
        part = keys[start : start + per_shard]
        vectors = export.text_vectors([export.cut_text(texts[key]) for key in part])
        store.texts.append(part, {"vectors": vectors})
        progress.add(len(part))
    return len(keys)


__all__ = ["build_index", "keyed_rows", "PictureWriter", "Progress"]
