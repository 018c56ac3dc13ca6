"""Events that are told as they happen: once in the lake in their own day, at once in the states, then in the list."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from small_installation import CALL_DATE, EVERYBODY, N_WEEKS, OPTIONS, SmallInstallation, copied, lived_through

from bandicoot_core.calendar import last_closed_week
from bandicoot_core.contracts import CAREGIVER_STATES, ENGAGEMENT_HISTORY, RECEIVED_EVENTS
from bandicoot_core.errors import UnreachableError
from bandicoot_core.pipeline import received_events
from bandicoot_core.pipeline.call_list import materialize_published_call_list
from bandicoot_core.pipeline.forgetting import find_caregiver, forget_caregiver
from bandicoot_core.pipeline.index_cache import materialize_index_cache
from bandicoot_core.pipeline.received_events import Ingested, ingest_messages, ingest_waiting
from bandicoot_core.pipeline.staleness import why_model_is_stale
from bandicoot_core.stores.cache.current_reader import CACHE
from bandicoot_core.stores.embedded.server import EmbeddedServer
from bandicoot_core.stores.published.dead_letters import newest_letters
from bandicoot_core.stores.published.keys import keys_of, read_keys
from tests.servers.redis import RedisServer
from tests.source_programme import ist

NOON = ist("2026-11-19 12:00").astimezone(UTC)


@dataclass(frozen=True)
class Message:
    payload: bytes | None
    position: str
    problem: str | None = None


def event(
    caregiver_id: str, at: str = "2026-11-19 11:59", kind: str = "sms_opened", message_id: str = "T-1"
) -> dict[str, Any]:
    fields = {"event_type": kind, "caregiver_id": caregiver_id, "timestamp": ist(at).isoformat()}
    return {**fields, "metadata": {"message_id": message_id}}


@pytest.fixture(scope="module")
def first(
    server: EmbeddedServer, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Path]]:
    """Database and home of an installation that tests copy and never change."""
    home = tmp_path_factory.mktemp("lived-through")
    with lived_through(server, migrated_template, home) as name:
        yield name, home


@pytest.fixture
def installation(server: EmbeddedServer, first: tuple[str, Path], tmp_path: Path) -> Iterator[SmallInstallation]:
    """The list of CALL_DATE is published; everybody has opened messages now and then."""
    with copied(server, *first, tmp_path) as made:
        yield made


def tell(installation: SmallInstallation, *events: object, now: datetime = NOON, first: int = 0) -> Ingested:
    messages = [
        Message(each if isinstance(each, bytes) else json.dumps(each).encode(), f"m{n}")
        for n, each in enumerate(events, first)
    ]
    return ingest_messages(installation.stores, messages, source="test", received_at=now, holder="test")


def stored(installation: SmallInstallation) -> dict[str, list[tuple[Any, ...]]]:
    """What the lake has, by day: id, type and message."""
    stores = installation.stores
    with stores.published() as connection:
        ids = {
            row["caregiver_key"]: row["caregiver_id"] for row in read_keys(connection, experiment="demo").to_pylist()
        }
    return {
        day: [
            (ids[row["caregiver_key"]], row["event_type"], row["message_id"])
            for row in stores.lake.read(RECEIVED_EVENTS, "received_events", day).to_pylist()
        ]
        for day in stores.lake.partitions("received_events")
    }


def published(installation: SmallInstallation, caregiver_id: str) -> tuple[str, date | None]:
    with psycopg.connect(installation.programme.url) as connection:
        row = connection.execute(
            "SELECT state, last_open_date FROM bandicoot.caregiver_states WHERE caregiver_id = %s", (caregiver_id,)
        ).fetchone()
    assert row is not None
    return row


def letters(installation: SmallInstallation) -> list[dict[str, Any]]:
    with installation.stores.published() as connection:
        return newest_letters(connection, limit=100).to_pylist()


def unresponsive(installation: SmallInstallation) -> str:
    return next(name for name in EVERYBODY if published(installation, name)[0] == "U")


def test_who_opens_at_noon_is_responsive_at_once_and_in_the_next_list(installation: SmallInstallation) -> None:
    name = unresponsive(installation)
    ingested = tell(installation, event(name))
    assert (ingested.n_new, ingested.n_states) == (1, 1)
    assert published(installation, name) == ("R", CALL_DATE)
    installation.close(CALL_DATE)
    [row] = [
        row
        for row in installation.stores.lake.read(CAREGIVER_STATES, "caregiver_states", str(CALL_DATE)).to_pylist()
        if row["last_open_date"] == CALL_DATE
    ]
    assert (row["state"], row["days_since_last_open"]) == ("R", 1)


def test_events_come_in_any_order_and_number_and_each_is_once_in_its_own_day(installation: SmallInstallation) -> None:
    events = [
        event("CG-0"),
        event("CG-1", "2026-11-18 23:59", message_id="T-2"),
        event("CG-0", "2026-11-19 11:00", "sms_delivered"),
        event("CG-2", "2026-11-19 00:00", "vaccination_completed"),
    ]
    expected = {
        "2026-11-18": [("CG-1", "opened", "T-2")],
        "2026-11-19": [("CG-0", "delivered", "T-1"), ("CG-0", "opened", "T-1"), ("CG-2", "vaccinated", "T-1")],
    }
    first = tell(installation, *events, *events[:2])
    assert (first.n_new, first.n_repeated, sorted(first.partitions)) == (4, 2, sorted(expected))
    assert stored(installation) == expected
    before = [installation.stores.lake.require("received_events", day).digest for day in expected]
    again = tell(installation, *events[::-1], first=50)
    assert (again.n_new, again.n_repeated, again.partitions) == (0, 4, {})
    assert [installation.stores.lake.require("received_events", day).digest for day in expected] == before


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 6), st.sampled_from("ab")), max_size=12),
    st.lists(st.integers(0, 12), max_size=3),
    st.randoms(use_true_random=False),
)
def test_the_same_events_make_the_same_lake_however_they_are_cut_and_repeated(
    installation: SmallInstallation, events: list[tuple[int, int, str]], cuts: list[int], random: Any
) -> None:
    told = [event(f"CG-{who}", f"2026-11-1{3 + day} 10:00", message_id=message) for who, day, message in events]
    for day in installation.stores.lake.partitions("received_events"):
        installation.stores.lake.remove("received_events", day)
    tell(installation, *told)
    whole = stored(installation)
    for day in whole:
        installation.stores.lake.remove("received_events", day)
    shuffled = told + random.sample(told, len(told) // 2)
    random.shuffle(shuffled)
    edges = [0, *sorted(cuts), len(shuffled)]
    n_new = sum(tell(installation, *shuffled[a:b]).n_new for a, b in pairwise(edges))
    assert stored(installation) == whole
    assert n_new == sum(map(len, whole.values())) == len(set(events))


def test_a_late_event_makes_the_days_and_the_model_that_rest_on_it_stale(installation: SmallInstallation) -> None:
    stores, week = installation.stores, last_closed_week(CALL_DATE)
    assert why_model_is_stale(stores.lake, week, OPTIONS) is None
    name = unresponsive(installation)
    tell(installation, event(name, "2026-11-13 10:00"))
    assert published(installation, name)[0] == "R"
    assert why_model_is_stale(stores.lake, week, OPTIONS) == "received_events has changed since the model was trained"
    renewed = installation.close(CALL_DATE)
    assert renewed == ["2026-11-14", "2026-11-15", "2026-11-16", "2026-11-17", "2026-11-18"]
    installation.train(week)
    with stores.published() as connection:
        [key] = keys_of(connection, pa.array([name]))["caregiver_key"].to_pylist()
    history = stores.lake.read(ENGAGEMENT_HISTORY, "engagement_history", str(week)).to_pylist()
    [words] = [row["opened_weeks"] for row in history if row["caregiver_key"] == key]
    assert words >> (N_WEEKS - 1) == 1
    assert why_model_is_stale(stores.lake, week, OPTIONS) is None


def test_deliveries_and_doses_leave_the_state_as_it_is(installation: SmallInstallation) -> None:
    name = unresponsive(installation)
    before = published(installation, name)
    ingested = tell(
        installation, event(name, kind="sms_delivered"), event(name, kind="vaccination_completed"), now=NOON
    )
    assert (ingested.n_new, ingested.n_states) == (2, 0)
    assert published(installation, name) == before


def test_an_open_from_before_the_state_window_moves_only_the_last_open(installation: SmallInstallation) -> None:
    with psycopg.connect(installation.programme.url, autocommit=True) as connection:
        connection.execute(
            "UPDATE bandicoot.caregiver_states SET state = 'U', last_open_date = NULL WHERE caregiver_id = 'CG-0'"
        )
    tell(installation, event("CG-0", "2026-11-11 10:00"))
    assert published(installation, "CG-0") == ("U", date(2026, 11, 11))
    tell(installation, event("CG-0", "2026-11-12 10:00"))
    assert published(installation, "CG-0") == ("R", date(2026, 11, 12))
    tell(installation, event("CG-0", "2026-11-11 11:00"))
    assert published(installation, "CG-0") == ("R", date(2026, 11, 12))


def test_a_list_published_again_keeps_who_has_opened_since(installation: SmallInstallation) -> None:
    name = unresponsive(installation)
    tell(installation, event(name))
    materialize_published_call_list(installation.stores, CALL_DATE, run_id="again", published_at=NOON)
    assert published(installation, name) == ("R", CALL_DATE)


def test_what_is_no_event_is_a_letter_with_the_reason_and_is_counted_when_it_comes_again(
    installation: SmallInstallation,
) -> None:
    messages = (b"{", event("CG-0"), event("CG-0", kind="sms_clicked"))
    ingested = tell(installation, *messages)
    assert (ingested.n_new, ingested.n_dead, ingested.n_messages) == (1, 2, 3)
    tell(installation, *messages)
    assert [
        (row["source"], row["position"], row["kind"], row["column_name"], row["found"], row["n_received"])
        for row in letters(installation)
    ] == [
        ("test", "m2", "refused", "event_type", "sms_clicked", 2),
        ("test", "m0", "unreadable", None, None, 2),
    ]


def test_who_is_not_known_yet_is_taken_in_when_the_registry_has_her(installation: SmallInstallation) -> None:
    ingested = tell(installation, event("CG-new"), event("+91 98765 43210"))
    assert (ingested.n_new, ingested.n_waiting, ingested.n_dead) == (0, 1, 1)
    assert {row["caregiver_id"] for row in letters(installation)} == {"CG-new", None}
    assert ingest_waiting(installation.stores, holder="test") == Ingested()
    installation.enrol(["CG-new"], enrolled_at="2026-11-19 09:00")
    installation.close(CALL_DATE)
    assert ingest_waiting(installation.stores, holder="test").n_new == 1
    assert stored(installation) == {"2026-11-19": [("CG-new", "opened", "T-1")]}
    assert [row["kind"] for row in letters(installation)] == ["refused"]


def test_a_forgotten_caregiver_leaves_events_and_letters_and_never_comes_in_again(
    installation: SmallInstallation,
) -> None:
    tell(installation, event("CG-0"), event("CG-1"), event("CG-gone"))
    for name in ("CG-0", "CG-gone"):
        forget_caregiver(installation.stores, name, requested_by="test", reason="", clock=lambda: NOON)
        assert find_caregiver(installation.stores, name) == {}
    assert stored(installation) == {"2026-11-19": [("CG-1", "opened", "T-1")]}
    ingested = tell(installation, event("CG-0"), event("CG-gone"))
    assert (ingested.n_forgotten, ingested.n_messages) == (2, 2)
    assert stored(installation) == {"2026-11-19": [("CG-1", "opened", "T-1")]}
    assert letters(installation) == []


def test_redis_gives_the_new_state_or_none_and_is_not_believed_when_it_was_away(
    installation: SmallInstallation, redis_server: RedisServer
) -> None:
    installation.settings |= {"redis_url": SecretStr(redis_server.url), "redis_check_seconds": 0}
    materialize_index_cache(installation.stores, CALL_DATE)
    names = [name for name in EVERYBODY if published(installation, name)[0] == "U"][:2]
    stores = installation.stores
    facts = stores.current.read_state(names[0])
    assert facts is not None
    assert facts.state == "U"
    tell(installation, event(names[0]))
    assert _states(installation, names) == ["R", "U"]
    assert stores.current.read_states([names[1]]).came_from == CACHE
    redis_server.pause()
    try:
        tell(installation, event(names[1]))
    finally:
        redis_server.resume()
    assert _states(installation, names) == ["R", "R"]


def test_a_batch_that_broke_off_after_the_lake_is_finished_by_the_same_messages(
    installation: SmallInstallation, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = unresponsive(installation)

    def lost(*_: object, **__: object) -> int:
        raise UnreachableError("gone")

    with monkeypatch.context() as patched:
        patched.setattr(received_events, "note_opens", lost)
        with pytest.raises(UnreachableError):
            tell(installation, event(name), b"{")
    assert stored(installation) == {"2026-11-19": [(name, "opened", "T-1")]}
    assert letters(installation) == []
    ingested = tell(installation, event(name), b"{")
    assert (ingested.n_new, ingested.n_repeated, ingested.n_dead, ingested.n_states) == (0, 1, 1, 1)
    assert published(installation, name)[0] == "R"


def test_nothing_names_a_caregiver_in_the_lake(installation: SmallInstallation) -> None:
    tell(installation, event("CG-0"), event("CG-unknown"))
    for path in Path(str(installation.stores.lake.root)).rglob("*"):
        if path.is_file() and "received_events" in str(path):
            assert b"CG-" not in path.read_bytes()


def _states(installation: SmallInstallation, names: Sequence[str]) -> list[str]:
    found = installation.stores.current.read_states(names).states
    return [found[name].state for name in names]
