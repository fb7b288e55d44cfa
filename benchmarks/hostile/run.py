"""Many cases of a kind: each a copy of the good files, spoilt, and met by one verb in the ward."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from benchmarks.hostile.kinds import Kind, kinds
from benchmarks.hostile.verbs import VERBS, make_good
from benchmarks.hostile.ward import Ward


@dataclass(frozen=True)
class World:
    """`folder` with the good files and a recording apart, and the kinds of harm for them."""

    folder: Path
    good: Path
    kinds: dict[str, Kind]

    @staticmethod
    def make(folder: Path) -> World:
        good = make_good(folder)
        return World(folder, good, kinds(good))


def try_kind(
    kind: Kind, world: World, cases: int, verbs: tuple[str, ...], number: int = 0
) -> tuple[Counter, list[str]]:
    """How `cases` cases ended, by verdict, and of each fault what was done, to what, and what was
    said."""
    ends, faults = Counter(), []
    with Ward(VERBS) as ward:

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
            verdict = ward.run(verb, case)
            ends[verdict.word] += 1
            if not verdict.good:
                faults.append(f"{verb} after {spoil}: {verdict.word}\n{verdict.said}")

        one()
    return ends, faults
