"""The pseudonymous keys of caregivers, and their draws for the experiment, which are stored with them.

A key is assigned on first sight and never changes; bandicoot.caregiver_keys is the only place that knows whom it
stands for. How a draw is made is the experiment's business: it is passed in. Which share is in force is recorded in
experiments.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime

import ibis
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from ibis.backends.duckdb import Backend
from psycopg import sql

from bandicoot_core.errors import InvalidInputError
from bandicoot_core.stores.postgres.arrow_copy import copy_in, copy_out, stream_out
from bandicoot_core.stores.postgres.connections import Lock, lock, reading, whole_transaction
from bandicoot_core.stores.published.contract_checks import require_contract, require_instant
from bandicoot_core.stores.published.suppression import delete_suppressed
from bandicoot_core.stores.published.tables import CAREGIVER_KEYS, EXPERIMENT_ASSIGNMENTS

DrawOf = Callable[[Sequence[str], Mapping[str, int]], pa.Table]
"""Ids of caregivers who have no draw, and how many of each stratum have one -> stratum, block and draw of each id."""

_IDENTITY = pa.schema(
    [pa.field("caregiver_key", pa.int64(), nullable=False), pa.field("caregiver_id", pa.string(), nullable=False)]
)
KEYS_SCHEMA = _IDENTITY.append(pa.field("ab_arm", pa.string()))
"""What is read of the keys. ab_arm follows from the draw and the share in force; it is null for a caregiver whom no
ensure_keys has drawn for the experiment, and for everybody before a share is recorded."""

# Sorted by bytes, whatever the database's collation: the same ids get the same keys everywhere.
_INSERT_KEYS = """
    INSERT INTO bandicoot.caregiver_keys (caregiver_id, first_seen_at)
    SELECT caregiver_id, %s FROM (
        SELECT DISTINCT caregiver_id FROM incoming_ids
        WHERE NOT EXISTS (SELECT FROM bandicoot.caregiver_keys AS known
                          WHERE known.caregiver_id = incoming_ids.caregiver_id)
    ) AS unseen
    ORDER BY caregiver_id COLLATE "C"
"""

_WITHOUT_DRAW = """
    SELECT known.caregiver_key, known.caregiver_id FROM bandicoot.caregiver_keys AS known
    WHERE NOT EXISTS (SELECT FROM bandicoot.experiment_assignments AS assigned
                      WHERE assigned.experiment = %s AND assigned.caregiver_key = known.caregiver_key)
    ORDER BY known.caregiver_key
"""

# The places of forgotten caregivers stay taken: whoever comes next must not get a draw that was somebody's.
_DRAWN = """
    SELECT stratum, sum(n_draws)::bigint FROM (
        SELECT stratum, count(*) AS n_draws FROM bandicoot.experiment_assignments WHERE experiment = %s GROUP BY stratum
        UNION ALL
        SELECT stratum, n_draws FROM bandicoot.forgotten_draws WHERE experiment = %s
    ) AS drawn GROUP BY stratum
"""

_KEYS = """
    SELECT known.caregiver_key, known.caregiver_id,
        CASE WHEN assigned.draw < rollout.share THEN 'treatment'
             WHEN assigned.draw >= rollout.share THEN 'control' END
    FROM bandicoot.caregiver_keys AS known
    CROSS JOIN (
        SELECT (
            SELECT rollout_share FROM bandicoot.experiment_rollouts
            WHERE experiment = %s ORDER BY in_force_at DESC LIMIT 1
        ) AS share
    ) AS rollout
    LEFT JOIN bandicoot.experiment_assignments AS assigned
        ON assigned.experiment = %s AND assigned.caregiver_key = known.caregiver_key
    ORDER BY known.caregiver_key
"""

_IDS = """
    SELECT known.caregiver_key, known.caregiver_id FROM bandicoot.caregiver_keys AS known
    WHERE known.caregiver_key = ANY (%s::bigint[])
    ORDER BY known.caregiver_key
"""

# The key of somebody who was forgotten stays hers: it was given, and the lake may have known it.
_HIGHEST_KEY = """
    SELECT greatest(
        (SELECT max(caregiver_key) FROM bandicoot.caregiver_keys),
        (SELECT max(caregiver_key) FROM bandicoot.forgettings),
        0
    )
"""

_KEYS_OF = """
    SELECT known.caregiver_key, known.caregiver_id FROM bandicoot.caregiver_keys AS known
    JOIN unnest(%s::text[]) AS wanted (caregiver_id) ON wanted.caregiver_id = known.caregiver_id
    ORDER BY known.caregiver_key
