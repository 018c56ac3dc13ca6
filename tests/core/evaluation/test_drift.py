from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ibis.backends.duckdb import Backend

from bandicoot_core.evaluation.backtest import backtest
from bandicoot_core.evaluation.drift import OneStepLosses, loss_band, loss_within_band, one_step_losses
from bandicoot_core.settings import ModelOptions
from tests.core.evaluation.histories import KINDS, Kind, draw_history, weeks_of
from tests.core.evaluation.models import in_engine

OPTIONS = ModelOptions(n_clusters=4, min_cluster_share=0.01)


def losses_of(*losses: float, error: float = 0.0) -> OneStepLosses:
    weeks = tuple(date(2026, 9, 6) + timedelta(weeks=k) for k in range(len(losses)))
    return OneStepLosses(weeks, np.array(losses), np.full(len(losses), error))


def test_the_band_is_the_prediction_interval_of_one_more_week() -> None:
    band = loss_band(losses_of(0.40, 0.42, 0.44, 0.41))
    assert band is not None
    # Mean 0.42, standard deviation 0.02; the 99.5% quantile of Student's t with 2 degrees of freedom is 9.9248.
    assert (band.low, band.high) == pytest.approx((0.42 - 9.9248 * 0.02 * np.sqrt(4 / 3), 0.42 + 0.22919), abs=1e-4)


def test_weeks_that_happen_to_agree_still_have_the_noise_of_their_caregivers() -> None:
    band = loss_band(losses_of(0.4, 0.4, 0.4, 0.5, error=0.01))
    assert band is not None
    assert band.half_width == pytest.approx(9.9248 * 0.01 * np.sqrt(4 / 3), abs=1e-4)


@pytest.mark.parametrize(("newest", "is_passed"), [(0.42, True), (0.46, False), (0.36, False), (float("nan"), False)])
def test_a_week_that_is_harder_or_easier_to_predict_than_the_others_is_a_warning(
    newest: float, is_passed: bool
) -> None:
    outcome = loss_within_band(losses_of(0.40, 0.41, 0.42, 0.41, 0.40, 0.42, 0.41, newest))
    assert (outcome.is_passed, outcome.is_blocking) == (is_passed, False)
    assert "the week of 2026-10-25 was predicted with a log loss" in outcome.description
    assert ("look at the logs" in outcome.description) is not is_passed


def test_too_few_weeks_have_no_band_and_say_so() -> None:
    assert loss_band(losses_of(0.4, 0.4, 0.9)) is None
    outcome = loss_within_band(losses_of(0.4, 0.4, 0.9))
    assert outcome.is_passed
    assert outcome.description == "only 3 weeks were predicted; a band needs 4"


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(st.floats(0.1, 0.9), min_size=4, max_size=10), st.floats(0.5, 2))
def test_the_band_follows_the_unit_of_the_losses(losses: list[float], unit: float) -> None:
    band, scaled = loss_band(losses_of(*losses)), loss_band(losses_of(*(unit * loss for loss in losses)))
    assert band is not None
    assert scaled is not None
    assert (scaled.low, scaled.high) == pytest.approx((unit * band.low, unit * band.high), abs=1e-9)


AFTER = tuple(Kind((0.6, 0.3), (0.6, 0.3)) for _ in KINDS)


@pytest.mark.parametrize(("kinds_after", "is_passed"), [(KINDS, True), (AFTER, False)])
def test_behaviour_that_changes_in_the_newest_week_leaves_the_band(
    shared_engine: Backend, kinds_after: tuple[Kind, ...], is_passed: bool
) -> None:
    rows = draw_history(3000, 14, seed=5, kinds_after=kinds_after, change_week=12)
    found = one_step_losses(backtest(in_engine(shared_engine, rows), OPTIONS, weeks=weeks_of(14), n_origins=6).scores)
    assert found.weeks == tuple(weeks_of(14)[-6:])
    outcome = loss_within_band(found)
    assert outcome.is_passed is is_passed, outcome.description
