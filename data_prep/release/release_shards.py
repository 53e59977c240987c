"""One output shard of converted lines: which lines, and writing them.

The unit of work of `convert_release.py`; `receipts.py` says how a shard becomes a file.
"""

import collections
import dataclasses
import hashlib
import json
import os
from concurrent import futures

from data_prep.release import release_examples, release_lines
from data_prep.shards import receipts
from kaleido_tf.config import KALEIDO_LEVELS
from kaleido_tf.data import dataset_info, frozen, records, tokenization

_PARSERS = 4  # threads; Arrow parses outside of Python's lock
_AHEAD = 8  # lines, each about 1 MB


@dataclasses.dataclass(frozen=True)
class LineRange:
    """Some lines of a file.

    Attributes:
      path: the file.
      offset: byte at which the first line starts.
      first: its number, from 1.
      count: number of lines.
      left_out: numbers of lines that aren't converted, by rule.
      name: what the lines' examples are named after, where they have no image id.
    """

    path: str
    offset: int
    first: int
    count: int
    left_out: tuple
    name: str

    def __len__(self):
        return self.count

    def sha256(self):
        """Hash of what the lines are: place in a file of this name and size."""
        values = dataclasses.asdict(self)
        values["path"] = os.path.basename(self.path)
        values["bytes"] = os.path.getsize(self.path)
        return hashlib.sha256(json.dumps(values).encode()).hexdigest()

    def lines(self):
        """Yields (number, bytes) of the lines to convert."""
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            for number in range(self.first, self.first + self.count):
                line = file.readline()
                if number not in self.left_out:
                    yield number, line


