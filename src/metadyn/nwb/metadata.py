"""Metadata that DANDI asks of every file, and those that help others.

They are found, checked and filled in, never invented.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py

from metadyn.nwb.opening import open_hdf5

DURATION = r"P(?!$)(\d+(\.\d+)?[YMWD])*(T(\d+(\.\d+)?[HMS])+)?"
AGE = rf"({DURATION})(/({DURATION})?)?"
SPECIES = r"[A-Z][a-z]* [a-z]+|http://purl\.obolibrary\.org/obo/NCBITaxon_\d+"
SUBJECT = "general/subject"


@dataclass(frozen=True)
class Field:
    """A field of NWB's metadata.

    Parameters
    ----------
    name : its name in the schema.
    place : the group that it lies in.
    example : how to write it, for the user.
    pattern : regular expression of the form that DANDI accepts.
    needed : whether DANDI refuses a file without it.
    many : whether there may be a list of values.
    alternative : another field that does as well.
    """

    name: str
    place: str
    example: str
    pattern: str = r".*\S.*"
    needed: bool = False
    many: bool = False
    alternative: str | None = None

    @property
    def path(self) -> str:
        """Where the field lies in the file."""
        return f"{self.place}/{self.name}"

    def accepts(self, value: Any) -> bool:
        """Whether a value has this field's form: a text or, for `many`, a list of texts.

        >>> Field("sex", SUBJECT, "M", "[MFOU]").accepts("male")
        False
        """
        values = value if self.many and isinstance(value, list) else [value]
        if not values:
            return False
        return all(isinstance(each, str) and re.fullmatch(self.pattern, each) for each in values)


NO_SLASH = r"[^/\\]*[^/\\\s][^/\\]*"
FIELDS = (
    Field(
        "subject_id",
        SUBJECT,
        'the subject\'s name without slashes, e.g. "monkey-J"',
        NO_SLASH,
        needed=True,
    ),
    Field(
        "species",
        SUBJECT,
        'the Latin name, e.g. "Mus musculus", or its NCBI taxonomy address',
        SPECIES,
        needed=True,
    ),
    Field("sex", SUBJECT, '"M", "F", "O" for other or "U" for unknown', "[MFOU]", needed=True),
    Field(
        "age",
        SUBJECT,
        'ISO 8601: "P90D", "P12W", "P2Y", from one to two years "P1Y/P2Y"',
        AGE,
        True,
        alternative="date_of_birth",
    ),
    Field(
        "session_id",
        "general",
        'the session\'s name without slashes, e.g. "20240131"',
        NO_SLASH,
        needed=True,
    ),
    Field("weight", SUBJECT, '"2.3 kg", "25 g"', r"\d+(\.\d+)? (kg|g|mg|ug|μg|ng|pg)"),
    Field("experimenter", "general", '["Last, First", …]', r"[^,]+, .+", many=True),
    Field("institution", "general", "where the recording was made"),
    Field("lab", "general", "which lab made it"),
    Field("keywords", "general", '["motor cortex", …]', many=True),
    Field("experiment_description", "general", "what the experiment was"),
    Field(
        "related_publications",
        "general",
        '["https://doi.org/…", …]',
        r"https://doi\.org/\S+",
        many=True,
    ),
)


def read_metadata(path: Path) -> dict[str, str | list[str]]:
    """The fields that a file has, in whatever form, by name."""
    with open_hdf5(path) as file:
        values = {field.name: _text_of_field(file, field.path) for field in FIELDS}
        others = {
            field.alternative: _text_of_field(file, f"{field.place}/{field.alternative}")
            for field in FIELDS
            if field.alternative
        }
    found = {**values, **others}
    return {name: value for name, value in found.items() if value not in (None, "", [])}


def missing(values: dict[str, Any]) -> list[Field]:
    """The fields that DANDI needs and `values` lack, or have in a form that it refuses."""
    return [field for field in FIELDS if field.needed and not _has(values, field)]


def _has(values: dict[str, Any], field: Field) -> bool:
    """Whether `values` have a field or its alternative, the former in a form that DANDI accepts."""
    if field.name in values:
        return field.accepts(values[field.name])
    return field.alternative in values


def write_metadata(path: Path, values: dict[str, str | list[str]]) -> None:
    """Write fields into a (private) file.

    Empty texts, some of which DANDI refuses, are removed.

    Parameters
    ----------
    values : text or list of texts by the name of the field.
    """
    fields = {field.name: field for field in FIELDS}
    with h5py.File(path, "r+") as file:
        _remove_empty(file)
        for name, value in values.items():
            field = fields[name]
            if field.place == SUBJECT and SUBJECT not in file:
                _new_subject(file)
            group = file.require_group(field.place)
            if name in group:
                del group[name]
            many = field.many and not isinstance(value, list)
            group.create_dataset(name, data=[value] if many else value, dtype=h5py.string_dtype())


def _remove_empty(file: h5py.File) -> None:
    """Remove empty texts from /general and the subject."""
    groups = [file[name] for name in ("general", SUBJECT) if name in file]
    for group in groups:
        empty = [name for name in group if _text_of_field(group, name) == ""]
        for name in empty:
            del group[name]


def _new_subject(file: h5py.File) -> None:
    """Add a subject without fields."""
    subject = file.create_group(SUBJECT)
    subject.attrs["namespace"] = "core"
    subject.attrs["neurodata_type"] = "Subject"
    subject.attrs["object_id"] = str(uuid.uuid4())


def _text_of_field(group: h5py.Group, path: str) -> str | list[str] | None:
    """The text or texts at a path, stripped; None where there is none, or no text."""
    item = group.get(path)
    if not isinstance(item, h5py.Dataset) or h5py.check_string_dtype(item.dtype) is None:
        return None
    value = item.asstr()[()]
    return value.strip() if isinstance(value, str) else [str(each).strip() for each in value]
