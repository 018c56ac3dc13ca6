"""Redis and PostgreSQL give the same answers after any history, and no mix of two models while they change."""

import threading
import time
from contextlib import suppress
from datetime import timedelta
from typing import Any

import psycopg
from cached_publication import IDS, answers, bring, fill, opened, reader_of, truth
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from published_rows import DAY, give_keys, state_rows

from bandicoot_core.errors import UnreachableError
from bandicoot_core.stores.cache.cache import forget
from bandicoot_core.stores.cache.current_reader import CACHE, DATABASE
from bandicoot_core.stores.cache.fill import fill_cache
from bandicoot_core.stores.postgres.connections import connect
from bandicoot_core.stores.reset import clear_published
from tests.registered_models import MODELS, register
from tests.servers.redis import RedisServer, cut_after

WHATEVER = st.lists(
    st.one_of(
        st.tuples(
            st.just("publish"),
            st.integers(0, 3),
            st.sampled_from(MODELS),
            st.none() | st.dictionaries(st.integers(1, len(IDS)), st.sampled_from("UR"), max_size=len(IDS)),
        ),
        st.tuples(st.just("fill")),
        st.tuples(st.just("fill without states")),
        st.tuples(st.just("fill in part"), st.integers(0, 5000)),
        st.tuples(st.just("flush")),
        st.tuples(st.just("restart")),
        st.tuples(st.just("expire"), st.integers(0, 12)),
        st.tuples(st.just("break"), st.integers(0, 12), st.sampled_from([b"", b"{}", b"null", b'{"state":"U"}'])),
        st.tuples(st.just("forget"), st.sampled_from(IDS)),
    ),
    max_size=12,
)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=WHATEVER)
def test_after_any_history_redis_says_what_postgresql_says(
    redis_server: RedisServer, published: psycopg.Connection, history: list[tuple[Any, ...]]
) -> None:
    redis_server.flush()
    clear_published(published)
    for version in MODELS:
        register(published, version, n_clusters=1 + MODELS.index(version))
    give_keys(published, IDS)
    bring(published, state_rows({1: "U"}), model_version="m-1")
    cache = opened(redis_server)
    for number, (what, *details) in enumerate(history):
        _happen(redis_server, published, what, details, run_id=f"run-{number}")
        found = answers(reader_of(cache, published), [*IDS, "nobody"])
        assert repr(found) == repr(truth(published)), what


def _happen(
    redis_server: RedisServer, published: psycopg.Connection, what: str, details: list[Any], *, run_id: str
) -> None:
    if what == "publish":
        days_later, version, states = details
        rows = None if states is None else state_rows(states, cluster_ids=dict.fromkeys(states, MODELS.index(version)))
        bring(published, rows, day=DAY + timedelta(days=days_later), model_version=version, run_id=run_id)
    elif what == "fill":
        fill(redis_server, published)
    elif what == "fill without states":
        fill(redis_server, published, redis_has_states=False)
    elif what == "fill in part":
        with cut_after(redis_server, details[0]) as url, suppress(UnreachableError):
            fill_cache(opened(redis_server, redis_url=url), published)
    elif what == "flush":
        redis_server.flush()
    elif what == "restart":
        redis_server.restart()
    elif what == "forget":
        published.execute("DELETE FROM bandicoot.caregiver_states WHERE caregiver_id = %s", details)
        forget(opened(redis_server), details[0])
    else:
        names = sorted(redis_server.names())
        with redis_server.client() as client:
            for name in names[details[0] : details[0] + 1]:
                client.delete(name) if what == "expire" else client.set(name, details[1])


def test_no_answer_mixes_two_models_while_they_change(
    redis_server: RedisServer, published: psycopg.Connection, published_url: str
) -> None:
    """Readers beside a writer that publishes and fills: each answer is of one model, with the states it came with."""
    register(published, "m-1")
    register(published, "m-2")
    give_keys(published, IDS)
    bring(published, state_rows(dict.fromkeys(range(1, 5), "R"), cluster_ids=dict.fromkeys(range(1, 5), 0)))
    ended, wrong, came_from = threading.Event(), [], set()

    def read() -> None:
        cache = opened(redis_server)
        with connect(published_url) as connection:
            reader = reader_of(cache, connection)
            while not ended.is_set():
                indices, states = reader.read_indices(), reader.read_states(IDS)
                came_from.update((indices.came_from, states.came_from))
                expected = (1 + MODELS.index(indices.model_version)) / 3
                if set(indices.indices["p_passive"].to_pylist()) != {expected}:
                    wrong.append(indices)
                assert states.as_of is not None
                number = MODELS.index(states.as_of.model_version)
                if {(f.cluster_id, f.state) for f in states.states.values()} != {(number, "RU"[number])}:
                    wrong.append(states)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for thread in readers:
        thread.start()
    deadline, number = time.monotonic() + 1.5, 0
    while time.monotonic() < deadline:
        number += 1
        model = number % 2
        rows = state_rows(dict.fromkeys(range(1, 5), "RU"[model]), cluster_ids=dict.fromkeys(range(1, 5), model))
        bring(published, rows, model_version=MODELS[model], run_id=f"run-{number}")
        if number % 7:
            fill(redis_server, published)
            time.sleep(0.01)
        else:
            redis_server.flush()
    ended.set()
    for thread in readers:
        thread.join()
    assert wrong == []
    assert {CACHE, DATABASE} <= came_from
