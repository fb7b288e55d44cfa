"""What tells the data of one run from another's, for counts that no file and no spike times came
with."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from metadyn.errors import DataError, TrainingError
from metadyn.inference.infer import infer
from metadyn.old_words import as_in_format_1
from metadyn.training.fit import fit


@pytest.fixture(scope="module")
def begun(tmp_path_factory, simulated, small, short):
    """Labelled sessions and the folder of a run of them."""
    labels = np.array(["left", "right"] * 4)
    sessions = [replace(counts, condition=labels) for counts in simulated(n_sessions=2)]
    folder = tmp_path_factory.mktemp("begun")
    fit(sessions, small(), short(), folder=folder)
    return sessions, folder


def one_count_more(counts):
    values = counts.counts.copy()
    values[-1, 0, 0] += 1
    return replace(counts, counts=values)


def two_counts_exchanged(counts):
    values = counts.counts.copy()
    first, second = np.argwhere(values != values[0, 0, 0])[0], (0, 0, 0)
    values[tuple(first)], values[second] = values[second], values[tuple(first)]
    return replace(counts, counts=values)


def one_label_less(counts):
    return replace(counts, condition=np.array(["", "right", *counts.condition[2:]]))


def one_label_for_all(counts):
    return replace(counts, condition=np.full(8, "left"))


def one_bin_unobserved(counts):
    observed = counts.observed.copy()
    observed[2, 5] = False
    return replace(counts, observed=observed)


def windows_later(counts):
    return replace(counts, windows=replace(counts.windows, start=counts.windows.start + 0.02))


def other_rows(counts):
    return replace(counts, unit_rows=counts.unit_rows + 1)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (one_count_more, r"spikes in the run, \d+ now"),
        (two_counts_exchanged, "other spikes"),
        (one_label_less, "other condition labels"),
        (one_label_for_all, "2 condition labels in the run, 1 now"),
        (one_bin_unobserved, "192 observed bins in the run, 191 now"),
        (windows_later, "other windows"),
        (other_rows, r"rows 1, 2, 3, 4, 5(, …)? of the Units table, not 0, 1, 2, 3, 4"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_run_does_not_go_on_with_other_trials(begun, small, short, change, told):
    sessions, folder = begun
    with pytest.raises(
        TrainingError, match=f"(?s)session limit-cycle-01: {told}|session limit-cycle-01: .* {told}"
    ) as error:
        fit([sessions[0], change(sessions[1])], small(), short(), folder=folder, resume=True)
    assert "limit-cycle-00" not in error.value.found


def test_a_run_that_was_recorded_in_the_words_of_0_1_0_goes_on(begun, small, short, tmp_path):
    sessions, folder = begun
    again = shutil.copytree(folder, tmp_path / "old")
    metrics = again / (again / "latest").read_text() / "metrics.json"
    recorded = json.loads(metrics.read_text())
    recorded["settings"]["training"] = as_in_format_1("training", recorded["settings"]["training"])
    assert "distil_steps" in recorded["settings"]["training"]
    metrics.write_text(json.dumps(recorded))
    same = fit(sessions, small(), short(), folder=again, resume=True)
    assert same.training == short()


def test_sessions_in_another_order_or_number_are_told(begun, small, short):
    sessions, folder = begun
    for given in (sessions[::-1], sessions[:1]):
        names = ", ".join(counts.session for counts in given)
        with pytest.raises(
            TrainingError, match=f"limit-cycle-00, limit-cycle-01 in the run, {names} now"
        ):
            fit(given, small(), short(), folder=folder, resume=True)


def test_a_model_is_not_asked_of_as_many_other_units(begun, small, short):
    sessions, _ = begun
    trained = fit(sessions, small(), short(pretrain_steps=1, steps=1))
    with pytest.raises(DataError, match=r"(?s)other units or spikes.*rows 1, 2, 3, 4, 5"):
        infer(trained, other_rows(sessions[0]))
