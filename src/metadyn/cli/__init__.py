"""The command line: one module of `metadyn.cli.commands` for each command.

A module is imported when its command is asked for; the order is that of the table of verbs.
"""

from __future__ import annotations

import ast
import errno
import inspect
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import typer

from metadyn import VERBS
from metadyn.cli import commands
from metadyn.errors import ConfigError, MetadynError, WriteError
from metadyn.old_words import KEYS

INTERRUPTED = 130  # 128 + SIGINT, as shells have it
VERB_OF = {"model": "read_model"}  # `metadyn.model` is the package of the equations
OLD_FLAGS = {
    old.replace("_", "-"): new.replace("_", "-")
    for keys in KEYS.values()
    for old, new in keys.items()
}


def current_name(flag: str) -> str:
    """Today's name of a flag of version 0.1.0, both without dashes; others are as they are."""
    return OLD_FLAGS.get(flag, flag)


class Commands(Mapping):
    """The commands by name; each is imported when it is first looked up."""

    def __init__(self) -> None:
        verbs = list(VERBS)
        names = [module.name for module in iter_modules(commands.__path__)]
        places = {name: verbs.index(VERB_OF.get(name, name)) for name in names}
        self._names = sorted(names, key=places.__getitem__)
        self._made: dict[str, Any] = {}
        self.listing = False  # whether only names and help are asked for, as by `metadyn --help`

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, name: str) -> Any:
        """The command: the function of that name in the module of that name, with its EPILOG."""
        if name not in self._names:
            raise KeyError(name)
        if self.listing:
            return typer.core.TyperCommand(name, help=unwrapped(docstring_of(name)))
        if name not in self._made:
            self._made[name] = make_command(name)
        return self._made[name]


def make_command(name: str) -> Any:
    """Import the module of a command and make a command of typer of its function."""
    module = import_module(f"{commands.__name__}.{name}")
    function = getattr(module, name)
    alone = typer.Typer(add_completion=False, rich_markup_mode="rich")
    epilog = getattr(module, "EPILOG", None)
    alone.command(name, help=unwrapped(function.__doc__), epilog=epilog)(function)
    return typer.main.get_command(alone)


def docstring_of(name: str) -> str:
    """The docstring of a command's function, read from its source: nothing is imported for it."""
    source = Path(commands.__path__[0], f"{name}.py").read_text(encoding="utf-8")
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return ast.get_docstring(node) or ""
    return ""


def unwrapped(docstring: str) -> str:
    r"""One line a paragraph: the width is the terminal's, not that of the source.

    >>> unwrapped("One\nsentence.\n\nAnother.")
    'One sentence.\n\nAnother.'
    """
    paragraphs = inspect.cleandoc(docstring).split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


class CommandGroup(typer.core.TyperGroup):
    """Prints our errors as a few lines, without a traceback.

    Exit codes: 1, 2 for a ConfigError (something was asked wrongly), 130 after Ctrl-C.
    """

    def __init__(self, **settings: Any) -> None:
        self.lazy = Commands()
        super().__init__(**{**settings, "commands": self.lazy})

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The list of commands, none of which is imported for it."""
        self.lazy.listing = True
        try:
            super().format_help(ctx, formatter)
        finally:
            self.lazy.listing = False

    def invoke(self, ctx: Any) -> Any:
        """Run the command that the arguments name."""
        from metadyn.cli import console

        console.show_warnings_as_notes()
        try:
            return super().invoke(ctx)
        except MetadynError as error:
            console.show_error(error)
            raise typer.Exit(2 if isinstance(error, ConfigError) else 1) from None
        except OSError as error:
            # without a number it is not the system's; EPIPE: a reader that went away
            if error.errno is None or error.errno == errno.EPIPE:
                raise
            console.show_error(refused_by_the_system(error))
            raise typer.Exit(1) from None
        except KeyboardInterrupt as stop:
            console.err().print(f"stopped. {stop or 'Nothing was left half written.'}")
            raise typer.Exit(INTERRUPTED) from None


def refused_by_the_system(error: OSError) -> WriteError:
    """The refusal of the operating system to read or write a file, as an error of ours."""
    remedy = (
        "a path that exists, with room, that you may write to (`output`); "
        "what was complete before is kept"
    )
    return WriteError(
        "the system refused to read or write",
        file=error.filename,
        found=error.strerror or error,
        remedy=remedy,
    )


app = typer.Typer(
    cls=CommandGroup,
    no_args_is_help=True,
    rich_markup_mode="rich",
    add_completion=False,
    pretty_exceptions_show_locals=False,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "token_normalize_func": current_name,
    },
    help="Shared latent dynamics from many recordings: NWB units in, latents, embeddings and "
    "the model back into NWB.",
)


@app.callback()
def _group() -> None:
    """Typer makes a group of an app that has a callback."""
