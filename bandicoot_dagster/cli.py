"""The command line: `bandicoot run | status | ui | api | call-list | model | evaluate | events | forget | lake |
cache | database | dagster | demo | stop`.

Each command is a few lines over the stores and the pipeline. Results go to standard output, progress and errors to
standard error; the exit codes are those of `EXIT_CODES` and fit for cron.
"""

import logging
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bandicoot_core.calendar import day_of, parse_day, refuse_future_day
from bandicoot_core.errors import (
    BandicootError,
    CheckFailedError,
    CorruptPartitionError,
    InvalidInputError,
    MissingPartitionError,
    NoChampionError,
    OutdatedPartitionError,
    OutdatedSchemaError,
    PartitionHeldError,
    RejectedModelError,
    StorageFullError,
    TrainingFailedError,
    TransientError,
)
from bandicoot_core.settings import Settings, load_list_options, load_model_options, load_settings
from bandicoot_dagster.cli_cache import cache
from bandicoot_dagster.cli_dagster import dagster
from bandicoot_dagster.cli_database import database
from bandicoot_dagster.cli_evaluate import evaluate
from bandicoot_dagster.cli_events import events
from bandicoot_dagster.cli_forget import forget
from bandicoot_dagster.cli_lake import lake
from bandicoot_dagster.cli_model import model
from bandicoot_dagster.cli_service import api
from bandicoot_dagster.cli_status import status
from bandicoot_dagster.clock import system_clock
from bandicoot_dagster.logs import logs_are_json, say, set_up_logs, tell
from bandicoot_dagster.opening import open_installation

if TYPE_CHECKING:
    from bandicoot_core.stores.installation import Installation

EXIT_CODES: dict[type[BandicootError], int] = {
    InvalidInputError: 3,
    CheckFailedError: 4,
    TransientError: 5,
    MissingPartitionError: 6,
    CorruptPartitionError: 6,
    NoChampionError: 6,
    OutdatedPartitionError: 6,
    OutdatedSchemaError: 6,
    TrainingFailedError: 7,
    StorageFullError: 8,
    PartitionHeldError: 9,
}
"""0 is success, 1 a fault nobody foresaw, 2 a wrong command line."""


class _Commands(click.Group):
    """A group whose commands turn foreseen errors into one message and their exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            set_up_logs()
            return super().invoke(ctx)
        except click.UsageError as error:
            if not logs_are_json():
                raise
            tell(f"bandicoot: {error.format_message()}", logging.ERROR, error=error)
            ctx.exit(error.exit_code)
        except BandicootError as error:
            tell(f"bandicoot: {error}", logging.ERROR, error=error)
            codes = [code for kind, code in EXIT_CODES.items() if isinstance(error, kind)]
            ctx.exit(codes[0] if codes else 1)


@click.group(cls=_Commands)
@click.version_option(package_name="bandicoot")
def main() -> None:
    """Decides every night whom a health worker's call would help most."""


main.add_command(api)
main.add_command(cache)
main.add_command(model)
main.add_command(evaluate)
main.add_command(events)
main.add_command(forget)
main.add_command(status)
main.add_command(dagster)
main.add_command(database)
main.add_command(lake)


@main.command()
@click.option("--as-of", metavar="DATE", help="Make the list of this day (YYYY-MM-DD); default: today in India.")
def run(as_of: str | None) -> None:
    """Make everything that is stale up to the call list of a day, publish it, and print it."""
    now = system_clock()
    settings = load_settings()
    list_options, model_options = load_list_options(), load_model_options()
    call_date = parse_day(as_of, name="--as-of") if as_of else day_of(now)
    refuse_future_day(call_date, now=now, name="--as-of")
    installation = open_installation(settings)
    if installation.is_source_embedded:
        _continue_demo(installation, settings, call_date)

    from bandicoot_dagster.catch_up import catch_up

    without_new_model: BandicootError | None = None
    try:
        catch_up(installation, call_date, list_options=list_options, model_options=model_options, say=say)
    except (RejectedModelError, TrainingFailedError) as error:
        without_new_model = error
    _print_list(installation, call_date, None)
    _say_where(installation)
    if without_new_model is not None:
        raise without_new_model


@main.command("call-list")
@click.option("--date", "day", metavar="DATE", help="Day of the list (YYYY-MM-DD); default: the newest published.")
@click.option("--district", help="Only caregivers of this district.")
@click.option("--csv", "csv_file", type=click.Path(dir_okay=False, path_type=Path), help="Write the list to a file.")
@click.option("--again", is_flag=True, help="Make the list of --date again from what was kept, and compare.")
@click.option("--model", "version", help="With --again: rank by this model instead of the one it was made with.")
def call_list(day: str | None, district: str | None, csv_file: Path | None, again: bool, version: str | None) -> None:
    """Print the published call list of a day."""
    if again and day is None:
        raise click.UsageError("--again needs the --date of the list to make again")
    if version and not again:
        raise click.UsageError("--model goes with --again")
    installation = open_installation(load_settings())
    call_date = parse_day(day, name="--date") if day else None
    if again and call_date is not None:
        _print_list_again(installation, call_date, version, district, csv_file)
    else:
        _print_list(installation, call_date, district, csv_file)


