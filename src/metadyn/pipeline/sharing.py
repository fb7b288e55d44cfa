"""From annotated files to a dandiset that strangers can use: derive, package, upload; and the model out of a file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from metadyn.errors import ConfigError, WriteError
from metadyn.pipeline.inputs import recordings


def derive(file: str | Path, output: str | Path, **options) -> Path:
    """Write the derived file of an annotated one; options `recording`, `uri`, `overwrite` as of `metadyn.nwb.derive.derive`."""
    from metadyn.nwb.derive import derive

    return derive(file, output, **options)


def left_out(file: str | Path) -> list[str]:
    """What the derived file of a file is without; see `metadyn.nwb.derive.left_out`."""
    from metadyn.nwb.derive import left_out

    return left_out(file)


def package(
    files,
    output: str | Path,
    metadata: str | Path | None = None,
    *,
    overwrite: bool = False,
    report: Callable[[Path], None] = lambda _: None,
) -> list[Path]:
    """Lay derived files out as a dandiset, for `metadyn.findings` to look through; see `metadyn.sharing.dandiset.package`."""
    from metadyn.sharing.dandiset import package

    given = [Path(each.source) for each in recordings(files)]
    return package(given, Path(output), metadata, overwrite=overwrite, report=report)


def findings(folder: str | Path):
    """What `dandi validate` and nwbinspector find; see `metadyn.sharing.findings.findings`."""
    from metadyn.sharing.findings import findings

    return findings(Path(folder))


def upload(folder: str | Path, *, instance: str = "dandi", dry_run: bool = False):
    """The plan of an upload to DANDI, which is carried out unless `dry_run`.

    Raises ConfigError where something stands in the way of an upload that is no dry run.
    """
    from metadyn.sharing.upload import plan, upload

    planned = plan(Path(folder), instance)
    if not dry_run:
        if planned.obstacles:
            found = "; ".join(planned.obstacles)
            raise ConfigError("the upload would fail", file=folder, found=found, remedy=f"metadyn upload {folder} --dry-run")
        upload(planned)
    return planned


def stored_model(file: str | Path):
    """The model in an NWB file, its digest verified, as a `metadyn.records.ModelFile`; needs no torch."""
    from metadyn.nwb.stored_model import read_model

    return read_model(file)


def export_model(file: str | Path, output: str | Path, *, overwrite: bool = False) -> tuple[Path, Path]:
    """The model in an NWB file as safetensors, byte for byte, and its config beside it as JSON; returns both paths."""
    from metadyn.nwb.replace import new_file

    model, weights = stored_model(file), Path(output)
    config = json.dumps({**model.config, "architecture": model.architecture}, indent=1)
    contents = {weights: model.weights, weights.with_suffix(".json"): config.encode()}
    for path in contents:
        if path.exists() and not overwrite:
            raise WriteError("the target exists already", file=path, remedy="another path (-o FILE), or --overwrite")
    for path, content in contents.items():
        with new_file(Path(file), path) as work:
            work.write_bytes(content)
    return weights, weights.with_suffix(".json")
