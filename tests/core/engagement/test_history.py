from datetime import date

import pytest

from bandicoot_core.calendar import start_of_day, weeks_ending_with
from bandicoot_core.contracts import ENGAGEMENT_HISTORY
from bandicoot_core.engagement.history import engagement_history, extend_history, history_until

LONG_AGO = "2026-01-01 00:00"
WEEKS = [date(2026, 12, 20), date(2026, 12, 27), date(2027, 1, 3)]  # the year ends within the second
NEXT_WEEKS = [*WEEKS[1:], date(2027, 1, 10)]


def words(programme, expression):
    table = programme.conformed(expression, ENGAGEMENT_HISTORY)
    return [
        (key, *(f"{word:03b}" for word in row))
        for key, *row in zip(*(column.to_pylist() for column in table.columns), strict=True)
    ]


def test_weeks_turn_at_midnight_between_saturday_and_sunday_in_kolkata(programme):
    history = engagement_history(
        programme.caregivers(dict.fromkeys(range(1, 8), LONG_AGO)),
        programme.events(
            (1, "opened", "2026-12-26 18:29:59.999999"),
            (2, "clicked", "2026-12-26 18:30:00.000000"),
            (3, "opened", "2026-12-19 18:30:00.000000"),  # the first moment of the window
            (4, "opened", "2026-12-19 18:29:59.999999"),  # before it
            (5, "opened", "2027-01-09 18:29:59.999999"),  # its last moment
            (6, "opened", "2027-01-09 18:30:00.000000"),  # after it
            (7, "delivered", "2026-12-30 06:00"),
        ),
        programme.calls(
            (1, "2027-01-02 18:29:59.999999"),
            (2, "2027-01-02 18:30:00.000000"),
            (4, "2026-12-19 18:29:59.999999"),
            (6, "2027-01-09 18:30:00.000000"),
        ),
        weeks=WEEKS,
    )
    assert words(programme, history) == [
        (1, "001", "010", "111"),
        (2, "010", "100", "111"),
        (3, "001", "000", "111"),
        (4, "000", "000", "111"),
        (5, "100", "000", "111"),
        (6, "000", "000", "111"),
        (7, "000", "000", "111"),
    ]


def test_several_events_of_a_week_set_one_bit_and_several_weeks_several(programme):
    history = engagement_history(
        programme.caregivers({1: LONG_AGO, 2: LONG_AGO}),
        programme.events(
            (1, "opened", "2026-12-21 06:00"),
            (1, "clicked", "2026-12-21 07:00"),
            (1, "opened", "2026-12-22 06:00"),
            (1, "opened", "2027-01-04 06:00"),
            (2, "opened", "2026-12-31 20:00"),
        ),
        programme.calls((1, "2026-12-21 06:00"), (1, "2026-12-21 06:05"), (1, "2026-12-31 06:00")),
        weeks=WEEKS,
    )
    assert words(programme, history) == [(1, "101", "011", "111"), (2, "010", "000", "111")]


def test_a_week_is_observed_when_she_had_enrolled_before_it_started(programme):
    history = engagement_history(
        programme.caregivers(
            {
                1: "2026-12-19 18:29:59.999999",  # a microsecond before the first week
                2: "2026-12-19 18:30:00.000000",  # as it starts
                3: "2026-12-29 06:00",  # within the second week
                4: "2027-01-05 06:00",  # within the last
                5: "2028-01-01 00:00",
            }
        ),
        programme.events(*((key, "opened", f"{d} 06:00") for key in range(1, 6) for d in [*WEEKS])),
        programme.calls(*((key, f"{d} 06:00") for key in range(1, 6) for d in WEEKS)),
        weeks=WEEKS,
    )
    # What was opened in a week that is not observed is left out of the words.
    assert words(programme, history) == [
        (1, "111", "111", "111"),
        (2, "110", "110", "110"),
        (3, "100", "100", "100"),
        (4, "000", "000", "000"),
        (5, "000", "000", "000"),
    ]


def test_events_and_calls_of_unregistered_caregivers_are_left_out(programme):
    history = engagement_history(
        programme.caregivers({2: LONG_AGO}),
        programme.events((9, "opened", "2026-12-21 06:00")),
        programme.calls((9, "2026-12-21 06:00")),
        weeks=WEEKS,
    )
    assert words(programme, history) == [(2, "000", "000", "111")]


def test_sixty_two_weeks_fit_and_no_more(programme):
    weeks = weeks_ending_with(WEEKS[-1], 62)
    tables = (
        programme.caregivers({1: "2025-01-01 00:00"}),
        programme.events(*((1, "opened", start_of_day(weeks[k])) for k in (0, 31, 32, 61))),
        programme.calls((1, start_of_day(weeks[61]))),
    )
    found = programme.rows(engagement_history(*tables, weeks=weeks))
    assert found == [(1, 1 | 1 << 31 | 1 << 32 | 1 << 61, 1 << 61, (1 << 62) - 1)]
    with pytest.raises(ValueError, match="a window has 1 to 62 weeks, one bit each; found 63"):
        engagement_history(*tables, weeks=weeks_ending_with(WEEKS[-1], 63))


