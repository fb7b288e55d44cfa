"""What is shipped is whole: the wheel, built from the sdist, finds its schema and says its
version."""

import ast
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
SPEC = ("ndx-metadyn.namespace.yaml", "ndx-metadyn.extensions.yaml")


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A folder with the sdist and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_sdist_holds_the_schema_the_tests_and_the_pinned_versions(built):
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {f"spec/{name}" for name in SPEC} <= names
    assert {"constraints.txt", "LICENSE", "CHANGELOG.md", "tests/test_packaging.py"} <= names
    assert not {name for name in names if name.startswith((".venv", "demo/"))}


def test_the_wheel_alone_loads_its_schema_and_runs_its_command(built, tmp_path):
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    script = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
import metadyn, ndx_metadyn, pynwb
assert ndx_metadyn.__file__.startswith({str(tmp_path)!r}), ndx_metadyn.__file__
assert metadyn.__file__.startswith({str(tmp_path)!r}), metadyn.__file__
assert ndx_metadyn._namespace_path().is_relative_to({str(tmp_path)!r})
from metadyn.__main__ import main
sys.argv = ["metadyn", "--help"]
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "annotate" in done.stdout


def test_every_requirement_of_the_project_is_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + [
        each for extra in project["optional-dependencies"].values() for each in extra
    ]
    names = {
        re.match(r"[A-Za-z0-9_.-]+", each).group().lower().replace("_", "-") for each in wanted
    } - {"ndx-metadyn"}
    pinned = {
        line.partition("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
    }
    assert names <= pinned


@pytest.mark.parametrize("record", ["CITATION.cff", "ndx-meta.yaml"])
def test_records_for_others_say_what_the_project_says(record):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    told = yaml.safe_load((ROOT / record).read_text(encoding="utf-8"))
    expected = [project["name"], str(project["version"]), project["license"]]
    assert [told.get("title", told.get("name")), told["version"], told["license"]] == expected


def imported_when_loaded(package: Path) -> set[str]:
    """First names of what the modules of a package import at once, not within a function."""
    names = set()
    for path in package.rglob("*.py"):
        body = ast.parse(path.read_text()).body
        for node in body:
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add(node.module.partition(".")[0])
    return names - set(sys.stdlib_module_names)


@pytest.mark.parametrize(("package", "extras"), [("ndx_metadyn", []), ("src/metadyn", ["model"])])
def test_what_a_package_imports_is_what_it_requires(package, extras):
    """Tests have every extra; a user of one extra has only that."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + [
        each for extra in extras for each in project["optional-dependencies"][extra]
    ]
    named = {
        re.match(r"[A-Za-z0-9_.-]+", each).group().lower().replace("-", "_") for each in wanted
    }
    named |= {"metadyn", "ndx_metadyn"}
    named |= {
        "nwbinspector",
        "neuroconv",
    }  # which load `ndx_metadyn.checks` and `metadyn.neuroconv`; nothing of ours does
    assert imported_when_loaded(ROOT / package) <= named
