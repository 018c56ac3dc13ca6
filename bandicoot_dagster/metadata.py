"""What every asset shows in the UI: column schema, row counts, pictures and small tables, from manifests and contracts.

Only the translation into Dagster's metadata values belongs here; the pictures are drawn in bandicoot_core.evaluation.
"""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
import pyarrow as pa

from bandicoot_core.checks import CheckOutcome
from bandicoot_core.contracts import TableContract
from bandicoot_core.contracts.lineage import COLUMN_LINEAGE
from bandicoot_core.evaluation.report import Report
from bandicoot_core.stores.lake.glance import first_rows
from bandicoot_core.stores.lake.lake import Lake
from bandicoot_core.stores.lake.manifest import SET_ASIDE_TABLE, Manifest

_PREVIEW_ROWS = 10
_NEVER_SHOWN = {"caregiver_id", "message_id", "call_id"}
"""What the source calls a person or a row; Dagster's storage holds none of it."""


def column_schema(contract: TableContract) -> dict[str, Any]:
    """Definition metadata: the contract's columns with descriptions, units and constraints."""
    columns = []
    for column in contract.columns:
        unit = f" [{column.unit}]" if column.unit else ""
        allowed = f" One of {', '.join(column.allowed)}." if column.allowed else ""
        columns.append(
            dg.TableColumn(
                name=column.name,
                type=column.type,
                description=f"{column.description}{unit}.{allowed}",
                constraints=dg.TableColumnConstraints(
                    nullable=column.is_nullable, unique=contract.key == (column.name,)
                ),
            )
        )
    return {"dagster/column_schema": dg.TableSchema(columns=columns)}


def column_lineage(asset: str) -> dict[str, Any]:
    """Materialization metadata: which columns each column of an asset comes from; nothing for an asset without."""
    if asset not in COLUMN_LINEAGE:
        return {}
    by_column = {}
    for column, sources in COLUMN_LINEAGE[asset].items():
        split = [source.rpartition(".") for source in sources]
        by_column[column] = [dg.TableColumnDep(dg.AssetKey(table.split("/")), name) for table, _, name in split]
    return {"dagster/column_lineage": dg.TableColumnLineage(by_column)}


def partition_metadata(manifest: Manifest, *, table: str = "data") -> dict[str, Any]:
    """Materialization metadata of one partition: rows, bytes, rows set aside, and the facts of the manifest."""
    metadata: dict[str, Any] = {
        "n_bytes": sum(entry.n_bytes for entry in manifest.entries.values()),
        "digest": manifest.digest[:16],
    }
    if table in manifest.entries:
        metadata["dagster/row_count"] = manifest.n_rows(table)
    metadata.update(column_lineage(manifest.asset))
    if SET_ASIDE_TABLE in manifest.entries:
        metadata["n_set_aside_rows"] = manifest.n_rows(SET_ASIDE_TABLE)
    for name, value in manifest.facts.items():
        if isinstance(value, bool | int | float | str):
            metadata[name] = value
        elif isinstance(value, list | dict):
            metadata[name] = dg.MetadataValue.json(value)
    return metadata


def picture(png: bytes, title: str) -> dg.MarkdownMetadataValue:
    """A PNG embedded in Markdown, so that the UI shows it without a file server."""
    return dg.MetadataValue.md(f"![{title}](data:image/png;base64,{base64.b64encode(png).decode()})")


def preview(table: pa.Table, columns: Sequence[str] | None = None, n_rows: int = _PREVIEW_ROWS) -> Any:
    """The first rows of a table as a Markdown table, without the names that the source gave."""
    names = [name for name in columns or table.column_names if name not in _NEVER_SHOWN]
    shown = table.select(names).slice(0, n_rows)
    header = f"| {' | '.join(shown.column_names)} |\n|{' --- |' * shown.num_columns}\n"
    rows = "\n".join(f"| {' | '.join(_cell(row[name]) for name in shown.column_names)} |" for row in shown.to_pylist())
    return dg.MetadataValue.md(header + rows)


def glance(lake: Lake, contract: TableContract, manifest: Manifest) -> dict[str, Any]:
    """The first rows of a partition that may be large, as metadata."""
    return {"first_rows": preview(first_rows(lake, contract, manifest, _PREVIEW_ROWS))}


def report_metadata(report: Report) -> dict[str, Any]:
    """A report's sentences, pictures and tables under their headings, whole."""
    metadata: dict[str, Any] = {}
    if report.sentences:
        metadata["summary"] = dg.MetadataValue.md("\n\n".join(report.sentences))
    for heading, png in report.pictures.items():
        metadata[_name(heading)] = picture(png, heading)
    for heading, table in report.tables.items():
        metadata[f"table_of_{_name(heading)}"] = preview(table, n_rows=table.num_rows)
    return metadata


def check_results(outcomes: Sequence[CheckOutcome], asset: str) -> list[dg.AssetCheckResult]:
    """Check outcomes as Dagster shows them; a failed blocking one stops what is downstream."""
    return [
        dg.AssetCheckResult(
            asset_key=asset,
            check_name=outcome.name,
            passed=bool(outcome.is_passed),
            severity=dg.AssetCheckSeverity.ERROR if outcome.is_blocking else dg.AssetCheckSeverity.WARN,
            description=outcome.description,
            metadata={
                **_plain(outcome.facts),
                **({"failing_rows": preview(outcome.rows)} if outcome.rows is not None else {}),
            },
        )
        for outcome in outcomes
    ]


def outcomes_table(outcomes: Sequence[CheckOutcome]) -> Any:
    """Check outcomes as a Markdown table, where they are information and stop nothing."""
    verdict = {True: "passed", False: "would warn"}
    rows = [
        {
            "check": outcome.name,
            "result": "would refuse" if outcome.is_blocking and not outcome.is_passed else verdict[outcome.is_passed],
            "found": outcome.description,
        }
        for outcome in outcomes
    ]
    return preview(pa.Table.from_pylist(rows), n_rows=len(rows))


def _plain(facts: Mapping[str, int | float | str]) -> dict[str, Any]:
    return dict(facts)


def _name(heading: str) -> str:
    return "_".join("".join(character if character.isalnum() else " " for character in heading.lower()).split())


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value).replace("|", "\\|")
