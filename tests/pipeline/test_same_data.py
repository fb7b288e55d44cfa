"""A model knows the recordings that it was fitted to by their spikes: others under the same name
are refused, copies are not.

Each file is a copy of a simulated recording, changed by h5py as a lab's own scripts would.
"""

import json
import shutil
import warnings
from dataclasses import replace

import h5py
import numpy as np
import pytest
import xarray as xr

import metadyn
from metadyn.errors import DataError, TrainingError


def changed(path, folder, change):
    """A copy of the file in the folder, under its name, after change(h5py file)."""
    folder.mkdir(exist_ok=True)
    copy = folder / path.name
    shutil.copyfile(path, copy)
    with h5py.File(copy, "r+") as file:
        change(file)
    return copy


def set_spikes(file, units):
    """These arrays (one a unit) in place of the file's spike times; everything else stays, object
    ids too."""
    times, index = file["units/spike_times"], file["units/spike_times_index"]
    told = dict(times.attrs)
    del file["units/spike_times"]
    file["units/spike_times"] = np.concatenate(units)
    file["units/spike_times"].attrs.update(told)
    index.attrs["target"] = file["units/spike_times"].ref
    index[:] = np.cumsum([len(each) for each in units])


def spikes_of(file):
    return np.split(file["units/spike_times"][:], file["units/spike_times_index"][:-1])


def units_reversed(file):
    set_spikes(file, spikes_of(file)[::-1])
    file["units/id"][:] = file["units/id"][:][::-1]


def two_units_swapped(file):
    units = spikes_of(file)
    units[1], units[3] = units[3], units[1]
    set_spikes(file, units)


def one_unit_sorted_anew(file):
    units = spikes_of(file)
    units[2] = units[2][::2]
    set_spikes(file, units)


