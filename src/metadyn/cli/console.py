"""What the commands print: text as a file has it, errors without tracebacks, rows of tables."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from textwrap import fill
from typing import TYPE_CHECKING, Any
from unicodedata import category

from rich.console import Console
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from metadyn.errors import MetadynError, MissingMetadataError

if TYPE_CHECKING:
    from rich.live import Live

MOST_ROWS = 12  # lines of a table that still fit on a screen; the rest is counted

NO_BREAK = "\ue000"  # a private letter, which no text has, where a line may not end
TOGETHER = re.compile(r'"[^"]*"')
COPIED = re.compile(
    r" *(file: |try: (.*\s)?(--[a-z]|(metadyn|git|datalad|pip|python|h5clear|cp|curl) ))"
)
# Unicode's categories of control characters, format characters and half surrogates
UNSEEN = ("Cc", "Cf", "Cs")

SHOWN: list[Live] = []  # what stands on the terminal at the moment, see `progress.on_terminal`


class PlainConsole(Console):
    """Prints the text of a file letter by letter.

    No markup; what would steer a terminal or cannot be encoded is printed as an escape, since names
    and values in a message come from files of strangers.
    """

    def __init__(self, *, stderr: bool = False) -> None:
        """Of the standard error, or of the standard output."""
        super().__init__(markup=False, emoji=False, soft_wrap=True, stderr=stderr)
        for live in SHOWN if self.is_terminal else ():
            self.push_render_hook(live)  # so that it steps aside for what is printed here

    def print(self, *objects: Any, **options: Any) -> None:
        """Lay tables out within the width, long words folded; the terminal folds all else."""
        tables = [each for each in objects if isinstance(each, Table)]
        for column in (column for table in tables for column in table.columns):
            column.overflow = "fold"
        super().print(*objects, **{"soft_wrap": not tables, **options})

    def render(self, renderable: Any, options: Any = None) -> Iterator[Segment]:
        """The segments of rich, their text made visible."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=visible(segment.text))


def visible(text: str) -> str:
    r"""The text with control, format and half characters as escapes, but line breaks and tabs.

    >>> print(visible("red: \x1b[31m"))
    red: \x1b[31m
    """
    return "".join(
        ascii(each)[1:-1] if category(each) in UNSEEN and each not in "\n\t" else each
        for each in text
    )


def out() -> Console:
    """The standard output."""
    return PlainConsole()


def err() -> Console:
    """The standard error: errors, notes and progress."""
    return PlainConsole(stderr=True)


def say(text: object) -> None:
    """Print a line of plain text, or a path, to the standard output."""
    out().print(str(text), highlight=False)


def first_process() -> bool:
    """Whether this is the process that prints, of those that torchrun started."""
    return os.environ.get("RANK", "0") == "0"


def wrapped(text: str, width: int) -> str:
    """The text in lines of this width (characters), broken between words alone.

    A line to be copied (a file, a command) stays one line.

    >>> print(wrapped("no units in this file\\n  file: a long name.nwb", 14))
    no units in
        this file
      file: a long name.nwb
    """
    lines = text.split("\n")
    return "\n".join(line if COPIED.match(line) else filled(line, width) for line in lines)


def filled(line: str, width: int) -> str:
    """One line as lines of this width, indented after the first; what is quoted stays together."""
    indent = line[: len(line) - len(line.lstrip(" "))] + "    "
    joined = TOGETHER.sub(lambda quoted: quoted[0].replace(" ", NO_BREAK), line)
    broken = fill(
        joined, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return broken.replace(NO_BREAK, " ")


def show_error(error: MetadynError) -> None:
    """Print the kind of an error and its lines to the standard error, options as flags.

    The template of a MissingMetadataError goes to the standard output, so that it can be kept in a
    file: `metadyn package … > metadata.toml`.
    """
    from metadyn.cli.flags import with_flags

    console = err()
    kind = type(error).__name__
    text = Text(wrapped(with_flags(f"{kind}: {error}"), console.width))
    text.stylize("bold red", 0, len(kind) + 1)
    console.print(text)
    if isinstance(error, MissingMetadataError):
        say(error.template)


def show_note(note: object) -> None:
    """Print a note to the standard error."""
    from metadyn.cli.flags import with_flags

    console = err()
    text = with_flags(f"note: {note}")
    console.print(Text(wrapped(text, console.width), style="yellow"))


def show_warnings_as_notes() -> None:
    """From here on each warning is a note, without the code that raised it."""

    def show(message: object, *_: object, **__: object) -> None:
        show_note(message)

    warnings.showwarning = show


def rows(table: Table, items: Sequence, cells: Callable) -> Table:
    """The table with a row for each of the first MOST_ROWS items; the rest is counted below.

    Parameters
    ----------
    table : with its columns; it is filled and returned.
    items : of any kind.
    cells : gives the values of an item's row, in the order of the columns.
    """
    for item in items[:MOST_ROWS]:
        table.add_row(*map(str, cells(item)))
    if len(items) > MOST_ROWS:
        table.caption = f"and {len(items) - MOST_ROWS} more"
    return table


@contextmanager
def kept_on_interrupt(kept: str) -> Iterator[None]:
    """Answer Ctrl-C inside with a sentence on what is kept, in place of the usual one.

    Raises
    ------
    KeyboardInterrupt : with that sentence.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(kept) from None
