"""What a user says of files that lack metadata: a TOML file, and the template for what is still
missing."""

from __future__ import annotations

import tomllib
import warnings
from collections import Counter
from pathlib import Path

from metadyn.errors import ConfigError, MissingMetadataError
from metadyn.nwb.metadata import FIELDS, Field, missing, read_metadata

BY_NAME = {field.name: field for field in FIELDS}


def to_fill(paths: list[Path], given: str | Path | None) -> dict[Path, dict]:
    """For each file the fields that are to be written into it: what it lacks and the user gives for
    all files, and whatever the user gives for this file.

    Raises
    ------
    ConfigError : the TOML file has an unknown key, or a value of a wrong form. MissingMetadataError
    : a field that DANDI needs is in neither.
    """
    names = names_of(paths)
    common, own = _read_metadata_toml(given, set(names.values())) if given else ({}, {})
    filled, needed = {}, {}
    for path in paths:
        there, said = read_metadata(path), own.get(names[path], {})
        filled[path] = {
            name: value for name, value in common.items() if not _stands(there, name)
        } | said
        _warn_of_changes(path, there, said)
        if lacking := missing({**there, **filled[path]}):
            needed[names[path]] = lacking
    if needed:
        raise _missing_metadata(needed)
    return filled


def _missing_metadata(needed: dict[str, list[Field]]) -> MissingMetadataError:
    return MissingMetadataError(
        "DANDI takes no file without these metadata, and they are not invented",
        found="; ".join(
            f"{name} lacks {', '.join(field.name for field in fields)}"
            for name, fields in needed.items()
        ),
        remedy="fill in the template, keep it as metadata.toml, and give it by `metadata`",
        template=template(needed),
    )


def _stands(there: dict, name: str) -> bool:
    return name in there and BY_NAME[name].accepts(there[name])


def _warn_of_changes(path: Path, there: dict, said: dict) -> None:
    for name, value in said.items():
        if there.get(name, value) not in (value, [value]):
            warnings.warn(
                f"{path.name}: {name} is {value!r} from now on, where the file has {there[name]!r}",
                stacklevel=4,
            )


def names_of(paths: list[Path]) -> dict[Path, str]:
    """What the TOML file calls each file: its name, or its path where two share the name."""
    times = Counter(path.name for path in paths)
    return {path: path.name if times[path.name] == 1 else str(path) for path in paths}


def template(needed: dict[str, list[Field]]) -> str:
    """TOML with an empty value for each field that a file needs."""
    lines = [
        "# Keys above the first [table] are for every file that lacks them, those in a file's own "
        "[table] for that file."
    ]
    for name, fields in needed.items():
        lines += [
            "",
            f"[{_quoted(name)}]",
            *(f'{field.name} = ""  # {field.example}' for field in fields),
        ]
    return "\n".join(lines)


def _quoted(name: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _read_metadata_toml(path: str | Path, names: set[str]) -> tuple[dict, dict]:
    """The keys for all files, and those of single files; empty texts are as good as none."""
    try:
        read = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        remedy = "see metadyn package --help"
        raise ConfigError(
            "the file of metadata is no TOML", file=path, found=error, remedy=remedy
        ) from None
    own = {name: table for name, table in read.items() if isinstance(table, dict)}
    if strangers := set(own) - names:
        remedy = f"one of {', '.join(sorted(names))}"
        raise ConfigError(
            "metadata of a file that is not packaged",
            file=path,
            item=sorted(strangers)[0],
            remedy=remedy,
        )
    common = {name: value for name, value in read.items() if name not in own}
    return _checked(common, path), {name: _checked(table, path) for name, table in own.items()}


def _checked(values: dict, path: str | Path) -> dict:
    """The values that are no empty text; ConfigError for an unknown key or a malformed value."""
    for name, value in values.items():
        if name not in BY_NAME:
            raise ConfigError(
                "no such metadata", file=path, item=name, remedy=f"one of {', '.join(BY_NAME)}"
            )
        if value != "" and not BY_NAME[name].accepts(value):
            problem, remedy = (
                "a value of metadata is not of the form that DANDI asks for",
                BY_NAME[name].example,
            )
            raise ConfigError(problem, file=path, item=name, found=repr(value), remedy=remedy)
    return {name: value for name, value in values.items() if value != ""}
