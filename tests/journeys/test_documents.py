"""What README and docs show is run: bash lines through the commands, Python blocks in a fresh process each.

The cells of tutorials are run here with fewer steps; `make docs` runs them as they are, and keeps what they show.
A block is run unless the line above it is a comment `<!-- not run: reason -->`; `<!-- without torch … -->` runs it where these
modules cannot be imported. Blocks of one document share a folder, with recordings day1.nwb to day3.nwb and a run.toml.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from pynwb import NWBHDF5IO
from pynwb.behavior import Position, SpatialSeries

import metadyn

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>[^\n]*) -->\n)?^```(?P<language>\w+|{code-cell})\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
CELL = re.compile(r"(?::tags:[^\n]*\n)?\s*(?P<magic>%%bash\n)?(?P<text>.*)", re.DOTALL)
SMALL = {"latent_dim": 2, "embedding_dim": 1, "latent_hidden": 4, "embedding_hidden": 4, "readin_hidden": 8, "hidden": (4, 4)}
BRIEF = {"steps": 4, "distil_steps": 3, "validate_every": 4}
BLOCKER = "import sys\nfor name in {names!r}:\n    sys.modules[name] = None\n"


@dataclass(frozen=True)
class Block:
    """One fenced block; `mark` is the comment above it."""

    language: str
    text: str
    mark: str

    @property
    def hidden(self) -> list[str]:
        return self.mark.removeprefix("without ").split() if self.mark.startswith("without ") else []


def blocks(document: Path) -> list[Block]:
    found = [
        Block(*told(m["language"], m["text"]), m["mark"] or "") for m in BLOCK.finditer(document.read_text(encoding="utf-8"))
    ]
    return [block for block in found if not block.mark.startswith("not run: ")]


def told(language: str, text: str) -> tuple[str, str]:
    """Language and text of a block; a cell of a tutorial is bash where it begins with %%bash, else a `cell` of Python."""
    if language != "{code-cell}":
        return language, text
    cell = CELL.fullmatch(text)
    return "bash" if cell["magic"] else "cell", cell["text"]


def haste(arguments: list[str]) -> list[str]:
    """The same command with fewer steps and a smaller model."""
    if arguments[0] == "fit":
        flags = [("--" + key.replace("_", "-"), value) for key, value in {**SMALL, **BRIEF}.items() if key != "hidden"]
        return [*arguments, *(str(each) for pair in flags for each in pair), "--hidden", "4", "4"]
    return [*arguments, "--steps", "1"] if arguments[0] == "align" else arguments


def run_bash(text: str, run) -> None:
    for line in text.replace("\\\n", " ").splitlines():
        program, *arguments = shlex.split(line, comments=True) or [None]
        assert program in (None, "metadyn"), f"no rule for running: {line}"
        if program:
            run.worked(*haste(arguments))


def run_python(block: Block) -> None:
    script = BLOCKER.format(names=block.hidden) + block.text
    environment = {**os.environ, "PYTHONWARNINGS": "error"}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, f"{block.text}\n{done.stderr}"


def check_toml(text: str, folder: Path) -> None:
    """The keys shown exist."""
    (folder / "shown.toml").write_text(text)
    metadyn.load_config(folder / "shown.toml")


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Three days with a hand's position beside the units, and a brief run.toml."""
    from metadyn.config import dump_config, load_config

    folder = tmp_path_factory.mktemp("recordings")
    made = metadyn.simulate("limit-cycle", folder / "raw", n_sessions=3, n_trials=24, n_bins=40, units=(6, 8))
    for day, path in enumerate(made, start=1):
        shutil.copy(path, folder / f"day{day}.nwb")
        add_hand(folder / f"day{day}.nwb")
    (folder / "run.toml").write_text(dump_config(load_config(model=SMALL, training=BRIEF, align={"steps": 1})))
    return folder


def add_hand(path: Path) -> None:
    with NWBHDF5IO(path, "r+") as io:
        nwbfile = io.read()
        position = np.random.default_rng(0).normal(size=(2000, 2)).cumsum(0)
        hand = SpatialSeries(name="Hand", data=position, rate=100.0, starting_time=0.0, reference_frame="screen", unit="cm")
        module = nwbfile.create_processing_module(name="behavior", description="the hand")
        module.add(Position(name="Position", spatial_series=[hand]))
        io.write(nwbfile)


@pytest.mark.parametrize("document", [path for path in DOCUMENTS if blocks(path)], ids=lambda path: path.name)
def test_what_a_document_shows_runs(document, recordings, run, tmp_path, monkeypatch):
    for path in [*recordings.glob("day*.nwb"), recordings / "run.toml"]:
        shutil.copy(path, tmp_path)
    monkeypatch.chdir(tmp_path)
    names = {}  # of a tutorial's cells, which share them
    for block in blocks(document):
        if block.language == "bash":
            run_bash(block.text, run)
        elif block.language == "python":
            run_python(block)
        elif block.language == "cell":
            exec(block.text, names)
        elif block.language == "toml":
            check_toml(block.text, tmp_path)


def test_links_between_the_documents_lead_somewhere():
    for document in DOCUMENTS:
        for link in re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8")):
            assert link.startswith("https://") or (document.parent / link).exists(), f"{document.name}: {link}"


OF_OTHERS = {"--seeds", "--nproc-per-node"}  # of benchmarks, and of torchrun


def test_commands_and_options_named_in_the_words_exist(run):
    """Every `--option` in the text is one of some command's, every `metadyn NAME` a command."""
    help_of = {name: run.worked(name, "--help") for name in re.findall(r"^│ (\w+) ", run.worked("--help"), re.MULTILINE)}
    options = {option for text in help_of.values() for option in re.findall(r"--[a-z-]+", text)} | {"--help"}
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        assert set(re.findall(r"`metadyn (\w+)", text)) <= set(help_of), document.name
        assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) - OF_OTHERS <= options, document.name


def test_every_choice_of_the_configuration_is_in_the_words():
    """Conditionings, likelihoods and poolings, as `name` or "name"."""
    from metadyn.config import ModelConfig

    words = "\n".join(document.read_text(encoding="utf-8") for document in DOCUMENTS)
    for key in ("conditioning", "likelihood", "pooling"):
        for choice in get_args(ModelConfig.model_fields[key].annotation):
            assert re.search(rf"[`\"\s]{choice}[`\"]", words), f"{key} = {choice}"
