"""Errors that a user can act on: what was found, where, and what mends it.

Options stand in messages as a Python call takes them, `name` or `name=value` in backquotes; the
command line prints them as its own flags (`metadyn.cli.flags`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any


def as_keywords(options: Mapping[str, Any]) -> str:
    """Options as the keywords of a call.

    >>> as_keywords({"align": "start_time", "n_bins": 50})
    "align='start_time', n_bins=50"
    """
    return ", ".join(f"{name}={value!r}" for name, value in options.items())


class MetadynError(Exception):
    """An error that a user can act on.

    Parameters
    ----------
    problem : what is wrong, in one sentence.
    file : path or URI of the file concerned.
    item : the table, column, series or key inside that file.
    found : what is there instead.
    remedy : what to try next; default: the options.
    options : values of options that mend it, where they could be worked out.
    """

    def __init__(
        self,
        problem: str,
        *,
        file: object = None,
        item: object = None,
        found: object = None,
        remedy: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.problem = problem
        self.file = file
        self.item = item
        self.found = found
        self.options = options
        self.remedy = as_keywords(options) if options and remedy is None else remedy
        lines = {"file": file, "object": item, "found": found, "try": self.remedy}
        shown = [f"  {name}: {text}" for name, text in lines.items() if text is not None]
        super().__init__("\n".join([problem, *shown]))

    def __reduce__(self) -> tuple:
        """As it is, however it was made: errors come back from processes that read."""
        return type(self).__new__, (type(self), *self.args), self.__dict__


class DataError(MetadynError):
    """The NWB file lacks something, or holds something that cannot be used."""


class RemoteError(MetadynError):
    """A file on the net cannot be found or fetched."""


class MissingMetadataError(DataError):
    """Files lack metadata that an archive needs; `template` is the text to fill in."""

    def __init__(self, problem: str, *, template: str, **details: Any) -> None:
        self.template = template
        super().__init__(problem, **details)


class WindowError(MetadynError):
    """The windows asked for are empty, overlap, lie outside the recording or cannot be found."""


class SelectionError(MetadynError):
    """A `where` or unit expression names an unknown column, is malformed or keeps nothing."""


class ConfigError(MetadynError):
    """A configuration key is unknown or a value is out of range."""


class ModelFileError(MetadynError):
    """A stored model is damaged, hostile, of an unknown architecture or lacks a session."""


class TrainingError(MetadynError):
    """Training cannot start or go on."""


class DeviceError(MetadynError):
    """The device asked for does not exist on this machine."""


class WriteError(MetadynError):
    """A result cannot be written; the file it was meant for is unchanged."""


@contextmanager
def refusals_told(path: object, problem: str, remedy: str) -> Iterator[None]:
    """What the system refuses inside becomes a WriteError about `path`."""
    try:
        yield
    except OSError as error:
        raise WriteError(
            problem, file=path, found=error.strerror or error, remedy=remedy
        ) from error
