"""A folder as DANDI wants it: derived files at valid paths, beside a draft of dandiset.yaml."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from metadyn.errors import ConfigError, DataError, WriteError
from metadyn.nwb.derive import check_derivable, origin_of
from metadyn.nwb.metadata import read_metadata, write_metadata
from metadyn.nwb.replace import new_file, replacement
from metadyn.nwb.validity import assert_no_worse
from metadyn.sharing.metadata_file import to_fill

METADATA_FILE = "dandiset.yaml"
LONGEST_NAME = 255  # bytes, of nearly all file systems
PLACEHOLDER = "PLACEHOLDER"  # dandi warns of this word
DRAFT = """\
# A draft for you to fill in. `dandi validate` reads this file; `metadyn upload` only its
# identifier: what the archive shows is entered on its web page of the dandiset, and this file is
# where to prepare it.
identifier: {placeholder}  # TODO: DANDI:123456, the number that the archive gives on "New Dandiset"
name: {placeholder}  # TODO: a title, at most 150 characters
description: {description}
license: []  # TODO: - spdx:CC-BY-4.0 or - spdx:CC0-1.0
contributor: []
# TODO: at least one with the role ContactPerson:
# - schemaKey: Person
#   name: Last, First
#   email: first.last@example.org
#   identifier: 0000-0000-0000-0000  # ORCID
#   roleName: [dcite:ContactPerson, dcite:Author]
#   includeInCitation: true
"""


def package(
    files: list[Path],
    folder: Path,
    metadata: str | Path | None = None,
    *,
    overwrite: bool = False,
    report: Callable[[Path], None] = lambda _: None,
) -> list[Path]:
    """Lay derived files out as a dandiset: copies at the paths that DANDI asks for, with the
    metadata they lack, and a draft of dandiset.yaml unless there is one.

    Parameters
    ----------
    files : derived NWB files, none of which is changed.
    folder : of the dandiset; it is made where it does not exist.
    metadata : a TOML file with what the files lack; see `sharing.metadata_file.to_fill`.
    overwrite : whether files that are in the folder already may be replaced.
    report : called with the path of each copy when it is complete.

    Returns
    -------
    Paths of the copies, in the order of `files`.

    Raises
    ------
    DataError : a file is not derived.
    MissingMetadataError : a file lacks metadata that `metadata` does not give either.
    ConfigError : `metadata` has names that are unknown, or two files would have one path.
    WriteError : a file exists (and not `overwrite`), or cannot be written.
    """
    for file in files:
        _check_derived(file)
    filled = to_fill(files, metadata)
    targets = {file: folder / asset_path({**read_metadata(file), **filled[file]}) for file in files}
    _check_targets(targets, overwrite)
    for file, target in targets.items():
        with replacement(file, target) as work:
            write_metadata(work, filled[file])
            assert_no_worse(work, file)
        report(target)
    draft = folder / METADATA_FILE
    if not draft.exists():
        with new_file(files[0], draft) as work:
            text = DRAFT.format(
                placeholder=PLACEHOLDER, description=json.dumps(_description(files))
            )
            work.write_text(text, encoding="utf-8")
    return list(targets.values())


def asset_path(values: dict) -> Path:
    """sub-<subject>/sub-<subject>_ses-<session>_desc-metadyn_ecephys.nwb"""
    subject, session = _label(values["subject_id"]), _label(values["session_id"])
    return Path(f"sub-{subject}") / f"sub-{subject}_ses-{session}_desc-metadyn_ecephys.nwb"


def _label(text: str) -> str:
    """A label as DANDI lets it stand in a path: other characters become hyphens.

    >>> _label("mouse_1: left")
    'mouse-1--left'
    """
    return re.sub(r"[_*\\/<>:|\"'?%@;,.\s]", "-", text)


def _check_derived(file: Path) -> None:
    check_derivable(file)
    if origin_of(file) is None:
        remedy = f"metadyn derive {file} -o derived/{file.name}, and package that"
        problem = (
            "the file is not derived: it may hold raw data, and it shares its source's identity"
        )
        raise DataError(problem, file=file, remedy=remedy)


def _check_targets(targets: dict[Path, Path], overwrite: bool) -> None:
    for target, times in Counter(targets.values()).items():
        if times > 1:
            found = ", ".join(str(file) for file in targets if targets[file] == target)
            remedy = "one file a session, or other session ids (`metadata`)"
            raise ConfigError(
                "several files are of one subject and session",
                file=target,
                found=found,
                remedy=remedy,
            )
        if (length := len(os.fsencode(target.name))) > LONGEST_NAME:
            problem = "subject and session make a file name that no file system takes"
            found = f"{length} bytes, at most {LONGEST_NAME}"
            remedy = "a shorter session_id (`metadata`)"
            raise ConfigError(problem, file=target, found=found, remedy=remedy)
        if target.exists() and not overwrite:
            remedy = "another folder (`output`), or `overwrite=True`"
            raise WriteError("the folder holds this file already", file=target, remedy=remedy)


def _description(files: list[Path]) -> str:
    """What the files are, in words that hold for any of them."""
    many = "recording" if len(files) == 1 else "recordings"
    return (
        f"Latent dynamics of {len(files)} {many}, inferred by ndx-metadyn from the spike times of "
        "sorted units: latent states, "
        "firing rates, dynamical embeddings and, where stored, the model, beside the units and "
        "intervals that they rest on. "
        "Each file names the recording that it was derived from."
    )
