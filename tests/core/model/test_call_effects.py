"""The joint model against brute force on a small scale, and against the truth on simulated programmes."""

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from scipy.special import expit, logit

from bandicoot_core.contracts import ACTIVE_TUPLE, BY_FEATURES, BY_HISTORY, PASSIVE_TUPLE
from bandicoot_core.evaluation.simulated_programmes import SimulatedProgramme, simulate_programme
from bandicoot_core.model.behavioural_types import (
    BehaviouralTypes,
    Evidence,
    means_under_posteriors,
    own_index_table,
    posteriors,
)
from bandicoot_core.model.call_effects import CallEffects, fit_call_effects
from bandicoot_core.model.chances import fit_chances, pooled_counts
from bandicoot_core.model.cluster_chances import cluster_chances, types_of
from bandicoot_core.model.empirical_bayes import passive_likelihood, share_started_in_r, type_grid
from bandicoot_core.model.transitions import cell_arrays, transition_arrays
from bandicoot_core.model.whittle import two_state_indices

TYPES = np.array([[[0.10, 0.40], [0.60, 0.80]], [[0.40, 0.50], [0.85, 0.90]], [[0.03, 0.10], [0.30, 0.35]]])
"""By type, state [U, R] and action [passive, active]."""
SHARES = np.array([0.4, 0.3, 0.3])


def tuples_of(*rows: tuple[int, ...], **columns: list[object]) -> pa.Table:
    """Rows of n_rr, n_ru, n_ur, n_uu, the same active, and n_caregivers."""
    names = (*PASSIVE_TUPLE, *ACTIVE_TUPLE, "n_caregivers")
    return pa.table({name: [row[i] for row in rows] for i, name in enumerate(names)} | columns)


def programme(*, n_active: float, seed: int, has_effect: bool = True, n_caregivers: int = 8000) -> SimulatedProgramme:
    types = TYPES if has_effect else np.repeat(TYPES[..., :1], 2, axis=2)
    random = np.random.default_rng(seed)
    return simulate_programme(
        types, SHARES, random, n_caregivers=n_caregivers, n_active=n_active, n_clusters=10, spread=0.2
    )


@pytest.fixture(scope="module")
def small_types() -> BehaviouralTypes:
    """Four types in two clusters."""
    return BehaviouralTypes(
        share=np.array([0.4, 0.3, 0.2, 0.1]),
        p_passive=np.array([[0.1, 0.1, 0.5, 0.5], [0.5, 0.9, 0.5, 0.9]]),
        p_active=np.array([[0.5, 0.2, 0.6, 0.5], [0.6, 0.95, 0.6, 0.9]]),
        cluster_id=np.array([0, 0, 1, 1]),
        mix=np.array([[0.6, 0.4, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5]]),
    )


def test_the_likelihood_of_counts_is_that_of_every_sequence_with_these_counts() -> None:
    p_u, p_r = 0.3, 0.8
    stationary = p_u / (p_u + 1 - p_r)
    n_steps = 6
    found: dict[tuple[int, ...], float] = {}
    for number in range(2 ** (n_steps + 1)):
        states = [number >> k & 1 for k in range(n_steps + 1)]
        chance = stationary if states[0] else 1 - stationary
        counts = [0, 0, 0, 0]
        for before, after in pairwise(states):
            to_r = p_r if before else p_u
            chance *= to_r if after else 1 - to_r
            counts[2 * (1 - before) + (1 - after)] += 1
        found[tuple(counts)] = found.get(tuple(counts), 0.0) + chance
    # Equal up to a factor that does not depend on the chances: compare two points of the grid.
    other_u, other_r = 0.45, 0.55
    counts = np.array(list(found))
    table = pa.table(dict(zip(PASSIVE_TUPLE, counts.T, strict=True)))
    z = share_started_in_r(counts[:, [2, 0]].astype(float), counts[:, [3, 1]].astype(float))
    both = passive_likelihood(table, np.array([[p_u, other_u], [p_r, other_r]]), z)
    start = other_u / (other_u + 1 - other_r)
    rr, ru, ur, uu = counts.T
    path = np.array([p_u, 1 - p_u, p_r, 1 - p_r]), np.array([other_u, 1 - other_u, other_r, 1 - other_r])
    of_path = [np.prod(np.array(c) ** np.stack([ur, uu, rr, ru], axis=-1), axis=1) for c in path]
    n_sequences = np.array(list(found.values())) / (of_path[0] * (z * stationary + (1 - z) * (1 - stationary)))
    assert n_sequences == pytest.approx(np.round(n_sequences))
    expected = of_path[0] * (z * stationary + (1 - z) * (1 - stationary))
    expected_other = of_path[1] * (z * start + (1 - z) * (1 - start))
    assert both[:, 0] / both[:, 1] == pytest.approx(expected / expected_other)


