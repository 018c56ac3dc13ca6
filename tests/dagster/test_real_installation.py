"""Training and the nightly list as a user who owns nothing, through a pooler, against a read-only source."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from bandicoot_core.settings import Settings, load_model_options
from bandicoot_core.stores.connections import connect
from bandicoot_core.stores.installation import DAGSTER_SCHEMA, Installation
from bandicoot_core.stores.models import champion
from bandicoot_core.stores.roles import WRITER, apply_roles
from bandicoot_dagster.demo_source import fill_demo
from tests.dagster.conftest import CALL_DATE, NOON, Programme
from tests.servers.debian_postgres import DebianPostgres
from tests.servers.pgbouncer import PgBouncer

SOURCE_COLUMNS = {
    "caregivers": "caregiver_id, district, enrolled_at, age, parity, phone_reliable, enrollment_source, status",
    "sms_logs": "message_id, caregiver_id, message_type, sent_at, delivered_at, opened_at, clicked_at, status",
    "vaccinations": "caregiver_id, child_id, vaccine_name, scheduled_date, actual_date",
}
"""What the pipeline may read of the programme: the columns of the contract and no others."""


@pytest.fixture
def programme(
    debian_server: DebianPostgres,
    bouncer: PgBouncer,
    debian_url: str,
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Programme]:
    """A programme on a server that an administrator has prepared; Dagster's own storage is elsewhere."""
    name = str(conninfo_to_dict(debian_url)["dbname"])
    administrator = Installation(Settings(home=tmp_path, database_url=debian_url, lookback_days=14))
    administrator.prepare()
    fill_demo(administrator, n_caregivers=300, seed=11, day=CALL_DATE, on_progress=lambda *_: None)
    with administrator.published() as connection:
        apply_roles(connection, dagster_schema=DAGSTER_SCHEMA)
    administrator.close()
    for user in ("pipeline", "source_reader"):
        debian_server.create_role(user, password="its own")
    with connect(debian_url) as connection:
        connection.execute(f"GRANT {WRITER} TO pipeline; GRANT USAGE ON SCHEMA suvita_production TO source_reader")
        for table, columns in SOURCE_COLUMNS.items():
            connection.execute(f"GRANT SELECT ({columns}) ON suvita_production.{table} TO source_reader")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    monkeypatch.setenv("BANDICOOT_DAGSTER_STORAGE", "")
    settings = Settings(
        home=tmp_path,
        database_url=bouncer.url(debian_server.url(name, user="pipeline", password="its own")),
        source_url=bouncer.url(debian_server.url(name, user="source_reader", password="its own")),
        dagster_storage_url=database_url.replace("postgresql://", "postgresql+psycopg2://"),
        lookback_days=14,
    )
    installation = Installation(settings)
    options = load_model_options(training_weeks=6, min_passive_weeks=2, n_clusters=3, n_draws=100)
    yield Programme(installation, options, clock=lambda: NOON)
    installation.close()
    with connect(debian_url) as connection:
        for user in map(sql.Identifier, ("pipeline", "source_reader")):
            connection.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(user))


@pytest.mark.slow
def test_a_writer_trains_and_publishes_through_a_pooler_without_owning_anything(
    programme: Programme, debian_url: str
) -> None:
    programme.installation.prepare()
    programme.catch_up()
    listed = programme.published()
    assert len(listed) == 20
    with connect(debian_url) as owner:
        model = champion(owner)
        assert model is not None
        assert {row[-1] for row in listed} == {model.model_version}
        owned = "SELECT count(*) FROM pg_class WHERE pg_get_userbyid(relowner) IN ('pipeline', 'source_reader')"
        assert owner.execute(owned).fetchone() == (0,)
    with programme.installation.published() as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("SELECT FROM suvita_production.caregivers")
