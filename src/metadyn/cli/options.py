"""Arguments and options that several commands share, and configuration keys as options.

The keys, their defaults and their help come from `metadyn.config`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic.fields import FieldInfo
from rich.markup import escape

from metadyn.config import SECTIONS
from metadyn.old_words import VALUES

PANELS = {
    "data": "Windows, units and bins",
    "model": "Model",
    "training": "Training",
    "align": "Alignment",
}

Files = Annotated[
    list[str],
    typer.Argument(
        help="NWB files, folders of them, addresses (https://, dandi://), or NAME=FILE",
        metavar="FILES...",
    ),
]
File = Annotated[
    str,
    typer.Argument(help="NWB file, its address (https://, dandi://), or NAME=FILE", metavar="FILE"),
]
Model = Annotated[
    str, typer.Argument(help="model folder, or an NWB file that holds a model, or its address")
]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", "-c", help=r"TOML file with \[data], \[model], \[training], \[align]"),
]
SkipBad = Annotated[
    bool,
    typer.Option(
        "--skip-bad",
        help="leave out files that cannot be used and list them at the end; "
        "exit code 0 if any was used",
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda")]


def config_flags(*sections: str) -> Callable:
    """Decorator: adds the keys of these sections of the configuration as options.

    The command receives them as `flags`, {section: {key: value}}; None where one was not given.
    """

    def decorate(command: Callable) -> Callable:
        signature = inspect.signature(command, eval_str=True)
        own = [each for each in signature.parameters.values() if each.name != "flags"]
        added = [
            _parameter(name, section, field)
            for section in sections
            for name, field in SECTIONS[section].model_fields.items()
        ]

        @functools.wraps(command)
        def run(**arguments: Any) -> Any:
            flags = {
                section: {name: arguments.pop(name) for name in SECTIONS[section].model_fields}
                for section in sections
            }
            return command(**arguments, flags=flags)

        # typer reads both: __signature__ for the order, __annotations__ for the types
        vars(run)["__signature__"] = signature.replace(parameters=[*own, *added])
        run.__annotations__ = {each.name: each.annotation for each in [*own, *added]}
        return run

    return decorate


def _parameter(name: str, section: str, field: FieldInfo) -> inspect.Parameter:
    """The option of one configuration key; where it is not given its value is None."""
    kind: Any = field.annotation
    if any(Ellipsis in get_args(each) for each in (kind, *get_args(kind))):
        kind = list[str]  # any number of words: the flag is given once for each
    if type(None) not in get_args(kind):
        kind = kind | None
    kind, metavar = _with_old_words(kind, VALUES.get((section, name), {}))
    flag = name.replace("_", "-")
    option = typer.Option(
        f"--{flag}/--no-{flag}" if field.annotation is bool else f"--{flag}",
        help=_help(field),
        rich_help_panel=PANELS[section],
        show_default=False,
        metavar=metavar,
    )
    annotation = Annotated[kind, option]
    keyword = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, keyword, default=None, annotation=annotation)


def _with_old_words(kind: Any, old: dict[str, str]) -> tuple[Any, str | None]:
    """A choice that takes old words too, which the help does not show; other types as they are."""
    choice, *_ = get_args(kind) or [kind]
    if not old or get_origin(choice) is not Literal:
        return kind, None
    words = get_args(choice)
    return Literal[*words, *old] | None, f"<{'|'.join(words)}>"


def _help(field: FieldInfo) -> str:
    """The description of a key and its default."""
    text = escape(field.description or "")  # "[s]" is a unit here, not markup
    default = field.default
    if default is None:
        return text
    if isinstance(default, tuple):
        default = " ".join(map(str, default))
    return f"{text} (default {default})"


def chosen(flags: dict) -> dict:
    """The data options that were given on the command line; all others are the model's."""
    return {key: value for key, value in flags["data"].items() if value is not None}
