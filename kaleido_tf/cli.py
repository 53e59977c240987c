"""Command lines: grouped flags, their help page, and errors without a traceback.

absl's own `--help` lists flags by module and name; ours lists them in the groups and
the order in which a command declares them, with unit, default and what is required.
"""

import re
import sys
import textwrap

from absl import app, flags, logging

_HELP = ("--help", "-help", "-h", "--helpfull", "--helpshort")
_HINT = "(--help explains every flag)"
_NO_DEFAULT = "default: none"


class FlagPage:
    """The flags of one command in declared order, under headings.

    Every method that declares a flag takes its name, default and explanation,
    `required=True` for a flag that has to be given, and `shown_default` (str), what the
    page tells instead of the default where that is None and another is worked out.

    Example:
      >>> page = FlagPage("Pre-trains Kaleido-BERT.")
      >>> page.heading("Data")
      >>> data_dir = page.string("data_dir", None, "Prepared data set.", required=True)
    """

    def __init__(self, summary):
        self.summary = summary
        # Of its own until the command runs: making a page defines no flag elsewhere.
        self.flags = flags.FlagValues()
        self._rows = []  # headings (str) and flag holders
        self._texts = {}
        self._shown_defaults = {}
        self._required = []

    def heading(self, title):
        self._rows.append(title)

    def _add(
        self,
        define,
        name,
        text,
        arguments,
        required=False,
        shown_default=None,
        **kwargs,
    ):
        # absl could check what is required, but doesn't tell afterwards what that is.
        holder = define(name, *arguments, text, flag_values=self.flags, **kwargs)
        self._rows.append(holder)
        self._texts[name] = " ".join(text.split())
        if required:
            self._required.append(name)
        if shown_default:
            self._shown_defaults[name] = shown_default
        return holder

    def string(self, name, default, text, **kwargs):
        return self._add(flags.DEFINE_string, name, text, [default], **kwargs)

    def integer(self, name, default, text, **kwargs):
        return self._add(flags.DEFINE_integer, name, text, [default], **kwargs)

    def float(self, name, default, text, **kwargs):
        return self._add(flags.DEFINE_float, name, text, [default], **kwargs)

    def bool(self, name, default, text, **kwargs):
        return self._add(flags.DEFINE_bool, name, text, [default], **kwargs)

    def enum(self, name, default, values, text, **kwargs):
        return self._add(flags.DEFINE_enum, name, text, [default, values], **kwargs)

    def list(self, name, default, text, **kwargs):
        return self._add(flags.DEFINE_list, name, text, [default], **kwargs)

    def _holders(self):
        return [row for row in self._rows if not isinstance(row, str)]

    def names(self):
        """Names of the flags in declared order: list of str."""
        return [holder.name for holder in self._holders()]

    def values(self):
        """Every flag of the page with its value: dict."""
        return {name: self.flags[name].value for name in self.names()}

    def defaults(self):
        """Every flag of the page with its default, whatever was given: dict."""
        return {name: self.flags[name].default for name in self.names()}

    def missing(self):
        """Names of the required flags that have no value: list of str."""
        values = self.values()
        return [name for name in self._required if values[name] in (None, "", [])]

    def help_text(self, program):
        """The page that `--help` prints.

        Args:
          program: what follows "python" in the command, see `program_name`.
        """
        lines = [f"usage: python {program} --FLAG=VALUE ...", "", self.summary]
        for row in self._rows:
            if isinstance(row, str):
                lines += ["", f"{row}:"]
                continue
            flag = self.flags[row.name]
            lines += [f"  --{flag.name}{_value_hint(flag)}  ({self._note(flag)})"]
            lines += textwrap.wrap(
                self._texts[row.name],
                80,
                initial_indent=" " * 6,
                subsequent_indent=" " * 6,
            )
        return "\n".join(lines)

    def _note(self, flag):
        """What stands in brackets behind a flag: str."""
        if flag.name in self._required:
            return "required"
        if flag.name in self._shown_defaults:
            return f"default: {self._shown_defaults[flag.name]}"
        note = _default_note(flag)
        told = re.search(r"\bdefault: ", self._texts[flag.name], re.IGNORECASE)
        return "default: see below" if told and note == _NO_DEFAULT else note

    def explain(self, error):
        """What is wrong with the command line, out of absl's error: str."""
        found = re.match(r"flag --(\w+)=(.*?): ", str(error), re.DOTALL)
        if found and found[1] in self._texts:
            expected = _expected(self.flags[found[1]])
            return f"`--{found[1]}` should be {expected}. Received: {found[2]!r}"
        return f"Flags should be written as --flag=value. Received: {error}"


