"""Sessions that share conditions, or do not: what is said, and that the remedy works."""

from dataclasses import replace

import numpy as np
import pytest

from metadyn.errors import DataError
from metadyn.records import Source
from metadyn.training.fit import fit
from metadyn.training.initial.labels import labels_of, listed, shared_labels


@pytest.fixture(scope="module")
def sessions(simulated):
    return simulated(n_sessions=2)


def labelled(counts, labels, uri=None):
    """The session with these labels, one after the other."""
    condition = np.resize(np.array(labels), counts.n_trials)
    source = replace(counts.source, uri=uri) if uri else Source(identifier=counts.session)
    return replace(counts, condition=condition, condition_name="target", source=source)


def test_sessions_that_share_no_label_end_in_an_error_that_lists_each_files_labels(
    sessions, small, short
):
    strangers = [
        labelled(sessions[0], ["left", "right"], "a.nwb"),
        labelled(sessions[1], ["1", "2", "3"]),
    ]
    with pytest.raises(
        DataError,
        match=r"(?s)share no condition label.*target.*a\.nwb: 'left', 'right'; limit-cycle-01: "
        r"'1', '2', '3'",
    ):
        fit(strangers, small(), short())
    without = [replace(counts, condition=None) for counts in strangers]  # the remedy
    assert len(fit(without, small(), short(pretrain_steps=1, steps=1)).sessions) == 2


def test_a_session_none_of_whose_windows_has_a_condition_is_named(sessions, small, short):
    with pytest.raises(DataError, match=r"limit-cycle-00: none; limit-cycle-01: 'a'"):
        fit([labelled(sessions[0], [""]), labelled(sessions[1], ["a", ""])], small(), short())


def test_of_many_labels_some_are_listed_with_their_number():
    assert listed(map(str, range(10, 40)), most=2) == "'10', '11', … (30)"


def test_a_number_that_is_text_in_one_session_is_told(sessions, small, short):
    with pytest.raises(
        DataError, match=r"'1' and '1\.0' are one number, but at least one is stored as text"
    ):
        fit(
            [labelled(sessions[0], ["1", "2"]), labelled(sessions[1], ["1.0", "2.0"])],
            small(),
            short(),
        )


def test_one_shared_label_is_enough_where_its_windows_have_more_bins_than_the_model_has_latents(
    sessions, small, short
):
    with pytest.warns(
        UserWarning, match="labels that all sessions have: 'left'; left out: 'down', 'right'"
    ):
        trained = fit(
            [labelled(sessions[0], ["left", "right"]), labelled(sessions[1], ["left", "down"])],
            small(),
            short(pretrain_steps=1, steps=1),
        )
    assert trained.shared_latents.labels == ("left",)


def test_fewer_averages_than_tell_the_latents_are_an_error_whose_remedy_works(
    sessions, small, short
):
    """Windows of three bins, one label: of three averages two differ from the others' mean."""
    few = [labelled(counts, ["left"]) for counts in sessions]
    few = [
        replace(
            c,
            counts=c.counts[:, :3],
            observed=c.observed[:, :3],
            windows=replace(c.windows, n_bins=np.full(8, 3)),
        )
        for c in few
    ]
    with pytest.raises(
        DataError,
        match=r"(?s)1 shared labels \('left'\), windows of 3 bins: 3 averages, 3 "
        r"latents.*latent_dim=2",
    ) as told:
        fit(few, small(latent_dim=3), short())
    assert "no `condition`" in told.value.remedy
    assert len(fit(few, small(latent_dim=2), short(pretrain_steps=1, steps=1)).sessions) == 2


def test_where_only_some_sessions_have_labels_that_is_said(sessions, small, short):
    with pytest.warns(
        UserWarning, match=r"1 of 2 sessions have no condition labels \(limit-cycle-01\)"
    ):
        fit(
            [labelled(sessions[0], ["left", "right"]), sessions[1]],
            small(),
            short(pretrain_steps=1, steps=1),
        )


def test_labels_given_as_numbers_are_those_of_a_file(sessions):
    """NaN is no condition; integers and floats of one value are one label."""
    one, other = labelled(sessions[0], [1, 2, 3, 4]), labelled(sessions[1], [1.0, 2.0, np.nan])
    assert labels_of(other) == {"1", "2"}
    assert shared_labels([one, other]) == ["1", "2"]
