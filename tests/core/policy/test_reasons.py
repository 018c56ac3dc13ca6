import pyarrow as pa
import pytest

from bandicoot_core.policy.reasons import percent, reasons


def reason(state: str, days: int | None, p_passive: float, p_active: float, *, is_drawn: bool = False) -> str:
    return reasons(rows((state, days, p_passive, p_active, is_drawn)), lookback_days=84)[0].as_py()


def rows(*facts: tuple[str, int | None, float, float, bool]) -> pa.Table:
    columns = list(zip(*facts, strict=True))
    return pa.table(
        {
            "state": columns[0],
            "days_since_last_open": pa.array(columns[1], pa.int16()),
            "p_passive": columns[2],
            "p_active": columns[3],
            "is_drawn": columns[4],
        }
    )


def test_an_unresponsive_caregiver():
    assert reason("U", 12, 0.12, 0.38) == (
        "Unresponsive for 12 days; a call lifts the chance of an open next week from 12% to 38% for families like this"
    )


def test_an_unresponsive_caregiver_without_any_open_in_the_lookback():
    assert reason("U", None, 0.004, 0.38) == (
        "No open in the last 84 days; "
        "a call lifts the chance of an open next week from under 1% to 38% for families like this"
    )


def test_a_responsive_caregiver():
    assert reason("R", 2, 0.6, 0.85) == (
        "Responsive (opened 2 days ago); without a call 40% of families like this stop opening within a week; "
        "a call raises the chance to stay responsive next week from 60% to 85%"
    )


def test_one_day_is_a_day():
    assert reason("R", 1, 0.6, 0.85).startswith("Responsive (opened 1 day ago); ")


def test_a_call_that_changes_nothing_is_not_praised():
    assert reason("U", 12, 0.381, 0.384) == (
        "Unresponsive for 12 days; a call hardly changes the chance of an open next week for families like this (38%)"
    )
    assert reason("R", 2, 0.6, 0.6) == (
        "Responsive (opened 2 days ago); without a call 40% of families like this stop opening within a week, "
        "and a call hardly changes that"
    )


def test_a_call_that_lowers_the_chance_is_told_honestly():
    assert reason("U", 12, 0.4, 0.35) == (
        "Unresponsive for 12 days; a call does not lift the chance of an open next week for families like this: "
        "35% with a call, 40% without"
    )
    assert reason("R", 2, 0.9, 0.8) == (
        "Responsive (opened 2 days ago); without a call 10% of families like this stop opening within a week; "
        "a call does not help them stay: 80% stay with a call, 90% without"
    )


def test_the_random_draw_is_told():
    assert reason("U", 12, 0.12, 0.38, is_drawn=True).startswith(
        "Chosen at random to learn what calls do; unresponsive for 12 days; a call lifts"
    )


def test_each_row_gets_its_own_sentence():
    facts = [("U", 12, 0.12, 0.38, False), ("R", 2, 0.6, 0.85, False), ("U", None, 0.12, 0.38, True)]
    mixed = [facts[i] for i in (2, 0, 1, 0, 2)]
    sentences = reasons(rows(*mixed), lookback_days=60).to_pylist()
    assert [sentence[:8] for sentence in sentences] == ["Chosen a", "Unrespon", "Responsi", "Unrespon", "Chosen a"]
    assert sentences[0] == sentences[4]
    assert "no open in the last 60 days" in sentences[0]


def test_no_rows_have_no_reasons():
    empty = rows(("U", 12, 0.12, 0.38, False)).slice(0, 0)
    assert reasons(empty, lookback_days=84).to_pylist() == []


@pytest.mark.parametrize(
    ("p", "text"),
    [
        (0.0, "0%"),
        (0.0099, "under 1%"),
        (0.01, "1%"),
        (0.124, "12%"),
        (0.125, "13%"),
        (0.285, "29%"),
        (0.99, "99%"),
        (0.995, "over 99%"),
        (1.0, "100%"),
    ],
)
def test_percent_rounds_halves_up_and_never_claims_certainty(p, text):
    assert percent(p) == text
