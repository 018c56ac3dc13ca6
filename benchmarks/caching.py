"""Filling Redis with every caregiver's state and the indices, and reading one of them back.

The stage for `python -m benchmarks.caching cache_fill <case>`. It starts a redis-server of its own (Debian's).
"""

import statistics
import sys
import time
from datetime import UTC, datetime

import numpy as np
import psycopg
import pyarrow as pa

from bandicoot_core.contracts import CLUSTERS, STATES, WHITTLE_INDICES
from bandicoot_core.settings import Settings
from bandicoot_core.stores.cache.current_reader import CACHE, DATABASE, CurrentReader
from bandicoot_core.stores.cache.fill import fill_cache
from bandicoot_core.stores.embedded import server as embedded
from bandicoot_core.stores.installation import Installation
from bandicoot_core.stores.postgres.connections import connect
from bandicoot_core.stores.published import models
from bandicoot_core.stores.published.call_lists import migrate
from benchmarks.data import LIST_DATE, WEEK
from benchmarks.measure import Case, Measured, Outcome, repeat, serve
from tests.servers.redis import running_redis

_MOMENT = datetime(2026, 6, 27, 19, 30, tzinfo=UTC)
_MODEL_VERSION = "2026-06-21-00000000"
_N_CLUSTERS = 20
_N_READS = 300

_STATES = """
    INSERT INTO bandicoot.caregiver_states
    SELECT 'CG-' || lpad(n::text, 8, '0'), 'Muzaffarpur', CASE WHEN n %% 5 < 2 THEN 'R' ELSE 'U' END,
        %(day)s::date - 1 - n %% 50, CASE WHEN n %% 20 = 0 THEN %(day)s::date - 15 END, %(day)s::date - 200, 'active',
        'treatment', n %% %(n_clusters)s, %(day)s::date - 1
    FROM generate_series(1, %(n)s) AS n
"""

_PUBLICATION = """
    INSERT INTO bandicoot.list_publications VALUES (%(day)s, 0, 0, %(version)s, 'measured', %(at)s, %(day)s::date - 1)
"""


def cache_fill(case: Case) -> Measured:
    """Bring the indices and everybody's state from PostgreSQL into an empty Redis, then into one that is filled."""
    url = embedded.start(case.home).url
    migrate(url)
    with connect(url) as connection, running_redis() as redis:
        _publish(connection, case.n_caregivers)
        stores = Installation(Settings(home=case.home, database_url=url, redis_url=redis.url))
        cache = stores.cache
        assert cache is not None

        def work() -> Outcome:
            filled = fill_cache(cache, connection)
            assert filled.n_states == case.n_caregivers
            return Outcome(filled.n_states, {"redis_mb": redis.used_memory() / 1e6})

        measured = repeat(work, repeats=case.repeats)
        facts = {
            "cache_ms": _read_ms(stores.current, CACHE, case.n_caregivers),
            "database_ms": _read_ms(CurrentReader(None, stores.published), DATABASE, case.n_caregivers),
        }
    return Measured(**{**vars(measured), "facts": {**measured.facts, **facts}})


def _read_ms(reader: CurrentReader, expected: str, n_caregivers: int) -> float:
    """Median milliseconds for the state of one caregiver."""
    rng = np.random.default_rng(3)
    took = []
    for number in rng.integers(1, n_caregivers + 1, _N_READS):
        started = time.perf_counter()
        found = reader.read_states([f"CG-{number:08d}"])
        took.append(time.perf_counter() - started)
        assert found.came_from == expected
        assert len(found.states) == 1
    return statistics.median(took) * 1000


def _publish(connection: psycopg.Connection, n_caregivers: int) -> None:
    parameters = {
        "day": LIST_DATE,
        "n": n_caregivers,
        "n_clusters": _N_CLUSTERS,
        "version": _MODEL_VERSION,
        "at": _MOMENT,
    }
    connection.execute(_STATES, parameters)
    connection.execute("ANALYZE bandicoot.caregiver_states")
    connection.execute(_PUBLICATION, parameters)
    clusters = list(range(_N_CLUSTERS))
    half = [0.5] * _N_CLUSTERS
    cells = [(cluster, state) for cluster in clusters for state in STATES]
    index = np.random.default_rng(2).normal(0.3, 0.2, len(cells))
    models.register_model(
        connection,
        _MODEL_VERSION,
        training_week=WEEK,
        checks={},
        recipe={},
        clusters=pa.table([clusters, half, half, [1] * _N_CLUSTERS, [1] * _N_CLUSTERS], schema=CLUSTERS.arrow_schema()),
        indices=pa.table(
            [
                [cluster for cluster, _ in cells],
                [state for _, state in cells],
                index,
                index - 0.05,
                index + 0.05,
                [True] * len(cells),
                [0.4] * len(cells),
                [0.6] * len(cells),
            ],
            schema=WHITTLE_INDICES.arrow_schema(),
        ),
        run_id="measured",
        created_at=_MOMENT,
    )


if __name__ == "__main__":
    serve((cache_fill,), sys.argv[1:])
