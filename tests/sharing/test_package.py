"""A dandiset's folder is one that `dandi validate` takes, and metadata that are missing are asked
for, not invented."""

import tomllib
from pathlib import Path

import h5py
import pytest
from pynwb import NWBHDF5IO

from metadyn.errors import ConfigError, DataError, MissingMetadataError, WriteError
from metadyn.sharing.dandiset import package
from metadyn.sharing.findings import findings

GIVEN = (
    'species = "Rattus norvegicus"\n["bare.nwb"]\nsession_id = "day/2"\nage = "P90D"\nsex = "F"\n'
)
PATH = "sub-mock/sub-mock_ses-day-1_desc-metadyn_ecephys.nwb"


@pytest.fixture
def toml(tmp_path):
    """toml(text) → the path of a file of that text."""

    def write(text: str) -> Path:
        (tmp_path / "metadata.toml").write_text(text)
        return tmp_path / "metadata.toml"

    return write


def told(path: Path) -> tuple:
    """Session, species, sex, age, strain and id of the subject, as pynwb reads them."""
    with NWBHDF5IO(path, "r") as io:
        file = io.read()
        subject = file.subject
        return (
            file.session_id,
            subject.species,
            subject.sex,
            subject.age,
            subject.strain,
            subject.subject_id,
        )


def test_a_file_that_lacks_nothing_only_waits_for_the_users_words_on_the_dandiset(files, tmp_path):
    (target,) = package([files.whole], tmp_path / "dandiset")
    assert target == tmp_path / "dandiset" / PATH
    found = findings(tmp_path / "dandiset")
    assert [(each.check, each.blocks) for each in found] == [
        ("dandischema.placeholder_value", False)
    ]  # identifier and name
    assert "edit" in found[0].remedy


def test_what_dandi_refuses_is_found_with_its_remedy(files, tmp_path, dandi_validate):
    """The same file where nobody filled anything in, put into the folder by hand."""
    package([files.whole], tmp_path / "dandiset")
    (tmp_path / "dandiset" / PATH).unlink()
    (tmp_path / "dandiset" / PATH).write_bytes(files.bare.read_bytes())
    code, said = dandi_validate(tmp_path / "dandiset")
    assert code != 0
    found = {each.check: each for each in findings(tmp_path / "dandiset") if each.blocks}
    assert set(found) == {"check_subject_species_exists", "check_subject_sex", "check_subject_age"}
    assert all(check in said for check in found)
    assert "species = …" in found["check_subject_species_exists"].remedy


def test_a_wrong_path_is_found(files, tmp_path):
    package([files.whole], tmp_path)
    (tmp_path / PATH).rename(tmp_path / "day1.nwb")
    assert {"DANDI.NON_DANDI_FILENAME", "DANDI.NON_DANDI_FOLDERNAME"} <= {
        each.check for each in findings(tmp_path) if each.blocks
    }


def test_missing_metadata_are_asked_for_by_name_with_a_template_of_just_these(files, tmp_path):
    with pytest.raises(MissingMetadataError) as error:
        package([files.whole, files.bare], tmp_path / "dandiset")
    assert tomllib.loads(error.value.template) == {
        "bare.nwb": {"species": "", "sex": "", "age": "", "session_id": ""}
    }
    assert "bare.nwb lacks species, sex, age, session_id" in str(error.value)
    assert not (tmp_path / "dandiset").exists()


def test_a_template_that_was_not_filled_in_is_asked_for_again(files, tmp_path, toml):
    with pytest.raises(MissingMetadataError) as error:
        package(
            [files.bare],
            tmp_path,
            toml('["bare.nwb"]\nspecies = "Mus musculus"\nsex = ""\nage = ""\nsession_id = ""\n'),
        )
    assert set(tomllib.loads(error.value.template)["bare.nwb"]) == {"sex", "age", "session_id"}


