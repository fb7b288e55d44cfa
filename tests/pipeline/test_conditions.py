"""Condition labels from files to models, as the command has them and as Python has them."""

import shutil

import h5py
import numpy as np
import pytest

import metadyn
from metadyn.errors import DataError, SelectionError

QUICK = ["--latent-dim", 2, "--pretrain-steps", 1, "--steps", 1]


@pytest.fixture(scope="module")
def files(world, tmp_path_factory):
    """Recordings whose trials' column `family` holds labels: two of left, right and missing ones,
    one of left and up, one of others; and one without the column."""
    folder = tmp_path_factory.mktemp("conditions")
    columns = {
        "a": ["left", "right", ""],
        "b": ["right", "left"],
        "partly": ["left", "up"],
        "strange": ["north", "south"],
    }

    def copy(name, source, change):
        path = folder / f"{name}.nwb"
        shutil.copyfile(source, path)
        with h5py.File(path, "r+") as file:
            change(file["intervals/trials"])
        return path

    def labelled(values):
        return lambda trials: trials["family"].write_direct(np.resize(np.array(values, object), 8))

    def unlabelled(trials):
        del trials["family"]
        trials.attrs["colnames"] = [name for name in trials.attrs["colnames"] if name != "family"]

    sources = dict(
        zip(columns, [world.files[0], world.files[1], world.files[2], world.files[2]], strict=True)
    )
    made = {name: copy(name, sources[name], labelled(values)) for name, values in columns.items()}
    return {**made, "none": copy("none", world.files[2], unlabelled)}


@pytest.fixture(scope="module")
def model(files, tmp_path_factory):
    """A model of a.nwb and b.nwb that knows the labels left and right."""
    from typer.testing import CliRunner

    from metadyn.cli import app

    folder = tmp_path_factory.mktemp("labelled") / "model"
    arguments = ["fit", files["a"], files["b"], "-o", folder, "--condition", "family", *QUICK]
    assert CliRunner().invoke(app, [str(each) for each in arguments]).exit_code == 0
    return folder


@pytest.fixture(autouse=True)
def short_search(monkeypatch):
    monkeypatch.setattr(
        "metadyn.training.alignment.placement.ITERATIONS", 6
    )  # whose result these tests do not look at


def test_windows_without_a_label_are_no_condition_of_the_model_and_take_part_in_all_else(
    model, files
):
    trained = metadyn.load_model(model)
    assert trained.shared_latents.labels == ("left", "right")
    assert metadyn.infer(trained, files["a"]).sizes["trial"] == 8


def test_files_that_share_no_label_are_listed_with_their_labels(run, files, tmp_path):
    refused = run(
        "fit",
        files["a"],
        files["strange"],
        "-o",
        tmp_path / "model",
        "--condition",
        "family",
        *QUICK,
    )
    said = " ".join(refused.stderr.split())
    assert refused.exit_code == 1
    assert "a.nwb: 'left', 'right'; strange.nwb: 'north', 'south'" in said
    assert "object: family" in said
    assert (
        run("fit", files["a"], files["strange"], "-o", tmp_path / "model", *QUICK).exit_code == 0
    )  # the remedy


@pytest.mark.filterwarnings("always:.*none of the labels")  # the command shows it
def test_unknown_labels_that_were_asked_for_are_refused_and_without_asking_the_search_is_said(
    run, model, files, tmp_path
):
    refused = run(
        "align",
        model,
        files["strange"],
        "-o",
        tmp_path / "m",
        "--condition",
        "family",
        "--steps",
        0,
    )
    said = " ".join(refused.stderr.split())
    assert refused.exit_code == 1
    assert "knows none of the labels 'north', 'south'; it knows 'left', 'right'" in said
    aligned = run("align", model, files["strange"], "-o", tmp_path / "m", "--steps", 0)
    assert aligned.exit_code == 0
    assert "it is placed by a search instead, without labels" in " ".join(aligned.stderr.split())


def test_labels_of_which_some_are_unknown_are_said(model, files, tiny):
    with pytest.warns(
        UserWarning, match=r"does not know its labels 'up' \(it knows 'left', 'right'\)"
    ):
        metadyn.align(model, files["partly"], config=tiny, data={"condition": "family"})


def test_a_recording_without_the_models_column_is_placed_without_labels_and_that_is_said(
    model, files, tiny
):
    with pytest.warns(
        UserWarning, match=r"none\.nwb: no column 'family'.*it is placed by a search instead"
    ):
        aligned = metadyn.align(model, files["none"], config=tiny)
    assert len(aligned.sessions) == 3
    with pytest.raises(SelectionError, match="no column 'family'"):
        metadyn.align(model, files["none"], config=tiny, data={"condition": "family"})


def test_labels_are_refused_by_a_model_that_knows_none(world, files, tiny):
    with pytest.raises(SelectionError, match="the model knows no condition labels"):
        metadyn.align(world.model, files["partly"], config=tiny, data={"condition": "family"})


def test_what_is_inferred_asks_for_no_labels(model, files):
    """Windows over the whole recording belong to no row, and so to no condition."""
    whole = metadyn.infer(model, files["b"], data={"intervals": "recording"})
    assert whole.sizes["trial"] > 0


def test_numbers_of_files_are_compared_as_numbers(world, tmp_path, tiny):
    """Whole numbers in single precision in one file, in double precision in the other, some
    missing; text in a third."""
    paths = []
    for name, source, dtype in (("one", world.files[0], "f4"), ("other", world.files[1], "f8")):
        path = tmp_path / f"{name}.nwb"
        shutil.copyfile(source, path)
        with h5py.File(path, "r+") as file:
            column = file["intervals/trials/speed"]
            told = dict(column.attrs)
            del file["intervals/trials/speed"]
            file["intervals/trials/speed"] = np.array([0.1, 2, np.nan, 0.1, 2, 0.1, 2, 2], dtype)
            file["intervals/trials/speed"].attrs.update(told)
        paths.append(path)
    config = tiny.model_copy(update={"data": tiny.data.model_copy(update={"condition": "speed"})})
    assert metadyn.fit(paths, None, config).shared_latents.labels == ("0.1", "2")
    text = [paths[0], tmp_path / "text.nwb"]
    shutil.copyfile(world.files[1], text[1])
    with h5py.File(text[1], "r+") as file:
        told = dict(file["intervals/trials/speed"].attrs)
        del file["intervals/trials/speed"]
        file["intervals/trials/speed"] = np.array(["0.10", "2.0"] * 4, object)
        file["intervals/trials/speed"].attrs.update(told)
    with pytest.raises(
        DataError, match=r"'0\.1' and '0\.10' are one number, but at least one is stored as text"
    ):
        metadyn.fit(text, None, config)


def test_one_window_is_too_few_and_what_is_offered_cuts_it(run, world, tmp_path):
    asked = ["fit", world.files[0], "-o", tmp_path / "model", "--where", "start_time < 2", *QUICK]
    refused = run(*asked)
    assert refused.exit_code == 1
    assert "--max-bins 20" in refused.stderr
    assert run(*asked, "--max-bins", 20).exit_code == 0
