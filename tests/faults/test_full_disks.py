"""A disk fills up while a partition is written or a list is published; how much room is left is drawn."""

import os
import shutil
from functools import partial
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from bandicoot_core.stores.embedded import server as embedded
from tests.faults.child_run import Outcome
from tests.faults.conftest import N_TRIES, drawn_for_this_pass
from tests.faults.full_disk import fill, free, small_disk
from tests.faults.list_reader import ListReader
from tests.faults.record import RUN_AGAIN
from tests.faults.site_under_fault import CALL_DATE, DAY_BEFORE, Site, Work

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a small disk is mounted, which only root may do")

MADE_ROOM = f"room made, then {RUN_AGAIN}"


def check(outcome: Outcome, n_free: int) -> bool:
    """Whether the disk was full; then the run has said so."""
    print(f"{n_free} bytes free: {outcome.error_class}: {outcome.message}")
    return not outcome.is_success


@pytest.mark.parametrize("place", drawn_for_this_pass(["lake", "staging"], 1))
def test_a_disk_that_fills_up_while_a_partition_is_written_leaves_the_old_partition(
    site: Site, reader: ListReader, tmp_path: Path, place: str
) -> None:
    fault = "disk full while writing a partition"
    folder = Path(str(site.installation.lake.folder("sms_events", DAY_BEFORE.isoformat())))
    n_needed = sum(path.stat().st_size for path in folder.iterdir())
    disk_folder = folder if place == "lake" else folder.parent.parent / ".staging"
    disk_folder.mkdir(exist_ok=True)
    kept = tmp_path / "kept"
    n_full = 0
    for n_free in site.generator(f"{fault} {place}").integers(0, n_needed, size=N_TRIES):
        budget = site.prepare(Work.EXTRACTION)
        before = site.look()
        if place == "lake":
            shutil.copytree(folder, kept)
        with small_disk(disk_folder, n_bytes=4 << 20) as disk:
            if place == "lake":
                shutil.copytree(kept, disk, dirs_exist_ok=True)
            fill(disk, n_free=int(n_free))
            outcome = site.start(Work.EXTRACTION, budget).finish()
            n_full += check(outcome, int(n_free))
            if not outcome.is_success:
                assert outcome.error_class == "StorageFullError", outcome
                assert "sms_events/2" in outcome.message  # an earlier day that is read again may be the first
            site.answer(
                fault,
                Work.EXTRACTION,
                before,
                outcome,
                wanted=budget,
                reader=reader,
                recover=None if outcome.is_success else partial(free, disk),
                way=MADE_ROOM,
            )
        shutil.rmtree(kept, ignore_errors=True)
    assert n_full >= N_TRIES // 2


def test_a_disk_that_fills_up_while_a_list_is_published_leaves_the_old_list(site: Site, reader: ListReader) -> None:
    fault = "disk full while publishing"
    # Where the server's own account may go: beside its data.
    folder = embedded.data_dir_for(site.home).parent / "small disk"
    folder.mkdir()
    owner = embedded.data_dir_for(site.home).stat()
    database = sql.Identifier(site.server.database)
    n_full = 0
    with small_disk(folder, n_bytes=4 << 20) as disk:
        space = disk / "space"
        space.mkdir()
        os.chown(space, owner.st_uid, owner.st_gid)
        with psycopg.connect(site.server.url, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE TABLESPACE small LOCATION {}").format(sql.Literal(str(space))))
            # What a publication compares, it keeps in temporary tables: they meet the full disk first.
            connection.execute(sql.SQL("ALTER DATABASE {} SET temp_tablespaces = small").format(database))
        for n_free in site.generator(fault).integers(0, 120_000, size=N_TRIES):
            budget = site.prepare(Work.PUBLICATION)
            before = site.look()
            fill(disk, n_free=int(n_free))
            outcome = site.start(Work.PUBLICATION, budget).finish()
            n_full += check(outcome, int(n_free))
            if not outcome.is_success:
                assert outcome.error_class == "BusyError", outcome
                assert f"publishing the call list of {CALL_DATE}" in outcome.message
            site.answer(
                fault,
                Work.PUBLICATION,
                before,
                outcome,
                wanted=budget,
                reader=reader,
                recover=None if outcome.is_success else partial(free, disk),
                way=MADE_ROOM,
            )
        with psycopg.connect(site.server.url, autocommit=True) as connection:
            connection.execute(sql.SQL("ALTER DATABASE {} RESET temp_tablespaces").format(database))
            connection.execute("DROP TABLESPACE small")
            # Else a server that is killed later looks for the disk when it recovers.
            connection.execute("CHECKPOINT")
    folder.rmdir()
    assert n_full >= N_TRIES // 2
