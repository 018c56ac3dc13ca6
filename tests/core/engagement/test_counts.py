from datetime import date

import pytest

from bandicoot_core.contracts import ACTIVE_TUPLE, PASSIVE_COUNTS, PASSIVE_TUPLE
from bandicoot_core.engagement.counts import (
    passive_counts,
    recent_transition_counts,
    responsive_share_by_week,
    transition_counts,
)

ALL = (1 << 62) - 1
WEEKS = [date(2026, 12, 20), date(2026, 12, 27), date(2027, 1, 3)]


def test_transitions_are_counted_by_state_and_by_whether_she_was_called(programme):
    counts = transition_counts(
        programme.history(
            # Words read from the right: week 0 is the last digit.
            (1, 0b01011, 0b00000, 0b11111),  # R R U R U: RR, RU, UR, RU
            (2, 0b01011, 0b00010, 0b11111),  # called in week 1: its R to U is active
            (3, 0b01011, 0b11111, 0b11111),  # called always
            (4, 0b00000, 0b00100, 0b11111),
            (5, 0b11000, 0b01000, 0b11100),  # observed from week 2 on: UR, RR (active)
            (6, 0b10000, 0b10000, 0b10000),  # one week only: no transition
            (7, 0b00000, 0b00000, 0b00000),
            (8, 0b11111, 0b11111, 0b10101),  # no two weeks in a row
        )
    )
    assert list(counts.columns) == ["caregiver_key", *PASSIVE_TUPLE, *ACTIVE_TUPLE]
    assert programme.rows(counts) == [
        # key, passive rr ru ur uu, active rr ru ur uu
        (1, 1, 2, 1, 0, 0, 0, 0, 0),
        (2, 1, 1, 1, 0, 0, 1, 0, 0),
        (3, 0, 0, 0, 0, 1, 2, 1, 0),
        (4, 0, 0, 0, 3, 0, 0, 0, 1),
        (5, 0, 0, 1, 0, 1, 0, 0, 0),
        (6, 0, 0, 0, 0, 0, 0, 0, 0),
        (7, 0, 0, 0, 0, 0, 0, 0, 0),
        (8, 0, 0, 0, 0, 0, 0, 0, 0),
    ]


def test_a_call_in_the_last_week_has_no_transition_to_belong_to(programme):
    counts = transition_counts(programme.history((1, 0b00, 0b10, 0b11)))
    assert programme.rows(counts) == [(1, 0, 0, 0, 1, 0, 0, 0, 0)]


def test_full_words_of_sixty_two_weeks_have_sixty_one_transitions(programme):
    alternating = 0x5555555555555555 & ALL
    counts = transition_counts(
        programme.history((1, ALL, 0, ALL), (2, 0, ALL, ALL), (3, alternating, 0, ALL), (4, alternating, ALL, ALL))
    )
    assert programme.rows(counts) == [
        (1, 61, 0, 0, 0, 0, 0, 0, 0),
        (2, 0, 0, 0, 0, 0, 0, 0, 61),
        (3, 0, 31, 30, 0, 0, 0, 0, 0),
        (4, 0, 0, 0, 0, 0, 31, 30, 0),
    ]


def test_caregivers_with_the_same_passive_tuple_are_counted_together(programme):
    counts = passive_counts(
        programme.history(
            (1, 0b011, 0b000, 0b111),  # RR, RU
            (2, 0b011, 0b100, 0b111),  # the same: the call falls in the last week
            (3, 0b011, 0b010, 0b111),  # RR only: R to U was active
            (4, 0b000, 0b000, 0b000),
            (5, 0b111, 0b111, 0b111),
            (6, 0b011, 0b000, 0b111),
        )
    )
    table = programme.conformed(counts, PASSIVE_COUNTS)
    assert [tuple(row.values()) for row in table.to_pylist()] == [
        (0, 0, 0, 0, 2),
        (1, 0, 0, 0, 1),
        (1, 1, 0, 0, 3),
    ]


def test_with_a_half_life_a_week_weighs_half_as_much_when_it_is_so_much_older(programme):
    counts = recent_transition_counts(
        programme.history(
            (1, 0b01011, 0b00000, 0b11111),  # R R U R U: RR, RU, UR, RU in weeks 0 to 3
            (2, 0b01011, 0b00010, 0b11111),  # called in week 1
            (3, 0b11000, 0b01000, 0b11100),  # UR in week 2, RR in week 3, called in week 3
            (4, 0b00000, 0b00000, 0b00000),
        ),
        n_weeks=5,
        half_life_weeks=1.0,
    )
    # Weeks 0 to 3 weigh 1/8, 1/4, 1/2 and 1.
    assert programme.rows(counts) == [
        # key, passive and active counts rr ru ur uu, then the same sums by weight
        (1, 1, 2, 1, 0, 0, 0, 0, 0, 0.125, 1.25, 0.5, 0, 0, 0, 0, 0),
        (2, 1, 1, 1, 0, 0, 1, 0, 0, 0.125, 1.0, 0.5, 0, 0, 0.25, 0, 0),
        (3, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0.5, 0, 1.0, 0, 0, 0),
        (4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
    ]


def test_weights_change_no_count_and_an_endless_half_life_weighs_all_weeks_alike(programme):
    alternating = 0x5555555555555555 & ALL
    history = programme.history((1, ALL, 0, ALL), (2, 0, ALL, ALL), (3, alternating, 0b1100, ALL))
    recent = programme.rows(recent_transition_counts(history, n_weeks=62, half_life_weeks=1e12))
    assert [row[:9] for row in recent] == programme.rows(transition_counts(history))
    assert [row[9:] for row in recent] == [pytest.approx(row[1:9]) for row in recent]


@pytest.mark.parametrize(("n_weeks", "half_life_weeks"), [(1, 4.0), (63, 4.0), (26, 0.0)])
def test_a_window_or_half_life_that_cannot_be_is_refused(programme, n_weeks, half_life_weeks):
    with pytest.raises(ValueError, match=r"n_weeks is|half_life_weeks is 0"):
        recent_transition_counts(programme.history(), n_weeks=n_weeks, half_life_weeks=half_life_weeks)


def test_an_empty_history_has_no_tuples(programme):
    assert programme.rows(passive_counts(programme.history())) == []
    assert programme.rows(transition_counts(programme.history())) == []


def test_the_weekly_curve_counts_observed_caregivers_and_those_who_opened(programme):
    share = responsive_share_by_week(
        programme.history((1, 0b001, 0b000, 0b111), (2, 0b101, 0b111, 0b111), (3, 0b100, 0b000, 0b100)), weeks=WEEKS
    )
    assert list(share.columns) == ["week_date", "n_observed", "n_responsive"]
    assert programme.rows(share) == [(WEEKS[0], 2, 2), (WEEKS[1], 2, 0), (WEEKS[2], 3, 2)]


def test_weeks_in_which_nobody_was_observed_are_on_the_curve_too(programme):
    assert programme.rows(responsive_share_by_week(programme.history(), weeks=WEEKS)) == [(w, 0, 0) for w in WEEKS]
    share = responsive_share_by_week(programme.history((1, 0b100, 0b000, 0b100)), weeks=WEEKS)
    assert programme.rows(share) == [(WEEKS[0], 0, 0), (WEEKS[1], 0, 0), (WEEKS[2], 1, 1)]


def test_the_weekly_curve_wants_the_sundays_of_the_window(programme):
    with pytest.raises(ValueError, match="named by its Sunday"):
        responsive_share_by_week(programme.history(), weeks=[date(2026, 12, 21)])
