"""The same programme on every kind of installation gives the same lists, to the last digit."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.installations.conftest import Ran
from tests.installations.kinds import KINDS, Kind, embedded_site, server_site
from tests.installations.site import BUDGET, Outcome, Site, run_programme
from tests.servers.debian_postgres import DebianPostgres
from tests.servers.gcs import BUCKET
from tests.servers.pgbouncer import PgBouncer

DEFAULT, *OTHERS = KINDS
REFUSALS = (psycopg.errors.InsufficientPrivilege, psycopg.errors.ReadOnlySqlTransaction)


@pytest.fixture
def open_site(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[Kind], AbstractContextManager[Site]]:
    """Opens an installation of a kind, with only the servers that it needs."""

    @contextmanager
    def opened(kind: Kind) -> Iterator[Site]:
        settings: dict[str, object] = {}
        if kind.has_cache:
            settings["redis_url"] = request.getfixturevalue("redis_server").url
        if kind.lake == "bucket":
            request.getfixturevalue("cloud_storage_address")
            settings["lake_root"] = f"gs://{BUCKET}/{uuid.uuid4().hex}"
        if kind.server == "embedded":
            with embedded_site(tmp_path, **settings) as site:
                yield site
            return
        server: DebianPostgres = request.getfixturevalue("debian_server")
        pooler: PgBouncer | None = request.getfixturevalue("bouncer") if kind.server == "pooled server" else None
        with server_site(tmp_path, server, pooler.url if pooler else lambda url: url, **settings) as site:
            yield site

    return opened


def test_the_whole_programme_on_the_embedded_default(embedded_run: Ran) -> None:
    outcome = embedded_run.outcome
    listed, listed_next_day = outcome.ids(outcome.first), outcome.ids(outcome.second)
    assert len(set(listed)) == len(set(listed_next_day)) == BUDGET
    assert len(outcome.called) == BUDGET // 2
    # Who was called rests for the cool-down; who waits for a call is not listed again for three days.
    assert set(listed).isdisjoint(listed_next_day)


@pytest.mark.parametrize("kind", OTHERS, ids=str)
def test_the_whole_programme_on(
    kind: Kind, embedded_run: Ran, open_site: Callable[[Kind], AbstractContextManager[Site]]
) -> None:
    with open_site(kind) as site:
        outcome = run_programme(site)
        _assert_answers_come_from_where_they_should(site, outcome, kind)
        if kind.server != "embedded":
            _assert_nobody_may_do_more_than_he_should(site)
    assert outcome == embedded_run.outcome


def _assert_answers_come_from_where_they_should(site: Site, outcome: Outcome, kind: Kind) -> None:
    answered = site.pipeline.current.read_states([str(name) for name in outcome.ids(outcome.second)])
    assert len(answered.states) == BUDGET
    assert answered.came_from == ("cache" if kind.has_cache else "database")


def _assert_nobody_may_do_more_than_he_should(site: Site) -> None:
    """Each user is refused what the next one may do."""
    for url, statement in (
        (site.reader_url, "INSERT INTO bandicoot.call_outcomes (call_id) VALUES ('of a reader')"),
        (site.caller_url, "DELETE FROM bandicoot.call_list"),
        (site.pipeline.source_url, "CREATE TABLE suvita_production.theirs (x int)"),
        (site.pipeline.database_url, "DROP TABLE bandicoot.call_list"),
    ):
        with psycopg.connect(url, prepare_threshold=None) as connection, pytest.raises(REFUSALS):
            connection.execute(statement)
