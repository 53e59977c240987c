"""Port, what it tells: every variable of file and model, and what became of it."""

import dataclasses

_MOST_LINES = 12  # of an error; the table has them all


@dataclasses.dataclass(frozen=True)
class Entry:
    """One line: a variable of the file, of the model, or both.

    Attributes:
      theirs, their_shape: name and shape in the file. Name without shape: it should
        be there and isn't; None: the file never holds it.
      ours, our_shape: name and shape in the model; None: it has no place for it.
      note: why it stands where it stands; "" for a difference nothing explains.
    """

    theirs: str | None
    their_shape: tuple | None = None
    ours: str | None = None
    our_shape: tuple | None = None
    note: str = ""

    def columns(self):
        theirs = self.theirs or "-"
        if self.theirs and self.their_shape is None:
            theirs = f"(no {self.theirs})"
        right = (self.ours or "-", _shape(self.our_shape), self.note)
        return (theirs, _shape(self.their_shape), *right)


def _shape(shape):
    return "" if shape is None else str(list(shape))


@dataclasses.dataclass
class PortReport:
    """What was loaded, skipped by rule, and left over on either side.

    Attributes:
      source: the file or prefix.
      kind: what it was recognised as.
      loaded: entries that were assigned.
      skipped: the file's entries that no model holds (optimizer slots, step counters).
      unused: the file's entries that the model has no place for.
      misfits: entries that both have, in shapes that don't fit.
      missing: the model's variables that keep the values they had.
      vocab_file: the vocabulary that came with the weights, or None.
    """

    source: str
    kind: str
    loaded: list = dataclasses.field(default_factory=list)
    skipped: list = dataclasses.field(default_factory=list)
    unused: list = dataclasses.field(default_factory=list)
    misfits: list = dataclasses.field(default_factory=list)
    missing: list = dataclasses.field(default_factory=list)
    vocab_file: str | None = None

    @property
    def differences(self):
        """Entries left over without a rule or a pattern that allows it."""
        left_over = self.misfits + self.unused + self.missing
        return [entry for entry in left_over if not entry.note]

    def summary(self):
        """One line: str."""
        return (
            f"{self.kind} {self.source}: {len(self.loaded)} variables loaded, "
            f"{len(self.skipped)} skipped by rule, {len(self.unused)} of the file "
            f"unused, {len(self.missing) + len(self.misfits)} of the model not in it"
        )

    def listing(self):
        """The summary, and what wasn't loaded by name: str."""
        lines = [self.summary()]
        for title, entries in (
            ("skipped", self.skipped),
            ("unused", self.unused),
            ("fresh", self.missing + self.misfits),
        ):
            names = [entry.ours or entry.theirs for entry in entries]
            if names:
                lines.append(f"  {title}: {', '.join(names)}")
        return "\n".join(lines)

    def table(self):
        """The whole table as text, a variable a line: str."""
        sections = (
            ("loaded: file -> model", self.loaded),
            ("skipped by rule", self.skipped),
            ("left over on both sides: shapes that don't fit", self.misfits),
            ("left over in the file", self.unused),
            ("left over in the model, which keeps its own values", self.missing),
        )
        entries = [entry for _, rows in sections for entry in rows]
        widths = [max(map(len, c)) for c in zip(*_columns(entries), strict=True)]
        lines = [f"{self.kind} {self.source}"]
        for title, rows in sections:
            lines += ["", f"{title} ({len(rows)})"]
            for row in _columns(rows):
                cells = [c.ljust(w) for c, w in zip(row, widths, strict=True)]
                lines.append(("  " + "  ".join(cells)).rstrip())
        return "\n".join(lines) + "\n"

    def explain(self):
        """The differences as an error's text: str."""
        lines = [
            "  " + "  ".join(cell for cell in row if cell)
            for row in _columns(self.differences[:_MOST_LINES])
        ]
        if len(self.differences) > _MOST_LINES:
            lines.append(f"  ... and {len(self.differences) - _MOST_LINES} more")
        return (
            f"{self.source} should match the model variable by variable. Received "
            f"{len(self.differences)} differences (in the file, its shape, in the "
            "model, its shape):\n" + "\n".join(lines) + "\n  (use the config.json "
            "that belongs to it; a difference that is meant is named, when porting by "
            "python -m kaleido_tf.port..., by allow_unused for the file's side, "
            "allow_missing for the model's)"
        )


def _columns(entries):
    return [entry.columns() for entry in entries]


class PortError(ValueError):
    """File and model differ where nothing allows it; nothing was changed.

    Attributes:
      report: the `PortReport` with the differences.
    """

    def __init__(self, report):
        super().__init__(report.explain())
        self.report = report
