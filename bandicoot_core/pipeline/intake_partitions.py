"""Writing what was taken in, day by day, unless too much of a day had to be set aside.

One partition holds the accepted rows (`data`), the records of what was set aside or blanked (`set_aside`), and how
many rows of the source there were (facts). What is wrong with a row is decided in engagement's intakes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

import ibis
import pyarrow as pa
import pyarrow.compute as pc
from ibis.backends.duckdb import Backend

from bandicoot_core.calendar import days_between
from bandicoot_core.contracts import SET_ASIDE, TableContract
from bandicoot_core.engagement.intake import ROW_SET_ASIDE, Intake
from bandicoot_core.errors import TooManyInvalidRowsError
from bandicoot_core.stores.lake.lake import Lake
from bandicoot_core.stores.lake.manifest import SET_ASIDE_TABLE, Manifest


@dataclass(frozen=True)
class IntakeTarget:
    """Where an intake is written: the asset named like its contract, and what may be set aside on the way."""

    lake: Lake
    engine: Backend
    contract: TableContract
    source_table: str
    """The table the rows come from, as the programme calls it."""
    max_invalid_share: float
    recipe: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[date, Mapping[str, Any]] = field(default_factory=dict)
    """What else the manifest of a day says."""
    is_small: bool = False
    """Whether the accepted rows of an intake fit in memory: days are then cut there, not by a query each."""


def write_partitions(target: IntakeTarget, intake: Intake, days: Sequence[date]) -> Iterator[Manifest]:
    """Write the partitions of these days in their order, each when it is asked for; a day without rows is empty.

    Facts of each partition: n_read, n_accepted and n_set_aside rows of the source, n_blanked values.

    Raises TooManyInvalidRowsError for a day of which a larger share than max_invalid_share would be set aside: the
    partition stays as it was.
    """
    counts = {row.pop("partition_date"): row for row in intake.counts.to_pyarrow().to_pylist()}
    accepted = intake.accepted.to_pyarrow() if target.is_small else intake.accepted
    for day in days:
        found = counts.get(day, {})
        n_read, n_set_aside, n_blanked = (int(found.get(name, 0)) for name in ("n_read", "n_set_aside", "n_blanked"))
        set_aside = intake.set_aside.filter(intake.set_aside.partition_date == day)
        if n_set_aside > target.max_invalid_share * n_read:
            raise TooManyInvalidRowsError(_refusal(target, day, n_read, n_set_aside, set_aside))
        yield target.lake.write(
            target.contract.name,
            day.isoformat(),
            {
                "data": (target.contract, _of_day(accepted, day)),
                SET_ASIDE_TABLE: (SET_ASIDE, _in_memory(set_aside) if n_set_aside + n_blanked else SET_ASIDE.empty()),
            },
            engine=target.engine,
            recipe=target.recipe,
            facts={
                "n_read": n_read,
                "n_accepted": n_read - n_set_aside,
                "n_set_aside": n_set_aside,
                "n_blanked": n_blanked,
                **target.facts.get(day, {}),
            },
        )


def reasons_set_aside(lake: Lake, manifest: Manifest) -> pa.Table | None:
    """Why rows or values of a partition were set aside, and how many: column_name, reason, action, n_rows.

    None when there are none. Which rows they were stays in the lake.
    """
    if SET_ASIDE_TABLE not in manifest.entries or not manifest.n_rows(SET_ASIDE_TABLE):
        return None
    rows = lake.read(SET_ASIDE, manifest.asset, manifest.partition, SET_ASIDE_TABLE)
    counted = rows.group_by(["column_name", "reason", "action"]).aggregate([([], "count_all")])
    counted = counted.rename_columns(["column_name", "reason", "action", "n_rows"])
    return counted.sort_by([("n_rows", "descending"), ("reason", "ascending")])


def rows_by_day(lake: Lake, asset: str, last_day: date, n_days: int = 28) -> pa.Table:
    """Rows of the existing partitions of an intake by day, oldest first, from their manifests alone.

    Columns period_date, n_accepted and n_set_aside; days without a partition are left out.
    """
    keys = [day.isoformat() for day in days_between(last_day - timedelta(days=n_days - 1), last_day)]
    rows = [
        {
            "period_date": date.fromisoformat(manifest.partition),
            "n_accepted": int(manifest.facts["n_accepted"]),
            "n_set_aside": int(manifest.facts["n_set_aside"]),
        }
        for manifest in lake.manifests(asset, keys)
        if manifest is not None
    ]
    schema = pa.schema([("period_date", pa.date32()), ("n_accepted", pa.int64()), ("n_set_aside", pa.int64())])
    return pa.Table.from_pylist(rows, schema=schema)


def _of_day(rows: ibis.Table | pa.Table, day: date) -> ibis.Table | pa.Table:
    if isinstance(rows, pa.Table):
        return rows.filter(pc.equal(rows["partition_date"], pa.scalar(day)))
    return rows.filter(rows.partition_date == day)


def _in_memory(set_aside: ibis.Table) -> pa.Table:
    return set_aside.select(SET_ASIDE.column_names).to_pyarrow()


def _refusal(target: IntakeTarget, day: date, n_read: int, n_set_aside: int, set_aside: ibis.Table) -> str:
    rows = set_aside.filter(set_aside.action == ROW_SET_ASIDE)
    by_reason = rows.group_by("reason", "column_name").aggregate(
        n=rows.count(), source_row=rows.source_row.min(), found=rows.found.argmin(rows.source_row)
    )
    findings = [
        f"{row['n']} {'row has' if row['n'] == 1 else 'rows have'} {row['reason']} (first: {row['source_row']}"
        + (f", {row['column_name']} {row['found']!r})" if row["found"] is not None else ")")
        for row in by_reason.order_by(by_reason.n.desc(), "reason").to_pyarrow().to_pylist()
    ]
    return (
        f"{target.source_table}: {'; '.join(findings)}. That is {n_set_aside} of {n_read} rows of {day}, "
        f"{n_set_aside / n_read:.1%} where max_invalid_share allows {target.max_invalid_share:.1%}; "
        f"the partition {target.contract.name}/{day} was not written and stays as it was; fix the source or raise "
        "max_invalid_share (BANDICOOT_MAX_INVALID_SHARE)"
    )
