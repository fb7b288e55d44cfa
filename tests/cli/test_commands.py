"""The commands, as a person types them."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import xarray as xr
from pynwb import read_nwb

import metadyn
from metadyn.cli import VERB_OF, Commands, docstring_of, make_command, unwrapped
from metadyn.cli.commands.score import show_score
from metadyn.inference.scores import PREDICTORS
from metadyn.training.execution import capture
from ndx_metadyn import rollout

TINY = "--steps 3 --pretrain-steps 2 --latent-hidden 4 --readin-hidden 4 --hidden 4 4"


def test_the_commands_stand_in_the_order_of_the_table_of_verbs(run):
    text = run("--help").stdout
    places = [text.index(f"│ {name} ") for name in Commands()]
    assert places == sorted(places)
    verbs = [VERB_OF.get(name, name) for name in Commands()]
    assert verbs == [verb for verb in metadyn.VERBS if verb in verbs]
    assert "No such command" in run("scroe").stderr
    assert "'score'" in run("scroe").stderr


@pytest.mark.parametrize("command", Commands())
def test_help_of_each_command_has_an_example_that_starts_with_it(run, command):
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"Example: metadyn {command}" in result.stdout


def test_units_in_the_help_are_not_taken_for_markup(run):
    text = run("fit", "--help").stdout
    assert "width of a time bin [s] (default 0.02)" in text
    assert "[data], [model], [training], [align]" in text


def test_every_configuration_key_of_a_step_is_a_flag(run):
    text = run("fit", "--help").stdout
    for section in ("data", "model", "training"):
        for name in metadyn.load_config().model_dump()[section]:
            assert f"--{name.replace('_', '-')} " in text


def test_inspect_shows_the_file_and_a_command_that_works(run, world):
    text = run("inspect", world.files[0]).stdout
    assert "trials: 8 rows" in text
    assert "metadyn fit" in text


def test_what_a_file_says_is_shown_letter_by_letter(run, file):
    with h5py.File(file, "r+") as opened:
        opened["identifier"][()] = "[bold]a\x1b]0;b\x07[/red] :smile: \u202e"
        opened.move("intervals/trials/speed", "intervals/trials/[red]speed")
        columns = [
            "[red]speed" if name == "speed" else name
            for name in opened["intervals/trials"].attrs["colnames"]
        ]
        opened["intervals/trials"].attrs["colnames"] = columns
    text = run("inspect", file).stdout
    assert r"identifier [bold]a\x1b]0;b[/red] :smile: \u202e" in text  # the bell is dropped
    assert "[red]speed" in text


def test_from_simulated_files_to_annotated_ones(run, tmp_path):
    assert (
        run(
            "simulate",
            "limit-cycle",
            "-o",
            tmp_path / "raw",
            "--sessions",
            3,
            "--trials",
            4,
            "--bins",
            30,
        ).exit_code
        == 0
    )
    files = sorted((tmp_path / "raw").rglob("*.nwb"))
    assert run("fit", *files[:2], "-o", tmp_path / "model", *TINY.split()).exit_code == 0
    aligned = tmp_path / "aligned"
    result = run(
        "align", tmp_path / "model", f"new={files[2]}", "-o", aligned, "--steps", 1, "--trials", 3
    )
    assert "model of 3 sessions" in result.stdout
    result = run(
        "annotate",
        aligned,
        *files[:2],
        f"new={files[2]}",
        "-o",
        tmp_path / "out",
        "--context",
        10,
        "--name",
        "Run",
    )
    assert result.stdout.split() == [
        str(path.resolve()) for path in sorted((tmp_path / "out").rglob("*.nwb"))
    ]
    assert (
        "LatentSeriesForecast"
        in read_nwb(result.stdout.split()[2]).processing["ecephys"]["Run"].latent_series
    )
    assert "new: 1 test windows" in run("score", aligned, f"new={files[2]}").stdout


def test_a_config_file_lies_under_the_flags(run, world, tmp_path):
    (tmp_path / "c.toml").write_text(
        "[data]\nbin_width = 0.04\nmin_rate = 0.5\n[training]\nsteps = 3\ndistil_steps = 2\n"
    )
    run(
        "fit",
        world.files[0],
        "-o",
        tmp_path / "model",
        "-c",
        tmp_path / "c.toml",
        "--bin-width",
        0.05,
        "--conditioning",
        "shared",
    )
    trained = metadyn.load_model(tmp_path / "model")
    assert (trained.bin_width, trained.data["min_rate"], trained.config.conditioning) == (
        0.05,
        0.5,
        "shared",
    )


def test_other_dynamics_go_from_fit_to_file_and_back(run, world, tmp_path):
    kind = ["--dynamics", "linear", "--conditioning", "embedding_input"]
    model, out = tmp_path / "model", tmp_path / "out"
    assert run("fit", *world.files[:2], "-o", model, *TINY.split(), *kind).exit_code == 0
    annotated = run("annotate", model, world.files[0], "-o", out, "--context", 10)
    written = Path(annotated.stdout.split()[0])
    said = run("model", written).stdout
    assert "linear dynamics, embedding_input conditioning, poisson observations" in said
    results = read_nwb(written).processing["ecephys"]["LatentDynamics"]
    start = results.embeddings["context_embedding"][:], results.embeddings["context_latent"][:]
    ahead = rollout(results.model, *start, n_steps=4, input_key=results.input_key)
    ours = metadyn.forecast(model, world.files[0], context=10, steps=4)
    np.testing.assert_allclose(ahead.rates, ours.rate_mean, rtol=1e-4)


def test_the_words_of_version_0_1_0_are_taken_as_flags_and_not_shown(run, world, tmp_path):
    old = ["--conditioning", "input", "--changed-layers", "input", "--steps", 1]
    old += ["--distil-steps", 3, "--distil-starts", 2]
    run("fit", world.files[0], "-o", tmp_path / "model", *old)
    trained = metadyn.load_model(tmp_path / "model")
    config, training = trained.config, trained.training
    assert (training.pretrain_steps, training.pretrain_inits) == (3, 2)
    assert "distil" not in run("fit", "--help").stdout
    assert (config.conditioning, config.changed_layers) == ("embedding_input", ("first",))
    assert "<low_rank|linear|embedding_input|shared>" in run("fit", "--help").stdout


def test_a_misspelt_key_is_told_without_traceback_and_exit_code_2(run, world, tmp_path):
    (tmp_path / "c.toml").write_text("[data]\nbin_widht = 0.04\n")
    result = run("fit", world.files[0], "-o", tmp_path / "model", "-c", tmp_path / "c.toml")
    assert result.exit_code == 2
    assert "ConfigError" in result.stderr
    assert "try: data.bin_width" in result.stderr
    assert "Traceback" not in result.stderr


def test_what_is_wrong_with_a_file_is_told_with_exit_code_1(run, world, tmp_path):
    result = run("forecast", world.model, world.files[2], "--context", 10)
    assert result.exit_code == 1
    assert "metadyn align" in result.stderr
    (tmp_path / "no.nwb").write_text("no HDF5")
    assert run("inspect", tmp_path / "no.nwb").exit_code == 1
    assert run("fit", world.files[0]).exit_code == 2


@pytest.fixture
def made_scores():
    """Scores as `score` returns them, of a session of a long name; smoothed spikes and components
    predict behaviour alone."""
    nan = float("nan")
    of_spikes, ahead = [0.5, 0.0, 0.25, nan, nan], np.full((5, 2), 0.1)
    values = dict.fromkeys(
        ("reconstruction_r2", "bits_per_spike", "forecast_r2"), ("predictor", of_spikes)
    )
    values |= {"forecast_bits_per_spike": ("predictor", [-12.345, 0.0, 0.25, nan, nan])}
    values |= {"forecast_r2_at_step": (("predictor", "step"), ahead)}
    coords = {"predictor": PREDICTORS, "step": [0.02, 0.04]}
    session = "sub-YutaMouse41_ses-YutaMouse41-150831_desc-all_behavior+ecephys"
    attrs = {
        "session": session,
        "n_windows": 6,
        "windows": "test",
        "n_forecast_windows": 5,
        "context_bins": 7,
    }
    attrs |= {
        "n_training_windows": 40,
        "behavior_note": "",
        "verdict": "verdict (test windows): as it should be",
    }
    return xr.Dataset(values, coords, attrs)


def test_scores_show_a_dash_for_what_is_not_measured(capsys, made_scores):
    """Without behaviour, what predicts behaviour alone has no line."""
    show_score(made_scores)
    told = capsys.readouterr().out
    assert "6 test windows, which the model has never met" in " ".join(told.split())
    assert "(0.04 s) after 7, of 5 windows" in " ".join(told.split())
    assert "smoothed" not in told
    show_score(
        made_scores.assign(behavior_r2=("predictor", [0.75, 0.0, float("nan"), 0.125, -0.5]))
    )
    last = next(line for line in capsys.readouterr().out.splitlines() if "0.125" in line)
    assert last.count(" - ") == 4


@pytest.mark.parametrize("part", ["test", "validation", "held-out", "all"])
def test_a_table_of_scores_fits_80_columns_and_nothing_of_it_is_cut(
    capsys, monkeypatch, made_scores, part
):
    monkeypatch.setenv("COLUMNS", "80")
    scores = made_scores.assign(
        behavior_r2=("predictor", [0.75, 0.0, float("nan"), 0.125, -0.5])
    ).assign_attrs(windows=part)
    show_score(scores)
    *table, verdict = capsys.readouterr().out.splitlines()
    assert verdict == scores.attrs["verdict"]
    assert max(map(len, table)) <= 80
    assert "…" not in "".join(table)
    told = "".join("".join(table).split())
    for name in (*PREDICTORS, "-12.345", scores.attrs["session"]):
        assert name in told
    assert "decoderslearnon40windowsthattrainedthemodel." in told


def test_behaviour_without_r2_comes_with_the_reason(capsys, made_scores):
    note = "it does not vary in the windows that are scored"
    show_score(
        made_scores.assign(behavior_r2=("predictor", [float("nan")] * 5)).assign_attrs(
            behavior_note=note
        )
    )
    assert f"behaviour has no r²: {note}" in capsys.readouterr().out


def test_fit_align_and_score_end_in_a_verdict_whose_command_works(run, world, tmp_path):
    """Models that were hardly trained: each verdict names what they lose, and its command is one
    that runs."""
    fitted = run(
        "fit", *world.files[:2], "-o", tmp_path / "model", *TINY.split(), "--conditioning", "shared"
    )
    aligned = run(
        "align",
        tmp_path / "model",
        f"a={world.files[2]}",
        "-o",
        tmp_path / "a",
        "--steps",
        1,
        "--trials",
        4,
    )
    scored = run("score", tmp_path / "model", world.files[1], "-o", tmp_path / "scores.json")
    assert "Traceback" not in scored.stderr
    assert scored.stdout.splitlines()[-1] == str(tmp_path / "scores.json")
    lines = [
        result.stdout.splitlines()[place]
        for result, place in ((fitted, -1), (aligned, -1), (scored, -2))
    ]
    for line, of in zip(
        lines, ("validation windows", "windows aligned to", "validation windows"), strict=True
    ):
        assert line.startswith(f"verdict ({of}): ")
        assert "below the mean rate" in line or "behind the last value" in line
        command = shlex.split(line.partition("; try: metadyn ")[2])
        done = run(
            *command, "--steps", 1, *(["--pretrain-steps", 1] if command[0] == "fit" else [])
        )
        assert done.exit_code == 0, done.stderr
        assert "verdict" in done.stdout
        shutil.rmtree(
            command[command.index("-o") + 1]
        )  # the next verdict may have named the same folder


def test_a_forecast_is_a_table_or_a_file(run, world, tmp_path):
    assert "mean rate" in run("forecast", world.model, world.files[0], "--context", 20).stdout
    path = tmp_path / "ahead.nc"
    run(
        "forecast",
        world.model,
        world.files[0],
        "--context",
        20,
        "--steps",
        5,
        "--samples",
        3,
        "-o",
        path,
    )
    with xr.open_dataset(path, engine="scipy") as ahead:
        expected = metadyn.forecast(world.model, world.files[0], context=20, steps=5)
        np.testing.assert_allclose(ahead.latent_mean, expected.latent_mean, rtol=1e-6)
        np.testing.assert_allclose(ahead.time, (20 + np.arange(5) + 0.5) * 0.02)
        assert ahead.sizes["sample"] == 3


def test_ctrl_c_while_training_ends_with_130_and_a_model_to_resume(world, tmp_path):
    command = [
        sys.executable,
        "-m",
        "metadyn",
        "fit",
        *world.files[:2],
        "-o",
        tmp_path / "model",
        *TINY.split(),
    ]
    command += ["--validate-every", "5", "--steps", "100000"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    latest = tmp_path / "model" / "latest"
    deadline = time.monotonic() + 120
    while not latest.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert "--resume" in told
    assert (latest.parent / latest.read_text() / "state.safetensors").exists()


def test_help_and_inspect_need_no_torch(world):
    script = """
