"""What README and docs show is run: bash lines through the commands, Python blocks in a fresh
process each.

The cells of tutorials are run here with fewer steps; `make docs` runs them as they are, and keeps
what they show. A block is run unless the line above it is a comment `<!-- not run: reason -->`;
`<!-- without torch … -->` runs it where these modules cannot be imported. Blocks of one document
share a folder, with recordings day1.nwb to day3.nwb, a run.toml, and found.nwb, annotated by
`metadyn`. What docs/readers.md reads in several ways must be the same each way.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import h5py
import numpy as np
import pytest
import safetensors.numpy
from pynwb import NWBHDF5IO
from pynwb.behavior import Position, SpatialSeries

import metadyn

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>[^\n]*) -->\n)?^```(?P<language>\w+|{code-cell})\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
CELL = re.compile(r"(?::tags:[^\n]*\n)?\s*(?P<magic>%%bash\n)?(?P<text>.*)", re.DOTALL)
SMALL = {
    "latent_dim": 2,
    "embedding_dim": 1,
    "latent_hidden": 4,
    "embedding_hidden": 4,
    "readin_hidden": 8,
    "hidden": (4, 4),
}
BRIEF = {"steps": 4, "pretrain_steps": 3, "validate_every": 4}
BLOCKER = "import sys\nfor name in {names!r}:\n    sys.modules[name] = None\n"
READERS = ROOT / "docs" / "readers.md"
READ = (
    "times",
    "latents",
    "latents_sd",
    "rates",
    "rates_sd",
    "embedding",
    "embedding_sd",
    "tensors",
    "forecast_rates",
)
KEEPER = """
import numpy
kept = {{name: globals()[name] for name in {names!r} if name in globals()}}
kept |= {{"tensor " + name: values for name, values in kept.pop("tensors", {{}}).items()}}
numpy.savez({path!r}, **{{name: numpy.asarray(values) for name, values in kept.items()}})
"""


@dataclass(frozen=True)
class Block:
    """One fenced block; `mark` is the comment above it."""

    language: str
    text: str
    mark: str

    @property
    def hidden(self) -> list[str]:
        return (
            self.mark.removeprefix("without ").split() if self.mark.startswith("without ") else []
        )


def blocks(document: Path) -> list[Block]:
    found = [
        Block(*told(m["language"], m["text"]), m["mark"] or "")
        for m in BLOCK.finditer(document.read_text(encoding="utf-8"))
    ]
    return [block for block in found if not block.mark.startswith("not run: ")]


def told(language: str, text: str) -> tuple[str, str]:
    """Language and text of a block; a cell of a tutorial is bash where it begins with %%bash, else
    a `cell` of Python."""
    if language != "{code-cell}":
        return language, text
    cell = CELL.fullmatch(text)
    return "bash" if cell["magic"] else "cell", cell["text"]


def haste(arguments: list[str]) -> list[str]:
    """The same command with fewer steps and a smaller model."""
    if arguments[0] == "fit":
        flags = [
            ("--" + key.replace("_", "-"), value)
            for key, value in {**SMALL, **BRIEF}.items()
            if key != "hidden"
        ]
        return [*arguments, *(str(each) for pair in flags for each in pair), "--hidden", "4", "4"]
    return [*arguments, "--steps", "1"] if arguments[0] == "align" else arguments


def run_bash(text: str, run) -> None:
    for line in text.replace("\\\n", " ").splitlines():
        program, *arguments = shlex.split(line, comments=True) or [None]
        assert program in (None, "metadyn", "nwbinspector"), f"no rule for running: {line}"
        if program == "metadyn":
            run.worked(*haste(arguments))
        elif program:
            assert "No issues found" in ran(
                [shutil.which(program, path=str(Path(sys.executable).parent)), *arguments], line
            )


def ran(command: list[str], shown: str, **environment: str) -> str:
    """Output of a process that must succeed."""
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )
    assert done.returncode == 0, f"{shown}\n{done.stdout}{done.stderr}"
    return done.stdout


def run_python(block: Block, kept: Path | None = None, python: str = sys.executable) -> None:
    """Run a block; `kept`: where to keep what it read, of the names in READ (.npz)."""
    script = BLOCKER.format(names=block.hidden) + block.text
    if kept is not None:
        script += KEEPER.format(names=READ, path=str(kept))
    ran([python, "-c", script], block.text, PYTHONWARNINGS="error")


def check_toml(text: str, folder: Path) -> None:
    """The keys shown exist."""
    (folder / "shown.toml").write_text(text)
    metadyn.load_config(folder / "shown.toml")


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Three days with a hand's position beside the units, and a brief run.toml."""
    from metadyn.config import dump_config, load_config

    folder = tmp_path_factory.mktemp("recordings")
    made = metadyn.simulate(
        "limit-cycle", folder / "raw", n_sessions=3, n_trials=24, n_bins=40, units=(6, 8)
    )
    for day, path in enumerate(made, start=1):
        shutil.copy(path, folder / f"day{day}.nwb")
        add_hand(folder / f"day{day}.nwb")
    (folder / "run.toml").write_text(
        dump_config(load_config(model=SMALL, training=BRIEF, align={"steps": 1}))
    )
    return folder


