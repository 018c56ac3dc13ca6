"""The commands `bandicoot api keys create | list | rotate | revoke`: who may ask the service.

Run as the owner of schema `bandicoot`. A key's text goes to standard output, once and alone on its line; everything
else that is said of it goes to standard error. What a key is belongs to bandicoot_core.stores.published.api_keys.
"""

from datetime import timedelta
from typing import TYPE_CHECKING

import click

from bandicoot_core.calendar import PROGRAMME_TIME_ZONE, end_of_day, parse_day
from bandicoot_core.settings import load_settings
from bandicoot_dagster.clock import system_clock
from bandicoot_dagster.logs import say
from bandicoot_dagster.opening import open_installation

if TYPE_CHECKING:
    from datetime import datetime

    from bandicoot_core.stores.published.api_keys import ApiKey

_EXPIRES = click.option("--expires", metavar="DATE", help="Last day on which it is valid (YYYY-MM-DD); default: none.")


@click.group()
def keys() -> None:
    """The keys of the service's clients. A client has at most two that are live."""


@keys.command()
@click.option("--client", required=True, metavar="NAME", help="System that will use it; stands in the audit log.")
@click.option("--scope", "scopes", multiple=True, required=True, metavar="read|call|admin", help="May be repeated.")
@click.option("--tier", default="standard", show_default=True, metavar="standard|fast", help="Which answers it gets.")
@_EXPIRES
def create(client: str, scopes: tuple[str, ...], tier: str, expires: str | None) -> None:
    """Make a key and print it: it is shown this once, and stored nowhere."""
    from bandicoot_core.stores.published.api_keys import create_key

    until = _end(expires)
    with open_installation(load_settings()).published() as connection:
        text, key = create_key(
            connection, client, scopes=scopes, tier=tier, created_at=system_clock(), expires_at=until
        )
    _hand_over(text, key)


@keys.command("list")
def list_all() -> None:
    """Print every key, without its secret: whose it is, what it may do, and until when."""
    from tabulate import tabulate

    from bandicoot_core.stores.published.api_keys import list_keys

    now = system_clock()
    with open_installation(load_settings()).published() as connection:
        found = list_keys(connection)
    if not found:
        click.echo("there is no key yet; `bandicoot api keys create` makes one")
        return
    header = ["client", "key", "scopes", "tier", "made", "expires", "status"]
    click.echo(tabulate([_line(key, now) for key in found], headers=header, disable_numparse=True))


@keys.command()
@click.argument("name", metavar="KEY_ID|CLIENT")
@click.option(
    "--overlap-days",
    default=7,
    show_default=True,
    type=click.IntRange(0, 90),
    help="Days on which the old key is valid beside the new one; 0 revokes it at once.",
)
@_EXPIRES
def rotate(name: str, overlap_days: int, expires: str | None) -> None:
    """Make a key in place of a client's live one, with the same rights, and print it."""
    from bandicoot_core.stores.published.api_keys import rotate_key

    until = _end(expires)
    now, overlap = system_clock(), timedelta(days=overlap_days)
    with open_installation(load_settings()).published() as connection:
        text, key, old = rotate_key(connection, name, now=now, overlap=overlap, expires_at=until)
    _hand_over(text, key)
    ends = f"is valid until {_moment(old.expires_at)}" if old.is_live(now) else "is revoked"
    say(f"the old key {old.key_id} {ends}")


@keys.command()
@click.argument("key_id", metavar="KEY_ID")
def revoke(key_id: str) -> None:
    """Refuse a key from now on; again does no harm."""
    from bandicoot_core.stores.published.api_keys import revoke_key

    with open_installation(load_settings()).published() as connection:
        key = revoke_key(connection, key_id, now=system_clock())
    say(
        f"key {key.key_id} of {key.client} is revoked since {_moment(key.revoked_at)}; every process of the service "
        "that reaches PostgreSQL refuses it within BANDICOOT_API_KEYS_SECONDS"
    )


def _hand_over(text: str, key: "ApiKey") -> None:
    """The key, to whoever asked for it, and what it is, to the person."""
    click.echo(text)
    until = f"until {_moment(key.expires_at)}" if key.expires_at else "until it is revoked"
    say(f"key {key.key_id} of {key.client}: may {_scopes(key)}, tier {key.tier}, valid {until}")
    say("keep it as you would a password: it is not stored, and not shown again")


def _line(key: "ApiKey", now: "datetime") -> list[str]:
    status = "live" if key.is_live(now) else "expired"
    if key.revoked_at is not None and key.revoked_at <= now:
        status = f"revoked {_moment(key.revoked_at)}"
    return [key.client, key.key_id, _scopes(key), key.tier, _moment(key.created_at), _moment(key.expires_at), status]


def _scopes(key: "ApiKey") -> str:
    return ", ".join(sorted(key.scopes))


def _moment(moment: "datetime | None") -> str:
    return moment.astimezone(PROGRAMME_TIME_ZONE).strftime("%Y-%m-%d %H:%M") if moment else "never"


def _end(day: str | None) -> "datetime | None":
    return end_of_day(parse_day(day, name="--expires")) if day else None
