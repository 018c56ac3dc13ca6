import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from scipy.stats import betabinom

from bandicoot_core.model.estimators import beta_by_likelihood, beta_by_moments, common_lift, laplace
from bandicoot_core.model.posterior import ChancePosterior

POOLED = {
    "laplace": laplace,
    "beta_moments": beta_by_moments,
    "beta_likelihood": beta_by_likelihood,
    "common_lift": lambda to_r, to_u: common_lift(to_r, to_u, np.full(np.shape(to_r), 0.3)),
}


def drawn(mean: float, weight: float, n_weeks: int, *, n_clusters: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Counts to R and U of clusters whose chances are Beta(weight mean, weight (1 - mean)), in both states."""
    random = np.random.default_rng(seed)
    chance = random.beta(weight * mean, weight * (1 - mean), (n_clusters, 2))
    to_r = random.binomial(n_weeks, chance)
    return to_r, n_weeks - to_r


def test_laplace_adds_one_success_and_one_failure() -> None:
    found = laplace([[3, 0]], [[1, 0]])
    assert found.mean.tolist() == [[4 / 6, 0.5]]
    assert found.n_effective.tolist() == [[6, 2]]


@pytest.mark.parametrize("name", ["beta_moments", "beta_likelihood"])
def test_a_fitted_prior_has_the_mean_and_weight_that_the_clusters_have(name: str) -> None:
    to_r, to_u = drawn(0.3, 12.0, 400, n_clusters=4000, seed=1)
    found = POOLED[name](to_r, to_u)
    weight = found.n_effective - 400
    assert weight == pytest.approx(np.full(weight.shape, 12.0), rel=0.1)
    prior_mean = (found.mean * found.n_effective - to_r) / weight
    assert prior_mean == pytest.approx(np.full(weight.shape, 0.3), abs=0.01)


def test_the_likelihood_prior_beats_its_neighbours_on_its_own_likelihood() -> None:
    to_r, to_u = drawn(0.6, 30.0, 25, n_clusters=300, seed=2)
    found = beta_by_likelihood(to_r, to_u)
    weight = (found.n_effective - 25)[0, 0]
    mean = ((found.mean * found.n_effective - to_r) / weight)[0, 0]

    def log_likelihood(m: float, w: float) -> float:
        return float(betabinom.logpmf(to_r[:, 0], 25, w * m, w * (1 - m)).sum())

    best = log_likelihood(mean, weight)
    for m, w in ((mean + 0.02, weight), (mean - 0.02, weight), (mean, 1.8 * weight), (mean, weight / 1.8)):
        assert log_likelihood(m, w) < best


def test_clusters_that_are_all_alike_are_pooled_and_different_ones_are_not() -> None:
    same = drawn(0.4, 1e6, 30, n_clusters=20, seed=3)
    apart = np.array([[1, 29], [29, 1]] * 10), np.array([[29, 1], [1, 29]] * 10)
    for estimator in (beta_by_moments, beta_by_likelihood):
        pooled = estimator(*same).mean
        assert np.ptp(pooled, axis=0).max() < 0.5 * np.ptp(same[0] / 30, axis=0).max()
        assert estimator(*apart).mean == pytest.approx(apart[0] / 30, abs=0.03)


def test_a_common_lift_is_found_and_moves_clusters_without_a_week_of_their_own() -> None:
    random = np.random.default_rng(4)
    p = random.uniform(0.05, 0.9, (40, 2))
    q = expit(logit(p) + np.array([1.2, -0.4]))
    n = np.full((40, 2), 200)
    n[0] = 0
    to_r = random.binomial(n, q)
    found = common_lift(to_r, n - to_r, p)
    assert found.mean == pytest.approx(q, abs=0.06)
    assert logit(found.mean[0]) - logit(p[0]) == pytest.approx([1.2, -0.4], abs=0.15)


def test_a_cluster_that_departs_from_the_common_lift_is_followed_as_its_weeks_grow() -> None:
    p = np.full((20, 2), 0.3)

    def departed(n_weeks: int) -> float:
        n = np.full((20, 2), 400)
        n[0] = n_weeks
        to_r = np.round(0.5 * n)
        to_r[0] = np.round(0.9 * n[0])
        return float(common_lift(to_r, n - to_r, p).mean[0, 0])

    assert 0.5 < departed(10) < departed(100) < departed(10_000)
    assert departed(10_000) == pytest.approx(0.9, abs=0.01)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    counts=st.lists(st.tuples(*[st.integers(0, 2000)] * 4), min_size=1, max_size=6),
    name=st.sampled_from(sorted(POOLED)),
)
def test_whatever_the_counts_the_posterior_is_one_and_lies_between_counts_and_prior(
    counts: list[tuple[int, ...]], name: str
) -> None:
    array = np.array(counts)
    to_r, to_u = array[:, :2], array[:, 2:]
    found: ChancePosterior = POOLED[name](to_r, to_u)
    assert found.mean.shape == found.n_effective.shape == to_r.shape
    assert ((found.mean > 0) & (found.mean < 1)).all()
    assert (found.n_effective >= to_r + to_u).all()


@pytest.mark.parametrize(
    ("to_r", "to_u", "message"),
    [([[1, 2]], [[1]], r"\(1, 2\) and \(1, 1\)"), ([[1, 2]], [[-1, 0]], "down to -1")],
)
def test_counts_that_cannot_be_are_refused(to_r: list[list[int]], to_u: list[list[int]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        laplace(to_r, to_u)


def test_draws_have_the_mean_and_spread_of_their_posterior_and_never_reach_the_ends() -> None:
    posterior = ChancePosterior(np.array([[0.2, 0.001]]), np.array([[30.0, 0.5]]))
    draws = posterior.draws(20_000, np.random.default_rng(1))
    assert draws.shape == (20_000, 1, 2)
    assert draws[:, 0, 0].mean() == pytest.approx(0.2, abs=0.003)
    assert draws[:, 0, 0].var() == pytest.approx(0.2 * 0.8 / 31, rel=0.05)
    assert ((draws > 0) & (draws < 1)).all()
