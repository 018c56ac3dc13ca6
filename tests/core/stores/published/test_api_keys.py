"""Keys of the service's clients: their text, their check, and the rule of two in a real database."""

import hmac
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bandicoot_core.errors import InvalidInputError
from bandicoot_core.stores.postgres.connections import connect
from bandicoot_core.stores.published.api_keys import (
    ApiKey,
    create_key,
    is_right,
    keys_as_json,
    keys_from_json,
    list_keys,
    parse_key,
    revoke_key,
    rotate_key,
)
from bandicoot_core.stores.published.roles import apply_roles
from bandicoot_core.stores.published.service_tables import API_SCOPES, API_TIERS

NOW = datetime(2026, 11, 20, 6, tzinfo=UTC)
DAY = timedelta(days=1)

ID_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
SECRET_LETTERS = ID_LETTERS + ID_LETTERS[:26].upper() + "_-"
key_ids = st.text(ID_LETTERS, min_size=12, max_size=12)
secrets = st.text(SECRET_LETTERS, min_size=43, max_size=43)
moments = st.datetimes(timezones=st.just(UTC), min_value=datetime(2000, 1, 1))  # noqa: DTZ001 - hypothesis adds it
stored_keys = st.builds(
    ApiKey,
    key_id=key_ids,
    client=st.text(min_size=1),
    scopes=st.frozensets(st.sampled_from(API_SCOPES), min_size=1),
    tier=st.sampled_from(API_TIERS),
    salt=st.text("0123456789abcdef", min_size=32, max_size=32),
    secret_hash=st.text("0123456789abcdef", min_size=64, max_size=64),
    created_at=moments,
    expires_at=st.none() | moments,
    revoked_at=st.none() | moments,
)
any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def make(
    connection: psycopg.Connection, client: str = "centre 7", *, at: datetime = NOW, **changes: object
) -> tuple[str, ApiKey]:
    values = {"scopes": ["read"], "tier": "standard", "created_at": at, **changes}
    return create_key(connection, client, **values)  # type: ignore[arg-type]


def live(connection: psycopg.Connection, now: datetime, client: str = "centre 7") -> list[str]:
    return [key.key_id for key in list_keys(connection) if key.client == client and key.is_live(now)]


@given(key_ids, secrets)
def test_a_keys_text_gives_back_its_parts(key_id: str, secret: str) -> None:
    assert parse_key(f"bdc_{key_id}_{secret}") == (key_id, secret)


@given(key_ids, secrets, st.integers(0, 59), st.characters())
def test_a_key_with_one_other_character_is_another_key_or_none(
    key_id: str, secret: str, place: int, letter: str
) -> None:
    text = f"bdc_{key_id}_{secret}"
    other = text[:place] + letter + text[place + 1 :]
    assert parse_key(other) in (None, (other[4:16], other[17:]))
    assert other == text or parse_key(other) != (key_id, secret)


@given(st.text() | st.text(SECRET_LETTERS, min_size=60, max_size=60) | st.from_regex(r"bdc_[a-z0-9]{12}_\S{43}"))
@example("bdc_abcdefghijkl_" + "x" * 43 + "\n")
@example("bdc_abcdefghijkl_" + "x" * 42 + "\n")
@example("bdc_abcdefghijkl_" + "é" * 43)
def test_what_is_read_of_any_text_is_that_text(text: str) -> None:
    parsed = parse_key(text)
    assert parsed is None or f"bdc_{parsed[0]}_{parsed[1]}" == text
    assert parsed is None or text.isascii()


@given(st.lists(stored_keys, max_size=4))
def test_keys_survive_the_way_through_another_store(keys: list[ApiKey]) -> None:
    assert keys_from_json(keys_as_json(keys)) == keys


@given(any_json.map(lambda found: json.dumps(found).encode()) | st.binary())
@example(b"{}")
@example(b"[" * 100_000)
def test_any_other_text_is_no_list_of_keys(text: bytes) -> None:
    if text.strip() != b"[]":
        with pytest.raises(ValueError):  # noqa: PT011 - JSON has words of its own
            keys_from_json(text)


