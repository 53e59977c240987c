"""A split in memory, as arrays that pairs of text and image are gathered from."""

import dataclasses
import functools
import hashlib

import numpy as np
import tensorflow as tf

from kaleido_tf.data import candidate_lists, records

_READ_BATCH = 256
_STRINGS = candidate_lists.Item._fields
_ARRAYS = {"patch_features": np.float16, "patch_locations": np.float32}


@dataclasses.dataclass(frozen=True)
class RetrievalSplit:
    """Records of a split as arrays; N records, P patches, F features.

    Attributes:
      name: the split.
      sha256: hash of the whole split (`candidate_lists.split_sha256`), also where
        only some of its records were kept.
      image_ids, product_ids, categories, subcategories, texts: lists of N str.
      token_ids: list of N int32 arrays, without [CLS] and [SEP].
      patch_features: float16 [N, P, F].
      patch_locations: float32 [N, P, 5].
      index: dict image_id -> place.
      num_images, num_texts: records and distinct texts of the whole split.
    """

    name: str
    sha256: str
    image_ids: list
    product_ids: list
    categories: list
    subcategories: list
    texts: list
    token_ids: list
    patch_features: np.ndarray
    patch_locations: np.ndarray
    index: dict
    num_images: int
    num_texts: int

    def __len__(self):
        return len(self.image_ids)

    @classmethod
    def load(cls, info, split, image_ids=None, with_patches=True):
        """Reads a split.

        Args:
          info: `DatasetInfo`.
          split: name of the split.
          image_ids: keep only these (memory: N x P x F x 2 bytes); None keeps all.
          with_patches: False leaves `patch_features` and `patch_locations` empty, for
            scorers that bring their own features.

        Raises:
          ValueError: a damaged shard, or an id that the split doesn't have.
        """
        wanted = None if image_ids is None else set(image_ids)
        size = info.num_examples(split) if wanted is None else len(wanted)
        shapes = info.shapes.arrays
        arrays = {
            key: np.zeros((size, *shapes[key]) if with_patches else (size, 0), dtype)
            for key, dtype in _ARRAYS.items()
        }
        columns = {key: [] for key in (*_STRINGS, "token_ids")}
        pairs, texts = [], set()
        for batch in _read_batches(info, split, with_patches):
            pairs += zip(batch["image_id"], batch["product_id"], strict=True)
            texts.update(candidate_lists.fold_text(text) for text in batch["text"])
            _keep(batch, wanted, columns, arrays)
        _check_wanted(wanted, columns["image_id"], split)
        names = columns["image_id"]
        return cls(
            name=split,
            sha256=candidate_lists.split_sha256(pairs),
            image_ids=names,
            product_ids=columns["product_id"],
            categories=columns["category"],
            subcategories=columns["subcategory"],
            texts=columns["text"],
            token_ids=columns["token_ids"],
            index={image_id: place for place, image_id in enumerate(names)},
            num_images=len(pairs),
            num_texts=len(texts - {""}),
            **arrays,
        )

    def places(self, image_ids):
        """int64 array of the places of `image_ids`."""
        return np.array([self.index[image_id] for image_id in image_ids], np.int64)

    def folded_texts(self):
        """The texts without differences of case and white space: list of str."""
        return [candidate_lists.fold_text(text) for text in self.texts]

    def same_text(self, text_length=None):
        """int64 [N]: for each record the first one whose text is the same pieces.

        Args:
          text_length: T of the model, which sees T - 2 pieces of a text: what differs
            behind them is the same to it. None compares all pieces.
        """
        cut = None if text_length is None else text_length - 2
        return _first_equal((ids[:cut],) for ids in self.token_ids)

    @functools.cached_property
    def same_image(self):
        """int64 [N]: for each record the first one whose patches are the same."""
        return _first_equal(zip(self.patch_features, self.patch_locations, strict=True))

    def text_inputs(self, tokenizer, text_length):
        """The encoder's text inputs of all records.

        Args:
          tokenizer: `Tokenizer`.
          text_length: longest T.

        Returns:
          dict of int32 [N, T] arrays, T cut to the longest text of the split: padding
          is masked out, so it costs time and changes nothing.
        """
        lengths = [len(ids) for ids in self.token_ids]
        ragged = tf.RaggedTensor.from_row_lengths(
            np.concatenate([np.zeros(0, np.int32), *self.token_ids]), lengths
        )
        packed = tokenizer.pack(ragged, min(text_length, max(lengths, default=0) + 2))
        return {key: value.numpy() for key, value in packed.items()}


def _first_equal(rows):
    """int64 [N]: the place of the first tuple of arrays with the same bytes."""
    first, places = {}, []
    for place, arrays in enumerate(rows):
        digest = hashlib.blake2b(digest_size=16)
        for array in arrays:
            digest.update(np.ascontiguousarray(array))
        places.append(first.setdefault(digest.digest(), place))
    return np.array(places, np.int64)


def _read_batches(info, split, with_patches):
    """Yields dicts of lists and arrays, `_READ_BATCH` records each."""
    shapes = info.shapes

    def decode(serialized):
        # Only these keys: the graph leaves out the decoding of the others.
        batch = records.decode_records(serialized, shapes)
        kept = {key: batch[key] for key in (*_STRINGS, "token_ids")}
        for key, dtype in _ARRAYS.items():
            kept[key] = tf.cast(batch[key], dtype)
            if not with_patches:
                kept[key] = tf.zeros([tf.shape(serialized)[0], 0], dtype)
        return kept

    paths = info.shard_paths(split)
    for path, shard in zip(paths, info.shards(split), strict=True):
        count = 0
        try:
            for batch in tf.data.TFRecordDataset(path).batch(_READ_BATCH).map(decode):
                batch = {
                    key: [v.decode() for v in value.numpy().tolist()]
                    if key in _STRINGS
                    else value.numpy()
                    for key, value in batch.items()
                }
                count += len(batch["image_id"])
                yield batch
        except tf.errors.OpError:
            # Once more, slowly: names the record.
            list(records.read_shard(path, shapes))
            raise
        if count != shard["num_examples"]:
            raise ValueError(
                records.damaged_message(
                    path, count, f"it should hold {shard['num_examples']} records"
                )
            )


def _keep(batch, wanted, columns, arrays):
    """Appends a batch's wanted records to `columns` and writes them into `arrays`."""
    rows = [
        row
        for row, image_id in enumerate(batch["image_id"])
        if wanted is None or image_id in wanted
    ]
    start = len(columns["image_id"])
    for key, column in columns.items():
        column += [batch[key][row] for row in rows]
    for key, array in arrays.items():
        array[start : start + len(rows)] = batch[key][rows]


def _check_wanted(wanted, found, split):
    if wanted is not None and (missing := sorted(wanted - set(found))):
        raise ValueError(
            f"`image_ids` should be of the split {split!r}. Received besides: "
            f"{missing[:5]} ({len(missing)} in all: lists of another data set?)"
        )
