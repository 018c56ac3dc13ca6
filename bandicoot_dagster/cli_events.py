"""The commands `bandicoot events ingest | letters | delete`: taking events in by hand, and what was no event.

Each is a few lines over bandicoot_core.pipeline; the sensors do the same by themselves.
"""

from collections.abc import Sequence

import click

from bandicoot_core.errors import ConflictingWriteError, InvalidSettingError
from bandicoot_core.settings import load_settings
from bandicoot_dagster.clock import system_clock
from bandicoot_dagster.opening import open_installation

_SHOWN = ("letter_id", "received_at", "kind", "column_name", "found", "reason", "source", "position", "n_received")
_HOLDER = "bandicoot events ingest"


@click.group()
def events() -> None:
    """Caregiver events that are told as they happen: take them in, and see which messages were no event."""


@events.command()
@click.option("--seconds", type=click.FloatRange(min=0), default=3600, show_default=True, help="Stop pulling after.")
def ingest(seconds: float) -> None:
    """Take in what waits in the configured subscription and folder, and say what became of it.

    Beside running sensors it is harmless: an event counts once, whoever takes it in.
    """
    from bandicoot_core.pipeline.event_sources import consume_subscription, ingest_new_files
    from bandicoot_core.pipeline.received_events import ingest_waiting

    settings = load_settings()
    if settings.events_subscription is None and settings.events_folder is None:
        raise InvalidSettingError(
            "no source of events is configured; set BANDICOOT_EVENTS_SUBSCRIPTION or BANDICOOT_EVENTS_FOLDER"
        )
    stores = open_installation(settings)
    total = ingest_waiting(stores, holder=_HOLDER)
    if (subscription := stores.event_subscription()) is not None:
        with subscription:
            total += consume_subscription(stores, subscription, clock=system_clock, seconds=seconds, holder=_HOLDER)
    unread = []
    if settings.events_folder is not None:
        for outcome in ingest_new_files(stores, settings.events_folder, clock=system_clock, holder=_HOLDER):
            if outcome.ingested is not None:
                total += outcome.ingested
            if outcome.error is not None:
                unread.append(outcome.error)
    for name, n in (
        ("new events", total.n_new),
        ("known already", total.n_repeated),
        ("waiting for their caregivers", total.n_waiting),
        ("dead letters", total.n_dead),
        ("of forgotten caregivers, dropped", total.n_forgotten),
        ("states changed", total.n_states),
    ):
        click.echo(f"{name:<34} {n:>10,}")
    if unread:
        raise ConflictingWriteError("; ".join(map(str, unread)))


@events.command()
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="At most so many.")
def letters(limit: int) -> None:
    """Print the newest dead letters: where each came from, and what is wrong with it."""
    from bandicoot_core.stores.published.dead_letters import newest_letters

    with open_installation(load_settings()).published() as connection:
        found = newest_letters(connection, limit=limit).select(_SHOWN).to_pylist()
    if not found:
        click.echo("no dead letters")
    for row in found:
        at_fault = f"{row['column_name']}: " if row["column_name"] else ""
        value = f", found {row['found']!r}" if row["found"] is not None else ""
        click.echo(
            f"{row['letter_id']:>8}  {row['received_at']:%Y-%m-%d %H:%M}Z  {row['kind']}  {at_fault}{row['reason']}"
            f"{value}  ({row['source']}, {row['position']}, received {row['n_received']} times)"
        )


@events.command()
@click.argument("letter_ids", metavar="LETTER_ID...", type=int, nargs=-1, required=True)
def delete(letter_ids: Sequence[int]) -> None:
    """Delete dead letters that were dealt with, by their numbers."""
    from bandicoot_core.stores.published.dead_letters import delete_letters

    with open_installation(load_settings()).published() as connection:
        click.echo(f"{delete_letters(connection, letter_ids)} letters deleted")