def test_a_posterior_over_types_is_bayes_theorem(small_types: BehaviouralTypes) -> None:
    rows = tuples_of((3, 1, 0, 0, 0, 0, 1, 0, 1), (0, 0, 1, 4, 0, 0, 0, 2, 1), (0, 0, 0, 0, 0, 0, 0, 0, 1))
    found = np.empty((3, 4))
    for which, weight in posteriors(small_types, rows):
        found[which] = weight
    (u, r), (q_u, _) = small_types.p_passive, small_types.p_active
    in_r = u / (u + 1 - r)
    # The first went once from R to U and once, called, from U to R: as often; 4 of her 5 weeks started in R.
    first = r**3 * (1 - r) * q_u * (0.8 * in_r + 0.2 * (1 - in_r))
    second = u * (1 - u) ** 4 * (1 - q_u) ** 2 * (1 - in_r)
    for row, likelihood in zip(found, (first, second, np.ones(4)), strict=True):
        weight = small_types.share * likelihood
        assert row == pytest.approx(weight / weight.sum())


def test_by_features_the_types_of_her_cluster_are_the_prior(small_types: BehaviouralTypes) -> None:
    rows = tuples_of(
        *[(0, 0, 0, 0, 0, 0, 0, 0, 1)] * 3,
        cluster_id=[0, 1, 1],
        assigned_by=[BY_FEATURES, BY_FEATURES, BY_HISTORY],
    )
    found = means_under_posteriors(small_types, rows, np.eye(4))
    expected = [[0.6, 0.4, 0, 0], [0, 0, 0.5, 0.5], [0.4, 0.3, 0.2, 0.1]]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_the_own_index_is_the_mean_of_the_types_indices(small_types: BehaviouralTypes) -> None:
    rows = tuples_of((3, 1, 0, 0, 0, 0, 1, 0, 1), cluster_id=[1], assigned_by=[BY_HISTORY])
    own = own_index_table(rows, small_types, discount=0.95)
    weight = next(posteriors(small_types, rows))[1][0]
    index = two_state_indices(small_types.p_passive.T, small_types.p_active.T, discount=0.95)
    assert own["state"].to_pylist() == ["R", "U"]
    assert own["own_index"].to_pylist() == pytest.approx([weight @ index[:, 1], weight @ index[:, 0]])
    assert (own["n_active_ur"][0].as_py(), own["cluster_id"][0].as_py()) == (1, 1)


def test_types_survive_their_tables(small_types: BehaviouralTypes) -> None:
    again = BehaviouralTypes.from_tables(*small_types.tables())
    for name in ("share", "p_passive", "p_active", "cluster_id", "mix"):
        assert np.array_equal(getattr(again, name), getattr(small_types, name))
    types, mix = small_types.tables()
    with pytest.raises(ValueError, match="same training run"):
        BehaviouralTypes.from_tables(types, mix.slice(1))


