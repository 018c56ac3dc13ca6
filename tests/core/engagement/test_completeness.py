from datetime import date

import pyarrow as pa
import pytest

from bandicoot_core.calendar import weeks_ending_with
from bandicoot_core.engagement.completeness import logs_complete, message_rates, messages_by_week

WEEKS = [date(2026, 12, 20), date(2026, 12, 27), date(2027, 1, 3)]
TEN_WEEKS = weeks_ending_with(date(2027, 1, 3), 10)


def test_messages_count_in_the_weeks_in_which_their_caregiver_was_observed(programme):
    events = programme.events(
        (1, "sent", "2026-12-26 18:29:59.999999"),  # week 0
        (1, "sent", "2026-12-26 18:30:00"),  # week 1
        (1, "sent", "2026-12-28 06:00"),
        (1, "opened", "2026-12-28 06:00"),
        (2, "sent", "2026-12-21 06:00"),  # enrolled in that week: not observed in it
        (2, "sent", "2027-01-04 06:00"),
        (3, "sent", "2026-12-28 06:00"),  # not in the history: she has left
        (1, "sent", "2027-01-09 18:30:00"),  # after the window
        (1, "sent", "2026-12-19 18:29:59"),  # before it
    )
    history = programme.history((1, 0, 0, 0b111), (2, 0, 0, 0b110))
    assert programme.rows(messages_by_week(events, history, weeks=WEEKS)) == [(1, 0), (1, 2), (2, 1)]


def test_a_rate_is_messages_per_observed_caregiver_and_nothing_where_nobody_was():
    n_sent = pa.table({"week": [2, 0], "n_sent": [30, 8]})
    assert message_rates(n_sent, [4, 5, 10, 0]) == [2.0, 0.0, 3.0, 0.0]


def test_logs_are_complete_when_every_recent_week_has_its_messages():
    rates = [2.0, 2.1, 1.9, 2.0, 2.0, 2.2, 2.0, 1.7, 2.0, 1.9]
    outcome = logs_complete(rates, weeks=TEN_WEEKS, minimum=0.8)
    assert (outcome.is_passed, outcome.is_blocking) == (True, True)
    assert outcome.facts["share_of_usual"] == pytest.approx(0.85)


@pytest.mark.parametrize("broken", [6, 9])
def test_a_recent_week_with_half_its_messages_blocks_and_is_named(broken):
    rates = [2.0] * 10
    rates[broken] = 1.0
    outcome = logs_complete(rates, weeks=TEN_WEEKS, minimum=0.8)
    assert (outcome.is_passed, outcome.is_blocking) == (False, True)
    assert (
        f"1.00 messages per caregiver were sent in the week of {TEN_WEEKS[broken]}, the lowest of the last 4: 50% of "
        "the usual 2.00; expected at least 80%; materialize sms_events of that week again"
    ) in outcome.description


def test_an_older_gap_no_longer_blocks():
    rates = [2.0] * 10
    rates[5] = 0.0
    assert logs_complete(rates, weeks=TEN_WEEKS, minimum=0.8).is_passed


@pytest.mark.parametrize("rates", [[], [0.0] * 10])
def test_a_window_without_messages_blocks(rates):
    outcome = logs_complete(rates, weeks=TEN_WEEKS[: len(rates)], minimum=0.8)
    assert (outcome.is_passed, outcome.is_blocking) == (False, True)
