"""What the demo refuses, and what stays when it is interrupted."""

from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import psycopg
import pytest
from demo_database import DemoDatabase, control_arm

from bandicoot_core.demo import Programme, create_source_schema, fill, is_truth_of, stored_programme
from bandicoot_core.errors import InvalidInputError, SchemaDriftError


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("stage", ["weeks", "indexes"])
def test_a_fill_that_fails_leaves_the_old_programme_and_its_truth(
    database: DemoDatabase, programme: Programme, stage: str
) -> None:
    database.fill(programme)
    before = database.dump()

    def stop(at: str, done: int, total: int) -> None:
        if at == stage and done == total:
            raise StoppedError

    other = replace(programme, seed=99)
    with pytest.raises(StoppedError):
        database.fill(other, stop)
    assert database.dump() == before
    assert stored_programme(database.connection) == programme.with_fixed_start()
    assert is_truth_of(database.truth_dir, programme)
    assert not is_truth_of(database.truth_dir, other)
    assert len(list((database.truth_dir).iterdir())) == 3


def test_a_fill_whose_connection_is_killed_leaves_the_old_programme(
    database: DemoDatabase, programme: Programme
) -> None:
    database.fill(programme)
    before = database.dump()
    with psycopg.connect(database.url, autocommit=True) as doomed:

        def kill(stage: str, done: int, total: int) -> None:
            if (stage, done) == ("weeks", 5):
                database.connection.execute("SELECT pg_terminate_backend(%s, 10000)", [doomed.info.backend_pid])

        with pytest.raises(psycopg.OperationalError):
            fill(
                doomed,
                replace(programme, seed=99),
                truth_dir=database.truth_dir,
                is_control=control_arm,
                on_progress=kill,
            )
    assert database.dump() == before
    assert is_truth_of(database.truth_dir, programme)


def test_calls_that_others_recorded_survive_a_fill(database: DemoDatabase, programme: Programme) -> None:
    database.connection.execute(
        "INSERT INTO bandicoot.call_outcomes VALUES ('X-1', 'CG-000001', '2026-11-01', now(), 'reached', 'somebody')"
    )
    database.fill(programme)
    database.fill(replace(programme, seed=12))
    assert database.select("SELECT call_id FROM bandicoot.call_outcomes WHERE recorded_by = 'somebody'") == [("X-1",)]


def test_a_schema_that_no_demo_created_is_refused_untouched(database: DemoDatabase, programme: Programme) -> None:
    database.connection.execute("CREATE SCHEMA suvita_production")
    database.connection.execute("CREATE TABLE suvita_production.caregivers (caregiver_id text)")
    database.connection.execute("INSERT INTO suvita_production.caregivers VALUES ('a real one')")
    for attempt in (lambda: create_source_schema(database.connection), lambda: database.fill(programme)):
        with pytest.raises(InvalidInputError, match=r"suvita_production\.caregivers exist, and no demo created them"):
            attempt()
    assert database.select("SELECT * FROM suvita_production.caregivers") == [("a real one",)]
    assert stored_programme(database.connection) is None


def test_rows_that_no_demo_wrote_are_refused_untouched(database: DemoDatabase, programme: Programme) -> None:
    create_source_schema(database.connection)
    database.connection.execute("INSERT INTO suvita_production.vaccinations VALUES ('CG-1', 'CH-1', 'BCG', NULL, NULL)")
    with pytest.raises(InvalidInputError, match=r"suvita_production\.vaccinations holds rows that no demo wrote"):
        database.fill(programme)
    assert database.select("SELECT caregiver_id FROM suvita_production.vaccinations") == [("CG-1",)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 12}, "seed = 11, asked for was 12"),
        ({"n_caregivers": 401}, "n_caregivers = 400, asked for was 401"),
        ({"control_share": 0.2}, "control_share = 0.1, asked for was 0.2"),
        ({"start_date": date(2026, 7, 1)}, "start_date = 2026-07-30, asked for was 2026-07-01"),
        ({"as_of_date": date(2026, 11, 18)}, "ends at 2026-11-19 and cannot be taken back to 2026-11-18"),
    ],
)
def test_an_extension_that_is_no_continuation_is_refused(
    database: DemoDatabase, programme: Programme, change: dict[str, Any], message: str
) -> None:
    database.fill(programme)
    before = database.dump()
    with pytest.raises(InvalidInputError, match=message):
        database.extend(replace(programme, **change))
    assert database.dump() == before


def test_an_extension_needs_a_programme(database: DemoDatabase, programme: Programme) -> None:
    with pytest.raises(InvalidInputError, match="no demo programme to extend; fill one first"):
        database.extend(programme)


def test_an_arm_for_somebody_missing_is_refused(database: DemoDatabase, programme: Programme) -> None:
    with pytest.raises(InvalidInputError, match=r"expected bool with shape \(\d+,\)"):
        fill(
            database.connection,
            programme,
            truth_dir=database.truth_dir,
            is_control=lambda ids: np.zeros(3, dtype=np.bool_),
        )


def test_a_connection_in_a_transaction_is_refused(database: DemoDatabase, programme: Programme) -> None:
    with psycopg.connect(database.url) as connection:
        connection.execute("SELECT 1")
        with pytest.raises(InvalidInputError, match="state INTRANS"):
            fill(connection, programme, truth_dir=database.truth_dir, is_control=control_arm)


def test_without_the_table_of_outcomes_the_fill_names_the_migrations(
    database: DemoDatabase, programme: Programme
) -> None:
    database.connection.execute("DROP TABLE bandicoot.call_outcomes")
    with pytest.raises(SchemaDriftError, match=r"bandicoot\.call_outcomes does not exist; apply the migrations"):
        database.fill(programme)


def test_parameters_of_another_version_are_named(database: DemoDatabase, programme: Programme) -> None:
    database.fill(programme)
    database.connection.execute(
        "UPDATE suvita_production.demo_programme SET parameters = parameters || '{\"n_moons\": 1}'"
    )
    with pytest.raises(InvalidInputError, match="n_moons"):
        stored_programme(database.connection)
    database.fill(programme)
    assert stored_programme(database.connection) == programme.with_fixed_start()
