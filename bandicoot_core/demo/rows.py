"""From the demo's arrays to rows of the source tables, as Arrow tables with exactly the columns of each table.

Nothing at or after the end of the asked window shows: a later open is a null, a later opt-out an active caregiver.
Each function returns the rows that came into being or changed within a window, as they stand at its end. How the
tables are created and filled belongs to `source_schema` and `load`.
"""

from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bandicoot_core.contracts import ACTIVE_STATUS, CALL_OUTCOMES
from bandicoot_core.demo.calls import WeekCalls
from bandicoot_core.demo.doses import DOSES, DoseBook
from bandicoot_core.demo.messages import MESSAGE_TYPES, Messages
from bandicoot_core.demo.population import BoolArray, Population
from bandicoot_core.demo.programme import SECONDS_PER_DAY, Programme, day_start_second, epoch_day

UNREAD_NAME = "NOT-READ-NAME"
UNREAD_PHONE = "NOT-READ-PHONE"
"""Stand-ins for what must never leave the source: wherever one of them turns up, there is a leak."""

OPTED_OUT_STATUS = "opted_out"
HISTORIC_CALL_PREFIX = "HIST-"
HISTORIC_RECORDER = "historic_policy"

_MESSAGE_STATUSES = ("failed", "sent", "delivered", "opened", "clicked")


@dataclass(frozen=True)
class Window:
    """The Asia/Kolkata days from `since` (None: the beginning) up to, and not including, `until`."""

    since: date | None
    until: date

    @property
    def since_day(self) -> int:
        """First day, counted from 1970-01-01."""
        return -(2**31) if self.since is None else epoch_day(self.since)

    @property
    def until_day(self) -> int:
        """First day after the window, counted from 1970-01-01."""
        return epoch_day(self.until)

    def has_day(self, day: npt.NDArray[np.integer]) -> BoolArray:
        """Which days lie in the window."""
        return np.asarray((day >= self.since_day) & (day < self.until_day))

    def has_second(self, second: npt.NDArray[np.int64]) -> BoolArray:
        """Which instants (seconds since 1970 UTC) lie in the window."""
        is_late_enough = second >= day_start_second(self.since_day)
        return np.asarray(is_late_enough & (second < day_start_second(self.until_day)))


def caregiver_rows(programme: Programme, population: Population, block: slice, window: Window) -> pa.Table:
    """Rows of `caregivers` for a block of caregivers: enrolled, or opted out, within the window."""
    first_day = epoch_day(programme.first_week_date)
    enrolled_day = population.enrolled_day[block]
    # Whoever never opts out would overflow 32 bits here.
    opted_out_day = first_day + 7 * population.opted_out_week[block].astype(np.int64)
    is_changed = window.has_day(enrolled_day) | window.has_day(opted_out_day)
    index = block.start + np.flatnonzero(is_changed & (enrolled_day < window.until_day))
    is_opted_out = opted_out_day[index - block.start] < window.until_day
    return pa.table(
        {
            "caregiver_id": population.caregiver_ids.take(pa.array(index)),
            "full_name": pa.repeat(UNREAD_NAME, len(index)),
            "phone_number": pa.repeat(UNREAD_PHONE, len(index)),
            "district": _names([place.name for place in programme.districts], population.district[index]),
            "enrolled_at": _instants(population.enrolled_second[index]),
            "age": pa.array(population.age[index], mask=~population.is_age_known[index]),
            "parity": pa.array(population.parity[index]),
            "phone_reliable": pa.array(population.is_phone_reliable[index]),
            "enrollment_source": _names(
                [source.name for source in programme.enrollment_sources], population.source[index]
            ),
            "status": _names([ACTIVE_STATUS, OPTED_OUT_STATUS], is_opted_out.astype(np.int8)),
        }
    )


