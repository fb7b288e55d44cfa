"""The page of numbers says what the results say."""

import json

import numpy as np

from benchmarks.paper.parity import PAGE, numbers, page, shown
from benchmarks.record import RESULTS


def test_the_page_is_what_the_results_make_it():
    assert page(PAGE.read_text()) == PAGE.read_text()


def test_standard_errors_and_means_follow_from_the_sessions():
    """Of hopf: the row of the page from the values of every session, by a plain loop."""
    record = json.loads((RESULTS / "paper-hopf.json").read_text())
    means = []
    for seed in record["seeds"]:
        sessions = record["per_session"][str(seed)]["low_rank"]["sessions"]["8"]
        means.append(np.mean([np.mean(each["k20"]) for each in sessions.values()]))
    pair = [
        round(float(np.mean(means)), 4),
        round(float(np.std(means, ddof=1) / len(means) ** 0.5), 4),
    ]
    assert f"| {shown(pair)} (0.69) |" in numbers()
