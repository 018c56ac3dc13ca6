"""What was spent since the month began, and what it will come to."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandicoot_core.calendar import end_of_day, start_of_day
from bandicoot_core.costs.prices import JobSize, Prices, RunPrices, StoragePrices
from bandicoot_core.costs.spending import (
    RunTime,
    days_of_month_so_far,
    share_of_month,
    spending_of_month,
    total,
)

PRICES = Prices(
    monthly_limit=100,
    runs=RunPrices(
        vcpu_second=0.001,
        gib_second=0.0005,
        vcpus=1,
        gib=2,
        jobs={"weekly_training": JobSize(vcpus=4, gib=8)},
    ),
    storage=StoragePrices(lake_gib_month=0.03),
    monthly={"database": 30.0},
)
DAY = date(2026, 11, 15)  # half of November


def rows(run_times: list[RunTime], lake_bytes: int = 0, day: date = DAY) -> dict[str, tuple[float, float]]:
    table = spending_of_month(run_times, lake_bytes, PRICES, day=day)
    return {row["component"]: (row["spent_usd"], row["projected_usd"]) for row in table.to_pylist()}


def test_each_component_counts_with_its_price_and_is_projected_to_the_end_of_the_month() -> None:
    noon = datetime(2026, 11, 3, 6, 30, tzinfo=UTC)
    runs = [RunTime("nightly", noon, 100), RunTime("nightly", noon, 400), RunTime("weekly_training", noon, 1000)]

    assert rows(runs, lake_bytes=10 * 2**30) == {
        "database": (pytest.approx(15), pytest.approx(30)),
        "lake": (pytest.approx(0.15), pytest.approx(0.3)),
        "runs of nightly": (pytest.approx(500 * 0.002), pytest.approx(500 * 0.002 * 2)),
        "runs of weekly_training": (pytest.approx(1000 * 0.008), pytest.approx(1000 * 0.008 * 2)),
    }


def test_runs_belong_to_the_month_in_india_in_which_they_begin() -> None:
    first, end = start_of_day(date(2026, 11, 1)), end_of_day(DAY)
    instant = timedelta(microseconds=1)

    assert first == datetime(2026, 10, 31, 18, 30, tzinfo=UTC)
    assert "runs of nightly" not in rows([RunTime("nightly", first - instant, 10)])
    assert "runs of nightly" not in rows([RunTime("nightly", end, 10)])
    assert "runs of nightly" in rows([RunTime("nightly", first, 10)])
    assert "runs of nightly" in rows([RunTime("nightly", end - instant, 10)])


@pytest.mark.parametrize(
    ("day", "share"),
    [
        (date(2026, 11, 15), 0.5),
        (date(2026, 11, 30), 1),
        (date(2026, 12, 31), 1),
        (date(2028, 2, 29), 1),
        (date(2026, 2, 7), 0.25),
    ],
)
def test_the_share_of_a_month_knows_how_long_months_are(day: date, share: float) -> None:
    assert share_of_month(day) == share


@given(st.dates(date(2024, 1, 1), date(2100, 1, 1)), st.integers(0, 10**6), st.integers(0, 2**45))
def test_what_is_spent_never_exceeds_the_projection_and_meets_it_at_the_end(day: date, seconds: int, size: int) -> None:
    spending = spending_of_month([RunTime("nightly", start_of_day(day), seconds)], size, PRICES, day=day)

    spent, projected = total(spending, "spent_usd"), total(spending, "projected_usd")
    assert spent <= projected * (1 + 1e-12)
    if share_of_month(day) == 1:
        assert spent == pytest.approx(projected)


def test_the_days_of_a_month_begin_with_its_first() -> None:
    assert days_of_month_so_far(date(2026, 11, 3)) == [date(2026, 11, 1), date(2026, 11, 2), date(2026, 11, 3)]


def test_negative_durations_and_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="took -1 s"):
        spending_of_month([RunTime("nightly", start_of_day(DAY), -1)], 0, PRICES, day=DAY)
    with pytest.raises(ValueError, match="lake_bytes is -1"):
        spending_of_month([], -1, PRICES, day=DAY)
