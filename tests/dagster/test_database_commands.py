"""The commands for administrators, and the operations guide's section on databases, executed block by block."""

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from click.testing import CliRunner, Result

from bandicoot_core.stores.postgres.connections import connect, url_parameters
from bandicoot_dagster.cli import main
from tests.servers.debian_postgres import DebianPostgres, debian_postgres
from tests.servers.pgbouncer import pgbouncer
from tests.source_programme import SourceProgramme

GUIDE = Path(__file__).parents[2] / "docs" / "operations.md"
OWNER = "bandicoot_owner"
PASSWORD = "change me"


def blocks(kind: str) -> list[str]:
    """The code blocks of one kind in the section on databases, in order."""
    section = GUIDE.read_text().split("\n## Databases\n")[1].split("\n## ")[0]
    return re.findall(rf"^```{kind}\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)


def bandicoot(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


@pytest.fixture
def server() -> Iterator[DebianPostgres]:
    """A server of its own: the guide makes roles and a database by name."""
    with debian_postgres() as server:
        yield server


def test_the_guide_sets_up_a_server_from_nothing(server: DebianPostgres, monkeypatch: pytest.MonkeyPatch) -> None:
    def execute(block: str, *, user: str, database: str = "bandicoot") -> None:
        password = {} if user == "postgres" else {"password": PASSWORD}
        with psycopg.connect(server.url(database, user=user, **password), autocommit=True) as connection:
            for statement in block.split(";\n"):
                if statement.strip():
                    connection.execute(statement)

    make_owner, make_users, grant_source, who_waits = blocks("sql")
    set_up, go_back = blocks("sh")
    (settings,) = blocks("ini")
    execute(make_owner, user="postgres", database="postgres")
    monkeypatch.setenv("BANDICOOT_DATABASE_URL", server.url("bandicoot", user=OWNER, password=PASSWORD))
    for command in (set_up + go_back).splitlines():
        result = bandicoot(*command.split()[1:])
        assert result.exit_code == 0, result.output
    execute(make_users, user=OWNER)
    execute(who_waits, user=OWNER)
    SourceProgramme(server.url("bandicoot"))
    execute(grant_source, user="postgres")
    pooler = dict(line.split(" = ") for line in settings.splitlines())
    with pgbouncer(server, **pooler) as bouncer:
        for user, may_record in (("application", False), ("centre_7", True)):
            with connect(bouncer.url(server.url("bandicoot", user=user, password=PASSWORD))) as connection:
                assert connection.execute("TABLE bandicoot.current_call_list").fetchall() == []
                row = connection.execute("SELECT has_table_privilege('bandicoot.call_outcomes', 'INSERT')").fetchone()
                assert row == (may_record,)
        monkeypatch.setenv(
            "BANDICOOT_DATABASE_URL", bouncer.url(server.url("bandicoot", user="pipeline", password=PASSWORD))
        )
        status = bandicoot("database", "status")
        assert "user      pipeline, who may not migrate it" in status.output
        assert "(current;" in status.output
        assert bandicoot("call-list").exit_code == 6  # no list yet: the pipeline itself may open the schema
        with connect(bouncer.url(server.url("bandicoot", user="source_reader", password=PASSWORD))) as reader:
            assert reader.execute("SELECT caregiver_id FROM suvita_production.caregivers").fetchall() == []
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                reader.execute("SELECT full_name FROM suvita_production.caregivers")


def test_the_guides_url_asks_for_a_verified_server() -> None:
    (url,) = (block.strip() for block in blocks("text"))
    assert urlsplit(url).hostname == "db.example.org"
    found = url_parameters(url)
    assert (found["sslmode"], found["sslrootcert"]) == ("verify-full", "/etc/bandicoot/ca.crt")


def test_the_commands_say_what_they_did_and_refuse_with_an_exit_code(
    debian_server: DebianPostgres, debian_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BANDICOOT_DATABASE_URL", debian_url)
    assert bandicoot("database", "status").output.startswith("revision  none (not the one this release needs")
    assert bandicoot("database", "upgrade", "--to", "0002").output == "schema bandicoot is at revision 0002\n"
    refused = bandicoot("database", "upgrade", "--to", "77")
    assert (refused.exit_code, "revision 77 is not known; choose one of 0001" in refused.output) == (3, True)
    assert bandicoot("database", "upgrade").exit_code == 0
    assert bandicoot("database", "roles").exit_code == 0
    with connect(debian_url) as connection:
        connection.execute("REVOKE INSERT ON bandicoot.call_outcomes FROM bandicoot_caller")
    done = bandicoot("database", "roles").output
    assert done.startswith("granted INSERT on bandicoot.call_outcomes to bandicoot_caller\n")
    assert bandicoot("database", "roles").output.startswith("nothing to do: every role has exactly its rights\n")
    assert bandicoot("database", "downgrade", "--to", "0002").output == "schema bandicoot is at revision 0002\n"
    debian_server.create_role("stranger", password=PASSWORD)
    database = str(url_parameters(debian_url)["dbname"])
    with monkeypatch.context() as as_stranger:
        stranger = debian_server.url(database, user="stranger", password=PASSWORD)
        as_stranger.setenv("BANDICOOT_DATABASE_URL", stranger)
        refused = bandicoot("database", "upgrade")
        assert (refused.exit_code, refused.output.count("\n")) == (3, 1)
        assert "user stranger may not read schema bandicoot" in refused.output
    assert bandicoot("database", "downgrade", "--to", "base").output == "schema bandicoot is at revision none\n"
