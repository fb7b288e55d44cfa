"""The verbs take files, names, folders, sessions and counts, and hand on what the rooms behind them
make."""

import json
from dataclasses import asdict, replace

import h5py
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from pynwb import read_nwb

import metadyn
from metadyn.config import Config, load_config
from metadyn.data.splits import evenly_spaced
from metadyn.errors import (
    ConfigError,
    DataError,
    DeviceError,
    ModelFileError,
    WindowError,
    WriteError,
)
from metadyn.nwb.read import read_session
from metadyn.pipeline.inputs import recordings
from metadyn.pipeline.models import data_options, load_model
from metadyn.records import BehaviorSeries, Session, SessionEntry, Source


def test_the_package_hands_on_its_verbs():
    assert all(callable(getattr(metadyn, verb)) for verb in metadyn.VERBS)
    with pytest.raises(AttributeError, match="its verbs are inspect, fetch"):
        _ = metadyn.train


def test_a_folder_stands_for_the_files_below_it(world):
    assert [each.source for each in recordings(world.folder / "raw")] == world.files


def test_a_name_may_be_given_to_a_file_but_not_mistaken_for_one(world, tmp_path):
    odd = tmp_path / "a=b.nwb"
    odd.write_bytes(b"")
    assert [(each.name, each.source) for each in recordings([f"A={world.files[0]}", str(odd)])] == [
        ("A", world.files[0]),
        (None, odd),
    ]


def test_neither_a_name_nor_a_verb_of_one_recording_takes_a_folder_of_several(world):
    folder = world.folder / "raw"
    with pytest.raises(
        DataError, match=f"(?s)one name was given.*{len(world.files)} files.*A={world.files[0]}"
    ):
        recordings(f"mine={folder}")
    with pytest.raises(
        DataError, match=f"(?s)one recording at a time.*{len(world.files)} files.*{world.files[0]}"
    ):
        metadyn.infer(world.model, folder)


