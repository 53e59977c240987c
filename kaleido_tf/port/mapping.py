"""Port, second step: match a table of names against file and model, then assign.

A table is data, rows of (ours, theirs, change), see `names`. Ours is a part of the
model and the path of attributes to a variable in it: variables are reached through
layer objects. A Dense that several layers share takes its variable's name from its
first caller, so names of variables are never searched.
"""

import dataclasses
import os
import re

import numpy as np

from kaleido_tf.port import files
from kaleido_tf.port import report as report_lib
from kaleido_tf.port.names import EASYTRANSFER_NAMES
from kaleido_tf.port.report import Entry
from kaleido_tf.training import checkpoints

# Steps of a row's `change`, in the order in which they are applied to the file's array:
# name -> (shape before, from the shape after; array and our shape -> array).
STEPS = {
    "transpose": (lambda shape: shape[::-1], lambda array, _: array.T),
    # The classes in the other order.
    "swap": (lambda shape: shape, lambda array, _: array[::-1]),
    # [..., N * D] -> [..., N, D]: heads apart, in kernels and biases of q, k, v.
    "split_last": (
        lambda shape: (*shape[:-2], shape[-2] * shape[-1]),
        lambda array, shape: array.reshape(shape),
    ),
    # [N * D, H] -> [N, D, H]: heads apart, in the attention's output kernel.
    "split_first": (
        lambda shape: (shape[0] * shape[1], *shape[2:]),
        lambda array, shape: array.reshape(shape),
    ),
    # A position table may be longer than ours: the first rows are taken.
    "rows": (lambda shape: shape, lambda array, shape: array[: shape[0]]),
}


@dataclasses.dataclass(frozen=True)
class Format:
    """How one kind of file names its variables.

    Attributes:
      kind: what to call it.
      rows: table of (ours, theirs, change), see `names`.
      canonical: function of a stored name, without root scope: str -> str.
      skip: (regular expression, reason) of stored names that no model holds.
      fresh: (regular expression, reason) of our variables that it never holds.
      optional: (regular expression, reason) of our variables that some files of the
        kind hold: a head or the pooler, whole or not at all.
    """

    kind: str
    rows: tuple
    canonical: object
    skip: tuple = ()
    fresh: tuple = ()
    optional: tuple = ()


def load(model, reader, form, allow_missing=(), allow_unused=()):
    """Assigns what `reader` has to `model`: everything, or nothing with an error.

    Args:
      model: any model of `kaleido_tf.modeling` that contains the encoder.
      reader: see `readers`.
      form: `Format` of the file.
      allow_missing: regular expressions; variables of the model which one of them
        matches whole (our name, or the file's) may be missing in the file.
      allow_unused: the same for variables of the file. A variable whose shapes
        don't fit needs both.

    Returns:
      `PortReport`.

    Raises:
      PortError: a difference that nothing allows.
      ValueError: the file is damaged, ambiguous, or a pattern isn't one.
    """
    missing = _compile(allow_missing, "allow_missing")
    unused = _compile(allow_unused, "allow_unused")
    report, assignments = match(model, reader, form)
    report.missing = _allow(report.missing, "allow_missing", missing)
    report.unused = _allow(report.unused, "allow_unused", unused)
    report.misfits = _allow(report.misfits, "both allow_*", missing, unused)
    if report.differences:
        raise report_lib.PortError(report)
    # All is read once before anything is assigned: a damaged file changes nothing.
    for _, name, _ in assignments:
        reader.read(name)
    for variable, name, change in assignments:
        variable.assign(apply_change(reader.read(name), change, variable.shape))
    return report


def match(model, reader, form):
    """(`PortReport`, list of (variable, stored name, change)), nothing read yet."""
    report = report_lib.PortReport(reader.path, form.kind)
    stored = _stored_names(reader, form, report)
    parts = _parts(model)
    assignments, placed = [], set()
    for ours, theirs, change in _expand(form.rows, parts["encoder"]):
        variable = find_variable(parts, ours)
        name = stored.pop(theirs, None)
        if variable is None:
            if name is not None:
                part = ours.split(".")[0]
                note = "" if part == "encoder" else f"the model has no {part}"
                report.unused.append(Entry(name, reader.shapes[name], note=note))
            continue
        placed.add(id(variable))
        if _place(report, reader, name or theirs, ours, variable, change):
            assignments.append((variable, name, change))
    report.unused += [Entry(name, reader.shapes[name]) for name in stored.values()]
    _explain_missing(report, form.optional)
    report.missing += _not_in_table(model, parts, placed, form)
    return report, assignments


def _place(report, reader, name, ours, variable, change):
    """Puts one variable of the model into its list; True if it will be loaded."""
    their_shape, our_shape = reader.shapes.get(name), tuple(variable.shape)
    entry = Entry(name, their_shape, ours, our_shape)
    if their_shape is None:
        report.missing.append(entry)
        return False
    wanted = shape_before(our_shape, change)
    if their_shape == wanted:
        report.loaded.append(entry)
        return True
    cuts = "rows" in change.split() and their_shape[1:] == wanted[1:]
    if cuts and their_shape[0] > wanted[0]:
        note = f"the first {wanted[0]} of {their_shape[0]} rows"
        report.loaded.append(dataclasses.replace(entry, note=note))
        return True
    report.misfits.append(entry)
    return False


