"""The schema has one home: the generator. What is committed, packed and loaded is what it
writes."""

import runpy
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pynwb
import pytest

ROOT = Path(__file__).parents[2]
SPEC = ROOT / "spec"
FILES = ("ndx-metadyn.namespace.yaml", "ndx-metadyn.extensions.yaml")


@pytest.fixture(scope="module")
def generator():
    return runpy.run_path(str(SPEC / "create_extension_spec.py"))


@pytest.mark.parametrize("file", FILES)
def test_committed_yaml_is_what_the_generator_writes(generator, tmp_path, file):
    generator["export"](tmp_path)
    assert (tmp_path / file).read_text() == (SPEC / file).read_text()


@pytest.mark.parametrize("file", FILES)
def test_schema_keeps_to_the_language_of_nwb_schemas(file):
    """By the command of hdmf and the language's own JSON schema, which pynwb ships."""
    language = Path(pynwb.__file__).parent / "nwb-schema" / "nwb.schema.json"
    command = [
        sys.executable,
        "-m",
        "hdmf.testing.validate_spec",
        str(SPEC / file),
        "-m",
        str(language),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_namespace_version_is_the_package_version(generator):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert generator["VERSION"] == project["version"]
    assert f"version: {project['version']}" in (SPEC / FILES[0]).read_text().splitlines()[-1]


def test_every_shape_names_its_dims(generator):
    def datasets(spec):
        yield from spec.get("datasets", [])
        for group in spec.get("groups", []):
            yield from datasets(group)

    shaped = [d for spec in generator["types"]() for d in datasets(spec) if "shape" in d]
    assert len(shaped) == 8
    assert all(len(d["dims"]) == len(d["shape"]) for d in shaped)


def test_every_type_has_a_hand_written_class(generator):
    import ndx_metadyn

    for spec in generator["types"]():
        assert getattr(ndx_metadyn, spec["neurodata_type_def"]).__module__.startswith(
            "ndx_metadyn.containers."
        )


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Folder with an sdist of the checkout, and a wheel built from that sdist as pip would."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_sdist_contains_the_spec_and_its_generator(built):
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {f"spec/{file}" for file in (*FILES, "create_extension_spec.py")} <= names


def test_wheel_built_from_the_sdist_finds_its_spec_in_an_empty_folder(built, tmp_path):
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    assert all(
        (tmp_path / "ndx_metadyn" / "spec" / file).read_text() == (SPEC / file).read_text()
        for file in FILES
    )
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import ndx_metadyn as n; print(n.__file__, n._namespace_path())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert all(place.startswith(str(tmp_path)) for place in done.stdout.split())
