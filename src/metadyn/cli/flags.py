"""Options of a Python call in a message, as the flags of the command line.

Rooms below the command line name an option as a call takes it (`metadyn.errors`): `name` or
`name=value` in backquotes, and name=value where values are proposed. Here each becomes a flag; one
of a name is typed alike in all commands.
"""

from __future__ import annotations

import re
from ast import literal_eval
from functools import cache
from typing import Any

from metadyn.cli import Commands
from metadyn.pipeline.commands import as_argument

CALLED = {"n_sessions": "sessions"}  # keywords that a command calls otherwise
SHORT = {"output": "-o"}  # the form in which everybody types it

STRING = r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\""
VALUE = rf"(?:{STRING}|True|False|None|-?\d[\d.]*(?:e[-+]?\d+)?|[\[(][^\])]*[\])])"
ITEM = rf"[a-z_]+={VALUE}"
QUOTED = re.compile(rf"`([a-z_]+)(?:=({VALUE}))?`")
PROPOSED = re.compile(rf"(?<![\w`'\"/.-]){ITEM}(?:, {ITEM})*(?=[\s,;)]|$)")
PAIR = re.compile(rf"([a-z_]+)=({VALUE})")
AS_IT_IS = re.compile(r" *(file|object|found): ")  # lines that quote what was found


def with_flags(text: str) -> str:
    """The text with the options that it names as flags; what no command takes stays.

    Parameters
    ----------
    text : a message of any number of lines; those that quote what was found stay as they are.

    >>> with_flags("another path (`output`), or `overwrite=True`")
    'another path (-o), or --overwrite'
    >>> with_flags("try: align='start_time', n_bins=50")
    'try: --align start_time --n-bins 50'
    """

    def flag(found: re.Match) -> str:
        name, literal = found.groups()
        option = options().get(CALLED.get(name, name))
        return found[0] if option is None else as_typed(option, literal)

    def flags(found: re.Match) -> str:
        return " ".join(map(flag, PAIR.finditer(found[0])))

    def line(text: str) -> str:
        text = QUOTED.sub(flag, text)
        return text if AS_IT_IS.match(text) else PROPOSED.sub(flags, text)

    return "\n".join(map(line, text.split("\n")))


@cache
def options() -> dict[str, Any]:
    """The options of all commands, as typer has them, by the keyword of each."""
    parameters = [each for command in Commands().values() for each in command.params]
    return {each.name: each for each in parameters if each.param_type_name == "option"}


def as_typed(option: Any, literal: str | None) -> str:
    """An option as a person types it, with the value of a Python literal if there is one."""
    name = SHORT.get(option.name, option.opts[0])
    if literal is None:
        return name
    value = literal_eval(literal)
    if value is False and option.secondary_opts:
        return option.secondary_opts[0]
    return name if isinstance(value, bool) else f"{name} {as_argument(value, f' {name} ')}"
