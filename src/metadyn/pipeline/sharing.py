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

    A file that is there already stays as it is; a download that was broken off goes on from where
    it was.

    Parameters
    ----------
    what : dandiset, folder in one, or address (dandi://…, https://…).
    folder : for the files, laid out as in the dandiset.
    report : called with the path of each file as soon as it is there.
    progress : called during a download with its name, and the bytes so far and in all.

    Returns
    -------
    The paths of the files.

    Raises
    ------
    ConfigError : `what` is neither a dandiset nor an address.
    RemoteError : nothing is found, or the bytes cannot be had.

    Command: `metadyn fetch 000140/sub-Jenkins -o recordings`
    """
    from metadyn.nwb.remote import download

    paths = []
    for asset in _assets(what):
        path = Path(folder).expanduser() / asset.path
        paths.append(path if path.exists() else download(asset, path, progress))
        report(paths[-1])
    return paths


def stream(what: str) -> Iterator[tuple[Asset, Session]]:
    """Sessions of the files that `fetch` would download, read from where they are.

    Units and intervals of each are in the cache afterwards, where other commands find them; raw
    data are not read.

    Parameters
    ----------
    what : as of `fetch`.

    Yields
    ------
    The address of each file, and its session.

    Raises
    ------
    ConfigError : `what` is neither a dandiset nor an address.
    RemoteError : nothing is found, or the bytes cannot be had.
    """
    from metadyn.nwb.read import read_session

    for asset in _assets(what):
        yield asset, read_session(asset)


def _assets(what: str) -> list[Asset]:
    """The NWB files at an address, or of a dandiset given by its number."""
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
    """Write the derived file of an annotated one: runs, models, units, intervals, no raw data.

    A file at an address is downloaded for it, and the download deleted afterwards.

    Parameters
    ----------
    file : annotated NWB file, or its address.
    output : path of the derived file.
    recording : file or address of the recording that `file` is an annotated copy of, which is then
        named as the source in its stead.
    uri : where others find the recording; default: the address it was given by, or its file name.
    overwrite : replace a file at `output`.
    progress : called during a download with its name, and the bytes so far and in all.

    Returns
    -------
    The path of the derived file.

    Raises
    ------
    DataError : the file holds no run, or is no annotated copy of `recording`.
    WriteError : there is a file at `output` already, it cannot be written, or would not be valid.
    RemoteError : the bytes at an address cannot be had.

    Command: `metadyn derive annotated/day1.nwb -o derived/day1.nwb`
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
    """Paths of the objects in a file that its derived file is without, e.g. raw data.

    Parameters
    ----------
    file : annotated NWB file, or its address.
    """
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
    """Lay derived files out as a dandiset, which `metadyn.findings` then checks.

    Parameters
    ----------
    files : paths of derived NWB files, or folders of them.
    output : folder of the dandiset.
    metadata : TOML file with the metadata that DANDI asks for and the files lack.
    overwrite : replace files that are in the folder already.
    report : called with the path of each file that was written.

    Returns
    -------
    The paths of the files in the dandiset.

    Raises
    ------
    ConfigError : something else than files on disk was given, or two files are of one subject and
        session.
    DataError : a file is not derived.
    MissingMetadataError : metadata are missing; the error holds a template to fill in.
    WriteError : a file exists already, or the folder cannot be written.

    Command: `metadyn package derived -o dandiset --metadata metadata.toml`
    """
    from metadyn.sharing.dandiset import package

    given = [_local(each.source) for each in recordings(files)]
    return package(given, Path(output).expanduser(), metadata, overwrite=overwrite, report=report)


def _local(source: object) -> Path:
    """The path of a source that is a file on disk; ConfigError for an address or an object."""
    if isinstance(source, Asset):
        remedy = f"metadyn fetch {source} -o FOLDER, and package that"
        raise ConfigError("only files on disk can be packaged", file=source, remedy=remedy)
    if not isinstance(source, str | Path):
        remedy = "the paths of derived files"
        raise ConfigError("only files can be packaged", found=type(source).__name__, remedy=remedy)
    return Path(source)


def findings(folder: str | Path) -> list[Finding]:
    """Everything that `dandi validate` and nwbinspector complain of in a dandiset, with remedies.

    Parameters
    ----------
    folder : of the dandiset, as `package` wrote it.

    Returns
    -------
    Findings of one kind together; those that block an upload come first.
    """
    from metadyn.sharing.findings import findings

    return findings(Path(folder).expanduser())


def upload(folder: str | Path, *, instance: str = "dandi", dry_run: bool = False) -> Plan:
    """Plan an upload to DANDI, and carry it out unless it is a dry run.

    Parameters
    ----------
    folder : of the dandiset, as `package` wrote it.
    instance : of the archive, as dandi names it: dandi, dandi-sandbox, …
    dry_run : only plan; nothing is sent.

    Returns
    -------
    Which file goes where, and what is in the way.

    Raises
    ------
    ConfigError : something stands in the way of an upload that is no dry run.

    Command: `metadyn upload dandiset --dry-run`
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
    """Write the model of an NWB file as safetensors, byte for byte, and its settings as JSON.

    Parameters
    ----------
    file : NWB file that holds a model, or its address.
    output : path for the weights (.safetensors); the settings lie beside it (.json).
    overwrite : replace files that exist.

    Returns
    -------
    The paths of weights and settings.

    Raises
    ------
    ModelFileError : the file holds no model, or a damaged one.
    WriteError : one of the two exists already; neither is written then.

    Command: `metadyn model annotated/day1.nwb -o model.safetensors`
    """
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
