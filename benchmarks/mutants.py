"""Mutations of meaning, and the tests that must notice them.

    python -m benchmarks.mutants [ID …] [--where training]

mutants.toml lists them. Each is made alone in a copy of the tree, where its tests are run; the
checkout is not touched. Ends with an error where a mutant lives, where its tests fail without it,
or where its text stands not exactly once.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.record import say

TREE = Path(__file__).parents[1]
TABLE = Path(__file__).with_suffix(".toml")
LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "node_modules", "site", "dist", "results")
LONGEST = 300  # seconds that the tests of a mutant may take; one that never ends was noticed too


@dataclass(frozen=True)
class Mutant:
    """One change of meaning: `old` stands exactly once in `file`, `new` takes its place, `tests`
    must fail then.

    tests: files, or node ids where the file has much else; claim: what those tests assert that is
    then false.
    """

    id: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    claim: str

    def applied(self, text: str) -> str:
        """The file's text with the change; ValueError where the text to be changed does not stand
        there exactly once."""
        found = text.count(self.old)
        if found != 1:
            raise ValueError(
                f"{self.id}: its text stands {found} times in {self.file}; carry the mutant "
                "along, or drop it"
            )
        return text.replace(self.old, self.new)


def mutants() -> list[Mutant]:
    """All that are listed."""
    listed = tomllib.loads(TABLE.read_text(encoding="utf-8"))["mutant"]
    return [Mutant(**{**each, "tests": tuple(each["tests"])}) for each in listed]


Run = Callable[
    [tuple[str, ...]], tuple[int, str]
]  # tests → exit status of pytest, and what it said

# Forks for each line of its input, so that what takes long to import is imported once; of the tree
# itself nothing is.
SERVER = """
import importlib, json, os, signal, sys
for name in ("numpy", "scipy.stats", "pandas", "torch", "xarray", "pynwb", "pytest"):
    importlib.import_module(name)
for line in sys.stdin:
    asked = json.loads(line)
    if not (child := os.fork()):
        output = os.open(asked["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1), os.dup2(output, 2)
        signal.alarm(asked["seconds"])
        try:
            os._exit(sys.modules["pytest"].main(asked["arguments"]))
        except BaseException as problem:
            print(repr(problem), flush=True)
            os._exit(70)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@contextmanager
def runner(copy: Path) -> Iterator[Run]:
    """run(tests) → exit status of pytest in the copy, up to the first failure, and what it said."""
    own = {
        "PYTHONPATH": f"{copy / 'src'}{os.pathsep}{copy}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "COLUMNS": "250",
    }
    data = os.environ.get("METADYN_DATA", str(TREE.parent / "shared" / "data"))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **own, "METADYN_DATA": data}
    already_imported = "ignore::pytest.PytestAssertRewriteWarning"
    options = ["-x", "-q", "-p", "no:cacheprovider", "--tb=line", "-W", already_imported]
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(
            [sys.executable, "-c", SERVER],
            cwd=copy,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as server,
    ):

        def run(tests: tuple[str, ...]) -> tuple[int, str]:
            output = Path(folder) / "output"
            asked = {
                "arguments": [*options, *tests],
                "output": str(output),
                "seconds": LONGEST * len(tests),
            }
            print(json.dumps(asked), file=server.stdin, flush=True)
            return int(server.stdout.readline()), output.read_text()

        try:
            yield run
        finally:
            server.stdin.close()


def verdict(run: Run, copy: Path, mutant: Mutant) -> tuple[bool, str]:
    """Whether the tests noticed, and which of them did."""
    target = copy / mutant.file
    before = target.read_text(encoding="utf-8")
    target.write_text(mutant.applied(before), encoding="utf-8")
    try:
        status, said = run(mutant.tests)
    finally:
        target.write_text(before, encoding="utf-8")
    failed = re.findall(r"^(?:FAILED|ERROR) .*", said, flags=re.MULTILINE)
    if status == -signal.SIGALRM:
        return True, f"did not end within {LONGEST} s"
    if status == 1 and failed:
        return True, failed[0]
    return (
        False,
        f"LIVES: {mutant.claim}"
        if status == 0
        else f"LIVES: pytest ended with {status}: {said[-500:]}",
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("ids", nargs="*", help="of the mutants to make; default: all")
    parser.add_argument(
        "--where", default="", help="only of files whose path holds this, e.g. training"
    )
    asked = parser.parse_args()
    chosen = [
        each
        for each in mutants()
        if (not asked.ids or each.id in asked.ids) and asked.where in each.file
    ]
    unknown = set(asked.ids) - {each.id for each in mutants()}
    if unknown or not chosen:
        parser.error(f"no such mutant: {', '.join(sorted(unknown)) or asked.where}")
    alive = []
    with tempfile.TemporaryDirectory() as folder:
        copy = shutil.copytree(TREE, Path(folder) / "tree", ignore=LEFT_OUT)
        with runner(copy) as run:
            status, said = run(tuple(dict.fromkeys(test for each in chosen for test in each.tests)))
            if status:
                sys.exit(f"the tests fail without any mutant:\n{said[-3000:]}")
            for mutant in chosen:
                killed, how = verdict(run, copy, mutant)
                alive += [] if killed else [mutant.id]
                say(f"{mutant.id}: {how}")
    say(f"{len(chosen) - len(alive)} of {len(chosen)} were noticed")
    if alive:
        sys.exit(f"alive: {', '.join(alive)}")


if __name__ == "__main__":
    main()
