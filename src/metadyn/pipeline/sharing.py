"""From a dandiset and back to one that strangers can use: fetch, derive, package, upload; and the
model out of a file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from metadyn.errors import ConfigError, WriteError
from metadyn.nwb.addresses import Asset, assets, dandi_address, is_address, located
from metadyn.pipeline.inputs import recordings
from metadyn.records import Session

if TYPE_CHECKING:
    from metadyn.sharing.findings import Finding
    from metadyn.sharing.upload import Plan


def fetch(
    what: str,
    folder: str | Path,
    *,
    report: Callable[[Path], None] = lambda _: None,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> list[Path]:
    """Download the NWB files of a dandiset (`000123`), of a folder in it (`000123/sub-A`) or at an
    address.

    Returns their paths. A file that is there already stays as it is; what was broken off goes on
    from where it was. `report` is called with each path when it is there, `progress` during a
    download, see `metadyn.nwb.remote.download`.

    Raises
    ------
    ConfigError : `what` is neither. RemoteError : nothing is found, or the bytes cannot be had.
    """
    from metadyn.nwb.remote import download

    paths = []
    for asset in _assets(what):
        path = Path(folder).expanduser() / asset.path
        paths.append(path if path.exists() else download(asset, path, progress))
        report(paths[-1])
    return paths


def stream(what: str) -> Iterator[tuple[Asset, Session]]:
    """What `fetch` would download, read from where it is; what the sessions need is in the cache
    afterwards."""
    from metadyn.nwb.read import read_session

    for asset in _assets(what):
        yield asset, read_session(asset)


def _assets(what: str) -> list[Asset]:
    address = dandi_address(what)
    if not is_address(address):
        remedy = (
            "000123, 000123/sub-A, dandi://DANDI:000123@draft/sub-A/sub-A_ecephys.nwb or https://…"
        )
        raise ConfigError("neither a dandiset nor an address", found=what, remedy=remedy)
    return assets(address)


def derive(
    file: str | Path,
    output: str | Path,
    *,
    recording: str | Path | None = None,
    uri: str | None = None,
    overwrite: bool = False,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> Path:
    """Write the derived file of an annotated one, see `metadyn.nwb.derive.derive`; file and
    recording may be addresses.

    `progress` is called during the download of a file at an address, which is deleted afterwards.
    """
    from metadyn.nwb.derive import derive
    from metadyn.nwb.remote import local_copy

    source, recording = located(file), located(recording)
    uri = uri or (str(source) if isinstance(source, Asset) and recording is None else None)
    with local_copy(source, Path(output).expanduser().parent, progress) as path:
        return derive(
            path, Path(output).expanduser(), recording=recording, uri=uri, overwrite=overwrite
        )


def left_out(file: str | Path) -> list[str]:
    """What the derived file of a file is without; see `metadyn.nwb.derive.paths_left_out`."""
    from metadyn.nwb.derive import paths_left_out

    return paths_left_out(file)


def package(
    files: object,
    output: str | Path,
    metadata: str | Path | None = None,
    *,
    overwrite: bool = False,
    report: Callable[[Path], None] = lambda _: None,
) -> list[Path]:
    """Lay derived files out as a dandiset, for `metadyn.findings` to look through; see
    `metadyn.sharing.dandiset.package`."""
    from metadyn.sharing.dandiset import package

    given = [_local(each.source) for each in recordings(files)]
    return package(given, Path(output).expanduser(), metadata, overwrite=overwrite, report=report)


def _local(source: object) -> Path:
    if isinstance(source, Asset):
        remedy = f"metadyn fetch {source} -o FOLDER, and package that"
        raise ConfigError("only files on disk can be packaged", file=source, remedy=remedy)
    if not isinstance(source, str | Path):
        remedy = "the paths of derived files"
        raise ConfigError("only files can be packaged", found=type(source).__name__, remedy=remedy)
    return Path(source)


def findings(folder: str | Path) -> list[Finding]:
    """What `dandi validate` and nwbinspector find; see `metadyn.sharing.findings.findings`."""
    from metadyn.sharing.findings import findings

    return findings(Path(folder).expanduser())


def upload(folder: str | Path, *, instance: str = "dandi", dry_run: bool = False) -> Plan:
    """The plan of an upload to DANDI, which is carried out unless `dry_run`.

    Raises ConfigError where something stands in the way of an upload that is no dry run.
    """
    from metadyn.sharing.upload import plan, upload

    planned = plan(Path(folder).expanduser(), instance)
    if not dry_run:
        if planned.obstacles:
            found = "; ".join(planned.obstacles)
            raise ConfigError(
                "the upload would fail",
                file=folder,
                found=found,
                remedy="`dry_run=True` shows what would be sent",
            )
        upload(planned)
    return planned


def export_model(
    file: str | Path, output: str | Path, *, overwrite: bool = False
) -> tuple[Path, Path]:
    """The model in an NWB file as safetensors, byte for byte, and its config beside it as JSON;
    returns both paths."""
    from metadyn.nwb.replace import new_file
    from metadyn.nwb.stored_model import read_model

    model = read_model(file)
    weights = Path(output).expanduser()
    config = json.dumps({**model.config, "architecture": model.architecture}, indent=1)
    contents = {weights: model.weights, weights.with_suffix(".json"): config.encode()}
    for path in contents:
        if path.exists() and not overwrite:
            raise WriteError(
                "the target exists already",
                file=path,
                remedy="another path (`output`), or `overwrite=True`",
            )
    for path, content in contents.items():
        with new_file(Path(file), path) as work:
            work.write_bytes(content)
    return weights, weights.with_suffix(".json")
