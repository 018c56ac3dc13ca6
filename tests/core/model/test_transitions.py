import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandicoot_core.contracts import TRANSITION_MODELS
from bandicoot_core.model.posterior import ChancePosterior
from bandicoot_core.model.transitions import cell_arrays, chance_posterior, transition_arrays, transition_table
from tests.core.model.transition_rows import transitions_of

# One cluster: state [U, R], action [passive, active], to [R, U].
COUNTS = np.array([[[[2, 6], [4, 2]], [[7, 1], [3, 0]]]], dtype=np.float64)
MEAN = np.array([[[3 / 10, 5 / 8], [8 / 10, 4 / 5]]])
N_EFFECTIVE = np.array([[[10.0, 8.0], [20.0, 5.0]]])

SEEN, UNSEEN = (7, 1, 2, 6, 3, 0, 4, 2), (0,) * 8


def test_each_cell_has_its_own_counts_and_posterior() -> None:
    result = transition_table(COUNTS, ChancePosterior(MEAN, N_EFFECTIVE), interval=0.9)
    names = ("n_to_r", "n_to_u", "p_next_r", "n_effective", "correlation")
    cells = {(row["state"], row["action"]): row for row in result.to_pylist()}
    assert {cell: tuple(row[name] for name in names) for cell, row in cells.items()} == {
        ("R", "passive"): (7, 1, 8 / 10, 20, 0),
        ("U", "passive"): (2, 6, 3 / 10, 10, 0),
        ("R", "active"): (3, 0, 4 / 5, 5, 0),
        ("U", "active"): (4, 2, 5 / 8, 8, 0),
    }
    # Beta(4, 1) has the distribution function x**4.
    assert cells["R", "active"]["p_low"] == pytest.approx(0.05**0.25)
    assert cells["R", "active"]["p_high"] == pytest.approx(0.95**0.25)


def test_a_cluster_without_counts_has_the_prior_and_says_so_by_its_counts() -> None:
    result = transitions_of(UNSEEN, SEEN, UNSEEN)
    assert result["cluster_id"].to_pylist() == [0] * 4 + [1] * 4 + [2] * 4
    unseen = result.slice(8)
    assert unseen["p_next_r"].to_pylist() == [0.5] * 4
    assert unseen["n_to_r"].to_pylist() == unseen["n_to_u"].to_pylist() == [0] * 4
    np.testing.assert_allclose(unseen["p_low"].to_numpy(), 0.05, rtol=1e-12)
    np.testing.assert_allclose(unseen["p_high"].to_numpy(), 0.95, rtol=1e-12)


def test_arrays_are_laid_out_unresponsive_first() -> None:
    transitions = transitions_of(SEEN, UNSEEN)
    p_passive, p_active = transition_arrays(transitions.take([5, 0, 3, 1, 2, 7, 6, 4]))
    assert p_passive.tolist() == [[0.3, 0.8], [0.5, 0.5]]
    assert p_active.tolist() == [[5 / 8, 4 / 5], [0.5, 0.5]]
    assert cell_arrays(transitions, "n_to_r")[0].tolist() == [[2, 4], [7, 3]]


@pytest.mark.parametrize("rows", [[0, 1, 2], [0, 1, 2, 2, 3], [4, 5, 6, 7]])
def test_incomplete_repeated_or_gappy_transitions_have_no_arrays(rows: list[int]) -> None:
    transitions = transitions_of(SEEN, UNSEEN)
    with pytest.raises(ValueError, match=r"expected clusters 0 to 0, each with both states and both actions once"):
        transition_arrays(transitions.take(rows))


def test_no_transitions_have_empty_arrays() -> None:
    p_passive, p_active = transition_arrays(TRANSITION_MODELS.empty())
    assert p_passive.shape == p_active.shape == (0, 2)


@pytest.mark.parametrize("correlation", [None, np.array([[0.25, -0.5], [0.0, 0.75]])])
def test_the_posterior_comes_back_from_its_table(correlation: np.ndarray | None) -> None:
    posterior = ChancePosterior(
        np.concatenate([MEAN, 1 - MEAN]), np.concatenate([N_EFFECTIVE, 3 * N_EFFECTIVE]), correlation
    )
    found = chance_posterior(transition_table(np.concatenate([COUNTS, COUNTS]), posterior, interval=0.9))
    assert found.mean.tolist() == posterior.mean.tolist()
    assert found.n_effective.tolist() == posterior.n_effective.tolist()
    if correlation is None:
        assert found.correlation is None
    else:
        assert found.correlation is not None
        assert found.correlation.tolist() == correlation.tolist()


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 100_000), min_size=8, max_size=8), st.floats(0.1, 0.99))
def test_every_estimate_lies_inside_its_interval_and_between_0_and_1(counts: list[int], interval: float) -> None:
    result = transitions_of(counts, interval=interval)
    p, low, high = (result[name].to_numpy() for name in ("p_next_r", "p_low", "p_high"))
    assert ((low > 0) & (low < high) & (high < 1)).all()
    assert ((low <= p) & (p <= high)).all()


def test_a_narrow_interval_of_a_skewed_posterior_is_widened_to_its_mean() -> None:
    # Beta(1, 51) has its median below its mean, and Beta(51, 1) above; 1 - (1 - x)**51 is the first's distribution.
    cells = {
        (row["state"], row["action"]): row for row in transitions_of((50, 0, 0, 50, *[0] * 4), interval=0.1).to_pylist()
    }
    rare, frequent = cells["U", "passive"], cells["R", "passive"]
    assert (rare["p_low"], rare["p_high"]) == (pytest.approx(1 - 0.55 ** (1 / 51)), rare["p_next_r"])
    assert (frequent["p_low"], frequent["p_high"]) == (frequent["p_next_r"], pytest.approx(0.55 ** (1 / 51)))


def test_nine_in_ten_intervals_hold_the_truth() -> None:
    random = np.random.default_rng(11)
    truth = random.random((1000, 2, 2))
    n = random.integers(1, 200, truth.shape)
    to_r = random.binomial(n, truth)
    posterior = ChancePosterior((to_r + 1) / (n + 2), n + 2.0)
    result = transition_table(np.stack([to_r, n - to_r], axis=-1), posterior, interval=0.9)
    low, high = cell_arrays(result, "p_low"), cell_arrays(result, "p_high")
    # Truths drawn from the prior are covered with the stated probability exactly: 4000 cells, deviation 0.005.
    assert ((low <= truth) & (truth <= high)).mean() == pytest.approx(0.9, abs=0.015)


def test_an_interval_out_of_bounds_is_refused() -> None:
    with pytest.raises(ValueError, match=r"interval is 1.0"):
        transition_table(COUNTS, ChancePosterior(MEAN, N_EFFECTIVE), interval=1.0)
