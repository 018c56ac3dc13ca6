"""The command `bandicoot evaluate NAME`: the reports of the evaluation group, printed without the UI.

A report that is not there yet is made first, by the same run that the UI would start. What a report says belongs to
bandicoot_core; here it only becomes text, JSON and picture files.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bandicoot_core.calendar import day_of, last_closed_week, parse_day, week_of
from bandicoot_core.settings import load_settings
from bandicoot_dagster.clock import system_clock
from bandicoot_dagster.logs import say
from bandicoot_dagster.opening import open_installation

if TYPE_CHECKING:
    from bandicoot_core.evaluation.report import Report
    from bandicoot_core.stores.installation import Installation
    from bandicoot_core.stores.lake.lake import Lake


@dataclass(frozen=True)
class _Source:
    """The asset behind a report, and what reads it."""

    asset: str
    read: "Callable[[Lake, date], Report]"


def _sources() -> dict[str, _Source]:
    from bandicoot_core.pipeline.evaluation_backtest import read_model_backtest
    from bandicoot_core.pipeline.evaluation_coverage import read_coverage_report
    from bandicoot_core.pipeline.evaluation_estimation import read_estimation_report
    from bandicoot_core.pipeline.evaluation_experiment import read_experiment_report
    from bandicoot_core.pipeline.evaluation_simulation import read_policy_simulation

    return {
        "coverage": _Source("coverage_report", read_coverage_report),
        "estimation": _Source("estimation_report", read_estimation_report),
        "experiment": _Source("experiment_report", read_experiment_report),
        "backtest": _Source("model_backtest", read_model_backtest),
        "simulation": _Source("policy_simulation", read_policy_simulation),
    }


REPORTS = ("simulation", "estimation", "backtest", "experiment", "coverage")
"""The reports by the names the command takes."""


@click.command()
@click.argument("name", metavar="NAME", type=click.Choice(REPORTS))
@click.option("--week", metavar="DATE", help="A day of the week; default: the last week that has ended.")
@click.option("--again", is_flag=True, help="Make the report again, even when it is there.")
@click.option(
    "--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write its numbers to a file."
)
@click.option("--pictures", type=click.Path(file_okay=False, path_type=Path), help="Write its pictures to a folder.")
def evaluate(name: str, week: str | None, again: bool, json_file: Path | None, pictures: Path | None) -> None:
    """Print a report: simulation, estimation, backtest, experiment or coverage."""
    installation = open_installation(load_settings())
    sunday = week_of(parse_day(week, name="--week")) if week else last_closed_week(day_of(system_clock()))
    source = _sources()[name]
    if again or installation.lake.manifest(source.asset, sunday.isoformat()) is None:
        _make(installation, source.asset, sunday)
    report = source.read(installation.lake, sunday)
    if json_file is not None:
        json_file.write_text(json.dumps(_as_plain(report), indent=1, allow_nan=False) + "\n", encoding="utf-8")
        say(f"written to {json_file}")
    if pictures is not None:
        from bandicoot_core.evaluation.report import picture_file_name

        pictures.mkdir(parents=True, exist_ok=True)
        for heading, png in report.pictures.items():
            (pictures / picture_file_name(heading)).write_bytes(png)
        say(f"{len(report.pictures)} pictures written to {pictures}")
    click.echo(_as_text(report))


def _make(installation: "Installation", asset: str, week: date) -> None:
    from bandicoot_dagster.dagster_home import open_instance
    from bandicoot_dagster.definitions import build_definitions
    from bandicoot_dagster.launch import execute_step
    from bandicoot_dagster.plan import Step

    say(f"{asset}: {week} (not made yet, or to be made again)")
    step = Step("evaluation", week.isoformat(), week.isoformat(), why="asked for on the command line")
    with open_instance(installation) as instance:
        execute_step(build_definitions(installation.settings), instance, step, only_asset=asset)


def _as_text(report: "Report") -> str:
    from tabulate import tabulate

    parts = [report.title, "=" * len(report.title)]
    parts += [f"{sentence}" for sentence in report.sentences]
    for heading, table in report.tables.items():
        rows = [[_cell(value) for value in row.values()] for row in table.to_pylist()]
        parts.append(f"\n{heading}\n{tabulate(rows, headers=table.column_names, disable_numparse=True)}")
    return "\n".join(parts)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)


def _as_plain(report: "Report") -> dict[str, Any]:
    return {
        "title": report.title,
        "sentences": list(report.sentences),
        "tables": {
            heading: [{name: _json_value(value) for name, value in row.items()} for row in table.to_pylist()]
            for heading, table in report.tables.items()
        },
    }


def _json_value(value: object) -> object:
    """Dates and instants in ISO 8601; a number that is none as null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    isoformat = getattr(value, "isoformat", None)
    return isoformat() if isoformat is not None else value
