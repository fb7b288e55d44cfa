"""What a person sees when something is wrong: what was found, where, and the step that mends it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager


def as_flags(options: dict) -> str:
    """Configuration keys as the options of a command, quoted for the shell."""
    return " ".join(_as_flag(name.replace("_", "-"), value) for name, value in options.items())


def _as_flag(name: str, value) -> str:
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no-{name}"
    if isinstance(value, list | tuple):
        words = all(
            isinstance(each, str) for each in value
        )  # a flag for each, as the command takes them
        return (
            " ".join(f"--{name} {each}" for each in value)
            if words
            else f"--{name} {' '.join(map(str, value))}"
        )
    return f"--{name} {shell_word(str(value))}"


def shell_word(text: str) -> str:
    """The text quoted for the shell, the way a person would write it."""
    readable = "'" in text and not set(text) & set('"`$\\!')
    return f'"{text}"' if readable else shlex.quote(text)


class MetadynError(Exception):
    """An error that a user can act on.

    Parameters
    ----------
    problem : what is wrong, in one sentence.
    file : path or URI of the file concerned.
    item : the table, column, series or key inside that file.
    found : what is there instead.
    remedy : the command or option to try next.
    """

    def __init__(self, problem, *, file=None, item=None, found=None, remedy=None):
        self.problem, self.file, self.item, self.found, self.remedy = (
            problem,
            file,
            item,
            found,
            remedy,
        )
        lines = [("file", file), ("object", item), ("found", found), ("try", remedy)]
        super().__init__(
            "\n".join([problem, *(f"  {name}: {text}" for name, text in lines if text is not None)])
        )

    def __reduce__(self):
        """As it is, however it was made: errors come back from processes that read."""
        return type(self).__new__, (type(self), *self.args), self.__dict__


class DataError(MetadynError):
    """The NWB file lacks something, or holds something that cannot be used."""


class RemoteError(MetadynError):
    """A file on the net cannot be found or fetched."""


class MissingMetadataError(DataError):
    """Files lack metadata that an archive needs; `template` is the text to fill in."""

    def __init__(self, problem, *, template, **told):
        self.template = template
        super().__init__(problem, **told)


class WindowError(MetadynError):
    """The windows asked for are empty, overlap, lie outside the recording or cannot be found.

    `options` are the fields of `DataConfig` that the remedy proposes, where it names a choice that
    was worked out.
    """

    def __init__(self, problem, *, options=None, **told):
        self.options = options
        super().__init__(problem, **told)


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
def refusals_told(path, problem: str, remedy: str) -> Iterator[None]:
    """What the system refuses inside is a WriteError about `path`."""
    try:
        yield
    except OSError as error:
        raise WriteError(
            problem, file=path, found=error.strerror or error, remedy=remedy
        ) from error
