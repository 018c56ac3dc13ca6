"""Opens that were received since the states were published: bandicoot.caregiver_states is brought up to date at once.

An open can only make a caregiver responsive, and her last open later; everything else waits for the night, when
current_states compares the whole table. Both hold the same lock, so that neither undoes the other.
"""

import psycopg
import pyarrow as pa
from psycopg import sql

from bandicoot_core.stores.postgres.arrow_copy import copy_in
from bandicoot_core.stores.postgres.connections import Lock, lock, repeated

_STANDING = "SELECT max(states_as_of_date) FROM bandicoot.list_publications"

_CREATE_OPENS = """
    CREATE TEMPORARY TABLE received_opens (caregiver_key bigint NOT NULL, open_date date NOT NULL) ON COMMIT DROP
"""

_UPDATE = """
    UPDATE bandicoot.caregiver_states AS stored SET
        last_open_date = opened.open_date,
        state = CASE WHEN opened.open_date > %(as_of)s::date - %(state_days)s::int THEN 'R' ELSE stored.state END,
        as_of_date = greatest(stored.as_of_date, opened.open_date, %(as_of)s::date)
    FROM (SELECT known.caregiver_id, max(received.open_date) AS open_date
          FROM received_opens AS received JOIN bandicoot.caregiver_keys AS known USING (caregiver_key)
          GROUP BY known.caregiver_id) AS opened
    WHERE stored.caregiver_id = opened.caregiver_id
        AND (stored.last_open_date IS NULL OR stored.last_open_date < opened.open_date)
        AND opened.open_date > %(as_of)s::date - %(lookback_days)s::int
"""

_COUNT = """
    INSERT INTO bandicoot.noted_opens AS counted (n_batches) VALUES (1)
    ON CONFLICT (is_only) DO UPDATE SET n_batches = counted.n_batches + 1
"""

# The row becomes another one with the same content: its transaction is part of the name that cached states carry.
_RENAME_PUBLICATION = """
    UPDATE bandicoot.list_publications SET run_id = run_id
    WHERE call_date = (SELECT call_date FROM bandicoot.list_publications WHERE states_as_of_date IS NOT NULL
                       ORDER BY states_as_of_date DESC LIMIT 1)
"""


def note_opens(connection: psycopg.Connection, opens: pa.Table, *, state_days: int, lookback_days: int) -> int:
    """Bring the last open, and the state, of caregivers up to date; returns how many rows have changed.

    `opens` has caregiver_key (int64) and open_date (date32, IST days), any number of rows each. Who opened on one of
    the `state_days` days that end with the day the table stands at, or later, is responsive; opens before its
    `lookback_days` are left out, and so are caregivers who are not in the table. Before the first publication nothing
    happens. Raises BusyError and UnreachableError.
    """

    def note() -> int:
        lock(connection, Lock.STATES)
        row = connection.execute(_STANDING).fetchone()
        if row is None or row[0] is None:
            return 0
        connection.execute(_CREATE_OPENS)
        copy_in(connection, sql.Identifier("received_opens"), opens.select(["caregiver_key", "open_date"]))
        connection.execute("ANALYZE received_opens")
        values = {"as_of": row[0], "state_days": state_days, "lookback_days": lookback_days}
        n_changed = connection.execute(_UPDATE, values).rowcount
        if n_changed:
            connection.execute(_COUNT)
        return n_changed

    return repeated(connection, "noting opens", note)


def distrust_cached_states(connection: psycopg.Connection) -> None:
    """Make readers take what a cache holds for outdated: states in it may be, and could not be removed."""
    repeated(connection, "setting aside what is cached", lambda: connection.execute(_RENAME_PUBLICATION), is_bulk=False)
