"""Which windows a verdict rests on, and when embeddings of sessions are alike."""

from dataclasses import replace

import numpy as np

import metadyn
from metadyn.inference.encoding import trial_embeddings
from metadyn.pipeline import verdict
from metadyn.records import SessionEntry


def test_an_embedding_has_collapsed_when_sessions_differ_no_more_than_trials_of_one(world):
    """SD between sessions of what is stored, and root of the mean variance over trials, by a
    loop."""
    trained = metadyn.load_model(world.model)
    counts = [metadyn.bin_spikes(metadyn.read_session(path)) for path in world.files[:2]]
    variance = [trial_embeddings(trained, each).mean[0].numpy().var(0) for each in counts]
    within = np.sqrt(sum(variance) / 2)
    for factor, expected in ((0.9, True), (1.1, False)):
        apart = tuple(
            (factor * np.sqrt(2) * within).tolist()
        )  # two values so far apart have an SD of factor · within
        entries = (replace(trained.sessions[0], embedding_mean=(0.0,) * len(apart)),)
        entries += (replace(trained.sessions[1], embedding_mean=apart),)
        assert verdict.collapsed(replace(trained, sessions=entries), counts) is expected
    alone = replace(trained, sessions=trained.sessions[:1])
    assert not verdict.collapsed(alone, counts[:1])


def test_a_verdict_on_validation_windows_meets_none_that_is_kept_for_tests(world):
    trained = metadyn.load_model(world.model)
    counts = metadyn.bin_spikes(metadyn.read_session(world.files[0]))
    entry = SessionEntry.of(counts.select(slice(4)), counts.select(slice(4, 6)))
    assert counts.n_trials > 6
    few = verdict.few_windows(
        replace(trained, sessions=(entry, *trained.sessions[1:])), counts, "validation"
    )
    np.testing.assert_array_equal(few.windows.start, counts.windows.start[4:6])
