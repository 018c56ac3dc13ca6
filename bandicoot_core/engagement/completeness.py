"""Whether the message logs of the last weeks are whole: messages sent per observed caregiver, week by week.

Here: the weekly counts and the check made of them. Not here: rows that are refused one by one (intake), and whether
the shares of responsive caregivers are plausible (model.versions). A week with half of its logs missing looks like a
week in which half of the caregivers went silent, and every chance learned from it would be wrong.
"""

from collections.abc import Sequence
from datetime import date
from statistics import median

import ibis
import pyarrow as pa

from bandicoot_core.checks import CheckOutcome, Fact, with_remedy
from bandicoot_core.engagement.words import bit_count, require_window, within, word_of_week

SENT = "sent"
RECENT_WEEKS = 4
"""Weeks whose logs must be whole: as many as a candidate is compared with the champion on."""

LOG_CHECKS = {
    "logs_complete": "In each of the last weeks caregivers were sent about as many messages as in the window at large"
}
"""Name of the check, and what it demands."""


def messages_by_week(events: ibis.Table, history: ibis.Table, *, weeks: Sequence[date]) -> ibis.Table:
    """Messages sent in each week to caregivers who were observed in it: week (its bit in the window), n_sent.

    `events` follows SMS_EVENTS, `history` ENGAGEMENT_HISTORY over `weeks`. Weeks without a message have no row.
    Raises ValueError unless the weeks are 1 to 62 consecutive Sundays, oldest first.
    """
    window = require_window(weeks)
    # Filters come first and on bare columns, so that the engine skips row groups of other types and times.
    sent = events.filter(events.event_type == SENT, within(events.occurred_at, window))
    sent = sent.select("caregiver_key", word=word_of_week(sent.occurred_at, window))
    joined = sent.inner_join(history.select("caregiver_key", "observed_weeks"), "caregiver_key")
    counted = joined.filter((joined.word & joined.observed_weeks) != 0).group_by("word")
    by_word = counted.aggregate(n_sent=lambda rows: rows.count())
    # The word of week k has the one bit k set, so k bits lie below it.
    return by_word.select("n_sent", week=bit_count(by_word.word - 1).cast("int16"))


def message_rates(n_sent: pa.Table, n_observed: Sequence[int]) -> list[float]:
    """Messages per observed caregiver in each week of a window; 0 where nobody was observed.

    `n_sent` is the table of `messages_by_week`, `n_observed` the caregivers observed in each week, oldest first.
    """
    sent = dict(zip(n_sent["week"].to_pylist(), n_sent["n_sent"].to_pylist(), strict=True))
    return [sent.get(week, 0) / n if n else 0.0 for week, n in enumerate(n_observed)]


def logs_complete(rates: Sequence[float], *, weeks: Sequence[date], minimum: float) -> CheckOutcome:
    """Whether each of the last RECENT_WEEKS weeks has at least `minimum` times the window's median rate; blocking.

    `rates` are messages per observed caregiver and week (`message_rates`) over `weeks`. The median of all weeks does
    not move when a few of them are broken. A window in which nothing was ever sent fails.
    """
    usual = median(rates) if rates else 0.0
    recent = list(zip(rates, weeks, strict=True))[-RECENT_WEEKS:]
    lowest, week = min(recent, default=(0.0, None))
    share = lowest / usual if usual else 0.0
    is_passed = usual > 0 and share >= minimum
    text = (
        f"{lowest:.2f} messages per caregiver were sent in the week of {week}, the lowest of the last {len(recent)}: "
        f"{share:.0%} of the usual {usual:.2f}; expected at least {minimum:.0%}"
    )
    remedy = (
        "materialize sms_events of that week again once its logs have arrived; if so few were really sent, lower "
        "BANDICOOT_MIN_LOG_COMPLETENESS for this run"
    )
    facts: dict[str, Fact] = {
        "lowest_rate": lowest,
        "usual_rate": usual,
        "share_of_usual": share,
        "lowest_week": str(week),
    }
    return CheckOutcome("logs_complete", is_passed, True, with_remedy(text, is_passed, remedy), facts)
