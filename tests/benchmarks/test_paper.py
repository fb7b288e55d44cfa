"""The paper's experiments: measures against plain loops, sets against the paper's grids, nothing
computed twice."""

import json

import numpy as np
import pytest
from scipy.stats import spearmanr

from benchmarks.paper import measures
from benchmarks.paper.cache import Cache
from benchmarks.paper.experiments import EXPERIMENTS
from benchmarks.paper.methods import SETTINGS, Bench, fitted, seen_through
from benchmarks.paper.sets import PLANS, draws, in_thirds, simulated
from benchmarks.paper.table import table
from metadyn.data.families import TIME_STEP, duffing_flow, hopf_flow, limit_cycle_flow

FLOWS = {"duffing": duffing_flow, "hopf": hopf_flow, "limit-cycle": limit_cycle_flow}


@pytest.fixture(scope="module")
def small():
    return simulated(PLANS["duffing-hopf"].small(), 1)


def test_k_step_r2_is_that_of_a_plain_loop():
    rng = np.random.default_rng(0)
    target, contexts = rng.normal(1, 1, (3, 40, 2)), (10, 20)
    paths = {context: rng.normal(1, 1, (3, 8, 2)) for context in contexts}
    found = measures.forecast_r2(target, paths, (2, 8))
    for k in (2, 8):
        at, cumulative = [], []
        for context in contexts:
            error, total = np.zeros(k), np.zeros(k)
            for trial in range(3):
                for unit in range(2):
                    mean = sum(target[trial, :, unit]) / 40
                    for step in range(k):
                        true = target[trial, context + step, unit]
                        error[step] += (true - paths[context][trial, step, unit]) ** 2
                        total[step] += (true - mean) ** 2
            at.append(1 - error[-1] / total[-1])
            cumulative.append(1 - error.sum() / total.sum())
        assert found[f"at_k{k}"] == pytest.approx(np.mean(at), abs=1e-12)
        assert found[f"k{k}"] == pytest.approx(np.mean(cumulative), abs=1e-12)


def test_r2_of_sessions_together_is_that_of_a_plain_loop_over_all_their_entries():
    rng = np.random.default_rng(0)
    sums, error, total = [], 0.0, 0.0
    for units, spread in ((2, 1.0), (3, 5.0)):
        target = rng.normal(1, spread, (3, 40, units))
        paths = {
            context: target[:, context : context + 8] + rng.normal(size=(3, 8, units))
            for context in (10, 20)
        }
        sums.append(measures.squares(target, paths, 4))
        for context, trial, unit in np.ndindex(2, 3, units):
            first = (10, 20)[context]
            for step in range(4):
                true = target[trial, first + step, unit]
                error += (true - paths[first][trial, step, unit]) ** 2
                total += (true - sum(target[trial, :, unit]) / 40) ** 2
    assert measures.pooled_r2(sums) == pytest.approx(1 - error / total, abs=1e-12)


def test_a_forecast_that_is_right_scores_1_and_the_trials_mean_scores_0():
    target = np.random.default_rng(0).normal(size=(3, 40, 2))
    right = {10: target[:, 10:20]}
    mean = {10: np.repeat(target.mean(1, keepdims=True), 10, 1)}
    assert set(measures.forecast_r2(target, right, (5, 10)).values()) == {1.0}
    assert all(abs(value) < 1e-12 for value in measures.forecast_r2(target, mean, (5, 10)).values())


def test_what_exploded_counts_as_minus_ten_and_what_did_not_as_it_is():
    assert [measures.bounded(r2) for r2 in (-1e9, -np.inf, np.nan, -9.0, 0.5)] == [
        -10,
        -10,
        -10,
        -9.0,
        0.5,
    ]


def test_the_best_e0_is_that_of_a_fine_search():
    rng = np.random.default_rng(3)
    for _ in range(5):
        embeddings, speed = rng.normal(size=9), rng.uniform(size=9)
        fine = [
            spearmanr(np.abs(embeddings - e0), speed).statistic for e0 in np.linspace(-6, 6, 2001)
        ]
        assert measures.spearman_from_e0(embeddings, speed) >= max(fine) - 1e-12
        assert measures.spearman_from_e0(embeddings, speed) <= 1


def test_speeds_told_by_the_distance_from_e0_are_found_where_plain_spearman_is_blind():
    speed = np.linspace(0.25, 5, 20)
    embeddings = 0.3 + speed * np.where(np.arange(20) % 2, 1, -1)
    assert measures.spearman_from_e0(embeddings, speed) == pytest.approx(1)
    assert measures.abs_spearman(embeddings, speed) < 0.5
    assert measures.spearman_from_e0(-(speed**3), speed) == pytest.approx(1)


def test_intervals_of_samples_of_the_truth_cover_what_they_say():
    rng = np.random.default_rng(0)
    found = measures.covered(rng.normal(size=(2000, 4000)), rng.normal(size=4000))
    for level, share in found.items():
        sd = 100 * np.sqrt(int(level) / 100 * (1 - int(level) / 100) / 4000)
        assert abs(share - int(level)) < 4 * sd + 0.5, (
            level
        )  # half a percent: the quantiles are of 2000 samples


def test_the_ceiling_is_an_euler_walk_of_the_true_flow_through_the_true_readout(small):
    for sample in (*small.training, *small.new):
        state, flow = sample.latents[:, 49], FLOWS[sample.truth.family]
        for step in range(5):
            state = state + TIME_STEP * flow(state, sample.truth.parameters)
            expected = np.einsum("nl,ul->nu", state, sample.truth.weight) + sample.truth.bias
            np.testing.assert_allclose(sample.ahead(50, 5)[:, step], expected, atol=1e-9)