def plan_ranges(paths, split, columns, lines_per_shard, max_lines=None):
    """Cuts files into ranges of lines; says which lines aren't to be converted.

    In clean files a record is an image with its own text: lines that pair a text with
    another product's image (the candidates of the release's lists) are left out, and
    so is an image that an earlier line had.

    Args:
      paths: files of a split.
      split: its name.
      columns: tuple of `release_lines.Column`.
      lines_per_shard: upper bound.
      max_lines: stop after so many lines; None reads all.

    Returns:
      (list of `LineRange`; dict reason -> number of lines left out).
    """
    names = {column.name for column in columns}
    wanted = [n for n in ("prod_img_id", "nx_sent_labels") if n in names]
    wanted = wanted if "prod_img_id" in names else []
    parser = release_lines.LineParser(columns)
    reasons, seen, ranges, total = collections.Counter(), set(), [], 0
    for index, path in enumerate(paths):
        offset = 0
        with open(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                if total == max_lines:
                    break
                total += 1
                if (number - 1) % lines_per_shard == 0:
                    name = f"{split}-{index:05d}"
                    ranges.append([path, offset, number, 0, [], name])
                ranges[-1][3] += 1
                offset += len(line)
                reason = wanted and _left_out(parser.peek(line, wanted), seen)
                if reason:
                    reasons[reason] += 1
                    ranges[-1][4].append(number)
    return [LineRange(*row[:4], tuple(row[4]), row[5]) for row in ranges], reasons


def _left_out(fields, seen):
    """Why a line isn't converted, or None; a malformed line is the worker's to list."""
    if not fields:
        return None
    if fields.get("nx_sent_labels", b"1").strip() == b"0":
        return "text and image of different products"
    image = fields["prod_img_id"].strip()
    if image in seen:
        return "image seen before"
    seen.add(image)
    return None


class ReleaseWriter:
    """Writes shards of converted lines; make one per process.

    Args:
      schema: schema string.
      vocab_file: path of the release's vocab.txt.
      location_rule: key of `release_examples.LOCATION_RULES`.
    """

    def __init__(self, schema, vocab_file, location_rule):
        columns = release_lines.parse_schema(schema)
        self._parser = release_lines.LineParser(columns)
        self.sizes = sizes_of(columns)
        self._kind = release_lines.schema_kind(columns)
        feature_size = self.sizes["feature_size"]
        tokenizer = tokenization.Tokenizer.from_file(vocab_file)
        self._converter = release_examples.Converter(
            self._kind, feature_size, tokenizer, location_rule
        )
        self._shapes = dataset_info.record_shapes(
            KALEIDO_LEVELS, feature_size, variants=False
        )
        values = [schema, dataset_info.file_sha256(vocab_file), location_rule]
        self._fingerprint = json.dumps([*values, records.SCHEMA_VERSION])

    def write(self, path, lines):
        """Writes one shard and its receipt, or finds it whole.

        Args:
          path: the shard's final path.
          lines: `LineRange`.

        Returns:
          The receipt (see `receipts.write`) with skipped (list of dict), labels (count
          by kind and name) and the counts of `release_examples.empty_stats`.
        """
        source = lines.sha256()
        receipt = receipts.find(path, self._fingerprint, source)
        if receipt is not None:
            return receipt
        stats = release_examples.empty_stats()
        stats |= {"skipped": [], "labels": {"category": {}, "subcategory": {}}}
        serialized = self._records(lines, stats)
        return receipts.write(path, serialized, stats, self._fingerprint, source)

    def _records(self, lines, stats):
        for number, parsed in self._parsed(lines):
            try:
                name = f"{lines.name}:{number}"
                record = self._converter.convert(parsed.result(), name, stats)
                serialized = self._encode(record)
            except ValueError as error:
                stats["skipped"].append(_skipped_line(lines, number, error))
                continue
            for kind, counts in stats["labels"].items():
                counts[record[kind]] = counts.get(record[kind], 0) + 1
            yield serialized

    def _encode(self, record):
        if self._kind == "pretrain":
            sizes = {key: self.sizes[key] for key in ("text_length", "max_predictions")}
            return frozen.encode_example(record, self._shapes, sizes, KALEIDO_LEVELS)
        return records.encode_record(record, self._shapes)

    def _parsed(self, lines):
        """Yields (number, future of the parsed line), some lines ahead."""
        ahead = collections.deque()
        with futures.ThreadPoolExecutor(_PARSERS) as pool:
            for number, line in lines.lines():
                ahead.append((number, pool.submit(self._parser.parse, line)))
                if len(ahead) > _AHEAD:
                    yield ahead.popleft()
            yield from ahead


def _skipped_line(lines, number, error):
    return {
        "reason": getattr(error, "reason", "values"),
        "file": os.path.basename(lines.path),
        "line": number,
        "detail": getattr(error, "detail", str(error)),
    }


def sizes_of(columns):
    """Sizes that a schema's columns give: dict of text_length, feature_size and, of a
    pre-training schema, max_predictions.

    Raises:
      ValueError: lengths that don't fit each other or the five levels.
    """
    lengths = {column.name: column.length for column in columns}
    feature_size = lengths[release_lines.FEATURE_COLUMNS[0]]
    wanted = {"input_mask": lengths["input_ids"], "segment_ids": lengths["input_ids"]}
    for level, name in zip(KALEIDO_LEVELS, release_lines.FEATURE_COLUMNS, strict=True):
        wanted[name] = level.num_patches * feature_size
    for level, name in zip(KALEIDO_LEVELS, release_lines.LOCATION_COLUMNS, strict=True):
        wanted[name] = 5 * level.num_patches
    if "img_grey_mask_gt" in lengths:
        wanted |= {"img_grey_lm_ids": 2, "img_grey_mask_gt": 2 * feature_size}
        wanted |= {"img_blank_lm_ids": 3}
        wanted |= dict.fromkeys(
            ("masked_lm_ids", "masked_lm_weights"), lengths["masked_lm_positions"]
        )
    wrong = {
        name: f"{lengths[name]}, should be {length}"
        for name, length in wanted.items()
        if lengths[name] != length
        and (name, lengths[name]) != (release_lines.CAMOUFLAGE_LOCATIONS, 35)
    }
    if wrong:
        raise ValueError(f"`schema` should have lengths that fit. Received: {wrong}")
    sizes = {"text_length": lengths["input_ids"], "feature_size": feature_size}
    if "masked_lm_positions" in lengths:
        sizes["max_predictions"] = lengths["masked_lm_positions"]
    return sizes
