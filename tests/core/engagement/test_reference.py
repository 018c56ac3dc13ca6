"""The expressions against plain Python that keeps one row per caregiver and week and never sees a bit."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bandicoot_core.contracts import ACTIVE_TUPLE, CAREGIVER_STATES, PASSIVE_TUPLE
from bandicoot_core.engagement.counts import passive_counts, responsive_share_by_week, transition_counts
from bandicoot_core.engagement.history import engagement_history, extend_history
from bandicoot_core.engagement.states import caregiver_states

KOLKATA = ZoneInfo("Asia/Kolkata")
FIRST_SUNDAY = date(2027, 12, 12)  # the weeks that follow hold a year's end and a leap day
N_WEEKS_AROUND = 14
EXAMPLES = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def midnight(day):
    return datetime(day.year, day.month, day.day, tzinfo=KOLKATA).astimezone(UTC)


def day_in_kolkata(instant):
    return instant.astimezone(KOLKATA).date()


def sundays(first, n):
    return [first + timedelta(weeks=k) for k in range(n)]


def reference_states(enrolled_at, events, calls, *, day, lookback_days, warm_up_weeks):
    rows = []
    for key, enrolled in sorted(enrolled_at.items()):
        lookback = [day - timedelta(days=n) for n in range(lookback_days)]
        opens = {day_in_kolkata(at) for who, kind, at in events if who == key and kind in ("opened", "clicked")}
        attempts = {day_in_kolkata(at) for who, at in calls if who == key}
        last_open = max((d for d in lookback if d in opens), default=None)
        rows.append(
            (
                key,
                "R" if any(day - timedelta(days=n) in opens for n in range(7)) else "U",
                last_open,
                None if last_open is None else (day - last_open).days + 1,
                max((d for d in lookback if d in attempts), default=None),
                day_in_kolkata(enrolled) + timedelta(weeks=warm_up_weeks),
            )
        )
    return rows


def reference_weeks(enrolled_at, events, calls, weeks):
    """caregiver_key -> one (observed, opened, called) per week."""
    rows = {}
    for key, enrolled in enrolled_at.items():
        opens = {day_in_kolkata(at) for who, kind, at in events if who == key and kind in ("opened", "clicked")}
        attempts = {day_in_kolkata(at) for who, at in calls if who == key}
        rows[key] = []
        for week in weeks:
            days = {week + timedelta(days=n) for n in range(7)}
            observed = enrolled < midnight(week)
            rows[key].append((observed, observed and bool(opens & days), observed and bool(attempts & days)))
    return rows


def reference_words(weeks_by_key):
    def word(flags):
        return int("".join("1" if flag else "0" for flag in reversed(flags)), 2)

    return sorted(
        (key, word([o for _, o, _ in rows]), word([c for _, _, c in rows]), word([v for v, _, _ in rows]))
        for key, rows in weeks_by_key.items()
    )


def reference_counts(weeks_by_key):
    counted = []
    for key, rows in sorted(weeks_by_key.items()):
        counts = dict.fromkeys((*PASSIVE_TUPLE, *ACTIVE_TUPLE), 0)
        for (observed, opened, called), (next_observed, next_opened, _) in pairwise(rows):
            if observed and next_observed:
                kind = "n_active_" if called else "n_"
                counts[kind + ("r" if opened else "u") + ("r" if next_opened else "u")] += 1
        counted.append((key, *counts.values()))
    return counted


@st.composite
def instants(draw):
    """Instants around the turn of days and weeks, and within them."""
    day = FIRST_SUNDAY + timedelta(days=draw(st.integers(-3, 7 * N_WEEKS_AROUND + 3)))
    week = day - timedelta(days=(day.weekday() + 1) % 7)
    turn = midnight(draw(st.sampled_from([day, week])))
    microseconds = st.one_of(st.sampled_from([-1, 0, 1]), st.integers(0, 86_400_000_000 - 1))
    return turn + timedelta(microseconds=draw(microseconds))


@st.composite
def programmes(draw):
    """(enrolled_at by key, events, calls); keys 7 and 8 are never registered."""
    keys = st.integers(1, 8)
    enrolled_at = draw(st.dictionaries(st.integers(1, 6), instants(), max_size=6))
    kinds = st.sampled_from(["opened", "clicked", "sent", "delivered", "failed"])
    events = draw(st.lists(st.tuples(keys, kinds, instants()), max_size=25))
    calls = draw(st.lists(st.tuples(keys, instants()), max_size=12))
    return enrolled_at, events, calls


windows = st.builds(
    lambda first, n: sundays(FIRST_SUNDAY + timedelta(weeks=first), n), st.integers(0, 8), st.integers(1, 6)
)


@EXAMPLES
@given(programmes(), st.integers(0, 7 * N_WEEKS_AROUND), st.integers(7, 40), st.integers(0, 8))
def test_states_agree_with_one_look_at_every_day(programme, programme_rows, day_offset, lookback_days, warm_up_weeks):
    enrolled_at, events, calls = programme_rows
    options = {
        "day": FIRST_SUNDAY + timedelta(days=day_offset),
        "lookback_days": lookback_days,
        "warm_up_weeks": warm_up_weeks,
    }
    states = caregiver_states(
        programme.caregivers(enrolled_at), programme.events(*events), programme.calls(*calls), **options
    )
    names = ("caregiver_key", "state", "last_open_date", "days_since_last_open", "last_call_date", "warm_up_end_date")
    table = programme.conformed(states, CAREGIVER_STATES)
    found = list(zip(*(table[name].to_pylist() for name in names), strict=True))
    assert found == reference_states(enrolled_at, events, calls, **options)


@EXAMPLES
@given(programmes(), windows)
def test_histories_and_counts_agree_with_one_row_per_week(programme, programme_rows, weeks):
    enrolled_at, events, calls = programme_rows
    history = engagement_history(
        programme.caregivers(enrolled_at), programme.events(*events), programme.calls(*calls), weeks=weeks
    )
    expected = reference_weeks(enrolled_at, events, calls, weeks)
    assert programme.rows(history) == reference_words(expected)
    counts = reference_counts(expected)
    assert programme.rows(transition_counts(history)) == counts
    tuples = [row[1:5] for row in counts]
    assert programme.rows(passive_counts(history)) == sorted((*t, tuples.count(t)) for t in set(tuples))
    assert programme.rows(responsive_share_by_week(history, weeks=weeks)) == [
        (
            week,
            sum(rows[k][0] for rows in expected.values()),
            sum(rows[k][1] for rows in expected.values()),
        )
        for k, week in enumerate(weeks)
    ]


@EXAMPLES
@given(
    programme_rows=programmes(),
    previous_weeks=windows,
    n_new=st.integers(1, 7),
    left=st.sets(st.integers(1, 6)),
    is_given_all=st.booleans(),
)
def test_a_history_carried_forward_is_the_history_built_anew(
    programme, *, programme_rows, previous_weeks, n_new, left, is_given_all
):
    enrolled_at, events, calls = programme_rows
    weeks = [week + timedelta(weeks=n_new) for week in previous_weeks]
    turn = midnight(previous_weeks[-1] + timedelta(weeks=1))
    before = {key: at for key, at in enrolled_at.items() if at < turn}
    now = {key: at for key, at in enrolled_at.items() if key not in left}
    new_events = [event for event in events if is_given_all or event[2] >= turn]
    new_calls = [call for call in calls if is_given_all or call[1] >= turn]
    previous = engagement_history(
        programme.caregivers(before), programme.events(*events), programme.calls(*calls), weeks=previous_weeks
    )
    carried = extend_history(
        previous,
        programme.caregivers(now),
        programme.events(*new_events),
        programme.calls(*new_calls),
        previous_weeks=previous_weeks,
        weeks=weeks,
    )
    built = engagement_history(
        programme.caregivers(now), programme.events(*events), programme.calls(*calls), weeks=weeks
    )
    assert programme.rows(carried) == programme.rows(built)


words = st.integers(0, 2**62 - 1)


@EXAMPLES
@given(st.lists(st.tuples(words, words, words), min_size=1, max_size=20))
def test_no_observed_pair_of_weeks_is_lost_or_counted_twice(programme, rows):
    history = programme.history(*((key, *row) for key, row in enumerate(rows, start=1)))
    counts = programme.rows(transition_counts(history))
    for (key, *found), (opened, called, observed) in zip(counts, rows, strict=True):
        weeks = [(bool(observed >> k & 1), bool(opened >> k & 1), bool(called >> k & 1)) for k in range(62)]
        assert sum(found) == sum(a[0] and b[0] for a, b in pairwise(weeks))
        assert [(key, *found)] == reference_counts({key: weeks})
    assert sum(row[-1] for row in programme.rows(passive_counts(history))) == len(rows)