@given(
    stored_keys,
    st.sampled_from(["key_id", "client", "scopes", "tier", "salt", "secret_hash", "created_at", "expires_at"]),
    any_json | st.sampled_from(["2026-11-20T06:00:00", ["read", "own"]]),
)
def test_a_key_with_a_field_of_another_kind_is_refused_whole(key: ApiKey, name: str, value: object) -> None:
    row = json.loads(keys_as_json([key]))[0] | {name: value}
    try:
        (found,) = keys_from_json(json.dumps([row]).encode())
    except ValueError:
        return
    found.is_live(NOW)
    is_right(found, "x" * 43)
    assert found.scopes <= set(API_SCOPES)
    assert isinstance(found.client, str)


def test_only_the_secret_that_was_given_out_is_right(published: psycopg.Connection) -> None:
    text, key = make(published)
    other, _ = make(published, "centre 8")
    parsed, of_other = parse_key(text), parse_key(other)
    assert parsed is not None
    assert of_other is not None
    assert parsed[0] == key.key_id
    (stored,) = [held for held in list_keys(published) if held.client == "centre 7"]
    assert stored == key
    assert is_right(stored, parsed[1])
    assert not is_right(stored, of_other[1])
    assert not is_right(stored, parsed[1][:-1] + ("A" if parsed[1][-1] != "A" else "B"))
    assert not is_right(None, parsed[1])


def test_a_key_that_is_not_known_costs_the_same_hash_and_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[str, str]] = []
    compare: Callable[[str, str], bool] = hmac.compare_digest

    def observed(found: str, expected: str) -> bool:
        compared.append((found, expected))
        return compare(found, expected)

    monkeypatch.setattr(hmac, "compare_digest", observed)
    assert not is_right(None, "x" * 43)
    assert not is_right(None, "y" * 43)
    assert [len(side) for pair in compared for side in pair] == [64] * 4
    assert compared[0][0] != compared[1][0]  # a hash of what was offered


def test_no_column_holds_what_would_open_the_door(published: psycopg.Connection) -> None:
    text, _ = make(published)
    parsed = parse_key(text)
    assert parsed is not None
    (stored,) = published.execute("SELECT api_keys::text FROM bandicoot.api_keys").fetchall()
    assert parsed[0] in stored[0]
    assert parsed[1] not in stored[0]
    (key,) = list_keys(published)
    assert not is_right(key, key.secret_hash)


def test_the_same_secret_is_stored_differently_for_each_key(published: psycopg.Connection) -> None:
    keys = [make(published, f"client {n}")[1] for n in range(20)]
    for names in (
        {key.salt for key in keys},
        {key.secret_hash for key in keys},
        {key.key_id for key in keys},
    ):
        assert len(names) == len(keys)


def test_a_third_live_key_is_refused_and_says_which_two_there_are(published: psycopg.Connection) -> None:
    first, second = make(published)[1], make(published)[1]
    with pytest.raises(InvalidInputError, match=r"keys revoke KEY_ID") as refused:
        make(published)
    assert first.key_id in str(refused.value)
    assert second.key_id in str(refused.value)
    assert len(list_keys(published)) == 2
    make(published, "centre 8")
    revoke_key(published, first.key_id, now=NOW)
    make(published)
    assert len(list_keys(published)) == 4


def test_an_expired_key_makes_room_from_its_last_moment_on(published: psycopg.Connection) -> None:
    make(published, expires_at=NOW + DAY)
    make(published)
    with pytest.raises(InvalidInputError, match="2 live keys"):
        make(published, at=NOW + DAY - timedelta(microseconds=1))
    make(published, at=NOW + DAY)


def waiting(watcher: psycopg.Connection, n_sessions: int) -> None:
    """Until so many sessions wait for locks in this database."""
    count = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' "
        "AND pid <> pg_backend_pid()"
    )
    deadline = time.monotonic() + 20
    while watcher.execute(count).fetchone() != (n_sessions,):
        assert time.monotonic() < deadline, "they do not wait"
        time.sleep(0.01)


