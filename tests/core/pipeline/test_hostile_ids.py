"""Ids of every kind go from the source to the published list and come back with an outcome, each as it is."""

from datetime import date, timedelta
from pathlib import Path

import psycopg
import pytest
from small_installation import SmallInstallation

from tests.source_programme import SourceProgramme

CALL_DATE = date(2026, 11, 19)
HOSTILE = [
    "सुनीता कुमारी",
    "👩‍🍼 e\u0301 é",
    "\u202egnisrever",
    "O'Brien",
    'She said "call"',
    "back\\slash \\N \\. \\0 \\x00",
    "'; DROP SCHEMA bandicoot CASCADE; --",
    "%s {} $1 :name",
    "a,b;c\td",
    "two\nlines\r\nof one",
    " spaces around ",
    "NULL",
    "\x01\x1f\x7f",
    "\ufffd\uffff\U0010ffff",
    "../../etc/passwd",
    "<script>|</script>",
    "n" * 10_000,
    "n" * 9_999 + "m",
    "क" * 10_000,
]
PLAIN = [f"CG-{n}" for n in range(30)]


@pytest.fixture
def installation(published_url: str, tmp_path: Path) -> SmallInstallation:
    made = SmallInstallation(SourceProgramme(published_url), tmp_path)
    everybody = [*HOSTILE, *PLAIN]
    made.enrol(everybody)
    made.live_through(everybody, CALL_DATE)
    return made


def test_ids_of_every_kind_go_to_the_published_list_and_come_back(installation: SmallInstallation) -> None:
    listed = installation.make_list(CALL_DATE, budget=1000)
    assert sorted(listed) == sorted([*HOSTILE, *PLAIN])
    with psycopg.connect(installation.programme.url) as connection:
        current = connection.execute("SELECT caregiver_id FROM bandicoot.current_call_list").fetchall()
        current_states = connection.execute("SELECT caregiver_id FROM bandicoot.caregiver_states").fetchall()
    assert [row[0] for row in current] == listed
    assert {row[0] for row in current_states} == {*HOSTILE, *PLAIN}

    for n, caregiver_id in enumerate(HOSTILE):
        installation.programme.call(f"C-{n}-{caregiver_id[:50]}", caregiver_id, f"{CALL_DATE} 11:00", "no_answer")
    installation.close(CALL_DATE)
    states = installation.states(CALL_DATE)
    assert states.keys() == {*HOSTILE, *PLAIN}
    assert {name for name, row in states.items() if row["last_call_date"] == CALL_DATE} == set(HOSTILE)
    facts = installation.stores.lake.require("calls", CALL_DATE.isoformat()).facts
    assert (facts["n_accepted"], facts["n_set_aside"]) == (len(HOSTILE), 0)
    next_day = CALL_DATE + timedelta(days=1)
    assert sorted(installation.make_list(next_day, budget=1000, pending_days=0)) == sorted(PLAIN)
