"""What an upload to DANDI would send, and the upload itself, which is dandi's."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from metadyn.errors import DataError, MetadynError
from metadyn.nwb.addresses import NEED_DANDI
from metadyn.nwb.derive import origin_of
from metadyn.sharing.dandiset import METADATA_FILE
from metadyn.sharing.findings import dandiset_in, findings

if TYPE_CHECKING:
    from dandi.files import LocalAsset

DANDISET = re.compile(r"(DANDI:)?\d{6}")
RELATION = "dcite:IsDerivedFrom"


@dataclass(frozen=True)
class PlannedAsset:
    """One file to upload: `file` is dandi's view of it, `metadata` what the archive gets to
    know of it."""

    file: LocalAsset
    path: str
    size: int
    metadata: dict

    @property
    def derived_from(self) -> dict | None:
        """The related resource that the file was derived from."""
        related = self.metadata.get("relatedResource", [])
        return next((each for each in related if each["relation"] == RELATION), None)


@dataclass(frozen=True)
class Plan:
    """An upload before it happens; `obstacles` say what stands in its way."""

    dandiset: str
    instance: str
    key: str
    assets: tuple[PlannedAsset, ...]
    obstacles: tuple[str, ...]


def plan(folder: Path, instance: str = "dandi") -> Plan:
    """What `upload` would do with a packaged folder; nothing is sent, and no key is looked at.

    Raises
    ------
    DataError : the folder is no dandiset, or dandi cannot read a file's metadata. MetadynError :
    dandi is not installed.
    """
    if not (folder / METADATA_FILE).is_file():
        remedy = f"metadyn package FILES -o {folder}"
        raise DataError(
            "the folder is no dandiset", file=folder, found=f"no {METADATA_FILE}", remedy=remedy
        )
    try:
        dandiset = dandiset_in(folder)
    except ModuleNotFoundError as error:
        raise MetadynError("an upload needs dandi", found=str(error), remedy=NEED_DANDI) from None
    number = str(dandiset.metadata.get("identifier"))
    assets = tuple(_planned(file) for file in dandiset.assets())
    return Plan(
        number, instance, _where_the_key_is(instance), assets, tuple(_obstacles(folder, number))
    )


def _planned(file: LocalAsset) -> PlannedAsset:
    """A file with the metadata that the archive would get; DataError where dandi cannot read it."""
    try:
        metadata = file.get_metadata(digest=file.get_digest(), ignore_errors=False).model_dump(
            mode="json", exclude_none=True
        )
    except (
        Exception
    ) as error:  # whatever dandi stumbles over, it would stumble over it when uploading
        remedy = (
            "dandi looks species up on the net unless they are well known: try again where there "
            "is one, or mend the file"
        )
        problem, found = (
            "dandi cannot read the metadata of a file",
            f"{type(error).__name__}: {error}"[:300],
        )
        raise DataError(problem, file=file.filepath, found=found, remedy=remedy) from error
    origin = origin_of(file.filepath)
    related = [
        *metadata.get("relatedResource", []),
        *([related_resource(origin)] if origin else []),
    ]
    return PlannedAsset(file, file.path, file.size, {**metadata, "relatedResource": related})


def related_resource(origin: dict[str, str]) -> dict:
    """The source of a derived file as DANDI's metadata have it: by its address if it has one, else
    by its digest."""
    from dandischema.models import RelationType, Resource

    address = {"url": origin["uri"]} if origin["uri"].startswith(("http://", "https://")) else {}
    resource = Resource(
        identifier=origin.get("digest"),
        name=origin["uri"],
        relation=RelationType.IsDerivedFrom,
        **address,
    )
    return resource.model_dump(mode="json", exclude_none=True)


def _obstacles(folder: Path, number: str) -> Iterator[str]:
    """Reasons why the archive would refuse the folder, each with its remedy."""
    if not DANDISET.fullmatch(number):
        remedy = (
            "make a dandiset on the archive's web page and write its number into "
            f"{folder / METADATA_FILE}"
        )
        yield f"identifier is {number}, no number of a dandiset: {remedy}"
    for each in findings(folder):
        if each.blocks:
            yield (
                f"{each.check}: {each.messages[0]} "
                f"({', '.join(str(file) for file in each.files)}): {each.remedy}"
            )


def _key_variable(instance: str) -> str:
    return f"{instance.upper().replace('-', '_')}_API_KEY"


def _where_the_key_is(instance: str) -> str:
    name = _key_variable(instance)
    if os.environ.get(name):
        return f"the environment variable {name}"
    return f"dandi's keyring (or the environment variable {name})"


def upload(planned: Plan) -> None:
    """Send what was planned. UNTESTED: no test has an archive to send to; try it with `--instance
    dandi-sandbox` first.

    It is what `dandi upload` does, with the related resource in each asset's metadata. The key is
    the one that dandi has, in the environment or its keyring; it is neither asked for, shown nor
    stored. Raises MetadynError where there is none.
    """
    from dandi.dandiapi import DandiAPIClient
    from dandi.exceptions import NotFoundError

    with DandiAPIClient.for_dandi_instance(planned.instance) as client:
        client.check_schema_version()
        client.authenticate(_key(planned.instance))
        dandiset = client.get_dandiset(planned.dandiset.removeprefix("DANDI:"), "draft")
        for asset in planned.assets:
            try:
                there = dandiset.get_asset_by_path(asset.path)
            except NotFoundError:
                there = None
            asset.file.upload(dandiset, asset.metadata, replacing=there)


def _key(instance: str) -> str:
    """The key of the archive, from the environment or dandi's keyring; MetadynError without one."""
    from dandi.keyring_utils import keyring_lookup

    key = (
        os.environ.get(_key_variable(instance)) or keyring_lookup(f"dandi-api-{instance}", "key")[1]
    )
    if not key:
        remedy = (
            f"export {_key_variable(instance)}=…, or dandi upload, which asks for the key once and "
            "keeps it"
        )
        raise MetadynError("there is no key of the archive", item=instance, remedy=remedy)
    return key
