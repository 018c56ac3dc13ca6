"""Each caregiver's training window as three words of bits: opened, called and observed weeks.

Here: the history of a window built from events and calls, the history of the previous window carried forward, and
what was known of a window when only some of its weeks had passed.
Not here: how words are built (words), what is counted from them (counts), and the state on a single day (states).

Weeks run from Sunday 00:00 to Saturday 24:00 in Asia/Kolkata. A week is observed when the caregiver had enrolled
before it started. Opens and calls of other weeks are left out: part of a week says nothing about a week, and so
`opened_weeks` and `called_weeks` are subsets of `observed_weeks` in every row.
"""

from collections.abc import Sequence
from datetime import date

import ibis

from bandicoot_core.contracts import ENGAGED_EVENT_TYPES
from bandicoot_core.engagement.words import (
    MAX_WEEKS,
    bit_or,
    bits,
    require_window,
    within,
    word_of_week,
    word_since,
)


def engagement_history(
    caregivers: ibis.Table, events: ibis.Table, calls: ibis.Table, *, weeks: Sequence[date]
) -> ibis.Table:
    """The history of a window: one row per caregiver of the registry [ENGAGEMENT_HISTORY].

    `caregivers`, `events` and `calls` follow CAREGIVERS, SMS_EVENTS and CALLS; bit k stands for weeks[k]. Rows of
    caregivers who are not in the registry, and instants outside the window, are left out.

    Raises ValueError unless the weeks are 1 to 62 consecutive Sundays, oldest first.
    """
    window = require_window(weeks)
    registered = caregivers.select("caregiver_key", observed=word_since(caregivers.enrolled_at, window))
    return _masked(_with_words(registered, events, calls, window, first_bit=0))


def extend_history(
    previous: ibis.Table,
    caregivers: ibis.Table,
    events: ibis.Table,
    calls: ibis.Table,
    *,
    previous_weeks: Sequence[date],
    weeks: Sequence[date],
) -> ibis.Table:
    """The history of a window from that of an earlier window of the same length [ENGAGEMENT_HISTORY].

    With `weeks` j >= 1 weeks later than `previous_weeks`, the result is that of engagement_history over `weeks`, but
    only the events and calls of the last j weeks are read. A caregiver that `previous` lacks is observed from the
    first of those weeks on, at the earliest: of older weeks nothing is known here.

    Raises ValueError unless both windows are consecutive Sundays of one length and `weeks` is the later one.
    """
    window, earlier = require_window(weeks), require_window(previous_weeks)
    n_weeks, n_new = len(window), (window[0] - earlier[0]).days // 7
    if len(earlier) != n_weeks or n_new < 1:
        raise ValueError(
            f"a history is carried forward to a later window of the same length; found {n_weeks} weeks from "
            f"{window[0]} after {len(earlier)} weeks from {earlier[0]}; build it with engagement_history instead"
        )
    if n_new >= n_weeks:
        return engagement_history(caregivers, events, calls, weeks=window)
    kept = previous.select(
        "caregiver_key",
        kept_opened=previous.opened_weeks >> n_new,
        kept_called=previous.called_weeks >> n_new,
        kept_observed=previous.observed_weeks >> n_new,
    )
    registered = (
        caregivers.select("caregiver_key", since=word_since(caregivers.enrolled_at, window))
        .left_join(kept, "caregiver_key")
        .select("caregiver_key", "since", "kept_opened", "kept_called", "kept_observed")
    )
    known = registered.kept_observed.fill_null(0) | bits(n_weeks - n_new, n_weeks)
    registered = registered.mutate(observed=registered.since & known)
    fresh = _with_words(registered, events, calls, window[n_weeks - n_new :], first_bit=n_weeks - n_new)
    return _masked(
        fresh.mutate(
            opened=fresh.opened | fresh.kept_opened.fill_null(0),
            called=fresh.called | fresh.kept_called.fill_null(0),
        )
    )


def history_until(history: ibis.Table, *, first: int = 0, n_weeks: int) -> ibis.Table:
    """The history as it stood when only its first `n_weeks` weeks had passed [ENGAGEMENT_HISTORY].

    `history` follows ENGAGEMENT_HISTORY. Bits before `first` and from `n_weeks` on are cleared, so that a model
    trained on the result knows the weeks first, ..., n_weeks - 1 alone. Caregivers of whom nothing was known by then
    stay, with empty words. ValueError unless 0 <= first < n_weeks <= 62.
    """
    if not 0 <= first < n_weeks <= MAX_WEEKS:
        raise ValueError(
            f"the weeks kept are {first} to {n_weeks - 1}; expected at least one week, all between 0 and "
            f"{MAX_WEEKS - 1}"
        )
    kept = bits(first, n_weeks)
    words = ("opened_weeks", "called_weeks", "observed_weeks")
    return history.select("caregiver_key", **{name: history[name] & kept for name in words})


def _with_words(
    registered: ibis.Table, events: ibis.Table, calls: ibis.Table, weeks: Sequence[date], *, first_bit: int
) -> ibis.Table:
    """The registered rows with the words `opened` and `called` of these weeks; 0 where there was nothing."""
    # Filters come first and on bare columns, so that the engine skips row groups of other types and times.
    engaged = events.filter(events.event_type.isin(ENGAGED_EVENT_TYPES), within(events.occurred_at, weeks))
    attempted = calls.filter(within(calls.attempted_at, weeks))
    opened = engaged.group_by("caregiver_key").aggregate(
        opened=bit_or(word_of_week(engaged.occurred_at, weeks, first_bit=first_bit))
    )
    called = attempted.group_by("caregiver_key").aggregate(
        called=bit_or(word_of_week(attempted.attempted_at, weeks, first_bit=first_bit))
    )
    joined = registered.left_join(opened, "caregiver_key").left_join(called, "caregiver_key")
    return joined.select(*registered.columns, opened=joined.opened.fill_null(0), called=joined.called.fill_null(0))


def _masked(words: ibis.Table) -> ibis.Table:
    return words.select(
        "caregiver_key",
        opened_weeks=words.opened & words.observed,
        called_weeks=words.called & words.observed,
        observed_weeks=words.observed,
    )
