"""Keeps bandicoot.caregiver_states current: one row per caregiver, changed only where something changed.

Runs inside the transaction that publishes a list (published.publish_call_list). Rewriting the table every night was
measured two to four times slower and left it several times its size; touching only the rows that differ, in pages
with room, leaves neither dead weight nor new index entries. The states themselves come from engagement.
"""

from datetime import date

import psycopg
import pyarrow as pa
from psycopg import sql

from bandicoot_core.contracts import TableContract
from bandicoot_core.errors import InvalidInputError
from bandicoot_core.stores.postgres.arrow_copy import copy_in
from bandicoot_core.stores.postgres.connections import Lock, lock
from bandicoot_core.stores.published.tables import INCOMING_STATES

_FACTS = tuple(name for name in INCOMING_STATES.column_names if name != "caregiver_key")

_CREATE_INCOMING = """
    CREATE TEMPORARY TABLE incoming_states ON COMMIT DROP AS
    SELECT 0::bigint AS caregiver_key, {facts} FROM bandicoot.caregiver_states WITH NO DATA
"""

_COMPARE = """
    CREATE TEMPORARY TABLE changed_states ON COMMIT DROP AS
    SELECT stored.caregiver_id AS stored_id, incoming.*
    FROM (SELECT caregiver_id, {facts} FROM incoming_states JOIN bandicoot.caregiver_keys USING (caregiver_key))
        AS incoming
    FULL JOIN bandicoot.caregiver_states AS stored ON stored.caregiver_id = incoming.caregiver_id
    WHERE stored.caregiver_id IS NULL OR incoming.caregiver_id IS NULL
        OR ({stored_facts}) IS DISTINCT FROM ({incoming_facts})
"""

_DELETE_GONE = """
    DELETE FROM bandicoot.caregiver_states AS stored USING changed_states AS changed
    WHERE stored.caregiver_id = changed.stored_id AND changed.caregiver_id IS NULL
"""

_UPDATE_CHANGED = """
    UPDATE bandicoot.caregiver_states AS stored SET ({facts}, as_of_date) = ROW({changed_facts}, %s)
    FROM changed_states AS changed
    WHERE stored.caregiver_id = changed.stored_id AND changed.caregiver_id IS NOT NULL
"""

_INSERT_NEW = """
    INSERT INTO bandicoot.caregiver_states (caregiver_id, {facts}, as_of_date)
    SELECT caregiver_id, {facts}, %s FROM changed_states WHERE stored_id IS NULL
"""

_DELETE_FORGOTTEN = """
    DELETE FROM incoming_states AS incoming USING bandicoot.forgettings AS forgotten
    WHERE forgotten.caregiver_key = incoming.caregiver_key
"""

_UNKNOWN_KEYS = """
    SELECT count(*), min(caregiver_key) FROM incoming_states
    WHERE NOT EXISTS (SELECT FROM bandicoot.caregiver_keys AS known
                      WHERE known.caregiver_key = incoming_states.caregiver_key)
"""


def refresh_states(
    connection: psycopg.Connection, states: pa.Table | pa.RecordBatchReader, *, as_of_date: date
) -> bool:
    """Make the table hold exactly these states; False, and no change, when it already stands at a later day.

    `states` has at least the columns of INCOMING_STATES, one row per caregiver_key, and may be a stream; rows of
    forgotten caregivers are left out. Must run
    inside a transaction. Raises InvalidInputError when a column is missing or a key is unknown; a key that comes
    twice breaks a constraint (psycopg.IntegrityError), which the surrounding whole_transaction explains.
    """
    lock(connection, Lock.STATES)
    row = connection.execute("SELECT max(states_as_of_date) FROM bandicoot.list_publications").fetchone()
    if row is not None and row[0] is not None and row[0] > as_of_date:
        return False
    connection.execute(_with_facts(_CREATE_INCOMING))
    copy_in(connection, sql.Identifier("incoming_states"), _conforming(states, INCOMING_STATES))
    connection.execute("CREATE UNIQUE INDEX ON incoming_states (caregiver_key)")
    # Nothing analyses temporary tables by itself, and without statistics the join is planned for a handful of rows.
    connection.execute("ANALYZE incoming_states")
    connection.execute(_DELETE_FORGOTTEN)
    _refuse_unknown_keys(connection)
    connection.execute(_with_facts(_COMPARE))
    connection.execute("ANALYZE changed_states")
    connection.execute(_DELETE_GONE)
    connection.execute(_with_facts(_UPDATE_CHANGED), (as_of_date,))
    connection.execute(_with_facts(_INSERT_NEW), (as_of_date,))
    return True


def _with_facts(statement: str) -> sql.Composed:
    def listed(table: str | None = None) -> sql.Composed:
        return sql.SQL(", ").join(sql.Identifier(*filter(None, (table, name))) for name in _FACTS)

    return sql.SQL(statement).format(
        facts=listed(),
        stored_facts=listed("stored"),
        incoming_facts=listed("incoming"),
        changed_facts=listed("changed"),
    )


def _conforming(states: pa.Table | pa.RecordBatchReader, contract: TableContract) -> pa.RecordBatchReader:
    missing = [name for name in contract.column_names if name not in states.schema.names]
    if missing:
        raise InvalidInputError(
            f"{contract.name}: columns {missing} are missing; found {states.schema.names}, expected "
            f"{contract.column_names}; materialize caregiver_states again"
        )
    schema = contract.arrow_schema()
    batches = states.to_batches() if isinstance(states, pa.Table) else states
    return pa.RecordBatchReader.from_batches(schema, (batch.select(schema.names).cast(schema) for batch in batches))


def _refuse_unknown_keys(connection: psycopg.Connection) -> None:
    row = connection.execute(_UNKNOWN_KEYS).fetchone()
    if row is not None and row[0]:
        raise InvalidInputError(
            f"caregiver_states: {row[0]} caregivers have no id in bandicoot.caregiver_keys (first: caregiver_key="
            f"{row[1]}); the states come from another database or from before a caregiver was removed; materialize "
            "caregivers and caregiver_states again"
        )
