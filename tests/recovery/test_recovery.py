"""Every runbook of docs/recovery.md: something is lost, the commands bring it back, and nothing is missing after.

The tests follow one another on one site, in the order of the guide; each can also be run alone.
"""

import re
import shutil

import psycopg
import pytest

from bandicoot_core.pipeline.republishing import KEPT_NOWHERE_ELSE, REBUILT
from bandicoot_core.stores.installation import Installation
from tests.recovery.guide import GUIDE, blocks, run_bandicoot, run_block
from tests.recovery.site import DAY_BEFORE, Site, differing

POINT_IN_TIME = "Restore PostgreSQL to a point in time"
REDIS = "Rebuild Redis"
FROM_THE_LAKE = "Rebuild the published tables from the lake"
FROM_SOURCE = "Rebuild everything from source"


def back_up(site: Site, base: str) -> dict[str, str]:
    """A night's backup; the variables with its place."""
    environment = {**site.environment, "BASE": str(site.backups / base)}
    (commands,) = blocks("Back up", "sh")
    run_block(commands, environment, backups=site.backups)
    return environment


def follow(site: Site, title: str, environment: dict[str, str], *commands: str) -> None:
    """Run blocks of a runbook, and note how long they took together."""
    seconds = [run_block(block, environment, backups=site.backups) for block in commands]
    site.seconds[title] = sum(sum(each.values()) for each in seconds)


def states_come_from(site: Site) -> str:
    stores = Installation(site.settings())
    try:
        with stores.published() as connection:
            row = connection.execute("SELECT min(caregiver_id) FROM bandicoot.caregiver_states").fetchone()
        assert row is not None
        answered = stores.current.read_states([row[0]])
        assert len(answered.states) == 1
        return answered.came_from
    finally:
        stores.close()


def states_stand_at(site: Site) -> object:
    """The day at whose end the published states stand."""
    with psycopg.connect(site.owner_url) as connection:
        row = connection.execute("SELECT max(states_as_of_date) FROM bandicoot.list_publications").fetchone()
    return row[0] if row else None


def test_the_guide_backs_up_exactly_what_the_lake_cannot_bring_back() -> None:
    (commands,) = blocks("Back up", "sh")
    left_out = re.search(r"--exclude-table-data='bandicoot\.\((.*?)\)'", commands)
    assert left_out is not None
    assert set(left_out[1].split("|")) == set(REBUILT)
    named = GUIDE.read_text().split("**What exists in PostgreSQL alone**")[1].split("So back them up")[0]
    assert set(re.findall(r"`(\w+)`", named)) == set(KEPT_NOWHERE_ELSE)


def test_postgresql_goes_back_to_a_moment_and_the_lake_follows(site: Site) -> None:
    environment = back_up(site, "base-1")
    site.record_calls(5)
    before_the_accident = site.published()
    environment["MOMENT"] = site.now()
    # Life goes on: a caregiver is new, and today's list is made with her key. Then somebody drops the wrong schema.
    site.record_calls(8)
    site.live_until_today()
    before = site.kept()
    assert before.published["caregiver_keys"] != before_the_accident["caregiver_keys"]
    with psycopg.connect(site.owner_url) as connection:
        connection.execute("DROP SCHEMA bandicoot CASCADE")

    restore, catch_up = blocks(POINT_IN_TIME, "sh")
    follow(site, f"{POINT_IN_TIME}: the server", environment, restore)
    assert site.published() == before_the_accident
    # Until the lake has been brought in line, nobody gets a key that is somebody else's there.
    code, said = run_bandicoot("bandicoot run", environment)
    assert code == 3
    assert "bandicoot lake reconcile" in said
    assert "partitions would go" in site.bandicoot("bandicoot lake reconcile --dry-run")
    assert site.lake() == before.lake
    site.record_calls(8)  # sent again, those that are there among them
    follow(site, f"{POINT_IN_TIME}: the lake and the list", environment, catch_up)

    after = site.kept()
    stamped = {"caregiver_keys", "experiment_assignments"}  # when she was first seen, and drawn
    assert set(differing(before.published, after.published)) <= stamped
    assert after.published["call_list"] == before.published["call_list"]
    assert differing(before.lake, after.lake) == []
    assert states_come_from(site) == "cache"


def test_without_its_disk_the_server_comes_back_to_the_end_of_the_archive(site: Site) -> None:
    environment = {**back_up(site, "base-of-the-lost-disk"), "MOMENT": ""}
    site.bandicoot("bandicoot api keys create --client late --scope read")
    before = site.kept()
    assert b"late" in before.published["api_keys"]
    site.archive_everything()
    site.lose_the_disk()
    restore, _ = blocks(POINT_IN_TIME, "sh")
    stop, put_aside, *with_another_disk = restore.splitlines()
    assert stop.startswith("pg_ctl stop")
    assert put_aside.startswith("mv ")
    follow(site, f"{POINT_IN_TIME}: a server without its disk", environment, "\n".join(with_another_disk))
    assert site.kept() == before


