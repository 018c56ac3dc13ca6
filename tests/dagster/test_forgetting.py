"""A caregiver is forgotten in a whole installation: no store knows her afterwards, nobody else has changed."""

import io
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import redis
from click.testing import CliRunner
from psycopg import sql
from pydantic import SecretStr

from bandicoot_core.pipeline.forgetting import find_caregiver, forget_caregiver
from bandicoot_core.stores.cache.fill import fill_cache
from bandicoot_core.stores.installation import Installation
from bandicoot_core.stores.published.forgettings import Forgetting, find_forgetting, forget_published
from bandicoot_dagster.cli import main
from tests.servers.redis import RedisServer
from tests.small_programme import CALL_DATE, Programme

ASKED_AT = datetime(2026, 11, 19, 8, tzinfo=UTC)
SOURCE_SCHEMA = "suvita_production"
SYSTEM_SCHEMAS = ("pg_catalog", "information_schema", "pg_toast")
YESTERDAY = CALL_DATE - timedelta(days=1)
N_KILLS = int(os.environ.get("BANDICOOT_TEST_FORGET_KILLS", "2"))
SEED = 20261125


def forget(installation: Installation, caregiver_id: str) -> Forgetting:
    return forget_caregiver(
        installation, caregiver_id, requested_by="desk 4", reason="she asked", clock=lambda: ASKED_AT
    )


def key_of(programme: Programme, caregiver_id: str) -> int:
    with programme.installation.published() as connection:
        row = connection.execute(
            "SELECT caregiver_key FROM bandicoot.caregiver_keys WHERE caregiver_id = %s", (caregiver_id,)
        ).fetchone()
    assert row is not None
    return int(row[0])


def rows_as_text(programme: Programme) -> Iterator[tuple[str, str]]:
    """Every row of every table of the database but the source's, Dagster's included, as text."""
    with programme.installation.published() as connection:
        tables = connection.execute(
            "SELECT schemaname, tablename FROM pg_tables WHERE schemaname <> ALL (%s)",
            ([*SYSTEM_SCHEMAS, SOURCE_SCHEMA],),
        ).fetchall()
        for schema, table in tables:
            query = sql.SQL("SELECT found::text FROM {} AS found").format(sql.Identifier(schema, table))
            for (row,) in connection.execute(query):
                yield f"{schema}.{table}", row


def places_in_database(programme: Programme, text: str) -> set[str]:
    return {table for table, row in rows_as_text(programme) if text in row}


def files(programme: Programme) -> list[Path]:
    """Every file of the home folder; what the demo keeps of its own truth belongs to the source."""
    home = programme.installation.settings.home
    return [path for path in home.rglob("*") if path.is_file() and "demo_truth" not in path.parts]


def places_in_files(programme: Programme, text: str) -> set[str]:
    """Files that hold a text: in their bytes, in their names, or in the columns of a Parquet file."""
    found = set()
    for path in files(programme):
        content = path.read_bytes()
        decoded = str(pq.read_table(io.BytesIO(content)).to_pylist()) if path.suffix == ".parquet" else ""
        if text.encode() in content or text in str(path) or text in decoded:
            found.add(str(path))
    return found


def lake_rows(programme: Programme, *, without_key: int | None = None) -> dict[str, pa.Table]:
    """Every table of every partition of the lake, optionally without a caregiver's rows."""
    lake = programme.installation.lake
    found = {}
    for manifest_path in Path(str(lake.root)).rglob("manifest.json"):
        asset, partition = manifest_path.parts[-3:-1]
        for name, entry in lake.require(asset, partition).entries.items():
            if entry.n_rows is not None:
                rows = pq.read_table(manifest_path.with_name(entry.name))
                if without_key is not None and "caregiver_key" in rows.column_names:
                    rows = rows.filter(pc.fill_null(pc.not_equal(rows["caregiver_key"], without_key), True))
                assert rows.num_rows == entry.n_rows or without_key is not None
                found[f"{asset}/{partition}/{name}"] = rows
    return found


def files_with_key(programme: Programme, caregiver_key: int) -> list[str]:
    """Parquet files, of whatever generation, with a caregiver's rows."""
    found = []
    for path in files(programme):
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            if "caregiver_key" in table.column_names and caregiver_key in table["caregiver_key"].to_pylist():
                found.append(str(path))
    return found


def published_tables(programme: Programme) -> dict[str, list[str]]:
    """The rows of the schema's tables as text, in order; what forgetting itself writes is left out."""
    own = ("forgettings", "forgotten_draws", "list_publications")
    found: dict[str, list[str]] = {}
    for table, row in rows_as_text(programme):
        if table.startswith("bandicoot.") and not table.endswith(own):
            found.setdefault(table, []).append(row)
    return {table: sorted(rows) for table, rows in found.items()}


def in_source(programme: Programme, statement: str, parameters: tuple[object, ...]) -> None:
    with psycopg.connect(programme.installation.source_url) as connection:
        connection.execute(statement, parameters)


