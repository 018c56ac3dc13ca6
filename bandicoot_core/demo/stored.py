"""The programme that the source tables hold: the only row of `suvita_production.demo_programme`, written and read.

Seed, size and dates are columns there; all other parameters are one JSON document.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import date
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from bandicoot_core.demo.programme import (
    BehaviouralType,
    District,
    EnrollmentSource,
    HistoricPolicy,
    MessageHabits,
    Programme,
)
from bandicoot_core.demo.source_schema import has_demo_tables, source_table
from bandicoot_core.errors import InvalidInputError

PROGRAMME_TABLE = source_table("demo_programme")

_OWN_COLUMNS = ("as_of_date", "start_date", "seed", "n_caregivers")


def stored_programme(connection: psycopg.Connection) -> Programme | None:
    """The programme the source tables hold, its start date written out; None when no demo was filled."""
    with connection.transaction():
        if not has_demo_tables(connection):
            return None
        row = (
            connection.cursor(row_factory=tuple_row)
            .execute(
                sql.SQL("SELECT seed, n_caregivers, start_date, as_of_date, parameters FROM {}").format(PROGRAMME_TABLE)
            )
            .fetchone()
        )
    if row is None:
        return None
    seed, n_caregivers, start_date, as_of_date, parameters = row
    try:
        return _from_parameters(
            parameters, seed=seed, n_caregivers=n_caregivers, start_date=start_date, as_of_date=as_of_date
        )
    except (KeyError, TypeError) as error:
        raise InvalidInputError(
            f"suvita_production.demo_programme: the stored parameters are not those of this version ({error}); "
            "fill the demo programme again"
        ) from error


def store_programme(connection: psycopg.Connection, programme: Programme) -> None:
    """Replace the stored programme by this one; the caller holds the transaction."""
    connection.execute(sql.SQL("DELETE FROM {}").format(PROGRAMME_TABLE))
    connection.execute(
        sql.SQL(
            "INSERT INTO {} (seed, n_caregivers, start_date, as_of_date, parameters) VALUES (%s, %s, %s, %s, %s)"
        ).format(PROGRAMME_TABLE),
        [
            programme.seed,
            programme.n_caregivers,
            programme.origin_date,
            programme.as_of_date,
            json.dumps(to_parameters(programme)),
        ],
    )


def require_same_programme(stored: Programme, programme: Programme) -> None:
    """Refuse, with InvalidInputError, a programme that is not a continuation of the stored one.

    Its as_of_date may be later; n_weeks, and a start_date that is not given, are taken from the stored programme.
    """
    if programme.as_of_date < stored.as_of_date:
        raise InvalidInputError(
            f"the demo programme ends at {stored.as_of_date} and cannot be taken back to {programme.as_of_date}; "
            "fill it again to get the shorter one"
        )
    start_date = programme.start_date or stored.origin_date
    wanted = replace(programme, start_date=start_date, as_of_date=stored.as_of_date, n_weeks=stored.n_weeks)
    for name in ("seed", "n_caregivers", "start_date", *to_parameters(stored)):
        found, expected = getattr(wanted, name), getattr(stored, name)
        if found != expected:
            raise InvalidInputError(
                f"the stored demo programme has {name} = {expected}, asked for was {found}; extend it with its own "
                "parameters or fill it again"
            )


def to_parameters(programme: Programme) -> dict[str, Any]:
    """Everything but seed, size and dates, as JSON-ready values."""
    return {name: value for name, value in asdict(programme).items() if name not in _OWN_COLUMNS}


def _from_parameters(
    parameters: Mapping[str, Any], *, seed: int, n_caregivers: int, start_date: date, as_of_date: date
) -> Programme:
    """The programme that was stored; TypeError when the JSON has other fields than this version knows."""
    plain = dict(parameters)
    return Programme(
        seed=seed,
        n_caregivers=n_caregivers,
        start_date=start_date,
        as_of_date=as_of_date,
        districts=tuple(District(**item) for item in plain.pop("districts")),
        enrollment_sources=tuple(EnrollmentSource(**item) for item in plain.pop("enrollment_sources")),
        types=tuple(BehaviouralType(**_with_tuples(item)) for item in plain.pop("types")),
        messages=MessageHabits(**plain.pop("messages")),
        policy=HistoricPolicy(**_with_tuples(plain.pop("policy"))),
        **plain,
    )


def _with_tuples(item: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in item.items()}
