"""Arguments and options that several commands share, and configuration keys as options.

The keys, their defaults and their help come from `metadyn.config`: a key added there is an option
of each command that takes its section.
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

# Heading in the help of the options of each section
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
    """Decorator of a command: adds the keys of some sections of the configuration as options.

    The command receives them in one argument `flags`, {section: {key: value}}; the value is None
    where the option was not given, so that a configuration file counts there.

    Parameters
    ----------
    sections : of the configuration: data, model, training, align.

    Example: `@config_flags("data", "align")` gives `metadyn align` the options --bin-width and
    --test-fraction, among others.
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
    """The option of one configuration key; where it is not given its value is None.

    A number, a text or a choice is typed as it is, a switch as --key or --no-key, a sequence of any
    length as one option for each of its items.

    Parameters
    ----------
    name : of the key.
    section : that it stands in.
    field : its type, default and description.
    """
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
    """A choice that takes old words too, which the help does not show; other types as they are.

    Parameters
    ----------
    kind : type of the option.
    old : today's word for each word of an older version.

    Returns
    -------
    The type, and what the help shows in place of its words (None: as typer would).
    """
    choice, *_ = get_args(kind) or [kind]
    if not old or get_origin(choice) is not Literal:
        return kind, None
    words = get_args(choice)
    return Literal[*words, *old] | None, f"<{'|'.join(words)}>"


def _help(field: FieldInfo) -> str:
    """The description of a key and its default, as the markup of the help.

    >>> from metadyn.config import DataConfig
    >>> _help(DataConfig.model_fields["bin_width"]).endswith("(default 0.02)")
    True
    """
    text = escape(field.description or "")  # "[s]" is a unit here, not markup
    default = field.default
    if default is None:
        return text
    if isinstance(default, tuple):
        default = " ".join(map(str, default))
    return f"{text} (default {default})"


def chosen(flags: dict) -> dict:
    """The data options that were given on the command line; all others are the model's.

    >>> chosen({"data": {"bin_width": None, "align": "go_cue"}})
    {'align': 'go_cue'}
    """
    return {key: value for key, value in flags["data"].items() if value is not None}