def _choices(flag):
    return getattr(flag.parser, "enum_values", None)


def _value_hint(flag):
    if isinstance(flag, flags.BooleanFlag):
        return "=true|false"
    if _choices(flag):
        return "=" + "|".join(_choices(flag))
    if "list" in flag.flag_type():
        return "=A,B,..."
    return f"={flag.flag_type().upper()}"


def _default_note(flag):
    if flag.default is None or flag.default == "" or flag.default == []:
        return _NO_DEFAULT
    if isinstance(flag.default, bool):
        return f"default: {str(flag.default).lower()}"
    if isinstance(flag.default, list):
        return f"default: {','.join(flag.default)}"
    return f"default: {flag.default}"


def _expected(flag):
    """What values a flag takes: str."""
    if isinstance(flag, flags.BooleanFlag):
        return "true or false"
    if _choices(flag):
        return "one of " + ", ".join(_choices(flag))
    kind = {"int": "an integer", "float": "a number"}.get(flag.flag_type(), "text")
    lower = getattr(flag.parser, "lower_bound", None)
    upper = getattr(flag.parser, "upper_bound", None)
    if lower is not None and upper is not None:
        return f"{kind} from {lower} to {upper}"
    if lower is not None:
        return f"{kind} of at least {lower}"
    return kind if upper is None else f"{kind} of at most {upper}"


def program_name():
    """What follows "python" in the command that runs: a path, or -m and a module."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is None:
        return sys.argv[0]
    return "-m " + spec.name.removesuffix(".__main__")


def fail(message):
    """Ends the command with one line on stderr and exit status 1."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(1)


def _parse(argv, page):
    """Parses the command line into absl's flags; ends the command if it is wrong."""
    flags.FLAGS.append_flag_values(page.flags)
    try:
        rest = flags.FLAGS(argv)
    except flags.Error as error:
        fail(f"{page.explain(error)} {_HINT}")
    if len(rest) > 1:
        fail(
            "Flags should be written as --flag=value. Received besides: "
            f"{' '.join(rest[1:])} {_HINT}"
        )
    if missing := [f"`--{name}`" for name in page.missing()]:
        fail(f"{', '.join(missing)} should be given. Received: no value {_HINT}")
    return rest


def run(main, page):
    """Runs a command: `--help` prints `page`; expected errors end it with status 1.

    Ctrl-C ends it with status 130, as a shell counts it.

    Args:
      main: function without arguments. A ValueError or OSError that it raises is shown
        as one message, with its traceback under --verbosity=1 only.
      page: the command's `FlagPage`.
    """
    if any(argument in _HELP for argument in sys.argv[1:]):
        print(page.help_text(program_name()))
        sys.exit(0)

    def guarded(argv):
        del argv
        if flags.FLAGS["verbosity"].using_default_value:
            logging.set_verbosity(logging.INFO)
        shows_traceback = flags.FLAGS.verbosity > 0
        try:
            main()
        except (ValueError, OSError) as error:
            if shows_traceback:
                raise
            fail(error)
        except KeyboardInterrupt:
            print("Stopped by Ctrl-C.", file=sys.stderr)
            sys.exit(130)

    app.run(guarded, flags_parser=lambda argv: _parse(argv, page))
