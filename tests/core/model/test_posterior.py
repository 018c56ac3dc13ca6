import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandicoot_core.model.posterior import credible_interval, own_passive_means

COUNTS = pa.table({"n_rr": [3, 0], "n_ru": [1, 0], "n_ur": [0, 2], "n_uu": [4, 6]})


def test_own_means_add_the_prior_as_weeks() -> None:
    means = own_passive_means(COUNTS, prior_means=[0.2, 0.8], prior_weight=2.0)
    expected = [[0.4 / 6, (3 + 1.6) / 6], [(2 + 0.4) / 10, 1.6 / 2]]
    np.testing.assert_allclose(means, expected, rtol=1e-15)


@pytest.mark.parametrize("prior_weight", [0.0, -1.0, float("nan")])
def test_a_prior_without_weight_is_refused(prior_weight: float) -> None:
    with pytest.raises(ValueError, match=r"prior_weight is .* above 0"):
        own_passive_means(COUNTS, prior_means=[0.2, 0.8], prior_weight=prior_weight)


def test_the_interval_of_a_flat_posterior_cuts_its_tails_off() -> None:
    low, high = credible_interval(1.0, 1.0, interval=0.9)
    np.testing.assert_allclose([low, high], [0.05, 0.95], rtol=1e-12)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.integers(0, 10_000), st.integers(0, 10_000), st.floats(0.05, 0.95))
def test_the_interval_mirrors_when_the_states_change_places(n_to_r: int, n_to_u: int, interval: float) -> None:
    low, high = credible_interval(1 + n_to_r, 1 + n_to_u, interval=interval)
    mirrored_low, mirrored_high = credible_interval(1 + n_to_u, 1 + n_to_r, interval=interval)
    assert 0 <= low < high <= 1
    np.testing.assert_allclose([low, high], [1 - mirrored_high, 1 - mirrored_low], atol=1e-9)


@pytest.mark.parametrize("interval", [0.0, 1.0, float("nan")])
def test_an_interval_out_of_bounds_is_refused(interval: float) -> None:
    with pytest.raises(ValueError, match=r"strictly between 0 and 1"):
        credible_interval(2.0, 3.0, interval=interval)