def call(programme: Programme, call_id: str, caregiver_id: str) -> int:
    """What a call centre does after a call; returns how many rows were taken."""
    with programme.installation.published() as connection:
        return connection.execute(
            "INSERT INTO bandicoot.call_outcomes VALUES (%s, %s, %s, %s, 'reached', 'centre 7') "
            "ON CONFLICT (call_id) DO NOTHING",
            (call_id, caregiver_id, YESTERDAY, datetime(2026, 11, 18, 9, tzinfo=UTC)),
        ).rowcount


def test_runs_leave_no_id_where_dagster_keeps_its_events_nor_in_any_file(programme: Programme) -> None:
    """A message of a stranger and an impossible age are set aside, and one night refuses them all."""
    in_source(
        programme,
        "INSERT INTO suvita_production.sms_logs (message_id, caregiver_id, message_type, sent_at, status) "
        "VALUES ('M-stranger', 'CG-STRANGER', 'reminder', %s, 'sent')",
        (datetime(2026, 11, 18, 6, tzinfo=UTC),),
    )
    in_source(programme, "UPDATE suvita_production.caregivers SET age = 300 WHERE caregiver_id = %s", ("CG-000001",))
    assert programme.run("nightly", YESTERDAY.isoformat()).success
    strict = programme.installation.settings.model_copy(update={"max_invalid_share": 0.0})
    refused = Programme(Installation(strict), programme.model_options, programme.clock)
    assert not refused.run("nightly", YESTERDAY.isoformat()).success
    holders = {"bandicoot.caregiver_keys", "bandicoot.caregiver_states", "bandicoot.call_list"}
    assert places_in_database(programme, "CG-") == holders | {"bandicoot.call_outcomes"}
    assert places_in_files(programme, "CG-") == set()


def test_a_forgotten_caregiver_is_in_no_store_and_nothing_else_has_changed(
    programme: Programme, redis_server: RedisServer
) -> None:
    her = str(programme.published()[2][1])
    in_source(programme, "UPDATE suvita_production.caregivers SET age = 300 WHERE caregiver_id = %s", (her,))
    assert call(programme, "C-her", her) == 1
    assert programme.run("nightly", YESTERDAY.isoformat()).success
    key = key_of(programme, her)
    settings = programme.installation.settings.model_copy(update={"redis_url": SecretStr(redis_server.url)})
    installation = Installation(settings)
    assert installation.cache is not None
    with installation.published() as connection:
        fill_cache(installation.cache, connection)
    in_cache = redis.Redis.from_url(redis_server.url)
    names = in_cache.keys()
    assert any(her.encode() in name for name in names)
    listed, published = programme.published(), published_tables(programme)
    others = lake_rows(programme, without_key=key)
    expected = find_caregiver(installation, her)
    assert {"lake.caregivers", "lake.sms_events", "lake.calls", "lake.call_list", "lake.model_bundles"} < set(expected)

    record = forget(installation, her)

    assert (record.state, record.done_at, record.caregiver_key) == ("done", ASKED_AT, key)
    assert record.removed_rows == {**expected, "cache": 2}  # her state, and the list
    assert places_in_database(programme, her) == set()
    assert places_in_files(programme, her) == set()
    assert files_with_key(programme, key) == []
    for name in in_cache.scan_iter():
        kind = in_cache.type(name)
        content = in_cache.get(name) if kind == b"string" else repr(in_cache.hgetall(name)).encode()
        assert her.encode() not in name + (content or b"")
    assert programme.published() == [row for row in listed if row[1] != her]
    facts = programme.installation.lake.require("call_list", CALL_DATE.isoformat()).facts
    assert (facts["n_listed"], facts["n_places"]) == (19, 20)  # her place counts as used
    for table, rows in published_tables(programme).items():
        assert rows == [row for row in published[table] if her not in row and not _is_of_key(table, row, key)]
    assert {place: rows.equals(others[place]) for place, rows in lake_rows(programme).items()} == dict.fromkeys(
        others, True
    )

    assert forget(installation, her).removed_rows == record.removed_rows
    assert call(programme, "C-late", her) == 0
    programme.catch_up()
    assert len(programme.published()) == 20
    assert places_in_database(programme, her) == set()
    assert places_in_files(programme, her) == set()
    assert files_with_key(programme, key) == []


def test_a_night_between_the_two_halves_of_forgetting_does_not_bring_her_back(programme: Programme) -> None:
    """The lake still has her when the next runs begin, as after a crash."""
    her = str(programme.published()[0][1])
    key = key_of(programme, her)
    with programme.installation.published() as connection:
        record = forget_published(connection, her, requested_at=ASKED_AT, requested_by="desk 4", reason="")
        assert record.state == "requested"
    assert files_with_key(programme, key)
    assert programme.run("daily_list", CALL_DATE.isoformat()).success
    assert programme.run("nightly", YESTERDAY.isoformat()).success
    assert places_in_database(programme, her) == set()
    assert forget(programme.installation, her).state == "done"
    assert files_with_key(programme, key) == []
    assert places_in_files(programme, her) == set()