def test_a_missing_file_and_an_empty_folder_are_named(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        recordings(tmp_path / "none.nwb")
    with pytest.raises(DataError, match="holds no NWB file"):
        recordings(tmp_path)


def test_two_files_of_one_identifier_need_names(world, file, tiny):
    with pytest.raises(DataError, match=r"A=.*B="):
        metadyn.fit([world.files[0], file], None, tiny)
    trained = metadyn.fit([f"A={world.files[0]}", f"B={file}"], None, tiny)
    assert [entry.key for entry in trained.sessions] == ["A", "B"]


def test_a_model_knows_its_sessions_by_identifier_and_names_no_folder(world):
    trained = metadyn.load_model(world.model)
    assert [entry.key for entry in trained.sessions] == [
        read_session(path).key for path in world.files[:2]
    ]
    assert [entry.source.uri for entry in trained.sessions] == [
        path.name for path in world.files[:2]
    ]
    assert str(world.folder).encode() not in trained.file().weights


def test_a_model_folder_is_not_written_over(world, tiny):
    with pytest.raises(ConfigError, match="resume=True"):
        metadyn.fit(world.files[:1], world.model, tiny)


@pytest.mark.parametrize("below", ["", "model"])
def test_a_folder_that_cannot_be_written_is_said_before_anything_is_trained(
    world, tmp_path, tiny, below
):
    taken = tmp_path / "taken"
    taken.write_text("a file where the folder should be")
    reports = []
    with pytest.raises(WriteError, match=r"(?s)cannot be written.*taken.*`output`"):
        metadyn.fit(world.files[:1], taken / below, tiny, report=reports.append)
    with pytest.raises(WriteError, match=r"(?s)cannot be written.*taken.*`output`"):
        metadyn.align(world.model, world.files[2], taken / below, tiny, report=reports.append)
    assert reports == []
    assert taken.is_file()


@pytest.mark.filterwarnings(
    "ignore:CUDA initialization"
)  # torch's word on a machine with a driver and no GPU
def test_a_gpu_that_is_not_there_is_said_before_anything_is_read(tmp_path, tiny, world):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(DeviceError, match="device='cpu'"):
        metadyn.fit([tmp_path / "not even there.nwb"], None, tiny, device="cuda")
    with pytest.raises(DeviceError):
        metadyn.infer(world.model, world.files[0], device="cuda")


def test_an_unknown_session_is_told_from_known_ones_with_the_command_that_aligns_it(world):
    with pytest.raises(ModelFileError, match=r"(?s)knows no session.*metadyn align"):
        metadyn.infer(world.model, world.files[2])


def test_inference_takes_a_file_an_open_file_a_session_or_counts(world):
    path = world.files[0]
    session = metadyn.read_session(path)
    opened = read_nwb(path)
    results = [metadyn.infer(world.model, each) for each in (path, opened, session)]
    opened.read_io.close()
    counts = metadyn.bin_spikes(session)
    results.append(metadyn.infer(world.model, counts))
    for other in results[1:]:
        xr.testing.assert_identical(results[0], other)


def test_the_units_are_those_of_the_model_in_its_order_whatever_fires(world):
    trained = metadyn.load_model(world.model)
    session = metadyn.read_session(world.files[0])
    chosen = metadyn.bin_spikes(session).select(units=[4, 1, 2])
    small = metadyn.fit(
        [chosen],
        None,
        load_config(model={"conditioning": "shared"}, training={"steps": 1, "pretrain_steps": 1}),
    )
    few_windows = metadyn.infer(
        small, world.files[0], data={"intervals": "trials", "where": "start_time < 3"}
    )
    assert list(few_windows.unit.values) == [4, 1, 2]
    assert few_windows.sizes["trial"] < 8
    assert trained.sessions[0].n_units == session.n_units


def test_another_recording_under_a_known_name_is_refused(world):
    key = load_model(world.model).sessions[0].key
    with pytest.raises(DataError, match=r"(?s)units.*metadyn align MODEL NAME=FILE"):
        metadyn.infer(world.model, f"{key}={world.files[2]}")


def test_another_bin_width_than_the_models_is_refused(world):
    trained = load_model(world.model)
    with pytest.raises(ConfigError, match="bin width"):
        data_options(trained, {"bin_width": 0.05})
    assert data_options(trained, {"start": 0.1, "bin_width": None}).start == 0.1


def test_an_option_of_none_lifts_the_one_that_the_model_was_trained_with(world):
    trained = load_model(world.model)
    trained = replace(trained, data={**trained.data, "where": "start_time < 3"})
    assert data_options(trained).where == "start_time < 3"
    assert data_options(trained, {"where": None}).where is None


def test_alignment_adds_a_session_and_the_model_comes_back_from_an_annotated_file(
    world, tmp_path, tiny
):
    aligned = metadyn.align(world.model, world.files[2], tmp_path / "aligned", tiny, trials=6)
    assert len(aligned.sessions) == 3
    (target,) = metadyn.annotate(
        tmp_path / "aligned", world.files[2], tmp_path / "out", context=20, steps=10
    )
    from_nwb = metadyn.infer(target, world.files[2])
    xr.testing.assert_allclose(from_nwb, metadyn.infer(aligned, world.files[2]))
    run = read_nwb(target).processing["ecephys"]["LatentDynamics"]
    np.testing.assert_allclose(
        run.embeddings["timeseries"][3][0].data, from_nwb.latent_mean[3], rtol=1e-5
    )
    ahead = metadyn.forecast(target, world.files[2], context=20, steps=10)
    np.testing.assert_allclose(
        run.embeddings["timeseries"][3][3].data, ahead.rate_mean[3], rtol=1e-5
    )


def test_annotated_copies_keep_their_place_in_a_dandiset(world, tmp_path):
    written = metadyn.annotate(world.model, world.files[:2], tmp_path)
    assert [path.relative_to(tmp_path) for path in written] == [
        path.relative_to(world.folder / "raw") for path in world.files[:2]
    ]


def test_in_place_and_without_the_model(world, file):
    metadyn.annotate(world.model, file, in_place=True, embed_model=False)
    run = read_nwb(file).processing["ecephys"]["LatentDynamics"]
    assert run.model is None
    with pytest.raises(ModelFileError, match="holds no such model"):
        metadyn.load_model(file)


def test_annotate_asks_where_to_and_touches_nothing_if_any_file_is_taken(world, tmp_path):
    with pytest.raises(ConfigError, match=r"`output`, or `in_place=True`"):
        metadyn.annotate(world.model, world.files[0])
    metadyn.annotate(world.model, world.files[1], tmp_path)
    with pytest.raises(WriteError, match="exists already"):
        metadyn.annotate(world.model, world.files[:2], tmp_path)
    assert len(list(tmp_path.rglob("*.nwb"))) == 1


def test_a_damaged_embedded_model_is_refused(world, tmp_path):
    (target,) = metadyn.annotate(world.model, world.files[0], tmp_path)
    with h5py.File(target, "r+") as file:
        file["processing/ecephys/LatentDynamicsModel/weights"][-1] ^= 1
    with pytest.raises(ModelFileError, match="not the bytes that the digest was taken of"):
        metadyn.load_model(target)


def test_a_saved_model_is_the_model(world, tmp_path):
    trained = metadyn.load_model(world.model)
    metadyn.save_model(trained, tmp_path / "copy")
    assert metadyn.load_model(tmp_path / "copy").file() == trained.file()


def test_of_few_windows_the_one_that_chose_the_checkpoint_is_scored_and_said_to_have(world):
    every, held_out = (
        metadyn.score(world.model, world.files[0], held_out=flag) for flag in (False, True)
    )
    assert (every.attrs["n_windows"], every.attrs["windows"]) == (8, "all")
    assert (held_out.attrs["n_windows"], held_out.attrs["windows"]) == (1, "validation")
    assert set(every.predictor.values) == set(held_out.predictor.values)


@pytest.fixture(scope="module")
def enough(tiny):
    """Counts of a session of 24 windows, and a model of it: the fit keeps some aside."""
    counts = metadyn.bin_spikes(as_session(), behavior="lever")
    return counts, metadyn.fit(counts, None, tiny)


def as_session():
    """24 trials of 1 s, of nine units whose rates swing; behaviour that swings with them."""
    rng = np.random.default_rng(0)
    starts = np.arange(24) * 1.7
    times = np.sort(rng.uniform(0, 42, (9, 900)), axis=1)
    kept = rng.random((9, 900)) < 0.5 + 0.45 * np.sin(2 * np.pi * times + np.arange(9)[:, None])
    spikes = [row[keep] for row, keep in zip(times, kept, strict=True)]
    seconds = np.arange(0, 42, 0.01)
    series = BehaviorSeries("lever", seconds, np.sin(2 * np.pi * seconds)[:, None], "mm")
    return Session(
        "made",
        Source(),
        np.concatenate(spikes),
        np.concatenate([[0], np.cumsum([len(row) for row in spikes])]),
        pd.DataFrame(index=pd.RangeIndex(9)),
        None,
        {"trials": pd.DataFrame({"start_time": starts, "stop_time": starts + 1.0})},
        {"lever": series},
        ("lever",),
    )


def test_of_enough_windows_those_that_nothing_has_met_are_scored(enough, tiny):
    """Which windows train, choose and are kept is what the entry says; test windows changed at
    random change no weight."""
    counts, trained = enough
    entry = trained.sessions[0]
    met = np.isin(counts.windows.start.round(6), [*entry.trained_starts, *entry.validated_starts])
    assert (len(entry.trained_starts), len(entry.validated_starts), (~met).sum()) == (16, 4, 4)
    np.testing.assert_array_equal(entry.never_met(counts), ~met)
    scores = metadyn.score(trained, counts)
    assert (
        scores.attrs["windows"],
        scores.attrs["n_windows"],
        scores.attrs["n_training_windows"],
    ) == ("test", 4, 16)
    garbled = counts.counts.copy()
    garbled[~met] = np.random.default_rng(1).poisson(3, garbled[~met].shape)
    again = metadyn.fit(replace(counts, counts=garbled), None, tiny)
    for name, value in trained.module.state_dict().items():
        assert (again.module.state_dict()[name] == value).all(), name


def test_a_score_whose_behaviour_spikes_decode_better_says_so(enough):
    """A model of three steps; a lever that moves with the rates."""
    counts, trained = enough
    scores = metadyn.score(trained, counts)
    model, spikes = (
        float(scores.behavior_r2.sel(predictor=name)) for name in ("model", "smoothed_spikes")
    )
    best = max(spikes, float(scores.behavior_r2.sel(predictor="principal_components")))
    assert model < spikes - 0.02
    said = scores.attrs["verdict"]
    assert said.startswith("verdict (test windows): ")
    if model >= 0:
        assert f"({model:.3f} against {best:.3f} r²)" in said
    assert "decoded behaviour" in said
    assert "; try: metadyn fit FILES -o model-2 " in said


def test_a_model_that_does_not_say_what_chose_its_checkpoint_is_scored_on_all_it_did_not_train_on(
    enough,
):
    counts, trained = enough
    old = {
        name: value
        for name, value in asdict(trained.sessions[0]).items()
        if not name.startswith("validated")
    }
    before = SessionEntry.from_json({key: value for key, value in old.items() if key != "gap"})
    assert (before.validated_starts, before.gap) == (None, 0.0)
    scores = metadyn.score(replace(trained, sessions=(before,)), counts)
    assert (scores.attrs["windows"], scores.attrs["n_windows"]) == ("held-out", 8)
    assert SessionEntry.from_json(asdict(trained.sessions[0])) == trained.sessions[0]


def test_alignment_keeps_windows_for_tests_unless_it_is_told_how_many_to_use(enough, tiny):
    counts, trained = enough
    other = replace(counts, session="other")
    for trials, used in ((None, 20), (6, 6), (21, 21)):
        entry = metadyn.align(trained, other, None, tiny, trials=trials).sessions[-1]
        assert (len(entry.trained_starts), entry.validated_starts) == (used, ())
        assert entry.never_met(other).sum() == 24 - used


def test_a_window_in_the_gap_of_a_continuous_recording_is_never_scored(tiny):
    """Nor is one that overlaps it: shifted windows are scored only where they lie a whole gap from
    all that trained."""
    windows = {"intervals": "recording", "n_bins": 40}
    counts = metadyn.bin_spikes(as_session(), **windows)
    trained = metadyn.fit(counts, None, tiny)
    entry = trained.sessions[0]
    assert entry.gap == pytest.approx(0.8)
    for shift in (0.0, 0.3):
        moved = replace(counts, windows=replace(counts.windows, start=counts.windows.start + shift))
        for start, stop, test in zip(
            moved.windows.start, moved.windows.stop, entry.never_met(moved), strict=True
        ):
            met = [*zip(entry.trained_starts, entry.trained_stops, strict=True)]
            met += zip(entry.validated_starts, entry.validated_stops, strict=True)
            near = min(max(start - its_stop, its_start - stop) for its_start, its_stop in met)
            assert test == (near > 0.8 - 0.01), (start, near)
    assert 2 <= entry.never_met(counts).sum() <= 8
    assert metadyn.score(trained, counts).attrs["windows"] == "test"


@pytest.mark.parametrize("name", ["scores.nc", "scores.json"])
def test_scores_of_two_recordings_come_back_from_a_file_as_they_were(world, tmp_path, name):
    found = [
        metadyn.score(world.model, path, held_out=False, steps=5 + i)
        for i, path in enumerate(world.files[:2])
    ]
    path = metadyn.save_scores(found, tmp_path / name)
    if name.endswith("json"):
        back = xr.Dataset.from_dict(json.loads(path.read_text(), parse_constant=pytest.fail))
    else:
        back = xr.load_dataset(path, engine="scipy")
    assert back["session"].values.tolist() == [each.attrs["session"] for each in found]
    for place, scores in enumerate(found):
        its = back.isel(session=place).sel(unit=scores.unit, step=scores.step)
        for variable, values in scores.data_vars.items():
            np.testing.assert_allclose(its[variable].values.astype(float), values, err_msg=variable)
            assert its[variable].dims == values.dims
        for attribute in ("windows", "n_windows", "context_bins", "verdict"):
            assert its[attribute].item() == scores.attrs[attribute]
    with pytest.raises(ConfigError, match=r"scores\.csv(?s:.*)scores\.nc or"):
        metadyn.save_scores(found, tmp_path / "scores.csv")


def test_windows_that_share_time_with_those_trained_on_are_not_held_out(world):
    shifted = {"align": "start_time", "start": 0.1, "n_bins": 30}
    assert metadyn.score(world.model, world.files[0], data=shifted).attrs["n_windows"] == 1
    entry = load_model(world.model).sessions[0]
    counts = metadyn.bin_spikes(read_session(world.files[0]))
    touching = replace(
        counts.windows, start=counts.windows.start - 0.4, n_bins=counts.windows.n_bins // 2
    )
    assert entry.held_out(replace(counts, windows=touching)).all()


def test_two_results_that_would_be_one_file_are_refused_before_anything_is_written(world, tmp_path):
    twins = [tmp_path / folder / "x.nwb" for folder in "ab"]
    for twin, file in zip(twins, world.files, strict=False):
        twin.parent.mkdir()
        twin.write_bytes(file.read_bytes())
    with pytest.raises(ConfigError, match=r"(?s)one file.*a/x\.nwb.*b/x\.nwb"):
        metadyn.annotate(world.model, twins, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_forecast_behind_the_end_of_every_window_is_refused(world, tmp_path):
    with pytest.raises(WindowError, match="shorter `context`"):
        metadyn.annotate(world.model, world.files[0], tmp_path / "out", context=40, steps=5)


def test_windows_of_one_bin_stop_neither_scores_nor_forecasts_in_the_file(world, tmp_path):
    """Each of eight recorded stretches of 40 bins leaves one over."""
    source, windows = world.files[0], {"intervals": "recording", "n_bins": 13}
    told = metadyn.score(world.model, source, held_out=False, data=windows).attrs
    assert (told["n_windows"], told["n_forecast_windows"], told["context_bins"]) == (32, 24, 4)
    with pytest.warns(UserWarning, match=r"8 of 32 windows of .* are shorter than the 5 bins"):
        (target,) = metadyn.annotate(world.model, source, tmp_path, context=5, data=windows)
    run = read_nwb(target).processing["ecephys"]["LatentDynamics"]
    counts = [
        [reference.count for reference in run.embeddings["timeseries"][row]] for row in range(32)
    ]
    assert counts == [[13, 13, 8, 8], [13, 13, 8, 8], [13, 13, 8, 8], [1, 1]] * 8
    assert "8 of 32 windows have no forecast" in run.description


def test_a_preset_is_stored_by_name_and_the_rest_by_value():
    from metadyn.pipeline.models import stored_options

    assert stored_options(load_config(data={"preset": "perich-co", "n_bins": 5}).data) == {
        "preset": "perich-co",
        "n_bins": 5,
    }
    assert stored_options(Config().data)["bin_width"] == 0.02


def test_trials_to_align_on_are_spread_over_the_session():
    assert list(evenly_spaced(9, 3)) == [0, 4, 8]
    assert list(evenly_spaced(2, 5)) == [0, 1]


def test_a_copy_never_takes_the_place_of_its_recording(world, file, tmp_path):
    """Into the recording's own folder, or by a link in another one."""
    before = file.read_bytes()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / file.name).symlink_to(file)
    for output in (tmp_path, tmp_path / "out"):
        with pytest.raises(ConfigError, match="in_place=True"):
            metadyn.annotate(world.model, file, output, overwrite=True)
    assert file.read_bytes() == before
