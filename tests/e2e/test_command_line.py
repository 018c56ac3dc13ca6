"""The command line as users, schedulers and monitoring meet it: output, files, exit codes, and a server that died."""

import csv
import json
import os
import re
import signal
import socket
from pathlib import Path

import psycopg
import pytest
from psycopg.rows import TupleRow

from bandicoot_core.contracts import PUBLISHED_CALL_LIST
from bandicoot_core.stores.embedded import server as embedded
from tests.e2e.conftest import CALL_DATE, SMALL_SIMULATION, WEEK, DemoHome, FirstRun, closed_port

pytestmark = pytest.mark.e2e

_ROW = re.compile(r"^ *(\d+)  (\S+) +(\S+) +([UR]) +-?\d+\.\d{3}  \S", re.MULTILINE)


def printed(output: str) -> list[tuple[int, str, str, str]]:
    """The rows (rank, caregiver, district, state) of a printed list."""
    return [(int(rank), caregiver, district, state) for rank, caregiver, district, state in _ROW.findall(output)]


def select(url: str, query: str) -> list[TupleRow]:
    with psycopg.connect(url) as connection:
        return connection.execute(query).fetchall()


@pytest.fixture(scope="module")
def published_rows(demo_home: DemoHome, published_url: str) -> list[TupleRow]:
    """The list as a downstream client reads it, with the URL that the command printed."""
    return select(
        published_url, "SELECT rank, caregiver_id, district, state FROM bandicoot.current_call_list ORDER BY rank"
    )


def test_a_first_run_prints_the_published_list_and_where_it_is(
    first_run: FirstRun, published_rows: list[TupleRow]
) -> None:
    assert [row[0] for row in published_rows] == list(range(1, 101))
    assert printed(first_run.output) == published_rows
    assert "bandicoot.current_call_list" in first_run.output


def test_the_list_is_printed_again_whole_or_for_one_district(
    demo_home: DemoHome, published_rows: list[TupleRow]
) -> None:
    whole = demo_home.bandicoot("call-list")
    assert whole.returncode == 0
    assert printed(whole.stdout) == published_rows

    district = published_rows[0][2]
    one = demo_home.bandicoot("call-list", "--date", CALL_DATE, "--district", district)
    assert one.returncode == 0
    expected = [row for row in published_rows if row[2] == district]
    assert printed(one.stdout) == expected
    assert 0 < len(expected) < len(published_rows)


def test_a_csv_file_has_the_columns_of_the_contract_and_the_published_rows(
    demo_home: DemoHome, published_rows: list[TupleRow], tmp_path: Path
) -> None:
    path = tmp_path / "list.csv"
    done = demo_home.bandicoot("call-list", "--csv", str(path))
    assert done.returncode == 0
    assert "100 rows" in done.stdout
    with path.open(newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        rows = list(reader)
    assert reader.fieldnames == list(PUBLISHED_CALL_LIST.column_names)
    assert [(int(row["rank"]), row["caregiver_id"], row["district"], row["state"]) for row in rows] == published_rows
    assert {row["call_date"] for row in rows} == {CALL_DATE}


def test_an_unknown_district_is_refused_and_the_known_ones_are_named(demo_home: DemoHome, published_url: str) -> None:
    done = demo_home.bandicoot("call-list", "--district", "Atlantis")
    assert done.returncode == 3
    known = [
        row[0]
        for row in select(
            published_url, "SELECT DISTINCT district FROM bandicoot.caregiver_states WHERE district IS NOT NULL"
        )
    ]
    assert len(known) > 1
    assert [district for district in known if district not in done.stderr] == []
    assert "Atlantis" in done.stderr
    assert done.stdout == ""


def test_models_are_listed_and_shown_and_a_rollback_without_a_champion_before_is_refused(
    demo_home: DemoHome, published_url: str
) -> None:
    ((version, week),) = select(
        published_url, "SELECT model_version, training_week::text FROM bandicoot.model_versions"
    )
    listed = demo_home.bandicoot("model", "list")
    assert listed.returncode == 0
    assert re.search(rf"{version} +{week} +champion +\d{{4}}-", listed.stdout)
    shown = demo_home.bandicoot("model", "show", version)
    assert shown.returncode == 0
    assert "passed  states_not_swapped" in shown.stdout
    assert "discount = 0.99" in shown.stdout
    assert re.search(r"^0 +[\d,]+ +U +0\.\d{3}", shown.stdout, re.MULTILINE)
    again = demo_home.bandicoot("model", "promote", version)
    assert (again.returncode, version in again.stdout) == (0, True)
    back = demo_home.bandicoot("model", "rollback", "--why", "a trial")
    assert back.returncode == 3
    assert f"{version} has no champion before it" in back.stderr
    unknown = demo_home.bandicoot("model", "show", "2026-01-04-00000000")
    assert (unknown.returncode, version in unknown.stderr) == (3, True)


def test_the_policy_simulation_is_printed_with_policies_as_rows_and_written_as_json(
    demo_home: DemoHome, tmp_path: Path
) -> None:
    path = tmp_path / "simulation.json"
    done = demo_home.bandicoot(
        *("evaluate", "simulation", "--week", WEEK, "--json", str(path), "--pictures", str(tmp_path)),
        **SMALL_SIMULATION,
    )
    assert done.returncode == 0, done.stderr
    for policy in ("none", "round_robin", "worst_first", "myopic", "whittle_caregiver", "never_versus_always"):
        assert re.search(rf"^{policy} +60 +2 ", done.stdout, re.MULTILINE), policy
    rows = json.loads(path.read_text())["tables"]["public cohort"]
    share = {row["policy"]: row["share_of_gain"] for row in rows if row["budget"] == 60}
    assert share["fluid_bound"] == 1
    assert share["whittle_caregiver"] > 0.96 > share["myopic"] > share["random"] > share["none"] == 0
    assert (tmp_path / "share-of-gain-public.png").read_bytes().startswith(b"\x89PNG")
    unknown = demo_home.bandicoot("evaluate", "weather")
    assert (unknown.returncode, "simulation" in unknown.stderr) == (2, True)


def test_the_list_of_a_day_is_made_again_and_found_identical(
    demo_home: DemoHome, published_rows: list[TupleRow]
) -> None:
    done = demo_home.bandicoot("call-list", "--date", CALL_DATE, "--again")
    assert done.returncode == 0, done.stderr
    assert printed(done.stdout) == published_rows
    assert "the list that was made then, value by value" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "variables", "code", "named"),
    [
        (("run", "--as-of", "2999-01-01"), {}, 3, "2999-01-01"),
        (("run", "--as-of", "yesterday"), {}, 3, "yesterday"),
        (("run", "--as-of", CALL_DATE), {"BANDICOOT_BUDGET": "-1"}, 3, "BANDICOOT_BUDGET"),
        (("call-list", "--date", "2026-01-01"), {}, 6, "2026-01-01"),
        (("call-list", "--colour"), {}, 2, "--colour"),
        (("call-list", "--again"), {}, 2, "--date"),
        (("call-list", "--date", CALL_DATE, "--model", "m"), {}, 2, "--again"),
    ],
)
def test_what_cannot_be_done_has_an_exit_code_and_is_named_in_one_message(
    demo_home: DemoHome, arguments: tuple[str, ...], variables: dict[str, str], code: int, named: str
) -> None:
    done = demo_home.bandicoot(*arguments, **variables)
    assert done.returncode == code, done.stderr
    assert named in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [("run", "--as-of", CALL_DATE), ("call-list",), ("ui",)])