def one_spike_moved_by_a_millisecond(file):
    units = spikes_of(file)
    units[0][len(units[0]) // 2] += 1e-3
    set_spikes(file, [np.sort(each) for each in units])


def recorded_for_longer(file):
    units = spikes_of(file)
    set_spikes(file, [np.append(each, [each.max() + 30.0, each.max() + 31.0]) for each in units])


OTHER_DATA = {
    units_reversed: "the same . units, in another order",
    two_units_swapped: "the same . units, in another order",
    one_unit_sorted_anew: "other spike times in 1 of . units .rows 2.",
    one_spike_moved_by_a_millisecond: "other spike times in 1 of . units .rows 0.",
    recorded_for_longer: "other spike times in (.) of \\1 units",
}


@pytest.mark.parametrize("change", OTHER_DATA, ids=lambda change: change.__name__)
def test_other_spikes_under_a_known_name_are_refused_by_every_step(world, tmp_path, change):
    other = changed(world.files[0], tmp_path / "other", change)
    steps = {
        "infer": lambda: metadyn.infer(world.model, other),
        "forecast": lambda: metadyn.forecast(world.model, other, context=10, steps=5),
        "score": lambda: metadyn.score(world.model, other),
        "annotate": lambda: metadyn.annotate(world.model, other, tmp_path / "out"),
    }
    for step in steps.values():
        with pytest.raises(
            DataError,
            match=f"(?s)other units or spikes.*{other.name}.*{OTHER_DATA[change]}.*metadyn align",
        ):
            step()
    assert not list((tmp_path / "out").rglob("*.nwb"))


def test_the_way_that_the_refusal_offers_works(run, world, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "metadyn.training.alignment.placement.ITERATIONS", 6
    )  # of the search, whose result is not looked at
    other = changed(world.files[0], tmp_path / "other", one_unit_sorted_anew)
    refused = run("annotate", world.model, other, "-o", tmp_path / "out")
    assert refused.exit_code == 1
    assert "metadyn align MODEL NAME=FILE -o MODEL2" in refused.stderr
    aligned = run(
        "align", world.model, f"sorted-anew={other}", "-o", tmp_path / "model2", "--steps", 0
    )
    assert aligned.exit_code == 0, aligned.stderr
    assert (
        run(
            "annotate", tmp_path / "model2", f"sorted-anew={other}", "-o", tmp_path / "out"
        ).exit_code
        == 0
    )


def without_last_row(table):
    """Every column without its last row; of a ragged one the index is cut, and the data that
    belonged to it."""
    for name, column in list(table.items()):
        index = table.get(f"{name}_index")
        told, values = dict(column.attrs), column[:-1] if index is None else column[: index[-2]]
        del table[name]
        table[name] = values
        table[name].attrs.update(told)
        if index is not None:
            index.attrs["target"] = table[name].ref


def last_unit_left_out(file):
    without_last_row(file["units"])


def test_a_recording_that_lacks_a_unit_is_refused(world, tmp_path):
    other = changed(world.files[0], tmp_path / "other", last_unit_left_out)
    with pytest.raises(DataError, match=r"(?s)lacks units.*metadyn align MODEL NAME=FILE"):
        metadyn.infer(world.model, other)


def test_copies_of_a_recording_are_that_recording_however_they_came_about(world, tmp_path):
    """Renamed; annotated; derived; of another Units object and other ids, as a conversion made anew
    has them."""
    path = world.files[0]
    whole = metadyn.infer(world.model, path)
    renamed = tmp_path / "day one.nwb"
    shutil.copyfile(path, renamed)
    [annotated] = metadyn.annotate(world.model, path, tmp_path / "annotated")
    [derived] = metadyn.annotate(world.model, path, tmp_path / "derived", derive=True)

    def converted_anew(file):
        file["units"].attrs["object_id"] = "11111111-2222-4333-8444-555555555555"
        file["units/id"][:] = file["units/id"][:] + 1

    anew = changed(path, tmp_path / "anew", converted_anew)
    key = metadyn.load_model(world.model).sessions[0].key
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for copy in (renamed, annotated, f"{key}={derived}", anew):
            xr.testing.assert_identical(metadyn.infer(world.model, copy), whole)


def test_other_windows_of_the_recording_are_no_other_data(world):
    few = metadyn.infer(world.model, world.files[0], data={"align": "start_time", "n_bins": 7})
    assert few.sizes["time"] == 7


def test_a_model_taken_from_a_file_still_knows_the_spikes(world, tmp_path):
    [annotated] = metadyn.annotate(world.model, world.files[1], tmp_path / "annotated")
    other = changed(world.files[0], tmp_path / "other", one_unit_sorted_anew)
    with pytest.raises(DataError, match="other spike times in 1 of"):
        metadyn.infer(annotated, other)


def test_a_model_of_before_spikes_were_compared_warns_of_another_units_table_alone(world, tmp_path):
    trained = metadyn.load_model(world.model)
    old = replace(
        trained, sessions=tuple(replace(entry, unit_digests=()) for entry in trained.sessions)
    )
    assert metadyn.infer(old, world.files[0]).identical(metadyn.infer(trained, world.files[0]))

    def other_table(file):
        one_unit_sorted_anew(file)
        file["units"].attrs["object_id"] = "11111111-2222-4333-8444-555555555555"

    with pytest.warns(UserWarning, match="Units table is not the one"):
        metadyn.infer(old, changed(world.files[0], tmp_path / "other", other_table))


def trial_moved(file):
    file["intervals/trials/start_time"][3] += 0.06


def last_trial_left_out(file):
    without_last_row(file["intervals/trials"])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (trial_moved, "other windows, 320 observed bins in the run, 317 now"),
        (last_trial_left_out, "8 windows in the run, 7 now"),
        (one_spike_moved_by_a_millisecond, "other spike times in 1 of"),
        (units_reversed, "in another order"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_run_does_not_go_on_with_other_data_and_its_model_is_as_it_was(
    world, tmp_path, tiny, change, told
):
    folder = tmp_path / "model"
    shutil.copytree(world.model, folder)
    digest = metadyn.load_model(folder).file().digest
    other = changed(world.files[0], tmp_path / "other", change)
    with pytest.raises(
        TrainingError, match=f"(?s)other settings or files.*{told}.*the recordings as they were"
    ):
        metadyn.fit([other, world.files[1]], folder, tiny, resume=True)
    assert metadyn.load_model(folder).file().digest == digest


def test_a_run_goes_on_with_a_renamed_copy(world, tmp_path, tiny):
    folder, renamed = tmp_path / "model", tmp_path / "first day.nwb"
    shutil.copytree(world.model, folder)
    shutil.copyfile(world.files[0], renamed)
    again = metadyn.fit([renamed, world.files[1]], folder, tiny, resume=True)
    for name, value in metadyn.load_model(world.model).module.state_dict().items():
        assert (again.module.state_dict()[name] == value).all(), name


def test_a_run_of_other_settings_names_each_with_both_values_and_its_own_settings_go_on(
    run, world, tmp_path
):
    folder, small = (
        tmp_path / "model",
        ["--latent-dim", 2, "--pretrain-steps", 2, "--steps", 3, "--validate-every", 2],
    )
    assert run("fit", *world.files[:2], "-o", folder, *small).exit_code == 0
    other = [2 if each == 3 else each for each in small]
    refused = run("fit", *world.files[:2], "-o", folder, *other, "--max-bins", 30, "--resume")
    assert refused.exit_code == 1
    said = " ".join(refused.stderr.split())
    assert "data.max_bins not set in the run, 30 now; training.steps 3 in the run, 2 now" in said
    assert "training.learning_rate" not in said
    config = folder / (folder / "latest").read_text() / "config.toml"
    assert f"--config {config}" in said
    assert run("fit", *world.files[:2], "-o", folder, "--config", config, "--resume").exit_code == 0


@pytest.mark.parametrize("setting", ["training.test_fraction", "model.dynamics"])
def test_a_run_of_a_version_without_a_setting_can_only_begin_anew(run, world, tmp_path, setting):
    """Its config.toml cannot say what that version did not know, so it is not proposed."""
    folder, small = tmp_path / "model", ["--latent-dim", 2, "--pretrain-steps", 2, "--steps", 3]
    assert run("fit", *world.files[:2], "-o", folder, *small).exit_code == 0
    metrics = folder / (folder / "latest").read_text() / "metrics.json"
    kept = json.loads(metrics.read_text())
    section, key = setting.split(".")
    del kept["settings"][section][key]
    metrics.write_text(json.dumps(kept))
    refused = run("fit", *world.files[:2], "-o", folder, *small, "--resume")
    said = " ".join(refused.stderr.split())
    assert f"{setting} not set in the run" in said
    assert "another folder (-o)" in said
    assert "--config" not in said


def test_a_finished_model_is_no_run_to_go_on_with(world, tmp_path, tiny):
    folder = metadyn.save_model(metadyn.load_model(world.model), tmp_path / "saved")
    with pytest.raises(TrainingError, match=r"(?s)no run to go on with.*another folder"):
        metadyn.fit(world.files[:2], folder, tiny, resume=True)