@main.command()
@click.option("--caregivers", "n_caregivers", type=click.IntRange(1), help="Caregivers in the programme.")
@click.option("--seed", type=click.IntRange(0), help="Seed of the programme.")
@click.option("--as-of", metavar="DATE", help="First day without data (YYYY-MM-DD); default: today in India.")
def demo(n_caregivers: int | None, seed: int | None, as_of: str | None) -> None:
    """Fill the source with a synthetic programme whose truth is known. Replaces an earlier one."""
    now = system_clock()
    settings = load_settings()
    day = parse_day(as_of, name="--as-of") if as_of else day_of(now)
    refuse_future_day(day, now=now, name="--as-of")
    installation = open_installation(settings)
    if not installation.is_source_embedded:
        raise InvalidInputError(
            "the demo programme fills only the embedded server; unset BANDICOOT_DATABASE_URL and BANDICOOT_SOURCE_URL"
        )
    _fill_demo(
        installation,
        settings,
        n_caregivers=n_caregivers if n_caregivers is not None else settings.demo_caregivers,
        seed=seed if seed is not None else settings.demo_seed,
        day=day,
    )


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to serve on.")
@click.option("--port", default=3000, show_default=True, type=click.IntRange(1, 65535), help="Port to serve on.")
def ui(host: str, port: int) -> None:
    """Serve Dagster's UI and run its daemon on the same storage, until interrupted."""
    installation = open_installation(load_settings())

    from bandicoot_dagster.serve import serve_ui

    serve_ui(installation, host=host, port=port)


@main.command()
def stop() -> None:
    """Stop the embedded server. Its data stays."""
    from bandicoot_core.stores.embedded import server as embedded

    was_running = embedded.stop(load_settings().home)
    click.echo("the embedded server has stopped" if was_running else "the embedded server was not running")


def _continue_demo(installation: "Installation", settings: Settings, call_date: date) -> None:
    """Fill an empty embedded source with the demo programme, or continue an older one up to the list's day."""
    from bandicoot_core.demo import stored_programme

    with installation.published() as connection:
        stored = stored_programme(connection)
    if stored is None:
        _fill_demo(
            installation, settings, n_caregivers=settings.demo_caregivers, seed=settings.demo_seed, day=call_date
        )
    elif stored.as_of_date < call_date:
        from bandicoot_dagster.demo_source import extend_demo

        say(f"demo programme: continuing from {stored.as_of_date} to {call_date}")
        extend_demo(installation, stored, call_date, on_progress=_progress())


def _fill_demo(installation: "Installation", settings: Settings, *, n_caregivers: int, seed: int, day: date) -> None:
    from bandicoot_dagster.demo_source import fill_demo

    say(f"demo programme: {n_caregivers:,} caregivers, seed {seed}, up to {day}")
    fill_demo(installation, n_caregivers=n_caregivers, seed=seed, day=day, on_progress=_progress())


def _progress() -> Callable[[str, int, int], None]:
    """A callback that shows how far a long piece of work is, on one line of a terminal or every quarter elsewhere."""
    is_terminal = sys.stderr.isatty() and not logs_are_json()
    shown: dict[str, int] = {}

    def on_progress(what: str, n_done: int, n_total: int) -> None:
        percent = 100 * n_done // max(n_total, 1)
        step = 1 if is_terminal else 25
        if percent // step == shown.get(what, -1) // step and n_done < n_total:
            return
        shown[what] = percent
        line = f"    {what:<24} {percent:3d}%"
        if is_terminal and n_done < n_total:
            print(line, end="\r", file=sys.stderr, flush=True)  # noqa: T201
        else:
            say(line)

    return on_progress


def _say_where(installation: "Installation") -> None:
    """Where the list is published and how to read it; a URL with a password is not shown."""
    click.echo("\nPublished as bandicoot.call_list; the newest day is the view bandicoot.current_call_list.")
    if installation.is_embedded:
        click.echo(f"  read it:  psql '{installation.database_url}' -c 'TABLE bandicoot.current_call_list'")
    click.echo("  see how it was made:  bandicoot ui")


def _print_list(
    installation: "Installation", day: date | None, district: str | None, csv_file: Path | None = None
) -> None:
    from bandicoot_core.stores.published.call_lists import read_call_list
    from bandicoot_dagster.printed_list import render_list, write_csv

    with installation.published() as connection:
        table = read_call_list(connection, day, district=district)
    if csv_file is not None:
        write_csv(table, csv_file)
        click.echo(f"{table.num_rows} rows written to {csv_file}")
        return
    click.echo(render_list(table))


def _print_list_again(
    installation: "Installation", call_date: date, version: str | None, district: str | None, csv_file: Path | None
) -> None:
    from bandicoot_core.pipeline.call_list import make_call_list_again
    from bandicoot_dagster.printed_list import render_list, write_csv

    made = make_call_list_again(installation, call_date, model_version=version)
    table = made.with_ids
    if district is not None:
        table = table.filter([name == district for name in table["district"].to_pylist()])
    if csv_file is not None:
        write_csv(table, csv_file)
    else:
        click.echo(render_list(table))
    if made.is_identical is False:
        raise CheckFailedError(
            f"the list of {call_date} made again with model {made.model_version} differs from the one that was made "
            "then; the software has changed since, or a caregiver was forgotten"
        )
    same = "the list that was made then, value by value" if made.is_identical else "not the list that was made then"
    say(f"made again with model {made.model_version}: {same}")


if __name__ == "__main__":
    main()
