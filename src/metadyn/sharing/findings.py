"""What `dandi validate` and nwbinspector find in a dandiset's folder, in plain words with the step
that mends each."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from metadyn.errors import DataError, MetadynError
from metadyn.nwb.addresses import NEED_DANDI
from metadyn.nwb.metadata import FIELDS
from metadyn.sharing.dandiset import METADATA_FILE

if TYPE_CHECKING:
    from dandi.dandiset import Dandiset

CHECK_OF = {  # checks of nwbinspector that a field of --metadata answers
    "check_subject_exists": "subject_id",
    "check_subject_id_exists": "subject_id",
    "check_subject_id_no_slashes": "subject_id",
    "check_subject_species_exists": "species",
    "check_subject_species_form": "species",
    "check_subject_sex": "sex",
    "check_subject_age": "age",
    "check_subject_proper_age_range": "age",
    "check_subject_weight": "weight",
    "check_session_id_no_slashes": "session_id",
    "check_experimenter_exists": "experimenter",
    "check_experimenter_form": "experimenter",
    "check_institution": "institution",
    "check_keywords": "keywords",
    "check_experiment_description": "experiment_description",
    "check_doi_publications": "related_publications",
}
EXAMPLES = {field.name: field.example for field in FIELDS}


@dataclass(frozen=True)
class Finding:
    """What one check found, in which files and objects, and how to mend it; DANDI refuses files if
    it `blocks`."""

    check: str
    blocks: bool
    messages: tuple[str, ...]
    files: tuple[Path, ...]
    objects: tuple[str, ...]
    remedy: str


def findings(folder: Path) -> list[Finding]:
    """All findings, one a check, those that block first.

    Raises MetadynError where dandi or nwbinspector is not installed. DataError : dandiset.yaml is
    no YAML of keys and values.
    """
    try:
        found = [*_of_dandi(folder), *_of_inspector(folder)]
    except ModuleNotFoundError as error:
        raise MetadynError(
            "checking a dandiset needs packages of DANDI", found=str(error), remedy=NEED_DANDI
        ) from None
    alike: dict[tuple, list[Finding]] = {}
    for each in found:
        alike.setdefault((each.check, each.blocks, each.remedy), []).append(each)
    return sorted(map(_joined, alike.values()), key=lambda each: not each.blocks)


def _joined(group: list[Finding]) -> Finding:
    """Findings of one check as one."""
    return replace(
        group[0],
        messages=tuple(dict.fromkeys(text for each in group for text in each.messages)),
        files=tuple(dict.fromkeys(path for each in group for path in each.files)),
        objects=tuple(dict.fromkeys(name for each in group for name in each.objects)),
    )


def dandiset_in(folder: Path) -> Dandiset:
    """dandi's view of a folder. Raises DataError where its dandiset.yaml is no YAML of keys and
    values."""
    from dandi.dandiset import Dandiset
    from ruamel.yaml import YAMLError

    try:
        dandiset, found = Dandiset(folder), None
    except (YAMLError, UnicodeDecodeError) as error:
        dandiset, found = None, str(error)[:300]
    if dandiset is None or not isinstance(dandiset.metadata, dict):
        path, remedy = (
            folder / METADATA_FILE,
            "mend it, or move it away: metadyn package writes a new draft",
        )
        raise DataError(
            "the dandiset's description is no YAML of keys and values",
            file=path,
            found=found,
            remedy=remedy,
        )
    return dandiset


def _of_dandi(folder: Path) -> Iterator[Finding]:
    """As `dandi validate` and `dandi upload` see the folder; what they take from nwbinspector is
    left to `_of_inspector`."""
    from dandi.pynwb_utils import ignore_benign_pynwb_warnings
    from dandi.validate import Severity

    with warnings.catch_warnings():
        ignore_benign_pynwb_warnings()
        dandiset = dandiset_in(folder)
        files = [dandiset.metadata_file(), *dandiset.assets()]
        results = [each for file in files for each in file.get_validation_errors()]
    for each in results:
        if not each.id.startswith("NWBI."):
            path = Path(each.path or folder)
            blocks = each.severity is not None and each.severity >= Severity.ERROR
            yield Finding(
                each.id, blocks, (str(each.message),), (path,), (), _remedy(each.id, path, folder)
            )


def _of_inspector(folder: Path) -> Iterator[Finding]:
    """nwbinspector with DANDI's importances and the checks of ndx_metadyn."""
    from nwbinspector import Importance, inspect_all, load_config

    import ndx_metadyn.checks  # noqa: F401  its checks register

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what the recordings' writers did
        messages = list(
            inspect_all(folder, config=load_config("dandi"), skip_validate=True, progress_bar=False)
        )
    for each in messages:
        path = Path(each.file_path)
        blocks = each.importance in (Importance.ERROR, Importance.CRITICAL)
        objects = tuple(filter(None, [(each.location or "").strip("/")]))
        remedy = _remedy(each.check_function_name, path, folder)
        yield Finding(each.check_function_name, blocks, (each.message,), (path,), objects, remedy)


def _remedy(check: str, path: Path, folder: Path) -> str:
    again = f"metadyn package {folder} -o {folder} --overwrite"
    if check in CHECK_OF:
        field = CHECK_OF[check]
        return (
            f"{field} = … in metadata.toml ({EXAMPLES[field]}), then {again} --metadata "
            "metadata.toml"
        )
    if path.name == "dandiset.yaml":
        return f"edit {path}"
    if check.startswith("DANDI."):
        return f"move the file out of the folder, and metadyn package FILE -o {folder}"
    if check.startswith("pynwb."):
        return (
            f"pynwb-validate {path} shows all of it; if the recording has it too, mend it there "
            "and annotate anew"
        )
    return "if nwbinspector RECORDING says so too, mend it there, then annotate and derive anew"
