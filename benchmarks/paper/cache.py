"""What has been computed stays: models as folders, measurements as JSON beside them, so that a
killed run goes on.

A file's name holds a digest of the settings that it was made with: other settings make other files.
Changes of the code do not; after them, `--fresh measures` computes all but the fits anew, `--fresh
all` everything.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.record import commit
from metadyn.model.trained import TrainedModel
from metadyn.training.execution.checkpoint import load_model, write_durably


def digest(settings: dict) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[
        :8
    ]


@dataclass(frozen=True)
class Cache:
    """Files below `root`; names may hold folders."""

    root: Path

    def piece(self, name: str, settings: dict, compute: Callable[[], dict]) -> dict:
        """What `compute` gives, a JSON-able dict, from the file if there is one."""
        path = self.root / f"{name}-{digest(settings)}.json"
        if path.exists():
            return json.loads(path.read_text())["values"]
        began = time.perf_counter()
        values = compute()
        record = {
            "values": values,
            "seconds": time.perf_counter() - began,
            "commit": commit(),
            "settings": settings,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(path, (json.dumps(record, indent=1, default=float) + "\n").encode())
        return json.loads(json.dumps(values, default=float))

    def model(
        self, name: str, settings: dict, fit: Callable[[Path, bool], TrainedModel]
    ) -> TrainedModel:
        """What fit(folder, resume) gives: from its folder if it was finished there, else going on
        from where it was."""
        folder = self.root / f"{name}-{digest(settings)}"

        def fitted() -> dict:
            fit(folder, (folder / "latest").exists())
            return {}

        self.piece(f"{name}-fitted", settings, fitted)
        return load_model(folder)

    def forget(self, folders: tuple[str, ...], *, models: bool) -> None:
        """Remove measurements below some folders, and with `models` the models too."""
        for folder in folders:
            if models:
                shutil.rmtree(self.root / folder, ignore_errors=True)
                continue
            for path in (self.root / folder).glob("**/*.json"):
                if "-fitted-" not in path.name and path.name != "metrics.json":
                    path.unlink()