def test_given_metadata_fill_the_copy_and_leave_the_file(files, tmp_path, toml, dandi_validate):
    before = files.bare.read_bytes()
    given = toml(GIVEN.replace("day/2", "day 2"))
    targets = package([files.whole, files.bare], tmp_path / "dandiset", given)
    assert targets[1].name == "sub-mock_ses-day-2_desc-metadyn_ecephys.nwb"
    assert told(targets[1])[:5] == ("day 2", "Rattus norvegicus", "F", "P90D", None)
    assert (
        told(targets[0])[1] == "Macaca mulatta"
    )  # a key for all files fills only what a file lacks
    assert files.bare.read_bytes() == before
    code, said = dandi_validate(tmp_path / "dandiset")
    assert code == 0, said


def test_a_word_on_one_file_counts_more_than_the_file_and_is_told(files, tmp_path, toml):
    with pytest.warns(
        UserWarning,
        match="species is 'Mus musculus' from now on, where the file has 'Macaca mulatta'",
    ):
        (target,) = package(
            [files.whole], tmp_path, toml('["whole.nwb"]\nspecies = "Mus musculus"\n')
        )
    assert told(target)[1] == "Mus musculus"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('specie = "Mus musculus"', "one of subject_id, species"),
        ('species = "mouse"', "Latin name"),
        ('["bare.nwb"]\nage = "90 days"', "P90D"),
        ('["bare.nwb"]\nsession_id = "day/2"', "without slashes"),
        ('["barren.nwb"]\nage = "P90D"', "one of bare.nwb"),
        ("species = Mus", "no TOML"),
    ],
)
def test_a_mistake_in_the_metadata_is_named_with_what_is_right(files, tmp_path, toml, text, said):
    with pytest.raises(ConfigError) as error:
        package([files.bare], tmp_path / "dandiset", toml(text))
    assert said in str(error.value)


def test_ids_that_make_a_name_too_long_for_a_file_are_refused_before_anything_is_written(
    files, tmp_path, toml
):
    given = GIVEN.replace("day/2", "day" * 80)
    with pytest.raises(ConfigError, match="a shorter session_id") as error:
        package([files.bare], tmp_path / "dandiset", toml(given))
    assert f"{len('sub-mock_ses-_desc-metadyn_ecephys.nwb') + 240} bytes" in str(error.value)
    assert not (tmp_path / "dandiset").exists()


def test_what_the_user_wrote_into_dandiset_yaml_stays(files, tmp_path):
    package([files.whole], tmp_path)
    assert "contributor: []" in (tmp_path / "dandiset.yaml").read_text()
    (tmp_path / "dandiset.yaml").write_text(
        "identifier: DANDI:000123\nname: mine\ndescription: ours\n"
    )
    with pytest.raises(WriteError, match="overwrite=True"):
        package([files.whole], tmp_path)
    package([files.whole], tmp_path, overwrite=True)
    assert "name: mine" in (tmp_path / "dandiset.yaml").read_text()


def test_files_that_are_not_derived_or_of_one_session_are_refused(files, tmp_path):
    with pytest.raises(DataError, match="metadyn derive"):
        package([files.annotated], tmp_path / "dandiset")
    (tmp_path / "again.nwb").write_bytes(files.whole.read_bytes())
    with pytest.raises(ConfigError, match=r"whole\.nwb, .*again\.nwb"):
        package([files.whole, tmp_path / "again.nwb"], tmp_path / "dandiset")
    assert not (tmp_path / "dandiset").exists()


def test_a_subject_that_nobody_described_is_described_by_the_metadata(files, tmp_path, toml):
    copy = tmp_path / "nobody.nwb"
    copy.write_bytes(files.whole.read_bytes())
    with h5py.File(copy, "r+") as file:
        del file["general/subject"]
    given = toml('subject_id = "one"\nspecies = "Mus musculus"\nsex = "U"\nage = "P90D/"\n')
    (target,) = package([copy], tmp_path / "dandiset", given)
    assert told(target)[3::2] == ("P90D/", "one")
    assert not [each for each in findings(tmp_path / "dandiset") if each.blocks]


@pytest.mark.parametrize("text", ["identifier: [", "a sentence", ""])
def test_a_description_that_is_no_yaml_of_keys_is_named(tmp_path, text):
    (tmp_path / "dandiset.yaml").write_text(text)
    with pytest.raises(DataError, match=r"no YAML of keys[^$]*dandiset\.yaml"):
        findings(tmp_path)