def test_weighted_active_weeks_stand_beside_those_that_tell_the_type(small_types: BehaviouralTypes) -> None:
    rows = tuples_of((3, 1, 0, 0, 0, 0, 1, 1, 2))
    recent = {
        f"recent_active_{name}": [value] for name, value in zip(("rr", "ru", "ur", "uu"), (0, 0, 1.0, 0.5), strict=True)
    }
    evidence = Evidence(pa.table({**{c: rows[c] for c in rows.column_names}, **recent}), small_types.p_passive)
    assert (evidence.to_r.tolist(), evidence.to_u.tolist()) == ([[1, 0]], [[1, 0]])
    assert (evidence.weighted_to_r.tolist(), evidence.weighted_weeks.tolist()) == ([[0.5, 0]], [[0.75, 0]])


def test_lifts_are_found_where_calls_do_something_and_none_where_they_do_nothing() -> None:
    def effects(has_effect: bool) -> CallEffects:
        drawn = programme(n_active=300, seed=1, has_effect=has_effect)
        return fit_call_effects(drawn.tuples, _centroids(drawn))

    # The types' lifts in U: 1.8, 0.4 and 1.3 in log-odds.
    assert effects(True).lift[0].mean() > 0.6
    assert effects(False).lift.mean(axis=1) == pytest.approx([0, 0], abs=0.15)


def test_the_estimates_are_the_truth_of_the_clusters_with_and_without_an_effect() -> None:
    for has_effect in (True, False):
        drawn = programme(n_active=150, seed=2, has_effect=has_effect)
        fitted = fit_chances(drawn.tuples, drawn.clusters, estimator="joint", interval=0.9)
        error = np.abs(cell_arrays(fitted.transitions, "p_next_r") - drawn.cluster_truth())
        weight = np.stack([np.bincount(drawn.cluster_id, drawn.weeks[:, s]) for s in range(2)], axis=-1)
        assert np.average(error[..., 0], weights=weight) < 0.008
        assert np.average(error[..., 1], weights=weight) < 0.02


def test_pooled_active_weeks_are_selected_by_their_outcome_and_the_joint_model_is_not_misled() -> None:
    drawn = programme(n_active=300, seed=3, has_effect=False)
    worst = {}
    for estimator in ("laplace", "joint"):
        fitted = fit_chances(drawn.tuples, drawn.clusters, estimator=estimator, interval=0.9)
        p, q = transition_arrays(fitted.transitions)
        worst[estimator] = np.abs(q - p).max()
    assert worst["laplace"] > 0.1
    assert worst["joint"] < 0.5 * worst["laplace"]


def test_the_lifts_maximize_the_penalized_likelihood() -> None:
    drawn = programme(n_active=60, seed=4, n_caregivers=3000)
    effects = fit_call_effects(drawn.tuples, _centroids(drawn))
    evidence = Evidence(drawn.tuples, type_grid())

    def log_posterior(lift: np.ndarray) -> float:
        q = expit(logit(type_grid()) + lift[:, effects.region])
        likelihood = sum(
            evidence.n_caregivers[rows] @ np.log(weight @ effects.share) for rows, weight in evidence.chunks(q)
        )
        x = np.concatenate([np.ones((10, 1)), _positions(drawn)], axis=1)
        penalty = 0.0
        for s in range(2):
            tau = effects.spread[s]
            precision = x.T @ x / tau**2 + np.diag([0.25, 4, 4])
            beta = np.linalg.solve(precision, x.T @ lift[s] / tau**2)
            penalty += ((lift[s] - x @ beta) ** 2).sum() / tau**2 / 2 + beta @ np.diag([0.25, 4, 4]) @ beta / 2
        return float(likelihood - penalty)

    best = log_posterior(effects.lift)
    for state in ([[0.1], [0.0]], [[0.0], [0.1]]):
        assert log_posterior(effects.lift + np.array(state)) < best
        assert log_posterior(effects.lift - np.array(state)) < best
    random = np.random.default_rng(1)
    for _ in range(20):
        assert log_posterior(effects.lift + random.normal(0, 0.25, effects.lift.shape)) < best