def test_a_server_that_does_not_answer_is_named_without_its_password(
    demo_home: DemoHome, arguments: tuple[str, ...]
) -> None:
    port = closed_port()
    url = f"postgresql://someone:open-sesame@127.0.0.1:{port}/bandicoot"
    done = demo_home.bandicoot(*arguments, BANDICOOT_DATABASE_URL=url)
    assert done.returncode == 5, done.stderr
    assert str(port) in done.stderr
    assert "open-sesame" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_the_ui_refuses_a_port_on_which_something_serves(demo_home: DemoHome) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = demo_home.bandicoot("ui", "--port", str(port))
    assert done.returncode == 3
    assert f"127.0.0.1:{port}" in done.stderr
    assert "Traceback" not in done.stderr


def test_after_stop_the_next_command_starts_the_server_and_the_list_is_there(
    demo_home: DemoHome, published_rows: list[TupleRow]
) -> None:
    stopped = demo_home.bandicoot("stop")
    assert (stopped.returncode, stopped.stdout.strip()) == (0, "the embedded server has stopped")
    assert embedded.status(demo_home.home) is None
    again = demo_home.bandicoot("stop")
    assert (again.returncode, again.stdout.strip()) == (0, "the embedded server was not running")

    done = demo_home.bandicoot("call-list")
    assert done.returncode == 0
    assert printed(done.stdout) == published_rows


def test_after_a_killed_server_the_next_command_recovers_it_and_the_list_is_there(
    demo_home: DemoHome, published_rows: list[TupleRow]
) -> None:
    server = embedded.start(demo_home.home)
    postmaster = int((server.data_dir / "postmaster.pid").read_text().split()[0])
    os.kill(postmaster, signal.SIGKILL)

    done = demo_home.bandicoot("call-list")
    assert done.returncode == 0, done.stderr
    assert printed(done.stdout) == published_rows


def test_status_says_what_a_run_would_do_and_changes_nothing(demo_home: DemoHome, published_url: str) -> None:
    before = select(published_url, "SELECT * FROM bandicoot.list_publications ORDER BY call_date")
    told = demo_home.bandicoot("status", "--as-of", CALL_DATE)
    assert told.returncode == 0, told.stderr
    lines = told.stdout.splitlines()
    assert lines[0] == f"a run for the list of {CALL_DATE} would do:"
    assert [line.split(":")[0].strip() for line in lines[1:3]] == ["nightly", "daily_list"]
    assert lines[-2:] == ["no list that went out is stale", "no incident is open"]
    assert select(published_url, "SELECT * FROM bandicoot.list_publications ORDER BY call_date") == before
