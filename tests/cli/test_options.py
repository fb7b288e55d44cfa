"""Options whose effect no test of a room sees: what they change, from the command line."""

import h5py
import pytest
import torch
from pynwb import read_nwb

import metadyn
from metadyn.nwb.derive import origin_of

SMALL = [
    "--pretrain-steps",
    "2",
    "--steps",
    "30",
    "--latent-hidden",
    "4",
    "--readin-hidden",
    "4",
    "--hidden",
    "4",
    "4",
]


def change_of_weights(folder) -> float:
    """The mean norm of what two embeddings change of the dynamics' weights."""
    module = metadyn.load_model(folder).module
    embedding = torch.tensor([[[-1.0, 1.0]], [[1.0, -1.0]]])
    with torch.no_grad():
        return float(module.dynamics(embedding, module.log_q).weight_change().mean())


def test_the_penalty_keeps_the_change_of_weights_small(run, world, tmp_path):
    for penalty in (0, 10):
        folder = tmp_path / str(penalty)
        result = run(
            "fit", *world.files[:2], "-o", folder, *SMALL, "--weight-change-penalty", penalty
        )
        assert result.exit_code == 0, result.stderr
    assert change_of_weights(tmp_path / "10") < 0.5 * change_of_weights(tmp_path / "0")


def types_in(file) -> list[str]:
    """The neurodata types of the objects in a file."""
    found = []
    with h5py.File(file) as opened:
        opened.visititems(lambda _, item: found.append(item.attrs.get("neurodata_type")))
    return found


def test_without_the_model_a_file_holds_the_run_alone(run, world, tmp_path):
    for option, held in (("--no-model", False), ("--embed-model", True)):
        folder = tmp_path / option
        assert run("annotate", world.model, world.files[0], "-o", folder, option).exit_code == 0
        (file,) = folder.rglob("*.nwb")
        assert ("LatentDynamicsModel" in types_in(file)) == held
        assert (
            "LatentSeries" in read_nwb(file).processing["ecephys"]["LatentDynamics"].latent_series
        )
        assert run("model", file).exit_code == (0 if held else 1)


@pytest.mark.parametrize("uri", [None, "https://api.dandiarchive.org/api/assets/0/"])
def test_a_derived_file_names_where_others_find_the_recording(run, world, tmp_path, uri):
    (file,) = metadyn.annotate(world.model, world.files[0], tmp_path / "annotated")
    target = tmp_path / "derived.nwb"
    given = [] if uri is None else ["--uri", uri]
    assert run("derive", file, "-o", target, *given).exit_code == 0
    assert origin_of(target)["uri"] == (uri or file.name)
