"""What becomes of source rows: which are taken over, which are set aside or lose a value, and why.

Here: the vocabulary every source table shares, and the two tables that need nothing else, vaccinations and calls.
Messages become events in message_intake, the registry becomes daily snapshots in registry_intake. Where rows come
from and where they go belongs to the stores.

Each table is taken in by two steps, so that the first result can be kept and read several times: `judge_...` joins
the keys and numbers each row's fault, `take_in_...` divides what was judged. Between them stands who was forgotten
(`without_forgotten`); nothing after it knows a caregiver's id, and records of rows set aside never show one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

import ibis

from bandicoot_core.calendar import days_between, end_of_day, start_of_day
from bandicoot_core.contracts import CALL_OUTCOMES, CALLS, VACCINATIONS

Action = Literal["row set aside", "value blanked"]
ROW_SET_ASIDE: Action = "row set aside"
VALUE_BLANKED: Action = "value blanked"

OfRow = Callable[[ibis.Table], ibis.Value]


@dataclass(frozen=True)
class Fault:
    """Something that can be wrong with a source row.

    `is_present` sees the row with its caregiver_id and caregiver_key (null counts as no), `found` the judged row.
    `reason` completes "3 rows have ...".
    """

    column_name: str
    is_present: OfRow
    found: OfRow
    reason: str


@dataclass(frozen=True)
class Intake:
    """What becomes of source rows, each with `partition_date`, the Asia/Kolkata day whose partition it belongs to.

    `accepted` holds the contract's rows. `set_aside` holds SET_ASIDE records: one for each source row set aside and
    one for each value blanked. `counts` has a row for each day with source rows: `n_read` of them, `n_set_aside` of
    these set aside, and `n_blanked` values blanked in the others.
    """

    accepted: ibis.Table
    set_aside: ibis.Table
    counts: ibis.Table


def is_blank(text: ibis.Value) -> ibis.Value:
    """Whether a text is missing, empty or nothing but white space; never null."""
    return ibis.or_(text.isnull(), text.strip() == "").fill_null(True)


def text_of(instant: ibis.Value) -> ibis.Value:
    """An instant as text, in UTC and to the microsecond."""
    return instant.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def day_among(instant: ibis.Value, days: Sequence[date]) -> ibis.Value:
    """Which of some consecutive Asia/Kolkata days, in order, an instant lies on; null when on none.

    By comparing with the ends of the days: arithmetic on instants goes through a calendar, and takes 20 times longer.
    """
    if not days or list(days) != days_between(days[0], days[-1]):
        raise ValueError(
            f"days must be one or more consecutive days in order; found {', '.join(map(str, days)) or 'none'}"
        )
    later = [(instant < end_of_day(day), ibis.literal(day)) for day in days]
    return ibis.cases((instant < start_of_day(days[0]), ibis.null("date")), *later)


def _not_shown(rows: ibis.Table) -> ibis.Value:
    return ibis.null("string")


CAREGIVER_FAULTS = (
    Fault("caregiver_id", lambda rows: is_blank(rows.caregiver_id), _not_shown, "no caregiver_id (expected one)"),
    Fault(
        "caregiver_id",
        lambda rows: rows.caregiver_key.isnull(),
        _not_shown,
        "a caregiver_id that the registry does not hold (expected one of the table caregivers)",
    ),
)
"""The two ways in which a row has no caregiver. The id is not shown: the lake holds none."""

_VACCINATION_FAULTS = (
    *CAREGIVER_FAULTS,
    Fault(
        "vaccine_name",
        lambda rows: is_blank(rows.vaccine_name),
        lambda rows: rows.vaccine_name,
        "no vaccine_name (expected the vaccine and dose)",
    ),
)

_CALL_FAULTS = (
    *CAREGIVER_FAULTS,
    Fault(
        "outcome",
        lambda rows: rows.outcome.fill_null("").notin(CALL_OUTCOMES),
        lambda rows: rows.outcome,
        f"an outcome that is not allowed (expected one of {', '.join(CALL_OUTCOMES)})",
    ),
)


def judge_vaccinations(rows: ibis.Table, keys: ibis.Table) -> ibis.Table:
    """Rows of the source table vaccinations with caregiver_key, fault and partition_date, the day of actual_date.

    `keys` has caregiver_key and caregiver_id. Rows without actual_date are not expected.
    """
    judged = judge(rows, keys, _VACCINATION_FAULTS)
    return judged.mutate(partition_date=judged.actual_date)


def take_in_vaccinations(judged: ibis.Table) -> Intake:
    """Doses [VACCINATIONS] from judged rows; set aside are rows without known caregiver or vaccine_name.

    Equal rows all stay: twins get the same dose on the same day.
    """
    source_row = ibis.literal("vaccine_name=").concat(
        judged.vaccine_name.fill_null(""),
        ", scheduled_date=",
        judged.scheduled_date.cast("string").fill_null(""),
        ", actual_date=",
        judged.actual_date.cast("string"),
    )
    return _divide(judged.mutate(source_row=source_row), _VACCINATION_FAULTS, VACCINATIONS.column_names)


def judge_calls(rows: ibis.Table, keys: ibis.Table, days: Sequence[date]) -> ibis.Table:
    """Rows of bandicoot.call_outcomes with caregiver_key, fault and partition_date, the day of attempted_at.

    Rows attempted on none of `days`, which are consecutive and in order, are left out.
    """
    judged = judge(rows, keys, _CALL_FAULTS)
    judged = judged.mutate(partition_date=day_among(judged.attempted_at, days))
    return judged.filter(judged.partition_date.notnull())


def take_in_calls(judged: ibis.Table) -> Intake:
    """Calls [CALLS] from judged rows; set aside are rows without known caregiver or with an unknown outcome."""
    rows = judged.mutate(source_row=ibis.literal("call_id=").concat(judged.call_id))
    return _divide(rows, _CALL_FAULTS, CALLS.column_names)


def judge(rows: ibis.Table, keys: ibis.Table, faults: Sequence[Fault]) -> ibis.Table:
    """The rows with the columns of `keys` but caregiver_id, and `fault`: the number of the first one present, or null.

    Every row stays, once. `unknown_id` is the id of a row whose caregiver has no key, else null: it tells those who
    were forgotten, and goes with them.
    """
    known = keys.rename(known_id="caregiver_id")
    joined = rows.left_join(known, rows.caregiver_id == known.known_id)
    present = [(fault.is_present(joined).fill_null(False), number) for number, fault in enumerate(faults)]
    unknown_id = ibis.ifelse(joined.caregiver_key.isnull(), joined.caregiver_id, ibis.null("string"))
    judged = joined.mutate(fault=ibis.cases(*present).cast("int8"), unknown_id=unknown_id)
    return judged.drop("caregiver_id", "known_id")


def without_forgotten(judged: ibis.Table, forgotten_ids: ibis.Table) -> ibis.Table:
    """Judged rows but those of forgotten caregivers, without unknown_id. Their rows are neither kept nor set aside.

    forgotten_ids: one column caregiver_id.
    """
    kept = judged.anti_join(forgotten_ids, judged.unknown_id == forgotten_ids.caregiver_id)
    return kept.drop("unknown_id")


def fault_records(faulty: ibis.Table, faults: Sequence[Fault]) -> ibis.Table:
    """The records of judged rows with a fault; they need `source_row` and `partition_date`."""

    def of_fault(values: Sequence[ibis.Value | str]) -> ibis.Value:
        return ibis.cases(*((faulty.fault == number, value) for number, value in enumerate(values)))

    return records(
        faulty,
        column_name=of_fault([fault.column_name for fault in faults]),
        found=of_fault([fault.found(faulty).cast("string") for fault in faults]),
        reason=of_fault([fault.reason for fault in faults]),
        action=ROW_SET_ASIDE,
    )


def records(
    rows: ibis.Table, *, column_name: ibis.Value | str, found: ibis.Value, reason: ibis.Value | str, action: Action
) -> ibis.Table:
    """One SET_ASIDE record for each row, which needs `source_row`, `caregiver_key` and `partition_date`."""
    return rows.select(
        "partition_date",
        "source_row",
        "caregiver_key",
        column_name=_in_words(column_name),
        found=found.cast("string"),
        reason=_in_words(reason),
        action=_in_words(action),
    )


def _in_words(value: ibis.Value | str) -> ibis.Value:
    """A text stands for itself here, where an engine's select would take it for the name of a column."""
    return ibis.literal(value) if isinstance(value, str) else value


def _divide(judged: ibis.Table, faults: Sequence[Fault], columns: Sequence[str]) -> Intake:
    """The intake of judged rows that each belong to one day and are taken over as they are."""
    accepted = judged.filter(judged.fault.isnull()).select("partition_date", *columns)
    counts = judged.group_by("partition_date").aggregate(
        n_read=judged.count(), n_set_aside=judged.fault.notnull().sum(), n_blanked=ibis.literal(0)
    )
    return Intake(accepted, fault_records(judged.filter(judged.fault.notnull()), faults), counts)
