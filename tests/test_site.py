"""The site builds without a warning and leaves nothing public out; its tutorials run in
test_documents and in `make docs`."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import metadyn
import ndx_metadyn
from metadyn.cli import app
from metadyn.config import SECTIONS

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built pages, cells not run."""
    folder = tmp_path_factory.mktemp("site") / "html"
    options = [
        "-D",
        "nb_execution_mode=off",
        "-D",
        "suppress_warnings=myst-nb.lexer",
    ]  # no kernel says what its language is
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", *options]
    done = subprocess.run(
        [*command, ROOT / "docs", folder], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


def anchors(page: Path) -> set[str]:
    return set(re.findall(r'id="([^"]+)"', page.read_text(encoding="utf-8")))


def test_every_verb_and_every_nwb_type_has_its_entry(site):
    assert {f"metadyn.{verb}" for verb in metadyn.VERBS} <= anchors(
        site / "reference" / "python.html"
    )
    types = {name for name in ndx_metadyn.__all__ if not name.isupper()}  # constants are none
    assert {f"ndx_metadyn.{name}" for name in types} <= anchors(site / "reference" / "nwb.html")


def test_every_command_and_option_is_on_the_page_of_commands(site):
    page = site / "reference" / "commands.html"
    commands = re.findall(
        r"^│ (\w+) ", CliRunner(env={"COLUMNS": "250"}).invoke(app, ["--help"]).stdout, re.MULTILINE
    )
    assert "annotate" in commands
    assert {f"metadyn-{name}" for name in commands} <= anchors(page)
    keys = {key for model in SECTIONS.values() for key in model.model_fields}
    assert {f"--{key.replace('_', '-')}" for key in keys} <= set(
        re.findall(r"--[a-z-]+", page.read_text(encoding="utf-8"))
    )


def test_nothing_of_a_page_is_fetched_from_elsewhere(site):
    for page in site.rglob("*.html"):
        fetched = re.findall(
            r'<(?:script|link|img)[^>]*(?:src|href)="(https?:[^"]+)"',
            page.read_text(encoding="utf-8"),
        )
        assert not fetched, page.name