def add_hand(path: Path) -> None:
    with NWBHDF5IO(path, "r+") as io:
        nwbfile = io.read()
        position = np.random.default_rng(0).normal(size=(2000, 2)).cumsum(0)
        hand = SpatialSeries(
            name="Hand",
            data=position,
            rate=100.0,
            starting_time=0.0,
            reference_frame="screen",
            unit="cm",
        )
        module = nwbfile.create_processing_module(name="behavior", description="the hand")
        module.add(Position(name="Position", spatial_series=[hand]))
        io.write(nwbfile)


@pytest.mark.parametrize(
    "document", [path for path in DOCUMENTS if blocks(path)], ids=lambda path: path.name
)
def test_what_a_document_shows_runs(document, recordings, journey, run, tmp_path, monkeypatch):
    for path in [*recordings.glob("day*.nwb"), recordings / "run.toml"]:
        shutil.copy(path, tmp_path)
    shutil.copy(journey.annotated, tmp_path / "found.nwb")
    monkeypatch.chdir(tmp_path)
    names = {}  # of a tutorial's cells, which share them
    for number, block in enumerate(blocks(document)):
        if block.language == "bash":
            run_bash(block.text, run)
        elif block.language == "python":
            run_python(block, tmp_path / f"{number}.npz" if document == READERS else None)
        elif block.language == "cell":
            exec(block.text, names)
        elif block.language == "toml":
            check_toml(block.text, tmp_path)
    if document == READERS:
        assert_all_read_the_same(tmp_path.glob("*.npz"), truth_of(tmp_path / "found.nwb"))


def truth_of(file: Path) -> dict[str, np.ndarray]:
    """What a file holds, read by paths from HDF5, the weights by safetensors."""
    with h5py.File(file) as opened:
        run = opened["processing/ecephys/LatentDynamics"]
        read = {
            "times": run["LatentSeries/timestamps"][:],
            "latents": run["LatentSeries/data"][:],
            "latents_sd": run["LatentSeries/data_sd"][:],
            "rates": run["FiringRateSeries/data"][:],
            "rates_sd": run["FiringRateSeries/data_sd"][:],
            "embedding": run["embeddings/embedding_mean"][:],
            "embedding_sd": run["embeddings/embedding_sd"][:],
            "forecast_rates": run["FiringRateSeriesForecast/data"][:],
        }
        weights = safetensors.numpy.load(run["model/weights"][:].tobytes())
    return read | {f"tensor {name}": values for name, values in weights.items()}


def assert_all_read_the_same(kept, truth: dict[str, np.ndarray]) -> None:
    """Three ways for each thing in the file but the forecast, which only a rollout gives again."""
    read = Counter()
    for path in kept:
        for name, values in np.load(path).items():
            rtol = (
                1e-4 if name == "forecast_rates" else 0
            )  # float32 in the file, float64 in the rollout
            np.testing.assert_allclose(values, truth[name], rtol=rtol, err_msg=name)
            read[name] += 1
    assert all(read[name] >= (1 if name == "forecast_rates" else 3) for name in truth), read


def test_links_between_the_documents_lead_somewhere():
    for document in DOCUMENTS:
        for link in re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8")):
            assert link.startswith("https://") or (document.parent / link).exists(), (
                f"{document.name}: {link}"
            )


OF_OTHERS = {"--seeds", "--nproc-per-node", "--modules"}  # of benchmarks, torchrun, nwbinspector


def test_commands_and_options_named_in_the_words_exist(run):
    """Every `--option` in the text is one of some command's, every `metadyn NAME` a command."""
    help_of = {
        name: run.worked(name, "--help")
        for name in re.findall(r"^│ (\w+) ", run.worked("--help"), re.MULTILINE)
    }
    options = {option for text in help_of.values() for option in re.findall(r"--[a-z-]+", text)} | {
        "--help"
    }
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        assert set(re.findall(r"`metadyn (\w+)", text)) <= set(help_of), document.name
        assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) - OF_OTHERS <= options, (
            document.name
        )


def test_every_choice_of_the_configuration_is_in_the_words():
    """Conditionings, likelihoods and poolings, as `name` or "name"."""
    from metadyn.config import ModelConfig

    words = "\n".join(document.read_text(encoding="utf-8") for document in DOCUMENTS)
    for key in ("conditioning", "likelihood", "pooling"):
        for choice in get_args(ModelConfig.model_fields[key].annotation):
            assert re.search(rf"[`\"\s]{choice}[`\"]", words), f"{key} = {choice}"
