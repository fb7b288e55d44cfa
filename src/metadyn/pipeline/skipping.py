"""Of many recordings those that cannot be used are left out, if that was asked for, and named at
the end with the reason."""

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
    """The recordings that were left out so far, with the error of each."""

    def __init__(self, asked: bool) -> None:
        self._asked = asked
        self.found: list[tuple[Recording, MetadynError]] = []

    def attempt(self, recording: Recording, do: Callable[[], Result]) -> Result | None:
        """The result of `do`; None where it fails for this recording, which is then left out.

        Raises its error where leaving out was not asked for.
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
        """Those that were not left out. Raises DataError where that is none."""
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
        lines = [indent(f"{recording}: {error}", "  ") for recording, error in self.found]
        return "\n".join([f"{len(self.found)} recordings left out (`skip_bad`):", *lines])


@contextmanager
def skipping(asked: bool) -> Iterator[Skipped]:
    """Try recordings one by one.

    When the block ends, however it does, a warning lists those that were left out.
    """
    skipped = Skipped(asked)
    try:
        yield skipped
    finally:
        if skipped.found:
            warnings.warn(str(skipped), stacklevel=4)