@pytest.mark.parametrize("n_before", [0, 1])
def test_of_clients_that_race_for_keys_only_two_are_served(
    published: psycopg.Connection, published_url: str, n_before: int
) -> None:
    for _ in range(n_before):
        make(published)

    def race() -> str | None:
        with connect(published_url) as connection:
            try:
                return make(connection)[1].key_id
            except InvalidInputError:
                return None

    # All have counted, or wait to count, before the first may insert.
    with ThreadPoolExecutor(3) as threads, connect(published_url) as holder:
        with holder.transaction():
            holder.execute("LOCK TABLE bandicoot.api_keys IN SHARE ROW EXCLUSIVE MODE")
            racing = [threads.submit(race) for _ in range(3)]
            waiting(published, 3)
        made = [future.result(20) for future in racing]
    assert sum(key_id is not None for key_id in made) == 2 - n_before
    assert len(live(published, NOW)) == 2


def test_a_key_that_is_being_revoked_is_not_replaced(published: psycopg.Connection, published_url: str) -> None:
    key_id = make(published)[1].key_id

    def rotate() -> None:
        with connect(published_url) as connection:
            rotate_key(connection, key_id, now=NOW)

    with ThreadPoolExecutor(1) as threads, connect(published_url) as revoker:
        with revoker.transaction():
            revoker.execute("UPDATE bandicoot.api_keys SET revoked_at = %s", (NOW,))
            rotating = threads.submit(rotate)
            waiting(published, 1)
        with pytest.raises(InvalidInputError, match=f"key {key_id} has expired or is revoked"):
            rotating.result(20)
    assert live(published, NOW) == []


def test_a_rotated_key_lives_on_for_the_overlap_beside_one_with_the_same_rights(
    published: psycopg.Connection,
) -> None:
    made = make(published, scopes=["read", "call"], tier="fast")[1]
    text, new, old = rotate_key(published, made.key_id, now=NOW + DAY, overlap=2 * DAY)
    assert (new.client, new.scopes, new.tier, new.expires_at) == ("centre 7", {"read", "call"}, "fast", None)
    assert (old.key_id, old.expires_at, old.revoked_at) == (made.key_id, NOW + 3 * DAY, None)
    assert list_keys(published) == [old, new]
    parsed = parse_key(text)
    assert parsed is not None
    assert is_right(new, parsed[1])
    assert live(published, NOW + 3 * DAY - timedelta(microseconds=1)) == [old.key_id, new.key_id]
    assert live(published, NOW + 3 * DAY) == [new.key_id]


def test_without_an_overlap_the_old_key_ends_at_once_also_in_the_moment_it_was_made(
    published: psycopg.Connection,
) -> None:
    make(published)
    _, new, old = rotate_key(published, "centre 7", now=NOW, overlap=timedelta(0))
    assert old.revoked_at == NOW
    assert live(published, NOW) == [new.key_id]


def test_a_key_never_lives_longer_because_it_was_rotated(published: psycopg.Connection) -> None:
    make(published, expires_at=NOW + DAY)
    _, new, old = rotate_key(published, "centre 7", now=NOW, expires_at=NOW + 30 * DAY)
    assert old.expires_at == NOW + DAY
    assert new.expires_at == NOW + 30 * DAY


def test_a_client_with_two_live_keys_is_not_rotated_whichever_is_named(published: psycopg.Connection) -> None:
    keys = [make(published)[1], make(published)[1]]
    before = list_keys(published)
    for name in ("centre 7", keys[0].key_id, keys[1].key_id):
        for overlap in (timedelta(0), DAY):
            with pytest.raises(InvalidInputError, match="2 live keys"):
                rotate_key(published, name, now=NOW, overlap=overlap)
    assert list_keys(published) == before


def test_what_is_no_live_key_is_not_rotated_and_the_message_says_what_to_do(published: psycopg.Connection) -> None:
    first = make(published)[1]
    revoke_key(published, first.key_id, now=NOW)
    with pytest.raises(InvalidInputError, match=r"every key of client 'centre 7'.*keys create"):
        rotate_key(published, "centre 7", now=NOW)
    second = make(published)[1]
    with pytest.raises(InvalidInputError, match=f"key {first.key_id} .*rotate {second.key_id}"):
        rotate_key(published, first.key_id, now=NOW)
    with pytest.raises(InvalidInputError, match=r"no key or client 'centre 9'.*keys list"):
        rotate_key(published, "centre 9", now=NOW)
    with pytest.raises(InvalidInputError, match="overlap: expected 0 days or more"):
        rotate_key(published, "centre 7", now=NOW, overlap=-DAY)