@pytest.mark.parametrize(
    ("weeks", "message"),
    [
        ([date(2026, 12, 21)], "named by its Sunday"),
        ([WEEKS[0], WEEKS[2]], "found 2027-01-03 after 2026-12-20, expected 2026-12-27"),
    ],
)
def test_weeks_that_are_not_consecutive_sundays_are_refused(programme, weeks, message):
    tables = programme.caregivers({}), programme.events(), programme.calls()
    with pytest.raises(ValueError, match=message):
        engagement_history(*tables, weeks=weeks)
    with pytest.raises(ValueError, match=message):
        extend_history(programme.history(), *tables, previous_weeks=WEEKS, weeks=weeks)
    with pytest.raises(ValueError, match=message):
        extend_history(programme.history(), *tables, previous_weeks=weeks, weeks=WEEKS)


def test_a_history_carried_forward_drops_the_oldest_week_and_reads_the_newest(programme):
    history = extend_history(
        programme.history((1, 0b101, 0b010, 0b111), (2, 0b100, 0b000, 0b100), (3, 0b111, 0b111, 0b111)),
        programme.caregivers({1: LONG_AGO, 2: "2026-12-29 06:00", 4: "2027-01-09 06:00"}),
        programme.events((1, "opened", "2027-01-12 06:00"), (4, "opened", "2027-01-12 06:00")),
        programme.calls((2, "2027-01-12 06:00")),
        previous_weeks=WEEKS,
        weeks=NEXT_WEEKS,
    )
    assert words(programme, history) == [
        (1, "110", "001", "111"),
        (2, "010", "100", "110"),
        # 3 has left the registry; 4 has joined it and was enrolled the day before the new week.
        (4, "100", "000", "100"),
    ]


def test_events_of_weeks_already_carried_are_not_read_again(programme):
    history = extend_history(
        programme.history((1, 0b000, 0b000, 0b111)),
        programme.caregivers({1: LONG_AGO}),
        programme.events((1, "opened", "2026-12-30 06:00"), (1, "opened", "2027-01-17 06:00")),
        programme.calls((1, "2027-01-09 18:29:59.999999")),
        previous_weeks=WEEKS,
        weeks=NEXT_WEEKS,
    )
    assert words(programme, history) == [(1, "000", "000", "111")]


def test_a_caregiver_the_previous_history_lacks_is_observed_from_the_new_weeks_on(programme):
    history = extend_history(
        programme.history(),
        programme.caregivers({1: LONG_AGO}),
        programme.events((1, "opened", "2027-01-12 06:00")),
        programme.calls(),
        previous_weeks=WEEKS,
        weeks=NEXT_WEEKS,
    )
    assert words(programme, history) == [(1, "100", "000", "100")]


def test_an_enrolment_corrected_to_a_later_day_takes_weeks_out_of_a_carried_history(programme):
    history = extend_history(
        programme.history((1, 0b111, 0b111, 0b111)),
        programme.caregivers({1: "2027-01-01 06:00"}),
        programme.events(),
        programme.calls(),
        previous_weeks=WEEKS,
        weeks=NEXT_WEEKS,
    )
    assert words(programme, history) == [(1, "010", "010", "110")]


def test_a_window_past_the_previous_one_is_built_from_its_own_events(programme):
    weeks = weeks_ending_with(date(2028, 12, 31), 3)
    history = extend_history(
        programme.history((1, 0b111, 0b111, 0b111)),
        programme.caregivers({1: LONG_AGO}),
        programme.events((1, "opened", "2028-12-26 06:00")),
        programme.calls(),
        previous_weeks=WEEKS,
        weeks=weeks,
    )
    assert words(programme, history) == [(1, "010", "000", "111")]


@pytest.mark.parametrize("weeks", [WEEKS, weeks_ending_with(WEEKS[1], 3), NEXT_WEEKS[1:]])
def test_a_history_is_not_carried_to_the_same_an_earlier_or_a_shorter_window(programme, weeks):
    with pytest.raises(ValueError, match="carried forward to a later window of the same length"):
        extend_history(
            programme.history(),
            programme.caregivers({}),
            programme.events(),
            programme.calls(),
            previous_weeks=WEEKS,
            weeks=weeks,
        )


def test_a_history_cut_to_some_weeks_knows_nothing_of_the_others(programme):
    history = programme.history((1, 0b101, 0b010, 0b111), (2, 0b100, 0b100, 0b100), (3, 0b011, 0b001, 0b011))
    assert words(programme, history_until(history, n_weeks=2)) == [
        (1, "001", "010", "011"),
        (2, "000", "000", "000"),
        (3, "011", "001", "011"),
    ]
    assert words(programme, history_until(history, first=1, n_weeks=3)) == [
        (1, "100", "010", "110"),
        (2, "100", "100", "100"),
        (3, "010", "000", "010"),
    ]


@pytest.mark.parametrize(("first", "n_weeks"), [(0, 0), (2, 2), (-1, 2), (0, 63)])
def test_a_cut_without_weeks_or_outside_the_words_is_refused(programme, first, n_weeks):
    with pytest.raises(ValueError, match="expected at least one week"):
        history_until(programme.history(), first=first, n_weeks=n_weeks)
