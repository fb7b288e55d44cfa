"""Options as the flags of a command, for the commands that are proposed."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any


def as_flags(options: Mapping[str, Any]) -> str:
    """Configuration keys as the options of a command, quoted for the shell.

    >>> as_flags({"align": "start_time", "n_bins": 50, "residual": False})
    '--align start_time --n-bins 50 --no-residual'
    """
    return " ".join(_as_flag(name.replace("_", "-"), value) for name, value in options.items())


def _as_flag(name: str, value: object) -> str:
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no-{name}"
    return f"--{name} {as_argument(value, f' --{name} ')}"


def as_argument(value: object, flag: str = " ") -> str:
    """The value of an option, quoted for the shell; `flag` stands before each further word."""
    if isinstance(value, list | tuple):
        words = all(isinstance(each, str) for each in value)
        return (flag if words else " ").join(map(str, value))
    return shell_word(str(value))


def shell_word(text: str) -> str:
    """The text quoted for the shell, the way a person would write it."""
    readable = "'" in text and not set(text) & set('"`$\\!')
    return f'"{text}"' if readable else shlex.quote(text)