def test_observations_are_the_true_means_with_noise_of_variance_a_hundredth(small):
    for sample in small.training:
        assert np.var(sample.test.counts - sample.means) == pytest.approx(0.01, rel=0.05)


def test_new_sessions_share_no_parameters_readout_or_key_with_training_sessions(small):
    for name in ("hopf", "duffing-hopf", "limit-cycles-20"):
        assert not set(PLANS[name].training) & set(PLANS[name].new), name
    every = [*small.training, *small.new]
    assert len({sample.key for sample in every}) == len(every)
    assert len({float(sample.truth.weight[0, 0]) for sample in every}) == len(every)


def test_the_grids_are_the_papers():
    hopf = [value for _, (value,) in PLANS["hopf"].training]
    assert len(hopf) == 21
    np.testing.assert_allclose(np.diff(hopf), 0.15)
    assert [len(PLANS[name]) for name in ("limit-cycles-2", "limit-cycles-20", "duffing-hopf")] == [
        2,
        20,
        31,
    ]
    for n in (2, 5, 10):
        assert set(PLANS[f"hopf-{n}"].training) < set(PLANS["hopf"].training)


def test_test_trials_are_none_of_those_given(small):
    for sample in (*small.training, *small.new):
        assert not set(sample.given.windows.start) & set(sample.test.windows.start)
        assert len(sample.latents) == sample.test.n_trials


def test_draws_are_disjoint():
    for n_shots in (1, 8, 16):
        chosen = np.concatenate(draws(64, n_shots, 4, seed=2))
        assert len(np.unique(chosen)) == len(chosen) == 4 * n_shots


def test_thirds_of_a_trial_hold_its_bins_at_its_times(small):
    counts = small.new[0].given.select([2, 5])
    thirds = in_thirds(counts)
    assert thirds.n_trials == 6
    for row in range(6):
        trial, first = row // 3, (row % 3) * 50
        np.testing.assert_array_equal(thirds.counts[row], counts.counts[trial, first : first + 50])
        assert thirds.windows.start[row] == pytest.approx(
            counts.windows.start[trial] + first * counts.bin_width
        )


def test_poisson_units_fire_as_many_spikes_a_bin_as_the_plan_says():
    plan = PLANS["poisson-8-0.1"]
    counts = np.concatenate(
        [sample.given.counts.reshape(-1) for sample in simulated(plan, 3).training]
    )
    assert counts.mean() == pytest.approx(0.1, rel=0.1)


def test_a_table_holds_means_over_sessions_and_draws_and_sem_over_seeds():
    def measurement(shift):
        sessions = {"a": {"k20": [0.1 + shift, 0.3 + shift]}, "b": {"k20": [0.5 + shift, -1e6]}}
        return {"low_rank": {"sessions": {"8": sessions}, "figures": {"abs_spearman": 0.9}}}

    found = table({1: measurement(0.0), 2: measurement(0.1)})["low_rank"]
    first, second = (0.1 + 0.3 + 0.5 - 10) / 4, (0.2 + 0.4 + 0.6 - 10) / 4
    assert found["k20"]["8"] == pytest.approx(
        [(first + second) / 2, abs(first - second) / 2], abs=1e-4
    )
    assert found["abs_spearman"] == [0.9, 0.0]
    assert table({1: measurement(0.0)})["low_rank"]["abs_spearman"] == [0.9, None]


def test_a_piece_is_computed_once_and_again_for_other_settings(tmp_path):
    cache, calls = Cache(tmp_path), []

    def compute():
        calls.append(1)
        return {"value": np.float64(1.5)}

    assert [cache.piece("a/b", {"steps": 1}, compute) for _ in range(2)] == [{"value": 1.5}] * 2
    cache.piece("a/b", {"steps": 2}, compute)
    assert len(calls) == 2
    cache.forget(("a",), models=False)
    cache.piece("a/b", {"steps": 1}, compute)
    assert len(calls) == 3


def test_each_set_has_settings_of_its_own():
    assert set(SETTINGS) == set(PLANS)


def test_a_second_pass_takes_models_and_measures_from_the_cache(tmp_path):
    bench = Bench(Cache(tmp_path), quick=True)
    first = EXPERIMENTS["motivating"].measure(bench, 1, "ceiling")
    trained = fitted(bench, "limit-cycles-2", "low_rank", 1)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert EXPERIMENTS["motivating"].measure(bench, 1, "ceiling") == json.loads(json.dumps(first))
    assert fitted(bench, "limit-cycles-2", "low_rank", 1).file().digest == trained.file().digest
    assert {
        path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()
    } == written


def test_latents_seen_through_a_readout_are_those_that_made_the_means(tmp_path, small):
    bench = Bench(Cache(tmp_path), quick=True)
    trained = fitted(bench, "limit-cycles-2", "low_rank", 1)
    counts = bench.simulated("limit-cycles-2", 1).training[1].given
    readout = trained.module.likelihood
    z = (
        np.random.default_rng(0)
        .normal(size=(counts.n_trials, 1, 2))
        .repeat(counts.counts.shape[1], 1)
    )  # smoothing keeps it
    weight, bias = (
        part[1, : counts.n_units].numpy(force=True) for part in (readout.weight, readout.bias)
    )
    made = type(counts)(**{**vars(counts), "counts": (z @ weight.T + bias).astype(np.float32)})
    np.testing.assert_allclose(seen_through(trained, 1, made, 3.0), z, atol=1e-4)