"""


def ensure_keys(
    connection: psycopg.Connection,
    caregiver_ids: pa.Array | pa.ChunkedArray | Iterable[str],
    *,
    draw_of: DrawOf,
    experiment: str,
    seen_at: datetime,
) -> int:
    """Give every unseen id a key, and every known caregiver without one a draw; return how many ids were new.

    Who was forgotten gets neither: this is where the suppression list holds. Keys ascend with the ids' UTF-8 bytes
    among those that are new at once. Both happen in one transaction; processes that come at the same time wait for one
    another. Raises InvalidInputError when an id is missing, empty or holds U+0000, and when `draw_of` gives a draw that
    cannot be; ValueError when it gives too few or too many.
    """
    ids = _checked_ids(caregiver_ids)
    seen = require_instant(seen_at, "seen_at")
    with whole_transaction(connection, "assigning caregiver keys", is_bulk=True):
        lock(connection, Lock.KEYS)
        connection.execute("CREATE TEMPORARY TABLE incoming_ids (caregiver_id text NOT NULL) ON COMMIT DROP")
        copy_in(connection, sql.Identifier("incoming_ids"), ids)
        connection.execute("ANALYZE incoming_ids")
        delete_suppressed(connection, sql.Identifier("incoming_ids"))
        n_new = connection.execute(_INSERT_KEYS, (seen,)).rowcount
        without_draw = copy_out(connection, sql.SQL(_WITHOUT_DRAW), (experiment,), _IDENTITY)
        if without_draw.num_rows:
            n_drawn: dict[str, int] = dict(connection.execute(_DRAWN, (experiment, experiment)).fetchall())
            drawn = _draw(without_draw, draw_of, n_drawn, experiment, seen)
            copy_in(connection, sql.Identifier("bandicoot", "experiment_assignments"), drawn)
    return n_new


def read_keys(connection: psycopg.Connection, *, experiment: str) -> pa.Table:
    """All keys with ids and arms (KEYS_SCHEMA), ascending, as one table in memory."""
    return copy_out(connection, sql.SQL(_KEYS), (experiment, experiment), KEYS_SCHEMA)


def load_keys(
    connection: psycopg.Connection, engine: Backend, *, experiment: str, name: str = "caregiver_keys"
) -> ibis.Table:
    """All keys with ids and arms as a temporary table of the engine, streamed into it; replaces one of that name."""
    keys = engine.create_table(name, schema=ibis.Schema.from_pyarrow(KEYS_SCHEMA), temp=True, overwrite=True)
    for batch in stream_out(connection, sql.SQL(_KEYS), (experiment, experiment), KEYS_SCHEMA):
        engine.insert(name, pa.Table.from_batches([batch]))
    return keys


def highest_key(connection: psycopg.Connection) -> int:
    """The highest key this database has given, to somebody forgotten since included; 0 before the first."""
    with reading(connection, "looking for the highest caregiver key"):
        row = connection.execute(_HIGHEST_KEY).fetchone()
    return int(row[0]) if row else 0


def keys_of(connection: psycopg.Connection, caregiver_ids: pa.Array | pa.ChunkedArray) -> pa.Table:
    """The keys of some ids: columns caregiver_key, caregiver_id, ascending, each key once.

    Ids that are missing or have no key yet are left out: what becomes of their rows is the caller's to say. Meant for
    few ids, which travel to the server; `load_keys` brings all keys to the engine.
    """
    wanted = pc.unique(caregiver_ids.cast(pa.string())).drop_null().to_pylist()
    return copy_out(connection, sql.SQL(_KEYS_OF), (wanted,), _IDENTITY)


def caregiver_ids_for(connection: psycopg.Connection, caregiver_keys: pa.Array | pa.ChunkedArray) -> pa.Table:
    """The ids of some keys: columns caregiver_key, caregiver_id, ascending, each key once.

    Raises InvalidInputError when a key is unknown, since a list would silently lose the caregiver otherwise.
    """
    wanted = pc.unique(caregiver_keys.cast(pa.int64()))
    literal = "{" + ",".join(wanted.cast(pa.string()).to_pylist()) + "}"
    found = copy_out(connection, sql.SQL(_IDS), (literal,), _IDENTITY)
    if found.num_rows < len(wanted):
        unknown = wanted.filter(pc.invert(pc.is_in(wanted, value_set=found["caregiver_key"].combine_chunks())))
        raise InvalidInputError(
            f"{CAREGIVER_KEYS.name}: {len(unknown)} keys have no caregiver (first: caregiver_key="
            f"{pc.min(unknown).as_py()}); they come from another database or from before a caregiver was removed; "
            "materialize caregivers and what follows from it again"
        )
    return found


def _checked_ids(caregiver_ids: pa.Array | pa.ChunkedArray | Iterable[str]) -> pa.Table:
    if isinstance(caregiver_ids, pa.Array | pa.ChunkedArray):
        ids = pa.table({"caregiver_id": caregiver_ids.cast(pa.string())})
    else:
        ids = pa.table({"caregiver_id": pa.array(caregiver_ids, pa.string())})
    column = ids["caregiver_id"]
    n_empty = column.null_count + (pc.sum(pc.equal(column, "")).as_py() or 0)
    if n_empty:
        raise InvalidInputError(
            f"caregiver_id: {n_empty} of {len(column)} ids are missing or empty; a caregiver without an id cannot be "
            "called: set those rows aside before asking for keys"
        )
    return ids


def _draw(
    caregivers: pa.Table, draw_of: DrawOf, n_drawn: Mapping[str, int], experiment: str, assigned_at: datetime
) -> pa.Table:
    drawn = draw_of(caregivers["caregiver_id"].to_pylist(), n_drawn)
    n_rows = caregivers.num_rows
    if drawn.num_rows != n_rows:
        raise ValueError(f"draw_of gave {drawn.num_rows} draws for {n_rows} caregivers; expected one for each")
    columns = {
        "experiment": pa.repeat(pa.scalar(experiment), n_rows),
        "caregiver_key": caregivers["caregiver_key"],
        "assigned_at": pa.repeat(pa.scalar(assigned_at, pa.timestamp("us", tz="UTC")), n_rows),
        **{name: drawn[name] for name in ("stratum", "block", "draw")},
    }
    return require_contract(pa.table(columns), EXPERIMENT_ASSIGNMENTS)
