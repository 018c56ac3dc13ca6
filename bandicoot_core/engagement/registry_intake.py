"""The registry of the source becomes daily snapshots: who was enrolled at the end of each day, with her features.

What a fault, a record and an intake are belongs to intake. The source keeps no history of the registry: a snapshot of
an earlier day shows who was enrolled by then, with the district, features and status of when it was read.
"""

from collections.abc import Sequence
from datetime import date

import ibis
import pyarrow as pa

from bandicoot_core.calendar import end_of_day
from bandicoot_core.contracts import CAREGIVERS, Column
from bandicoot_core.engagement.intake import (
    CAREGIVER_FAULTS,
    ROW_SET_ASIDE,
    VALUE_BLANKED,
    Fault,
    Intake,
    fault_records,
    is_blank,
    judge,
    records,
    text_of,
)

_BOUNDED = (CAREGIVERS.column("age"), CAREGIVERS.column("parity"))

_FAULTS = (
    CAREGIVER_FAULTS[0],
    Fault(
        "enrolled_at",
        lambda rows: rows.enrolled_at.isnull(),
        lambda rows: text_of(rows.enrolled_at),
        "no enrolled_at (expected the instant of enrolment)",
    ),
    Fault(
        "status", lambda rows: is_blank(rows.status), lambda rows: rows.status, "no status (expected one, as 'active')"
    ),
)

_ORDER = ("enrolled_at", "district", "age", "parity", "phone_reliable", "enrollment_source", "status")
"""Of several rows of a caregiver the last in this order is kept."""


def judge_caregivers(rows: ibis.Table, keys: ibis.Table) -> ibis.Table:
    """Rows of the source table caregivers with caregiver_key, ab_arm, fault and superseded_at, without caregiver_id.

    `keys` has caregiver_key, caregiver_id and ab_arm, for every caregiver_id of the rows that is neither blank nor
    forgotten. Of several
    faultless rows of a caregiver the one with the newest enrolled_at counts, and among equals the greatest by its
    other columns; superseded_at is the enrolled_at of the row that takes a row's place, or null.
    """
    judged = judge(rows, keys, _FAULTS)
    successor = judged.enrolled_at.lead().over(
        group_by=[judged.caregiver_key, judged.fault.isnull()], order_by=[judged[name] for name in _ORDER]
    )
    return judged.mutate(superseded_at=ibis.ifelse(judged.fault.isnull(), successor, None))


def take_in_caregivers(judged: ibis.Table, days: Sequence[date], *, districts: Sequence[str] = ()) -> Intake:
    """Snapshots [CAREGIVERS] at the end of each Asia/Kolkata day, from judged rows of the registry.

    A row belongs to the days whose end lies after enrolled_at, one without enrolled_at to all. Set aside are rows
    without caregiver_id, enrolled_at or status, and rows that a newer one of the same caregiver has superseded by
    then. Blanked are ages and parities out of the contract's bounds and, when `districts` are given, other districts.
    White space around district and enrollment_source goes, and what is empty then is null.
    """
    ends = ibis.memtable(
        pa.table(
            {
                "partition_date": pa.array(days, pa.date32()),
                "day_end_at": pa.array([end_of_day(day) for day in days], pa.timestamp("us", tz="UTC")),
            }
        )
    )
    named = judged.mutate(source_row=_source_row(judged), district=_text(judged.district))
    faultless = named.filter(named.fault.isnull())
    enrolled = faultless.join(ends, faultless.enrolled_at < ends.day_end_at)
    current = enrolled.filter(ibis.or_(enrolled.superseded_at.isnull(), enrolled.superseded_at >= enrolled.day_end_at))
    superseded = enrolled.filter(enrolled.superseded_at < enrolled.day_end_at)
    faulty = named.filter(named.fault.notnull())
    faulty = faulty.join(ends, ibis.or_(faulty.enrolled_at.isnull(), faulty.enrolled_at < ends.day_end_at))
    set_aside = ibis.union(
        fault_records(faulty, _FAULTS),
        records(
            superseded,
            column_name="caregiver_id",
            found=text_of(superseded.enrolled_at),
            reason="a newer row of the same caregiver_id (expected one row each; the newest enrolled_at stays)",
            action=ROW_SET_ASIDE,
        ),
        *_blanked_values(current, districts),
    )
    accepted = current.select(
        "partition_date",
        "caregiver_key",
        "enrolled_at",
        "phone_reliable",
        "status",
        "ab_arm",
        district=_kept(current.district, _is_foreign(current, districts)),
        enrollment_source=_text(current.enrollment_source),
        **{column.name: _kept(current[column.name], _is_out_of_bounds(current, column)) for column in _BOUNDED},
    )
    present = judged.join(ends, ibis.or_(judged.enrolled_at.isnull(), judged.enrolled_at < ends.day_end_at))
    n_read = present.group_by("partition_date").aggregate(n_read=present.count())
    return Intake(accepted, set_aside, _counts(n_read, set_aside))


def _counts(n_read_by_day: ibis.Table, set_aside: ibis.Table) -> ibis.Table:
    by_day = set_aside.group_by("partition_date").aggregate(
        n_set_aside=(set_aside.action == ROW_SET_ASIDE).sum(), n_blanked=(set_aside.action == VALUE_BLANKED).sum()
    )
    joined = n_read_by_day.left_join(by_day, "partition_date")
    return joined.select(
        "partition_date", "n_read", n_set_aside=joined.n_set_aside.fill_null(0), n_blanked=joined.n_blanked.fill_null(0)
    )


def _blanked_values(current: ibis.Table, districts: Sequence[str]) -> list[ibis.Table]:
    blanked = [
        records(
            rows := current.filter(_is_out_of_bounds(current, column)),
            column_name=column.name,
            found=rows[column.name].cast("string"),
            reason=f"{column.name} out of bounds (expected {column.minimum} to {column.maximum} {column.unit})",
            action=VALUE_BLANKED,
        )
        for column in _BOUNDED
    ]
    if districts:
        foreign = current.filter(_is_foreign(current, districts))
        blanked.append(
            records(
                foreign,
                column_name="district",
                found=foreign.district,
                reason=f"a district outside the programme (expected one of {', '.join(districts)})",
                action=VALUE_BLANKED,
            )
        )
    return blanked


def _is_out_of_bounds(rows: ibis.Table, column: Column) -> ibis.Value:
    value = rows[column.name]
    return ibis.or_(value < column.minimum, value > column.maximum).fill_null(False)


def _is_foreign(rows: ibis.Table, districts: Sequence[str]) -> ibis.Value:
    if not districts:
        return ibis.literal(False)
    return rows.district.notin(list(districts)).fill_null(False)


def _kept(value: ibis.Value, is_blanked: ibis.Value) -> ibis.Value:
    return ibis.ifelse(is_blanked, None, value)


def _text(value: ibis.Value) -> ibis.Value:
    return value.strip().nullif("")


def _source_row(rows: ibis.Table) -> ibis.Value:
    """By the pseudonymous key; a row without caregiver_id has none and is described."""
    unnamed = ibis.literal("no caregiver_id, enrolled_at=").concat(
        text_of(rows.enrolled_at).fill_null(""), ", district=", rows.district.fill_null("")
    )
    key = ibis.literal("caregiver_key=").concat(rows.caregiver_key.cast("string"))
    return ibis.ifelse(rows.caregiver_key.isnull(), unnamed, key)
