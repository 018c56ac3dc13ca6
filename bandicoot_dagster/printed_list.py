"""A published call list as text for a terminal, and as CSV."""

import csv
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

_WIDTH = 118
_LINE = "{rank:>4}  {caregiver_id:<12} {district:<16} {state:<5} {own_index:>6}  {reason}"


def render_list(table: pa.Table) -> str:
    """The list as lines, the reason wrapped under its column."""
    header = _LINE.format(
        rank="rank",
        caregiver_id="caregiver",
        district="district",
        state="state",
        own_index="index",
        reason="reason",
    )
    indent = header.index("reason")
    lines = [header]
    for row in table.to_pylist():
        start = _LINE.format(
            rank=row["rank"],
            caregiver_id=row["caregiver_id"],
            district=row["district"] or "(unknown)",
            state=row["state"],
            own_index=f"{_own_index(row):.3f}",
            reason="",
        )
        reason = textwrap.wrap(row["reason"], _WIDTH - indent)
        lines.append(start[:indent].ljust(indent) + (reason[0] if reason else ""))
        lines.extend(" " * indent + more for more in reason[1:])
    if not table.num_rows:
        lines.append("(the list is empty)")
    return "\n".join(lines)


def _own_index(row: Mapping[str, Any]) -> float:
    """What a call is worth to her; in lists of older releases, to her cluster."""
    own: float | None = row["own_index"]
    return float(row["whittle_index"]) if own is None else own


def write_csv(table: pa.Table, path: Path) -> None:
    """The list as CSV with a header, replaced in one step; instants in ISO 8601, missing values empty."""
    arriving = path.with_name(f".{path.name}.arriving")
    with arriving.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(table.column_names)
        for row in table.to_pylist():
            writer.writerow([_text(value) for value in row.values()])
    arriving.replace(path)


def _text(value: object) -> object:
    isoformat = getattr(value, "isoformat", None)
    return isoformat() if isoformat is not None else value
