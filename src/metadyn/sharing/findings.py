"""What `dandi validate` and nwbinspector find in a dandiset's folder, in plain words with the step that mends each."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from metadyn.errors import MetadynError
from metadyn.nwb.metadata import FIELDS

NEED_DANDI = "pip install 'ndx-metadyn[dandi]'"
CHECK_OF = {  # checks of nwbinspector that a field of --metadata answers
    "check_subject_exists": "subject_id",
    "check_subject_id_exists": "subject_id",
    "check_subject_id_no_slashes": "subject_id",
    "check_subject_species_exists": "species",
    "check_subject_species_form": "species",
    "check_subject_sex": "sex",
    "check_subject_age": "age",
    "check_subject_proper_age_range": "age",
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
    """One thing found: by which check, in which files and objects, and how to mend it; DANDI refuses files with one that `blocks`."""

    check: str
    message: str
    blocks: bool
    files: tuple[Path, ...]
    objects: tuple[str, ...]
    remedy: str


def findings(folder: Path) -> list[Finding]:
    """All findings, those that block first; what is alike in several files is one.

    Raises MetadynError where dandi or nwbinspector is not installed.
    """
    try:
        found = [*_of_dandi(folder), *_of_inspector(folder)]
    except ModuleNotFoundError as error:
        raise MetadynError("checking a dandiset needs packages of DANDI", found=str(error), remedy=NEED_DANDI) from None
    alike: dict[tuple, list[Finding]] = {}
    for each in found:
        alike.setdefault((each.check, each.message, each.blocks, each.remedy), []).append(each)
    joined = [Finding(*key[:3], *_places(group), key[3]) for key, group in alike.items()]
    return sorted(joined, key=lambda each: not each.blocks)


def _places(group: list[Finding]) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    files = dict.fromkeys(file for each in group for file in each.files)
    return tuple(files), tuple(dict.fromkeys(name for each in group for name in each.objects))


def _of_dandi(folder: Path) -> Iterator[Finding]:
    """As `dandi validate` and `dandi upload` see the folder; what they take from nwbinspector is left to `_of_inspector`."""
    from dandi.files import find_dandi_files
    from dandi.pynwb_utils import ignore_benign_pynwb_warnings
    from dandi.validate import Severity

    with warnings.catch_warnings():
        ignore_benign_pynwb_warnings()
        results = [each for file in find_dandi_files(folder, dandiset_path=folder) for each in file.get_validation_errors()]
    for each in results:
        if not each.id.startswith("NWBI."):
            path = Path(each.path or folder)
            blocks = each.severity is not None and each.severity >= Severity.ERROR
            yield Finding(each.id, str(each.message), blocks, (path,), (), _remedy(each.id, path, folder))


def _of_inspector(folder: Path) -> Iterator[Finding]:
    """nwbinspector with DANDI's importances and the checks of ndx_metadyn."""
    from nwbinspector import Importance, inspect_all, load_config

    import ndx_metadyn.checks  # noqa: F401  its checks register

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what the recordings' writers did
        messages = list(inspect_all(folder, config=load_config("dandi"), skip_validate=True, progress_bar=False))
    for each in messages:
        path = Path(each.file_path)
        blocks = each.importance in (Importance.ERROR, Importance.CRITICAL)
        objects = (f"{each.location or ''}".strip("/"),) if each.location else ()
        yield Finding(each.check_function_name, each.message, blocks, (path,), objects, _remedy(each.check_function_name, path, folder))


def _remedy(check: str, path: Path, folder: Path) -> str:
    again = f"metadyn package {folder} -o {folder} --overwrite"
    if check in CHECK_OF:
        field = CHECK_OF[check]
        return f"{field} = … in metadata.toml ({EXAMPLES[field]}), then {again} --metadata metadata.toml"
    if path.name == "dandiset.yaml":
        return f"edit {path}"
    if check.startswith("DANDI."):
        return f"move the file out of the folder, and metadyn package FILE -o {folder}"
    if check.startswith("pynwb."):
        return f"pynwb-validate {path} shows all of it; if the recording has it too, mend it there and annotate anew"
    return "if nwbinspector RECORDING says so too, mend it there, then annotate and derive anew"