def message_rows(population: Population, messages: Messages, window: Window) -> pa.Table:
    """Rows of `sms_logs`: messages to which something happened within the window."""
    instants = (messages.sent, messages.delivered, messages.opened, messages.clicked)
    index = np.flatnonzero(np.logical_or.reduce([window.has_second(instant) for instant in instants]))
    until = day_start_second(window.until_day)
    sent, delivered, opened, clicked = (instant[index] for instant in instants)
    is_failed = messages.is_failed[index]
    n_steps = (delivered < until).astype(np.int8) + (opened < until) + (clicked < until)
    return pa.table(
        {
            "message_id": _numbered("M-", messages.number[index], width=10),
            "caregiver_id": population.caregiver_ids.take(pa.array(messages.caregiver[index])),
            "message_type": _names(MESSAGE_TYPES, messages.message_type[index]),
            "sent_at": _instants(sent),
            "delivered_at": _instants(delivered, until),
            "opened_at": _instants(opened, until),
            "clicked_at": _instants(clicked, until),
            "status": _names(_MESSAGE_STATUSES, np.where(is_failed, 0, 1 + n_steps)),
        }
    )


def vaccination_rows(population: Population, doses: DoseBook, dose: int, block: slice, window: Window) -> pa.Table:
    """Rows of `vaccinations` for one dose of a block of caregivers: planned, or given, within the window.

    A dose is planned at enrolment, so that its scheduled_date may lie in the future; its actual_date never does.
    """
    enrolled_day, given = population.enrolled_day[block], doses.given_day[dose, block]
    is_changed = window.has_day(enrolled_day) | window.has_day(given)
    index = np.flatnonzero(is_changed & (enrolled_day < window.until_day))
    caregiver_ids = population.caregiver_ids.take(pa.array(block.start + index))
    return pa.table(
        {
            "caregiver_id": caregiver_ids,
            "child_id": pc.replace_substring(caregiver_ids, "CG-", "CH-"),
            "vaccine_name": pa.repeat(DOSES[dose].vaccine_name, len(index)),
            "scheduled_date": _dates(enrolled_day[index] + np.int32(DOSES[dose].due_after_days)),
            "actual_date": _dates(given[index], window.until_day),
        }
    )


def call_rows(population: Population, calls: WeekCalls, window: Window) -> pa.Table:
    """Rows of `call_outcomes`: calls attempted within the window, numbered by their order in the whole week."""
    index = np.flatnonzero(window.has_second(calls.attempted_second))
    attempted = calls.attempted_second[index]
    call_day = (attempted - day_start_second(0)) // SECONDS_PER_DAY
    return pa.table(
        {
            "call_id": _numbered(f"{HISTORIC_CALL_PREFIX}{calls.week:03d}-", index + 1, width=6),
            "caregiver_id": population.caregiver_ids.take(pa.array(calls.caregiver[index])),
            "call_date": _dates(call_day.astype(np.int32)),
            "attempted_at": _instants(attempted),
            "outcome": _names(CALL_OUTCOMES, calls.outcome[index]),
            "recorded_by": pa.repeat(HISTORIC_RECORDER, len(index)),
        }
    )


def _names(names: tuple[str, ...] | list[str], index: npt.NDArray[np.integer]) -> pa.StringArray:
    return pa.array(names, type=pa.string()).take(pa.array(index))


def _numbered(prefix: str, number: npt.NDArray[np.int64], *, width: int) -> pa.StringArray:
    digits = pc.utf8_lpad(pa.array(number).cast(pa.string()), width=width, padding="0")
    return pc.binary_join_element_wise(prefix, digits, "")


def _instants(second: npt.NDArray[np.int64], until: int | None = None) -> pa.TimestampArray:
    """Seconds since 1970 UTC as instants; null from `until` on."""
    mask = None if until is None else second >= until
    return pa.array(second, mask=mask).cast(pa.timestamp("s", tz="UTC"))


def _dates(day: npt.NDArray[np.int32], until_day: int | None = None) -> pa.Date32Array:
    """Days since 1970-01-01 as dates; null from `until_day` on."""
    return pa.array(day, mask=None if until_day is None else day >= until_day).cast(pa.date32())
