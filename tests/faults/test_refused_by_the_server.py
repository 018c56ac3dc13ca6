"""The server answers, but does not let the run do what it wants: a deadlock, a right that is gone."""

import threading
import time
from collections.abc import Iterator
from functools import partial

import psycopg
import pytest

from tests.faults.conftest import N_TRIES
from tests.faults.cutting_proxy import CuttingProxy
from tests.faults.list_reader import ListReader
from tests.faults.record import RUN_AGAIN
from tests.faults.site_under_fault import Site, Work

_IS_WAITED_FOR = """
    SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 'bandicoot.caregiver_states'::regclass)
"""


class Opponent:
    """A session that takes the same tables the other way round, and gives everything back in the end."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.has_met = False
        self._is_ready = threading.Event()
        self._thread = threading.Thread(target=self._oppose, daemon=True)

    def __enter__(self) -> "Opponent":
        self._thread.start()
        assert self._is_ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(30)

    def _oppose(self) -> None:
        with psycopg.connect(self._url) as connection, psycopg.connect(self._url, autocommit=True) as watch:
            # The publication has to find the deadlock, and so to be its victim.
            connection.execute("SET deadlock_timeout = '30s'")
            connection.execute("LOCK TABLE bandicoot.caregiver_states IN ACCESS EXCLUSIVE MODE")
            self._is_ready.set()
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline and watch.execute(_IS_WAITED_FOR).fetchone() == (False,):
                time.sleep(0.01)
            connection.execute("LOCK TABLE bandicoot.list_publications IN ACCESS EXCLUSIVE MODE")
            self.has_met = True
            connection.rollback()


def test_a_publication_that_loses_a_deadlock_is_tried_again(site: Site, reader: ListReader) -> None:
    fault = "deadlock"
    for _ in range(N_TRIES):
        budget = site.prepare(Work.PUBLICATION)
        before = site.look()
        with Opponent(site.server.url) as opponent:
            outcome = site.start(Work.PUBLICATION, budget).finish()
        assert opponent.has_met
        assert outcome.is_success, outcome
        site.answer(fault, Work.PUBLICATION, before, outcome, wanted=budget, reader=reader)


@pytest.fixture
def limited_role(site: Site) -> Iterator[str]:
    """A role with the rights of the pipeline and no other."""
    with psycopg.connect(site.server.url, autocommit=True) as connection:
        for statement in (
            "CREATE ROLE pipeline LOGIN",
            "GRANT USAGE ON SCHEMA bandicoot TO pipeline",
            "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA bandicoot TO pipeline",
            "GRANT USAGE ON ALL SEQUENCES IN SCHEMA bandicoot TO pipeline",
        ):
            connection.execute(statement)
        yield "pipeline"
        connection.execute("DROP OWNED BY pipeline")
        connection.execute("DROP ROLE pipeline")


def test_a_right_that_is_revoked_in_the_middle_is_named(
    site: Site, reader: ListReader, proxy: CuttingProxy, limited_role: str
) -> None:
    fault = "permission revoked in the middle"
    url = site.url_through(proxy.port).replace("//postgres@", f"//{limited_role}@")

    def change(statement: str) -> None:
        with psycopg.connect(site.server.url, autocommit=True) as connection:
            connection.execute(f"{statement} {limited_role}")

    budget = site.prepare(Work.PUBLICATION)
    outcome = site.start(Work.PUBLICATION, budget, site.settings_with(database_url=url)).finish()
    assert outcome.is_success, f"{outcome.message}\n{outcome.trace}"
    n_bytes = proxy.n_bytes["to_server"]
    n_refused = 0
    for moment in site.generator(fault).integers(1, n_bytes, size=N_TRIES):
        budget = site.prepare(Work.PUBLICATION)
        before, settings = site.look(), site.settings_with(database_url=url)
        proxy.arm("to_server", int(moment), lambda: change("REVOKE INSERT ON bandicoot.list_publications FROM"))
        outcome = site.start(Work.PUBLICATION, budget, settings).finish()
        print(f"{fault}, after {moment} of {n_bytes} bytes: {outcome.error_class}: {outcome.message}")
        if not outcome.is_success:
            n_refused += 1
            assert outcome.error_class == "MissingRightError", outcome
            assert "permission denied for table list_publications" in outcome.message
        grant = partial(change, "GRANT INSERT ON bandicoot.list_publications TO")
        if outcome.is_success:
            grant()
        site.answer(
            fault,
            Work.PUBLICATION,
            before,
            outcome,
            wanted=budget,
            reader=reader,
            recover=None if outcome.is_success else grant,
            way=f"right granted, then {RUN_AGAIN}",
        )
    assert n_refused >= N_TRIES // 2
