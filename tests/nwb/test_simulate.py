"""Files of every simulated family: valid, with their truth in them, and read back as the session
that was simulated."""

import os
import subprocess
import sys

import numpy as np
import pynwb
import pytest
from nwbinspector import inspect_nwbfile

from metadyn.data.binning import bin_spikes
from metadyn.data.families import FAMILIES
from metadyn.data.synthetic import as_counts, simulate
from metadyn.errors import MetadynError
from metadyn.nwb.read import read_session
from metadyn.nwb.simulate import write_simulated


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A dandiset of two sessions a family: sessions and their paths."""
    folder = tmp_path_factory.mktemp("families")
    options = {"n_sessions": 2, "units": (4, 6), "n_trials": 5, "n_bins": 30}
    sessions = [session for family in FAMILIES for session in simulate(family, **options)]
    return [(session, write_simulated(session, folder)) for session in sessions]


def test_the_files_have_no_error_and_the_inspector_has_nothing_to_say(written):
    for _, path in written:
        assert pynwb.validate(path=str(path)) == []
        assert list(inspect_nwbfile(nwbfile_path=str(path))) == []


def test_dandi_has_nothing_to_say_of_their_folder(written):
    folder = written[0][1].parents[1]
    (folder / "dandiset.yaml").write_text("identifier: 'DANDI:000000'\nname: simulated\n")
    script = "import sys; from dandi.cli.command import main; main()"
    command = [sys.executable, "-c", script, "validate", str(folder)]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "DANDI_NO_ET": "1"}, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "NWBI." not in done.stdout
    assert "DANDI." not in done.stdout


def test_each_trial_has_family_and_parameters(written):
    for session, path in written:
        trials = read_session(path).intervals["trials"]
        assert set(trials["family"]) == {session.family}
        for name in FAMILIES[session.family].names:
            assert (trials[name] == session.parameters[name]).all()


def test_latents_and_rates_in_a_file_are_the_true_ones(written):
    for session, path in written:
        with pynwb.NWBHDF5IO(path, "r") as io:
            truth = io.read().processing["ecephys"]
            np.testing.assert_allclose(
                truth["SimulatedLatents"].data[:], session.latents.reshape(150, 2), rtol=1e-6
            )
            np.testing.assert_allclose(
                truth["SimulatedRates"].data[:], session.rates.reshape(150, -1), rtol=1e-6
            )


def test_a_file_read_and_binned_gives_the_counts_that_need_no_file(written):
    for session, path in written:
        binned, direct = (
            bin_spikes(read_session(path), bin_width=session.bin_width, min_rate=0),
            as_counts(session),
        )
        assert binned.counts.dtype == direct.counts.dtype
        for name in ("counts", "observed", "unit_rows"):
            np.testing.assert_array_equal(getattr(binned, name), getattr(direct, name))
        np.testing.assert_allclose(binned.windows.start, direct.windows.start)
        assert (binned.windows.n_bins.tolist(), binned.windows.table) == (
            direct.windows.n_bins.tolist(),
            direct.windows.table,
        )


def test_a_gaussian_session_has_no_file_and_leaves_none(tmp_path):
    (session,) = simulate("hopf", n_sessions=1, observations="gaussian", n_trials=2, n_bins=5)
    with pytest.raises(MetadynError, match=r"without spikes(?s:.*)hopf-00(?s:.*)as_counts"):
        write_simulated(session, tmp_path)
    assert list(tmp_path.iterdir()) == []
