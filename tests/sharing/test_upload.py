"""What an upload would send is known before; the upload itself needs an archive and is not
tested."""

import pytest
from dandischema.models import BareAsset

from metadyn.errors import ConfigError, DataError
from metadyn.nwb.derive import derive, origin_of
from metadyn.pipeline import sharing
from metadyn.sharing.dandiset import package
from metadyn.sharing.upload import plan, related_resource

SECRET = "0123456789abcdef-secret"


@pytest.fixture(scope="module")
def folder(files, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dandiset")
    package([files.whole], folder)
    return folder


@pytest.fixture(scope="module")
def planned(folder):
    return plan(folder)


def test_each_asset_says_from_what_it_is_derived_in_metadata_that_dandi_takes(files, planned):
    (asset,) = planned.assets
    told = BareAsset(**asset.metadata).relatedResource
    assert [(each.relation.value, each.identifier) for each in told] == [
        ("dcite:IsDerivedFrom", origin_of(files.whole)["digest"])
    ]
    assert asset.derived_from["name"] == "annotated.nwb"
    assert asset.path == "sub-mock/sub-mock_ses-day-1_desc-metadyn_ecephys.nwb"
    assert asset.metadata["wasAttributedTo"][0]["species"]["name"].startswith("Macaca mulatta")


def test_a_source_with_an_address_is_related_by_it(files, tmp_path):
    uri = "https://api.dandiarchive.org/api/assets/0/"
    resource = related_resource(
        origin_of(derive(files.annotated, tmp_path / "derived.nwb", uri=uri))
    )
    assert resource["url"] == uri


def test_a_placeholder_for_the_dandisets_number_is_in_the_way_of_the_upload(planned, folder):
    (obstacle,) = planned.obstacles
    assert "identifier is PLACEHOLDER" in obstacle
    with pytest.raises(ConfigError, match="identifier is PLACEHOLDER"):
        sharing.upload(folder)


def test_the_key_is_never_shown(folder, monkeypatch):
    from typer.testing import CliRunner

    from metadyn.cli import app

    monkeypatch.setenv("DANDI_API_KEY", SECRET)
    result = CliRunner(env={"COLUMNS": "250"}).invoke(app, ["upload", str(folder), "--dry-run"])
    assert result.exit_code == 1  # the placeholder
    assert "the environment variable DANDI_API_KEY" in result.stdout
    assert "dcite:IsDerivedFrom annotated.nwb sha256:" in result.stdout
    assert "nothing was sent" in result.stdout
    assert SECRET not in result.stdout + result.stderr


def test_another_archive_is_named_and_has_a_key_of_its_own(folder, run, monkeypatch):
    monkeypatch.setenv("DANDI_API_KEY", SECRET)
    monkeypatch.delenv("DANDI_SANDBOX_API_KEY", raising=False)
    result = run("upload", folder, "--dry-run", "--instance", "dandi-sandbox")
    assert "at dandi-sandbox:" in result.stdout
    assert "dandi's keyring (or the environment variable DANDI_SANDBOX_API_KEY)" in result.stdout
    monkeypatch.setenv("DANDI_SANDBOX_API_KEY", SECRET)
    result = run("upload", folder, "--dry-run", "--instance", "dandi-sandbox")
    assert "key: the environment variable DANDI_SANDBOX_API_KEY" in result.stdout


def test_a_folder_without_dandiset_yaml_is_to_be_packaged(tmp_path):
    with pytest.raises(DataError, match="metadyn package"):
        plan(tmp_path)
