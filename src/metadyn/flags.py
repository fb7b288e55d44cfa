"""Configuration keys as flags of a command: one fact, one owner (`metadyn.config`)."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
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


def config_flags(*sections: str) -> Callable:
    """Decorator: adds the keys of these sections as options.

    The command gets them as `flags`, {section: {key: value, None where not given}}.
    """

    def decorate(command: Callable) -> Callable:
        signature = inspect.signature(command, eval_str=True)
        own = [each for each in signature.parameters.values() if each.name != "flags"]
        keys = {name: section for section in sections for name in SECTIONS[section].model_fields}

        @functools.wraps(command)
        def run(**given):
            flags = {
                section: {name: given.pop(name) for name in keys if keys[name] == section}
                for section in sections
            }
            return command(**given, flags=flags)

        added = [
            _parameter(name, section, SECTIONS[section].model_fields[name])
            for name, section in keys.items()
        ]
        run.__signature__ = signature.replace(parameters=[*own, *added])
        run.__annotations__ = {each.name: each.annotation for each in [*own, *added]}
        return run

    return decorate


def _parameter(name: str, section: str, field: FieldInfo) -> inspect.Parameter:
    kind = field.annotation
    if any(
        Ellipsis in get_args(each) for each in (kind, *get_args(kind))
    ):  # any number of words, which the configuration checks: the flag is given once for each
        kind = list[str]
    kind = kind if type(None) in get_args(kind) else kind | None
    flag = name.replace("_", "-")
    flag = f"--{flag}/--no-{flag}" if field.annotation is bool else f"--{flag}"
    kind, metavar = _with_old_words(kind, VALUES.get((section, name), {}))
    option = typer.Option(
        flag,
        help=_help(field),
        rich_help_panel=PANELS[section],
        show_default=False,
        metavar=metavar,
    )
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, option]
    )


def _with_old_words(kind: Any, old: dict[str, str]) -> tuple[Any, str | None]:
    """A choice that takes old words too, which the help does not show; other types as they are."""
    choice, *_ = get_args(kind) or [kind]
    if not old or get_origin(choice) is not Literal:
        return kind, None
    words = get_args(choice)
    return Literal[*words, *old] | None, f"<{'|'.join(words)}>"


def _help(field: FieldInfo) -> str:
    text = escape(field.description)  # "[s]" is a unit here, no markup
    if field.default is None:
        return text
    default = (
        " ".join(map(str, field.default)) if isinstance(field.default, tuple) else field.default
    )
    return f"{text} (default {default})"
