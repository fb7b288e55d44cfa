"""At least 100 hostile files of each kind, each met by a command or a reader, and how that ended.

    python -m benchmarks.hostile [--cases 120] [--kind NAME] [--seed 0]

Prints and keeps (benchmarks/results/hostile.json) how many cases were tried of each kind and how
they ended: `worked`, `told` (an error with a message), `told by pynwb` where only that reads, or a
fault, each of which is shown.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks.hostile.run import World, try_kind
from benchmarks.record import save_result, say


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=120, help="of each kind")
    parser.add_argument("--kind", help="only kinds whose name holds this; nothing is kept")
    parser.add_argument("--seed", type=int, default=0)
    asked, figures = parser.parse_args(), {}
    with tempfile.TemporaryDirectory() as folder:
        world = World.make(Path(folder))
        for name, kind in world.kinds.items():
            if asked.kind is None or asked.kind in name:
                ends, faults = try_kind(kind, world, asked.cases, kind.verbs, asked.seed)
                figures[name] = {"tried": sum(ends.values()), **ends}
                say("\n".join([*faults, f"{name}: {figures[name]}"]))
    if asked.kind is None:
        save_result("hostile", figures, seed=asked.seed)


if __name__ == "__main__":
    main()