import sys
from typer.testing import CliRunner
from metadyn.cli import app
for arguments in (["--help"], ["fit", "--help"], ["inspect", sys.argv[1]]):
    assert CliRunner().invoke(app, arguments).exit_code == 0, arguments
heavy = {"torch"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run(
        [sys.executable, "-c", script, world.files[0]], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_without_typer_the_command_says_what_to_install():
    script = "import sys; sys.modules['typer'] = None; from metadyn.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "pip install 'ndx-metadyn[model]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_closed_gpu_is_a_device_error(run, world, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = run("score", world.model, world.files[0], "--device", "cuda")
    assert (result.exit_code, "DeviceError" in result.stderr) == (1, True)


def test_a_device_of_no_name_is_a_device_error(run, world):
    result = run("score", world.model, world.files[0], "--device", "gpu")
    assert (result.exit_code, "DeviceError" in result.stderr, "'gpu'" in result.stderr) == (
        1,
        True,
        True,
    )


def test_what_the_system_refuses_is_told_and_names_the_path(run, world, tmp_path):
    (tmp_path / "taken").write_bytes(b"")
    for arguments in (
        (
            "forecast",
            world.model,
            world.files[0],
            "--context",
            20,
            "-o",
            tmp_path / "taken" / "ahead.nc",
        ),
        ("align", world.model, world.files[2], "-o", tmp_path / "taken" / "model", "--steps", 0),
        (
            "simulate",
            "limit-cycle",
            "-o",
            tmp_path / "taken" / "sim",
            "--sessions",
            1,
            "--trials",
            2,
        ),
    ):
        result = run(*arguments)
        assert (result.exit_code, "taken" in result.stderr, "Traceback" in result.stderr) == (
            1,
            True,
            False,
        )


THREADS = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


@pytest.mark.parametrize(("cores", "threads"), [(1, "1"), (3, "1"), (4, "2"), (64, "2")])
def test_the_environment_of_threads_is_set_unless_it_was(cores, threads):
    """On a machine that says it has so many cores."""
    script = (
        f"import os; os.sched_getaffinity = lambda _: range({cores}); import metadyn.__main__; "
    )
    script += f"print(*(os.environ[name] for name in {THREADS}))"
    for given, expected in (
        ({}, (threads, "PASSIVE", "3000")),
        (dict.fromkeys(THREADS, "5"), ("5", "5", "5")),
    ):
        environment = {
            name: value for name, value in os.environ.items() if name not in THREADS
        } | given
        done = subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            env=environment,
            check=True,
        )
        assert tuple(done.stdout.split()) == expected


def test_importing_the_package_sets_no_environment_variable():
    script = "import os; before = dict(os.environ); import metadyn, metadyn.cli; "
    script += "metadyn.fit, metadyn.load_model; assert dict(os.environ) == before"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_deterministic_fits_on_two_threads_are_one_model_and_nothing_stays_switched_on(
    run, world, tmp_path, monkeypatch
):
    seen, step = [], capture.take_step

    def noted(*given):
        seen.append(torch.are_deterministic_algorithms_enabled())
        return step(*given)

    monkeypatch.setattr(capture, "take_step", noted)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    for name in ("one", "other"):
        assert (
            run(
                "fit", *world.files[:2], "-o", tmp_path / name, *TINY.split(), "--deterministic"
            ).exit_code
            == 0
        )
    torch.set_num_threads(before)
    one, other = (metadyn.load_model(tmp_path / name).file() for name in ("one", "other"))
    assert one.digest == other.digest
    assert seen == [True] * 10
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("name", list(Commands()))
def test_the_list_of_commands_says_what_each_commands_own_help_says(name):
    """What is read from the source, without an import, is what the imported function has."""
    assert unwrapped(docstring_of(name)) == make_command(name).help