def test_a_key_is_revoked_once_and_for_all(published: psycopg.Connection) -> None:
    key = make(published)[1]
    assert revoke_key(published, key.key_id, now=NOW + DAY).revoked_at == NOW + DAY
    assert revoke_key(published, key.key_id, now=NOW + 2 * DAY).revoked_at == NOW + DAY
    assert live(published, NOW + DAY - timedelta(microseconds=1)) == [key.key_id]
    assert live(published, NOW + DAY) == []
    assert len(list_keys(published)) == 1
    with pytest.raises(InvalidInputError, match=r"no key 'abcdefghijkl'; `bandicoot api keys list`"):
        revoke_key(published, "abcdefghijkl", now=NOW)


def test_a_whole_key_in_place_of_its_id_is_understood_and_never_repeated(published: psycopg.Connection) -> None:
    text, key = make(published)
    for wrong in ("bdc_abcdefghijkl_" + "s" * 43, "bdc_abcdefghijkl_" + "s" * 42):
        for act in (revoke_key, rotate_key):
            with pytest.raises(InvalidInputError, match="there is no key") as refused:
                act(published, wrong, now=NOW)  # type: ignore[operator]
            assert "ssss" not in str(refused.value)
    assert revoke_key(published, f"{text}\n", now=NOW).key_id == key.key_id


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"client": ""}, "1 to 60 letters"),
        ({"client": "x" * 61}, "1 to 60 letters"),
        ({"client": "two\nlines"}, "1 to 60 letters"),
        ({"client": "ends\n"}, "1 to 60 letters"),
        ({"client": " ahead"}, "1 to 60 letters"),
        ({"client": "=cmd()"}, "1 to 60 letters"),
        ({"client": "zentrale-ü"}, "1 to 60 letters"),
        ({"client": "nul\0"}, "1 to 60 letters"),
        ({"scopes": []}, "one or more of read, call, admin; found none"),
        ({"scopes": ["read", "write"]}, "found read, write"),
        ({"scopes": "read"}, "one or more of read, call, admin"),
        ({"tier": "slow"}, "fast or standard; found 'slow'"),
        ({"expires_at": NOW}, "a moment after the key is made"),
        ({"expires_at": NOW - DAY}, "a moment after the key is made"),
    ],
)
def test_a_value_out_of_bounds_is_refused_with_what_was_expected(
    published: psycopg.Connection, changes: dict[str, object], words: str
) -> None:
    with pytest.raises(InvalidInputError, match=words):
        make(published, **changes)  # type: ignore[arg-type]
    assert list_keys(published) == []


def test_a_moment_without_a_time_zone_is_a_fault_of_the_program(published: psycopg.Connection) -> None:
    naive = NOW.replace(tzinfo=None)
    key_id = make(published)[1].key_id
    acts: list[Callable[[], object]] = [
        lambda: make(published, at=naive),
        lambda: make(published, expires_at=naive + DAY),
        lambda: rotate_key(published, key_id, now=naive),
        lambda: revoke_key(published, key_id, now=naive),
    ]
    for act in acts:
        with pytest.raises(ValueError, match="has no time zone"):
            act()
    assert len(live(published, NOW)) == 1


@pytest.mark.parametrize("role", ["bandicoot_writer", "bandicoot_service", "bandicoot_caller"])
def test_who_does_not_own_the_schema_is_told_who_makes_keys(
    published: psycopg.Connection, published_url: str, role: str
) -> None:
    key_id = make(published)[1].key_id
    apply_roles(published)
    with connect(f"{published_url}&options=-c%20role%3D{role}") as other:
        acts: list[Callable[[], object]] = [
            lambda: make(other),
            lambda: rotate_key(other, key_id, now=NOW),
            lambda: revoke_key(other, key_id, now=NOW),
        ]
        for act in acts:
            with pytest.raises(InvalidInputError, match=r"by the owner of schema bandicoot.*BANDICOOT_DATABASE_URL"):
                act()
    assert live(published, NOW) == [key_id]
