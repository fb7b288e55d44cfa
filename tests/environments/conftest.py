"""Fresh environments, each with what one kind of user has, and a file from another lab. Run by
`make environments`."""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODEL = (
    "--latent-dim",
    "2",
    "--embedding-dim",
    "1",
    "--hidden",
    "32",
    "32",
    "--pretrain-steps",
    "150",
)
TRAINING = ("--steps", "150", "--crop-bins", "40", "80", "--tail-bins", "15")
CONTEXT, STEPS = 40, 20  # bins


def done(*command, cwd: Path = ROOT) -> str:
    """Output of a process that must succeed."""
    ended = subprocess.run(
        [str(each) for each in command], capture_output=True, text=True, check=False, cwd=cwd
    )
    assert ended.returncode == 0, f"{command}\n{ended.stdout}{ended.stderr}"
    return ended.stdout


@dataclass(frozen=True)
class Environment:
    """A virtual environment; processes run in `home`, from where no checkout can be imported."""

    home: Path

    @property
    def python(self) -> Path:
        return next(
            path
            for path in (self.home / ".venv/bin/python", self.home / ".venv/Scripts/python.exe")
            if path.exists()
        )

    def run(self, name: str, *arguments) -> str:
        """Output of a command that is installed here."""
        return done(shutil.which(name, path=str(self.python.parent)), *arguments, cwd=self.home)

    def packages(self) -> set[str]:
        return {
            each["name"].lower() for each in json.loads(self.run("pip", "list", "--format", "json"))
        }


@pytest.fixture(scope="session")
def environment(tmp_path_factory):
    """environment(*requirements) → a fresh Environment of these under constraints.txt, installed in
    their order."""
    homes = []

    def make(*requirements) -> Environment:
        homes.append(tmp_path_factory.mktemp("environment"))
        done(sys.executable, "-m", "venv", homes[-1] / ".venv")
        made = Environment(homes[-1])
        for requirement in requirements:
            made.run(
                "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt", requirement
            )
        return made

    yield make
    for home in homes:
        shutil.rmtree(home)


def build_wheel(checkout: Path, folder: Path) -> Path:
    """The wheel of a checkout."""
    done(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, checkout)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="session")
def wheel_of(tmp_path_factory):
    """wheel_of(checkout) → the wheel built from it."""
    return lambda checkout: build_wheel(checkout, tmp_path_factory.mktemp("wheel"))


@dataclass(frozen=True)
class LabA:
    """What lab A has: a recording, its model of four sessions; and the file of the recording that
    it shares."""

    recording: Path
    model: Path
    shared: Path


@pytest.fixture(scope="session")
def lab_a(tmp_path_factory) -> LabA:
    """Lab A works in this checkout and its environment: simulate, fit, annotate, package."""
    home = tmp_path_factory.mktemp("lab_a")

    def metadyn(*arguments) -> None:
        done(sys.executable, "-m", "metadyn", *arguments, cwd=home)

    metadyn("simulate", "limit-cycle", "-o", "raw", "--sessions", 4, "--trials", 32, "--bins", 80)
    metadyn("fit", "raw", "-o", "model", *MODEL, *TRAINING)
    metadyn(
        "annotate",
        "model",
        "raw",
        "-o",
        "derived",
        "--derive",
        "--context",
        CONTEXT,
        "--steps",
        STEPS,
    )
    metadyn("package", "derived", "-o", "dandiset")
    (recording,), (shared,) = (
        (home / folder).glob("sub-limitcycle01/*.nwb") for folder in ("raw", "dandiset")
    )
    return LabA(recording, home / "model", shared)
