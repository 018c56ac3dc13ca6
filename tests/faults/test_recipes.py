"""Every recipe of docs/operations.md: the fault says what the guide quotes, and the commands mend it."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from bandicoot_core.errors import UnreachableError
from bandicoot_core.stores.embedded import server as embedded
from tests.faults.conftest import drawn_for_this_pass
from tests.faults.cutting_proxy import CuttingProxy
from tests.faults.full_disk import fill, small_disk
from tests.faults.recipes import recipes, run_command, says
from tests.faults.site_under_fault import BUDGETS, CALL_DATE, DAY_BEFORE, Site, Work

Environment = dict[str, str]
Fault = Callable[[Site, CuttingProxy, Path], AbstractContextManager[Environment]]
"""Breaks something; the block sees the fault, with these variables, and at its end the cause is removed."""


@contextmanager
def server_down(site: Site, _: CuttingProxy, __: Path) -> Iterator[Environment]:
    site.kill_server()
    yield {}
    embedded.start(site.home)


@contextmanager
def connection_lost(site: Site, proxy: CuttingProxy, _: Path) -> Iterator[Environment]:
    def cut_again() -> None:
        proxy.cut()
        proxy.arm("to_server", 20_000, cut_again)

    proxy.arm("to_server", 20_000, cut_again)
    storage = site.installation.dagster_storage_url
    yield {"BANDICOOT_DATABASE_URL": site.url_through(proxy.port), "BANDICOOT_DAGSTER_STORAGE_URL": storage}


@contextmanager
def storage_lost(site: Site, proxy: CuttingProxy, _: Path) -> Iterator[Environment]:
    def cut_again() -> None:
        proxy.cut()
        proxy.arm("to_server", 5_000, cut_again)

    proxy.arm("to_server", 20_000, cut_again)
    url = site.url_through(proxy.port).replace("postgresql://", "postgresql+psycopg2://")
    yield {"BANDICOOT_DAGSTER_STORAGE_URL": f"{url}&options=-csearch_path%3Ddagster"}


@contextmanager
def run_killed(site: Site, _: CuttingProxy, __: Path) -> Iterator[Environment]:
    assert site.start(Work.LIST, BUDGETS[1]).finish(kill_after=0.5 * site.seconds[Work.LIST]).is_killed
    yield {}


@contextmanager
def file_damaged(site: Site, _: CuttingProxy, __: Path) -> Iterator[Environment]:
    lake = site.installation.lake
    entry = lake.require("caregiver_states", DAY_BEFORE.isoformat()).entries["data"]
    path = Path(str(lake.folder("caregiver_states", DAY_BEFORE.isoformat()))) / entry.name
    path.write_bytes(path.read_bytes()[:1000])
    earlier = lake.folder("sms_events", "2026-11-08")
    for file in earlier.glob("*.parquet"):
        file.unlink()
    yield {}


@contextmanager
def disk_full(site: Site, _: CuttingProxy, __: Path) -> Iterator[Environment]:
    under_way = Path(str(site.installation.lake.root)) / ".staging"
    under_way.mkdir(exist_ok=True)
    with small_disk(under_way, n_bytes=1 << 20) as disk:
        fill(disk, n_free=4096)
        yield {}


@contextmanager
def database_full(site: Site, _: CuttingProxy, __: Path) -> Iterator[Environment]:
    # The server's own error, raised by a trigger: a disk that is really full is tried in test_full_disks.
    with psycopg.connect(site.server.url, autocommit=True) as connection:
        connection.execute(
            "CREATE OR REPLACE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "RAISE disk_full USING MESSAGE = 'could not extend file: No space left on device'; END $$"
        )
        connection.execute(
            "CREATE TRIGGER no_room BEFORE INSERT ON bandicoot.list_publications "
            "FOR EACH ROW EXECUTE FUNCTION no_room()"
        )
        yield {}
        connection.execute("DROP FUNCTION no_room CASCADE")


@contextmanager
def another_writer(site: Site, _: CuttingProxy, __: Path) -> Iterator[Environment]:
    with (
        suppress(UnreachableError),  # the recipe ends it
        site.installation.sole_writer("call_list", [CALL_DATE.isoformat()], holder="run 4711 on a desk"),
    ):
        yield {"BANDICOOT_WRITER_WAIT_SECONDS": "0.2"}


@contextmanager
def forgotten_session(site: Site, _: CuttingProxy, __: Path) -> Iterator[Environment]:
    console = psycopg.connect(site.server.url, application_name="a console")
    console.execute("LOCK TABLE bandicoot.list_publications IN EXCLUSIVE MODE")
    yield {"BANDICOOT_LOCK_TIMEOUT_SECONDS": "1"}
    console.close()


@contextmanager
def right_missing(site: Site, _: CuttingProxy, __: Path) -> Iterator[Environment]:
    with psycopg.connect(site.server.url, autocommit=True) as connection:
        for statement in (
            "CREATE ROLE pipeline LOGIN",
            "GRANT USAGE ON SCHEMA bandicoot TO pipeline",
            "GRANT SELECT ON ALL TABLES IN SCHEMA bandicoot TO pipeline",
            "GRANT USAGE ON ALL SEQUENCES IN SCHEMA bandicoot TO pipeline",
        ):
            connection.execute(statement)
        yield {
            "BANDICOOT_DATABASE_URL": site.server.url.replace("//postgres@", "//pipeline@"),
            "BANDICOOT_SOURCE_URL": site.server.url,
            "BANDICOOT_DAGSTER_STORAGE_URL": site.installation.dagster_storage_url,
            "BANDICOOT_OWNER_URL": site.server.url,
        }
        connection.execute("DROP OWNED BY pipeline")
        connection.execute("DROP ROLE pipeline")


@contextmanager
def day_not_begun(_: Site, __: CuttingProxy, ___: Path) -> Iterator[Environment]:
    yield {}


FAULTS: dict[str, Fault] = {
    "PostgreSQL does not answer": server_down,
    "The connection is lost in the middle": connection_lost,
    "Dagster's storage goes away": storage_lost,
    "A run is killed": run_killed,
    "A file of the lake is damaged": file_damaged,
    "A disk is full": disk_full,
    "The database has no room": database_full,
    "Another run is at work": another_writer,
    "Somebody holds what a publication needs": forgotten_session,
    "A right is missing": right_missing,
    "The clock is wrong": day_not_begun,
}
MENDED_BY_THE_COMMANDS = ("Another run is at work", "Somebody holds what a publication needs", "A right is missing")
RECIPES = {recipe.title: recipe for recipe in recipes()}
TITLES = [title for title in FAULTS if os.geteuid() == 0 or title != "A disk is full"]


def test_every_recipe_of_the_guide_is_tried() -> None:
    assert list(RECIPES) == list(FAULTS)


@pytest.mark.parametrize("title", drawn_for_this_pass(TITLES, 1))
def test_a_recipe_mends_what_it_is_for(site: Site, proxy: CuttingProxy, tmp_path: Path, title: str) -> None:
    recipe = RECIPES[title]
    usual = {
        "BANDICOOT_HOME": str(site.home),
        "BANDICOOT_DATABASE_URL": site.server.url,
        "BANDICOOT_LOOKBACK_DAYS": "28",
        "BANDICOOT_TRAINING_WEEKS": "6",
        "BANDICOOT_N_CLUSTERS": "4",
        "BANDICOOT_N_DRAWS": "200",
        "BANDICOOT_BUDGET": str(BUDGETS[0]),
    }
    before = site.look()
    with ExitStack() as stack:
        changed = stack.enter_context(FAULTS[title](site, proxy, tmp_path))
        if recipe.symptom is not None:
            output = symptom(site, recipe.symptom, title, usual | changed, tmp_path)
            assert says(output, recipe.symptom), output
        if title not in MENDED_BY_THE_COMMANDS:
            stack.close()
            changed = {}
        output = ""
        for command in recipe.commands:
            code, said = run_command(command, usual | changed, tmp_path)
            assert code == 0, f"{command}\n{said}"
            output += said
        assert says(output, recipe.result), output
    after = site.look()
    assert after.is_whole
    assert after.unstamped.equals(site.references[BUDGETS[0]].unstamped)
    assert after.lake == site.references[BUDGETS[0]].lake
    if title != "A file of the lake is damaged":
        assert not site.differences(before, after)


def symptom(site: Site, expected: str, title: str, environment: Environment, folder: Path) -> str:
    """What a person sees who runs into the fault."""
    if expected.startswith("CorruptPartitionError"):
        outcome = site.start(Work.LIST, BUDGETS[1]).finish()
        return f"{outcome.error_class}: {outcome.message}"
    command = "bandicoot run --as-of 2099-01-01" if title == "The clock is wrong" else "bandicoot run"
    code, output = run_command(command, environment, folder)
    assert code not in (0, 1, 2), output
    return output
