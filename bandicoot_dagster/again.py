"""Which failed runs are worth another try, and when: a pure decision over the tries so far and the moment.

A step is tried again within seconds (steps); this is what comes after, when a source lags or a server stays away for
longer. Only what waiting can mend is repeated: bad data would be refused again, and what a person has cancelled stays.
Nothing here knows Dagster; the sensor that asks and reads the runs is in again_sensor.
"""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

PAUSES = (timedelta(minutes=5), timedelta(minutes=10), timedelta(minutes=20), timedelta(minutes=40))
"""Between the end of a failed run and the next try; after that EVERY."""

EVERY = timedelta(hours=1)


class Outcome(enum.Enum):
    """What became of a run, as far as another try depends on it."""

    UNDER_WAY = "is queued or running"
    SUCCEEDED = "has succeeded"
    TRANSIENT = "failed because a server was away, late or busy"
    MISSING = "failed because an earlier partition is missing"
    FINAL = "failed for a reason that waiting does not mend, or was cancelled"


@dataclass(frozen=True)
class Try:
    """One run of a job for a partition, in UTC; a moment is None as long as it has not come."""

    run_id: str
    outcome: Outcome
    began_at: datetime | None = None
    ended_at: datetime | None = None


@dataclass(frozen=True)
class Verdict:
    """Whether a partition is due again, and why; `after` is the failed try that it repeats, None for a first one."""

    is_due: bool
    why: str
    after: Try | None = None


def pause_after(n_failures: int) -> timedelta:
    """How long to wait after so many failures in a row (1 or more)."""
    return PAUSES[n_failures - 1] if n_failures <= len(PAUSES) else EVERY


def judge(tries: Sequence[Try], now: datetime) -> Verdict:
    """Whether a partition with these tries, oldest first, is to be tried again at `now`."""
    if not tries:
        return Verdict(False, "it has not been tried yet: that is up to its schedule")
    for outcome in (Outcome.SUCCEEDED, Outcome.UNDER_WAY):
        if any(each.outcome is outcome for each in tries):
            return Verdict(False, f"a run {outcome.value}")
    last = tries[-1]
    if last.outcome is not Outcome.TRANSIENT or last.ended_at is None:
        return Verdict(False, f"run {last.run_id} {last.outcome.value}")
    n_failures = _n_transient_at_the_end(tries)
    due_at = last.ended_at + pause_after(n_failures)
    if now < due_at:
        return Verdict(False, f"try {n_failures + 1} is due at {due_at:%Y-%m-%d %H:%M} UTC")
    return Verdict(True, f"try {n_failures + 1}: run {last.run_id} {last.outcome.value}", last)


def judge_nights(nights: Mapping[date, Sequence[Try]], now: datetime) -> dict[date, Verdict]:
    """The same for nights that build on each other, by day.

    A day's states need every earlier day, so a night waits for an earlier one that may still mend itself, and is due at
    once when an earlier one has succeeded since it began: that may be what it lacked. A night that was never tried
    after one that was has been missed in an outage, and is due; only the newest is left to its schedule, which comes
    back to it but to none before.
    """
    verdicts: dict[date, Verdict] = {}
    mending: date | None = None
    last_success_at: datetime | None = None
    for day in sorted(nights):
        tries = nights[day]
        verdict = judge(tries, now)
        last = tries[-1] if tries else None
        succeeded_at = [each.ended_at for each in tries if each.outcome is Outcome.SUCCEEDED and each.ended_at]
        is_closed = any(each.outcome is Outcome.SUCCEEDED for each in tries)
        is_under_way = any(each.outcome is Outcome.UNDER_WAY for each in tries)
        if last is not None and not is_closed and not is_under_way and _may_mend(last):
            if mending is not None:
                verdict = Verdict(False, f"the night of {mending} comes first")
            elif last.began_at is not None and last_success_at is not None and last_success_at > last.began_at:
                verdict = Verdict(True, f"an earlier night has succeeded since run {last.run_id} began", last)
        elif last is None and any(nights[other] for other in verdicts) and day != max(nights):
            verdict = Verdict(True, "it was missed")
        verdicts[day] = verdict
        if not is_closed and (is_under_way or (last is not None and last.outcome is Outcome.TRANSIENT)):
            mending = mending or day
        last_success_at = max([moment for moment in (last_success_at, *succeeded_at) if moment], default=None)
    return verdicts


def _may_mend(last: Try) -> bool:
    return last.outcome in (Outcome.TRANSIENT, Outcome.MISSING)


def _n_transient_at_the_end(tries: Sequence[Try]) -> int:
    n_failures = 0
    for each in reversed(tries):
        if each.outcome is not Outcome.TRANSIENT:
            break
        n_failures += 1
    return n_failures