def test_redis_comes_back_with_what_it_had(site: Site) -> None:
    names, before = site.redis.names(), site.kept()
    assert len(names) > 100
    site.redis.kill()
    assert states_come_from(site) == "database"
    (commands,) = blocks(REDIS, "sh")
    code, said = run_bandicoot(commands, site.environment)
    assert code == 5, said
    site.redis.start()
    assert site.redis.names() == set()
    follow(site, REDIS, site.environment, commands)
    assert site.redis.names() == names
    assert states_come_from(site) == "cache"
    assert site.kept() == before


@pytest.mark.parametrize(
    "lose",
    [
        "DELETE FROM bandicoot.call_list",
        "TRUNCATE bandicoot.caregiver_states, bandicoot.list_publications, bandicoot.call_list",
        "TRUNCATE bandicoot.model_versions, bandicoot.clusters, bandicoot.whittle_indices",
    ],
    ids=["rows of the lists", "lists and states", "models"],
)
def test_tables_come_back_from_the_lake_while_the_rest_stays(site: Site, lose: str) -> None:
    before, stood_at = site.kept(), states_stand_at(site)
    with psycopg.connect(site.owner_url) as connection:
        connection.execute(lose)
    lost = site.published()
    assert differing(before.published, lost)
    assert "would be brought back" in site.bandicoot("bandicoot database rebuild --dry-run")
    assert site.published() == lost
    rebuild, _ = blocks(FROM_THE_LAKE, "sh")
    follow(site, f"{FROM_THE_LAKE}: tables", site.environment, rebuild)
    assert differing(before.published, site.published()) == []
    assert states_stand_at(site) == stood_at
    assert site.kept().lake == before.lake


def test_the_schema_comes_back_from_the_dump_and_the_lake(site: Site) -> None:
    site.live_until_today()
    environment = back_up(site, "base-2")
    before, stood_at = site.kept(), states_stand_at(site)
    _, commands = blocks(FROM_THE_LAKE, "sh")
    follow(site, f"{FROM_THE_LAKE}: the schema", environment, commands)
    after = site.kept()
    assert differing(before.published, after.published) == []
    assert differing(before.lake, after.lake) == []
    assert states_stand_at(site) == stood_at
    # The next caregiver gets the next key, not one that was given before the schema was lost.
    with psycopg.connect(site.owner_url) as connection:
        (highest,) = connection.execute("SELECT max(caregiver_key) FROM bandicoot.caregiver_keys").fetchone() or (0,)
        (key,) = connection.execute(
            "INSERT INTO bandicoot.caregiver_keys (caregiver_id, first_seen_at) VALUES ('next', now()) "
            "RETURNING caregiver_key"
        ).fetchone() or (0,)
        connection.rollback()
    assert key > highest


@pytest.mark.parametrize(
    ("lose", "missing"),
    [
        ("TRUNCATE bandicoot.call_outcomes", "bandicoot.call_outcomes is empty"),
        ("TRUNCATE bandicoot.caregiver_keys", "bandicoot.caregiver_keys is empty"),
    ],
    ids=["outcomes", "keys"],
)
def test_nothing_is_rebuilt_before_what_only_a_backup_has(site: Site, lose: str, missing: str) -> None:
    before = site.kept()
    with psycopg.connect(site.owner_url) as connection:
        connection.execute("CREATE TABLE public.aside AS TABLE " + lose.split()[1])
        connection.execute(lose)
    lost = site.published()
    try:
        code, said = run_bandicoot("bandicoot database rebuild", site.environment)
        assert code == 3
        assert missing in said
        assert site.published() == lost
    finally:
        with psycopg.connect(site.owner_url) as connection:
            connection.execute(f"INSERT INTO {lose.split()[1]} OVERRIDING SYSTEM VALUE TABLE public.aside")
            connection.execute("DROP TABLE public.aside")
    assert site.kept() == before


def test_everything_comes_back_from_the_source(site: Site) -> None:
    site.live_until_today()
    environment = back_up(site, "base-3")
    before = site.kept()
    (commands,) = blocks(FROM_SOURCE, "sh")
    site.redis.restart()
    shutil.rmtree(site.home / "dagster")
    follow(site, FROM_SOURCE, environment, commands)
    after = site.kept()
    lists = ("call_list", "list_publications", "caregiver_states", "call_outcomes", "clusters", "whittle_indices")
    assert (
        differing({name: before.published[name] for name in lists}, {name: after.published[name] for name in lists})
        == []
    )
    assert f"{DAY_BEFORE}".encode() in after.published["list_publications"]
    assert states_come_from(site) == "cache"
