from datetime import date

import pytest

from bandicoot_core.contracts import CAREGIVER_STATES
from bandicoot_core.engagement.states import caregiver_states

LONG_AGO = "2026-01-01 00:00"
LEAP_DAY = date(2028, 2, 29)
OPTIONS = {"lookback_days": 84, "warm_up_weeks": 6}


def columns(programme, expression, *names):
    table = programme.conformed(expression, CAREGIVER_STATES)
    return list(zip(*(table[name].to_pylist() for name in ("caregiver_key", *names)), strict=True))


def test_an_open_counts_from_the_first_to_the_last_microsecond_of_the_seven_days(programme):
    states = caregiver_states(
        programme.caregivers(dict.fromkeys(range(1, 8), LONG_AGO)),
        programme.events(
            (1, "opened", "2028-02-29 18:29:59.999999"),  # 23:59:59.999999 IST of the leap day
            (2, "opened", "2028-02-29 18:30:00.000000"),  # 00:00 IST of the day after: not known yet
            (3, "opened", "2028-02-22 18:30:00.000000"),  # 00:00 IST of February 23, the first of the seven
            (4, "clicked", "2028-02-22 18:29:59.999999"),  # the last moment of the day before
            (5, "delivered", "2028-02-29 06:00"),
            (5, "sent", "2028-02-29 05:00"),
            (5, "failed", "2028-02-29 05:00"),
            (6, "clicked", "2028-02-25 06:00"),
        ),
        programme.calls(),
        day=LEAP_DAY,
        **OPTIONS,
    )
    assert columns(programme, states, "state", "last_open_date", "days_since_last_open") == [
        (1, "R", date(2028, 2, 29), 1),
        (2, "U", None, None),
        (3, "R", date(2028, 2, 23), 7),
        (4, "U", date(2028, 2, 22), 8),
        (5, "U", None, None),
        (6, "R", date(2028, 2, 25), 5),
        (7, "U", None, None),
    ]


def test_the_latest_open_of_many_decides(programme):
    states = caregiver_states(
        programme.caregivers({1: LONG_AGO, 2: LONG_AGO}),
        programme.events(
            (2, "opened", "2026-12-01 06:00"),
            (1, "opened", "2026-12-20 06:00"),
            (1, "opened", "2026-12-31 20:00"),  # already New Year's Day in Kolkata
            (1, "clicked", "2026-12-31 18:00"),
            (2, "opened", "2026-12-03 06:00"),
        ),
        programme.calls(),
        day=date(2027, 1, 2),
        **OPTIONS,
    )
    assert columns(programme, states, "state", "last_open_date", "days_since_last_open") == [
        (1, "R", date(2027, 1, 1), 2),
        (2, "U", date(2026, 12, 3), 31),
    ]


def test_opens_and_calls_are_looked_for_on_the_days_of_the_lookback_only(programme):
    first, too_early = "2028-02-15 18:30:00.000000", "2028-02-15 18:29:59.999999"
    last, too_late = "2028-02-29 18:29:59.999999", "2028-02-29 18:30:00.000000"
    states = caregiver_states(
        programme.caregivers(dict.fromkeys((1, 2, 3, 4), LONG_AGO)),
        programme.events((1, "opened", first), (2, "opened", too_early)),
        programme.calls((1, first), (2, too_early), (3, last), (4, too_late), (3, "2028-02-20 06:00")),
        day=LEAP_DAY,
        lookback_days=14,
        warm_up_weeks=6,
    )
    assert columns(programme, states, "last_open_date", "last_call_date") == [
        (1, date(2028, 2, 16), date(2028, 2, 16)),
        (2, None, None),
        (3, None, date(2028, 2, 29)),
        (4, None, None),
    ]


def test_the_warm_up_ends_whole_weeks_after_the_day_of_enrolment(programme):
    caregivers = programme.caregivers(
        {
            1: "2028-02-28 18:29:59.999999",  # February 28 in Kolkata
            2: "2028-02-28 18:30:00.000000",  # February 29
            3: "2026-12-31 23:00",  # January 1, 2027
        }
    )
    nothing = programme.events(), programme.calls()
    for weeks, ends in {
        0: [date(2028, 2, 28), date(2028, 2, 29), date(2027, 1, 1)],
        1: [date(2028, 3, 6), date(2028, 3, 7), date(2027, 1, 8)],
        6: [date(2028, 4, 10), date(2028, 4, 11), date(2027, 2, 12)],
    }.items():
        states = caregiver_states(caregivers, *nothing, day=LEAP_DAY, lookback_days=7, warm_up_weeks=weeks)
        assert columns(programme, states, "warm_up_end_date") == list(zip((1, 2, 3), ends, strict=True))


def test_every_registered_caregiver_appears_once_with_her_registry_facts_and_nobody_else(programme):
    states = caregiver_states(
        programme.caregivers({2: LONG_AGO, 1: LONG_AGO, 3: LONG_AGO}),
        programme.events(
            *(
                (key, kind, f"2028-02-{d} 06:00")
                for key in (1, 2, 9)
                for kind in ("opened", "clicked")
                for d in (27, 28)
            )
        ),
        programme.calls((1, "2028-02-20 06:00"), (1, "2028-02-21 06:00"), (9, "2028-02-21 06:00")),
        day=LEAP_DAY,
        **OPTIONS,
    )
    assert columns(programme, states, "district", "state", "status", "ab_arm", "last_call_date") == [
        (1, "D1", "R", "active", "treatment", date(2028, 2, 21)),
        (2, "D2", "R", "paused", "treatment", None),
        (3, "D3", "U", "active", "control", None),
    ]


def test_a_lookback_shorter_than_the_state_needs_is_refused(programme):
    tables = programme.caregivers({}), programme.events(), programme.calls()
    with pytest.raises(ValueError, match="lookback_days is 6; the state alone needs 7 days"):
        caregiver_states(*tables, day=LEAP_DAY, lookback_days=6, warm_up_weeks=6)
    with pytest.raises(ValueError, match="warm_up_weeks is -1"):
        caregiver_states(*tables, day=LEAP_DAY, lookback_days=7, warm_up_weeks=-1)
