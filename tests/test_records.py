"""Entries of sessions: every field goes to JSON and back by its own name, and those of earlier
versions are read on."""

import json
from dataclasses import asdict

import pytest

from metadyn.records import SessionEntry, Source

ENTRY = SessionEntry(
    key="one",
    n_units=2,
    unit_rows=(4, 7),
    source=Source(uri="one.nwb", identifier="id", object_id="o", units_object_id="u", digest="d"),
    trained_starts=(1.0, 2.0),
    trained_stops=(1.5, 2.5),
    embedding_mean=(0.1, 0.2),
    embedding_sd=(0.3, 0.4),
    noise_scale=1.25,
    unit_digests=("aa", "bb"),
    validated_starts=(3.0,),
    validated_stops=(3.5,),
    gap=0.75,
)


def test_an_entry_comes_back_from_json_whatever_the_order_of_its_keys():
    values = json.loads(json.dumps(asdict(ENTRY)))
    assert SessionEntry.from_json(values) == ENTRY
    assert SessionEntry.from_json(dict(reversed(values.items()))) == ENTRY


def test_an_entry_of_the_first_version_has_the_defaults_of_all_later_fields():
    first = ("key", "n_units", "unit_rows", "source", "trained_starts")
    read = SessionEntry.from_json({name: asdict(ENTRY)[name] for name in first})
    assert read == SessionEntry("one", 2, (4, 7), ENTRY.source, (1.0, 2.0))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"trained_stops": [1.5]}, "2 trained_starts, 1 trained_stops"),
        ({"embedding_sd": []}, "2 values in embedding_mean, 0 in embedding_sd"),
        ({"unit_digests": ["aa"]}, "unit_digests"),
        ({"validated_stops": []}, "1 validated_starts, 0 validated_stops"),
        ({"noise_scale": 0.0}, "noise_scale 0.0"),
        ({"noise_scale": float("nan")}, "noise_scale nan"),
    ],
)
def test_values_that_do_not_belong_together_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        SessionEntry.from_json({**asdict(ENTRY), **wrong})


@pytest.mark.parametrize("name", ["key", "n_units", "unit_rows", "source", "trained_starts"])
def test_an_entry_without_a_field_that_every_version_wrote_is_refused(name):
    values = asdict(ENTRY)
    del values[name]
    with pytest.raises(KeyError, match=name):
        SessionEntry.from_json(values)