def shape_before(shape, change):
    """The shape a file has to have for ours: tuple."""
    for step in reversed(change.split()):
        shape = STEPS[step][0](shape)
    return tuple(shape)


def apply_change(array, change, shape):
    """The file's array -> ours of `shape`."""
    for step in change.split():
        array = STEPS[step][1](array, tuple(shape))
    return np.ascontiguousarray(array)


def check_heads(model, config_path):
    """Compares the number of attention heads, which no shape in a file shows.

    Args:
      model: the model to be loaded.
      config_path: config that lies beside the weights; without it, nothing is compared.

    Raises:
      ValueError: they differ.
    """
    if not os.path.isfile(config_path):
        return
    values = files.read_json(config_path, "the config of the weights")
    row = "encoder.layer_0._attention_layer._query_dense.bias"
    bias = find_variable(_parts(model), row)
    stored = values.get("num_attention_heads")
    if bias is not None and stored is not None and bias.shape[0] != stored:
        raise ValueError(
            f"`model` should have the {stored} attention heads of {config_path}. "
            f"Received: {bias.shape[0]}"
        )


def _stored_names(reader, form, report):
    """canonical name -> stored name, without what is skipped by rule."""
    stored = {}
    for name, shape in reader.shapes.items():
        reason = _first_match(form.skip, name)
        if reason:
            report.skipped.append(Entry(name, shape, note=reason))
            continue
        canonical = form.canonical(name)
        if canonical in stored:
            raise ValueError(
                f"{reader.path} should hold every variable once. Received: both "
                f"{stored[canonical]} and {name} (two models in one file)"
            )
        stored[canonical] = name
    return stored


def _first_match(rules, name):
    """The reason of the first (regular expression, reason) that finds `name`, or ""."""
    return next((reason for rule, reason in rules if re.search(rule, name)), "")


def _parts(model):
    parts = checkpoints.model_parts(model)
    if "encoder" not in parts:
        raise ValueError(
            "`model` should be a model of kaleido_tf.modeling, with the encoder as its "
            f'layer "encoder". Received: {model.name} with the layers '
            f"{[layer.name for layer in model.layers]}"
        )
    return parts


def _expand(rows, encoder):
    """The table with "{i}" filled in for each layer of the encoder."""
    layers = sum(bool(re.fullmatch(r"layer_\d+", x.name)) for x in encoder.layers)
    for row in rows:
        if "{i}" not in row[0]:
            yield row
            continue
        for i in range(layers):
            yield tuple(cell.replace("{i}", str(i)) for cell in row)


def find_variable(parts, path):
    """The variable that a row means, or None where the model lacks part or layer.

    Args:
      parts: dict name -> encoder or head.
      path: a key of `parts`, in the encoder then a layer's name, then attributes.
    """
    part, *names = path.split(".")
    owner = parts.get(part)
    if owner is not None and part == "encoder":
        layers = {layer.name: layer for layer in owner.layers}
        owner = layers.get(names.pop(0))
    for name in names if owner is not None else ():
        owner = getattr(owner, name)
    return owner


def _explain_missing(report, optional):
    """Notes on what some files of a kind lack: a head, whole or not at all."""
    for pattern, reason in optional:
        if any(re.match(pattern, entry.ours) for entry in report.loaded):
            continue
        report.missing = [
            dataclasses.replace(entry, note=reason)
            if re.match(pattern, entry.ours)
            else entry
            for entry in report.missing
        ]


def _not_in_table(model, parts, placed, form):
    """Entries of the model's variables that no row of the format's table means."""
    known_parts, entries = {row[0].split(".")[0] for row in form.rows}, []
    for name, variable in distinct_variables(model, parts):
        if id(variable) in placed:
            continue
        note = _first_match(form.fresh, name)
        if not note and name.split(".")[0] not in known_parts:
            note = "of its own task: fresh"
        entries.append(Entry(None, None, name, tuple(variable.shape), note))
    return entries


def distinct_variables(model, parts):
    """(name to show, variable), each variable once.

    Names are those of the release's table, or made of the variable's where it has none.
    """
    seen = set()
    for name, variable in _all_variables(model, parts):
        if id(variable) not in seen:
            seen.add(id(variable))
            yield name, variable


def _all_variables(model, parts):
    for path, _, _ in _expand(EASYTRANSFER_NAMES, parts["encoder"]):
        variable = find_variable(parts, path)
        if variable is not None:
            yield path, variable
    for scope, owner in (("encoder.", parts["encoder"]), ("", model)):
        for variable in owner.variables:
            yield scope + variable.name.split(":")[0].replace("/", "."), variable


def _compile(patterns, flag):
    try:
        return [re.compile(pattern) for pattern in patterns]
    except re.error as error:
        raise ValueError(
            f"`{flag}` should hold regular expressions. Received: {list(patterns)}: "
            f"{error}"
        ) from error


def _allow(entries, flag, *groups):
    """The entries, with a note on those that every group has a pattern for."""
    marked = []
    for entry in entries:
        sides = [name for name in (entry.ours, entry.theirs) if name]
        allowed = all(
            any(pattern.fullmatch(side) for pattern in group for side in sides)
            for group in groups
        )
        if allowed and not entry.note:
            entry = dataclasses.replace(entry, note=f"allowed by {flag}")
        marked.append(entry)
    return marked