def test_a_cluster_without_members_is_the_population_and_knows_little() -> None:
    drawn = programme(n_active=40, seed=5, n_caregivers=2000)
    effects = fit_call_effects(drawn.tuples, _centroids(drawn))
    labels = drawn.tuples["cluster_id"].to_numpy().astype(np.int64)
    found = cluster_chances(effects, drawn.tuples, labels, 12)
    assert found.mix[11] == pytest.approx(effects.share)
    population = type_grid() @ effects.share
    assert found.posterior.mean[11, :, 0] == pytest.approx(population)
    assert (found.posterior.n_effective[11] < 20).all()
    assert (found.posterior.n_effective[:10, :, 0] > 20).all()
    assert types_of(effects, found.mix).mix.sum(axis=1) == pytest.approx(np.ones(12))


def test_more_active_weeks_make_the_active_chances_surer_and_leave_the_passive_ones() -> None:
    weights = []
    for n_active in (5, 300):
        drawn = programme(n_active=n_active, seed=6)
        fitted = fit_chances(drawn.tuples, drawn.clusters, estimator="joint", interval=0.9)
        weights.append(np.median(cell_arrays(fitted.transitions, "n_effective"), axis=(0, 1)))
    assert weights[1][1] > 4 * weights[0][1]
    assert weights[1][0] == pytest.approx(weights[0][0], rel=0.3)


def test_the_order_of_the_rows_changes_no_byte() -> None:
    drawn = programme(n_active=40, seed=7, n_caregivers=2000)
    shuffled = drawn.tuples.take(np.random.default_rng(1).permutation(drawn.tuples.num_rows))
    for estimator in ("joint", "common_lift"):
        first, other = (
            fit_chances(tuples, drawn.clusters, estimator=estimator, interval=0.9)
            for tuples in (drawn.tuples, shuffled)
        )
        assert first.transitions == other.transitions
        assert first.types.tables() == other.types.tables()


def test_every_estimator_gives_every_cluster_its_chances_and_every_type_an_effect() -> None:
    drawn = programme(n_active=10, seed=8, n_caregivers=2000)
    counts = pooled_counts(drawn.tuples, 10)
    for estimator in ("joint", "common_lift", "beta_likelihood", "beta_moments", "laplace"):
        fitted = fit_chances(drawn.tuples, drawn.clusters, estimator=estimator, interval=0.9)
        assert cell_arrays(fitted.transitions, "n_to_r").tolist() == counts[..., 0].tolist()
        assert cell_arrays(fitted.transitions, "n_to_u").tolist() == counts[..., 1].tolist()
        low, p, high = (cell_arrays(fitted.transitions, name) for name in ("p_low", "p_next_r", "p_high"))
        assert ((low > 0) & (low <= p) & (p <= high) & (high < 1)).all()
        assert np.isfinite(fitted.types.indices(discount=0.99)).all()
    with pytest.raises(ValueError, match="estimator is 'best'; expected one of joint"):
        fit_chances(drawn.tuples, drawn.clusters, estimator="best", interval=0.9)
    with pytest.raises(ValueError, match="expected 0 to 8"):
        fit_chances(drawn.tuples, drawn.clusters.slice(0, 9), estimator="joint", interval=0.9)


def test_nothing_to_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="tuples has 0 rows and centroids 1"):
        fit_call_effects(tuples_of(), np.array([[0.5, 0.5]]))


def _centroids(drawn: SimulatedProgramme) -> np.ndarray:
    return np.stack([drawn.clusters["p_passive_u"].to_numpy(), drawn.clusters["p_passive_r"].to_numpy()], axis=-1)


def _positions(drawn: SimulatedProgramme) -> np.ndarray:
    position = logit(_centroids(drawn))
    return (position - position.mean(axis=0)) / 2
