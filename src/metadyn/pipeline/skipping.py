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
OF_ALL = (
    ConfigError,
    DeviceError,
    TrainingError,
)  # what was asked for, and no fault of a recording


class Skipped:
    """The recordings that were left out so far, with the error of each."""

    def __init__(self, asked: bool):
        self._asked = asked
        self.found: list[tuple[Recording, MetadynError]] = []

    def attempt(self, recording: Recording, do: Callable[[], Result]) -> Result | None:
        """What `do` returns; None where it fails for this recording, which then is left out. Raises
        its error if not asked."""
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
            problem, remedy = (
                "no recording is left",
                "the remedies of the recordings, which the note lists",
            )
            raise DataError(problem, found=f"{len(given)} recordings, all left out", remedy=remedy)
        return left

    def __str__(self) -> str:
        lines = [indent(f"{recording}: {error}", "  ") for recording, error in self.found]
        return "\n".join([f"{len(self.found)} recordings left out (`skip_bad`):", *lines])


@contextmanager
def skipping(asked: bool) -> Iterator[Skipped]:
    """Tries recordings one by one; when the block ends, however it does, a warning lists those left
    out."""
    skipped = Skipped(asked)
    try:
        yield skipped
    finally:
        if skipped.found:
            warnings.warn(str(skipped), stacklevel=4)
