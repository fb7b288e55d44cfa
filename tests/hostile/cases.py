"""Many cases of a kind: each a copy of the good files, spoilt, and met by one verb in the sandbox."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.hostile.corruptions import Corruption, corruptions
from tests.hostile.sandbox import Sandbox
from tests.hostile.verbs import VERBS, make_good


@dataclass(frozen=True)
class World:
    """`folder` with the good files and a recording apart, and the corruptions of them."""

    folder: Path
    good: Path
    corruptions: dict[str, Corruption]

    @staticmethod
    def make(folder: Path) -> World:
        good = make_good(folder)
        return World(folder, good, corruptions(good))


def try_corruption(
    kind: Corruption, world: World, cases: int, verbs: tuple[str, ...], number: int = 0
) -> tuple[Counter, list[str]]:
    """How `cases` cases ended, by verdict, and of each fault what was done, to what, and what was
    said."""
    ends, faults = Counter(), []
    with Sandbox(VERBS) as sandbox:

        @seed(number)
        @settings(
            max_examples=cases,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(spoil=kind.spoil, verb=st.sampled_from(verbs))
        def one(spoil, verb):
            case = world.folder / "case"
            shutil.rmtree(case, ignore_errors=True)
            shutil.copytree(world.good, case)
            spoil(case)
            verdict = sandbox.run(verb, case)
            ends[verdict.word] += 1
            if not verdict.good:
                faults.append(f"{verb} after {spoil}: {verdict.word}\n{verdict.said}")

        one()
    return ends, faults
