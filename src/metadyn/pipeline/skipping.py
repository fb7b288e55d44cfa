"""Recordings that cannot be used are left out of many, if that was asked for (`skip_bad`).

A warning at the end names them with their reasons. Faults of what was asked for are errors always:
no other recording would do better.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from textwrap import indent
from typing import TypeVar

from metadyn.errors import ConfigError, DataError, DeviceError, MetadynError, TrainingError
from metadyn.pipeline.inputs import Recording

Result = TypeVar("Result")
# Faults of what was asked for, and not of a recording
OF_ALL = (ConfigError, DeviceError, TrainingError)


class Skipped:
    """The recordings that were left out so far, `found`, with the error of each.

    Parameters
    ----------
    asked : leave out recordings that fail; otherwise their errors are raised.

    >>> skipped = Skipped(asked=True)
    >>> good, bad = Recording("good.nwb"), Recording("bad.nwb")
    >>> def fail():
    ...     raise DataError("no units")
    >>> skipped.attempt(good, lambda: 3), skipped.attempt(bad, fail)
    (3, None)
    >>> [str(each) for each in skipped.kept([good, bad])]
    ['good.nwb']
    """

    def __init__(self, asked: bool) -> None:
        """Nothing is left out yet."""
        self._asked = asked
        self.found: list[tuple[Recording, MetadynError]] = []

    def attempt(self, recording: Recording, do: Callable[[], Result]) -> Result | None:
        """The result of `do`; None where it fails for this recording, which is then left out.

        Parameters
        ----------
        recording : that `do` works on.
        do : called without arguments.

        Raises
        ------
        ConfigError, DeviceError, TrainingError : what was asked for cannot be done at all.
        MetadynError : every other error, where leaving out was not asked for.
        """
        try:
            return do()
        except OF_ALL:
            raise
        except MetadynError as error:
            if not self._asked:
                raise
            self.found.append((recording, error))
            return None

    def kept(self, given: list[Recording]) -> list[Recording]:
        """Those that were not left out, in the order given.

        Raises
        ------
        DataError : none is left.
        """
        bad = {id(recording) for recording, _ in self.found}
        left = [each for each in given if id(each) not in bad]
        if not left:
            raise DataError(
                "no recording is left",
                found=f"{len(given)} recordings, all left out",
                remedy="the remedies of the recordings, which the note lists",
            )
        return left

    def __str__(self) -> str:
        """How many were left out, and a line for each with its error."""
        lines = [indent(f"{recording}: {error}", "  ") for recording, error in self.found]
        return "\n".join([f"{len(self.found)} recordings left out (`skip_bad`):", *lines])


@contextmanager
def skipping(asked: bool) -> Iterator[Skipped]:
    """A block in which recordings are tried one by one, by `Skipped.attempt`.

    When the block ends, by an error too, a warning lists those that were left out.

    Parameters
    ----------
    asked : leave out recordings that fail; otherwise their errors are raised.
    """
    skipped = Skipped(asked)
    try:
        yield skipped
    finally:
        if skipped.found:
            warnings.warn(str(skipped), stacklevel=4)