def test_forgetting_that_was_killed_is_finished_by_the_same_command(programme: Programme) -> None:
    listed = [str(row[1]) for row in programme.published()]
    started = time.monotonic()
    forget(Installation(programme.installation.settings), listed.pop())
    seconds = time.monotonic() - started
    generator = np.random.default_rng(SEED)
    found = []
    for _ in range(N_KILLS):
        her = listed.pop()
        key = key_of(programme, her)
        child = os.fork()
        if child == 0:
            sys.stderr = sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - the process ends by a signal
            try:
                forget(Installation(programme.installation.settings), her)
            finally:
                os._exit(0)
        time.sleep(generator.uniform(0, seconds))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with programme.installation.published() as connection:
            record = find_forgetting(connection, her)
        found.append(record.state if record else "not begun")
        if record is not None:
            assert places_in_database(programme, her) == set()
        assert forget(programme.installation, her).state == "done"
        assert files_with_key(programme, key) == []
        assert places_in_database(programme, her) | places_in_files(programme, her) == set()
    print(f"seed {SEED}: killed after {found}")
    assert len({tuple(rows.column_names) for rows in lake_rows(programme).values()}) > 5


def test_the_command_looks_first_forgets_and_says_what_it_cannot_reach(
    programme: Programme, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = programme.installation.settings
    assert settings.database_url is not None
    monkeypatch.setenv("BANDICOOT_HOME", str(settings.home))
    monkeypatch.setenv("BANDICOOT_DATABASE_URL", settings.database_url.get_secret_value())
    her, other = (str(row[1]) for row in programme.published()[:2])
    for asked in (her, f"{her}0", other):
        # The second names nobody: its run fails, and says so.
        config = {"ops": {"why_listed": {"config": {"caregiver_id": asked}}}}
        assert programme.run("explain_listing", CALL_DATE.isoformat(), config).success == (asked != f"{her}0")
    assert programme.run(
        "explain_listing", CALL_DATE.isoformat(), {"ops": {"why_listed": {"config": {"caregiver_id": her}}}}
    ).success
    assert "dagster.runs" in places_in_database(programme, f'"{her}"')
    assert n_answers(programme) == (3, True)
    run = CliRunner().invoke
    looked = run(main, ["forget", her, "--dry-run"])
    assert (looked.exit_code, "bandicoot.call_list" in looked.output) == (0, True)
    assert re.search(r"^dagster\.runs +2$", looked.output, re.MULTILINE)
    assert "nothing was changed" in looked.output
    assert places_in_database(programme, her)
    assert run(main, ["forget", her]).exit_code == 2
    assert run(main, ["forget", her, "--requested-by", f"{her} herself"]).exit_code == 2
    assert run(main, ["forget", " ", "--requested-by", "desk 4"]).exit_code == 3
    done = run(main, ["forget", her, "--requested-by", "desk 4", "--reason", "she asked"])
    assert (done.exit_code, "lake.sms_events" in done.output, "backups" in done.output) == (0, True, True)
    assert re.search(r"^dagster\.runs +2$", done.output, re.MULTILINE)
    with programme.installation.published() as connection:
        record = find_forgetting(connection, her)
    assert record is not None
    assert record.removed_rows["dagster.runs"] == 2
    # Of another, whose id begins like hers, and of the one beside her on the list, the questions stay.
    assert "dagster.runs" in places_in_database(programme, f"{her}0")
    assert "dagster.runs" in places_in_database(programme, other)
    assert n_answers(programme) == (1, False)
    assert run(main, ["forget", f"{her}0", "--requested-by", "desk 4"]).exit_code == 0
    assert places_in_database(programme, her) == set()
    assert places_in_files(programme, her) == set()
    unknown = run(main, ["forget", "CG-999999", "--requested-by", "desk 4"])
    assert (unknown.exit_code, "nothing was found of this caregiver" in unknown.output) == (0, True)


def n_answers(programme: Programme) -> tuple[int, bool]:
    """How many answers of why_listed Dagster's events hold, and whether it keeps the newest beside the asset."""
    with programme.installation.published() as connection:
        found = connection.execute(
            "SELECT count(*), "
            "(SELECT last_materialization IS NOT NULL FROM dagster.asset_keys WHERE asset_key = %(key)s) "
            "FROM dagster.event_logs WHERE asset_key = %(key)s AND dagster_event_type = 'ASSET_MATERIALIZATION'",
            {"key": '["why_listed"]'},
        ).fetchone()
    assert found is not None
    return found[0], found[1]


def _is_of_key(table: str, row: str, key: int) -> bool:
    """Whether a row of a table without ids is a caregiver's, by the key in it."""
    return table == "bandicoot.experiment_assignments" and f",{key}," in row
