"""The database goes away in the middle of work: killed, its sessions ended, or the network cut after any byte.

Moments are numbers of bytes that have passed, drawn anew for each try from all that a whole run sends: so every place
of a conversation is reached, the middle of a COPY and the moment of the commit too.
"""

from collections.abc import Callable

import psycopg
import pytest

from bandicoot_core.settings import Settings
from tests.faults.conftest import N_TRIES, drawn_for_this_pass
from tests.faults.cutting_proxy import CuttingProxy, Direction
from tests.faults.list_reader import ListReader
from tests.faults.site_under_fault import Site, Work

Way = Callable[[Site, CuttingProxy], Settings]


def publication(site: Site, proxy: CuttingProxy) -> Settings:
    return site.settings_with(database_url=site.url_through(proxy.port))


def extraction(site: Site, proxy: CuttingProxy) -> Settings:
    return site.settings_with(source_url=site.url_through(proxy.port))


def dagsters_writes(site: Site, proxy: CuttingProxy) -> Settings:
    url = site.url_through(proxy.port).replace("postgresql://", "postgresql+psycopg2://")
    return site.settings_with(dagster_storage_url=f"{url}&options=-csearch_path%3Ddagster")


def cut(site: Site, proxy: CuttingProxy) -> None:
    proxy.cut()


def kill_server(site: Site, proxy: CuttingProxy) -> None:
    site.kill_server()
    site.restart_after(seconds=0.5)


def end_sessions(site: Site, proxy: CuttingProxy) -> None:
    with psycopg.connect(site.server.url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name IN ('under_fault', 'bandicoot') AND pid <> pg_backend_pid()"
        )


FAULTS: dict[str, tuple[Work, Way, Direction, Callable[[Site, CuttingProxy], None]]] = {
    "PostgreSQL killed (-9) during publication": (Work.PUBLICATION, publication, "to_server", kill_server),
    "PostgreSQL killed (-9) during extraction": (Work.EXTRACTION, extraction, "to_client", kill_server),
    "PostgreSQL killed (-9) during Dagster's own writes": (Work.PUBLICATION, dagsters_writes, "to_server", kill_server),
    "connection cut mid-COPY, publication": (Work.PUBLICATION, publication, "to_server", cut),
    "connection cut mid-COPY, extraction": (Work.EXTRACTION, extraction, "to_client", cut),
    "connection cut during Dagster's own writes": (Work.PUBLICATION, dagsters_writes, "to_server", cut),
    "session ended (pg_terminate_backend) during publication": (
        Work.PUBLICATION,
        publication,
        "to_server",
        end_sessions,
    ),
    "session ended (pg_terminate_backend) during extraction": (
        Work.EXTRACTION,
        extraction,
        "to_client",
        end_sessions,
    ),
}


@pytest.mark.parametrize("fault", drawn_for_this_pass(list(FAULTS), 2))
def test_a_lost_database_leaves_the_old_list_or_the_new_one(
    site: Site, reader: ListReader, proxy: CuttingProxy, fault: str
) -> None:
    work, way, direction, strike = FAULTS[fault]
    budget = site.prepare(work)
    assert site.start(work, budget, way(site, proxy)).finish().is_success
    n_bytes = proxy.n_bytes[direction]
    n_struck, n_tries = 0, N_TRIES if N_TRIES == 1 else 2 * N_TRIES  # these are quick
    for moment in site.generator(fault).integers(1, n_bytes, size=n_tries):
        budget = site.prepare(work)
        before, settings = site.look(), way(site, proxy)
        proxy.arm(direction, int(moment), lambda: strike(site, proxy))
        outcome = site.start(work, budget, settings).finish()
        n_struck += proxy.has_struck
        print(f"{fault}, after {moment} of {n_bytes} bytes: {outcome.error_class}: {outcome.message}")
        site.answer(fault, work, before, outcome, wanted=budget, reader=reader)
    assert n_struck >= n_tries * 3 // 4, f"only {n_struck} of {n_tries} runs were struck"
