"""The suppression list: which caregivers must not come in again, without saying who they are.

A forgotten caregiver is known by HMAC-SHA256 of her caregiver_id, keyed with a secret of the installation that only
its writer may read. Ids are few and regular, so that an unkeyed hash would be undone by hashing them all; with the key
a list that gets out on its own, in an export or an audit, says nothing. It does not protect against somebody who holds
the secret and the ids: recognizing an id is what the list is for.

Adding to the list, and what is removed then, belongs to forgettings. Extraction and publication ask here.
"""

import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from psycopg import sql

from bandicoot_core.errors import InvalidInputError
from bandicoot_core.stores.postgres.arrow_copy import copy_out
from bandicoot_core.stores.postgres.connections import reading

HASH_OF = """encode(sha256(decode(secret.outer_key, 'hex')
    || sha256(decode(secret.inner_key, 'hex') || convert_to({id}, 'UTF8'))), 'hex')"""
"""The suppression hash of an id, for a query that has bandicoot.suppression_secret as `secret`."""

_IDS_PER_QUERY = 100_000

_HASH = sql.SQL("SELECT {hash} FROM bandicoot.suppression_secret AS secret").format(
    hash=sql.SQL(HASH_OF).format(id=sql.SQL("%s::text"))
)

# The first condition depends on no row: with an empty list nothing is hashed.
_ON_THE_LIST = """EXISTS (SELECT FROM bandicoot.forgettings)
    AND {hash} IN (SELECT suppression_hash FROM bandicoot.forgettings)"""

_SUPPRESSED = sql.SQL(
    "SELECT wanted.caregiver_id FROM unnest(%s::text[]) AS wanted (caregiver_id), "
    "bandicoot.suppression_secret AS secret WHERE {condition}"
).format(condition=sql.SQL(_ON_THE_LIST).format(hash=sql.SQL(HASH_OF).format(id=sql.SQL("wanted.caregiver_id"))))

_DELETE = sql.SQL(
    "DELETE FROM {table} AS stored USING bandicoot.suppression_secret AS secret WHERE {rows} AND {condition}"
)

_IS_LOST = """
    SELECT EXISTS (SELECT FROM bandicoot.forgettings) AND NOT EXISTS (SELECT FROM bandicoot.suppression_secret)
"""

_LOST = (
    "bandicoot.suppression_secret is empty, so that nobody who was forgotten can be recognized; restore its row from a "
    "backup of this database before anything is extracted"
)

_FORGOTTEN_KEYS = "SELECT caregiver_key FROM bandicoot.forgettings WHERE caregiver_key IS NOT NULL ORDER BY 1"


def suppression_hash(connection: psycopg.Connection, caregiver_id: str) -> str:
    """The hash under which a caregiver is on the list, or would be: 64 hexadecimal digits.

    Raises InvalidInputError when the database has lost its secret: nobody on the list could be recognized then.
    """
    row = connection.execute(_HASH, (caregiver_id,)).fetchone()
    if row is None:
        raise InvalidInputError(_LOST)
    return str(row[0])


def suppressed_ids(connection: psycopg.Connection, caregiver_ids: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Those of some ids that are on the list, each once; nulls are left out.

    The ids travel to the server: meant for those who have no key, which a forgotten caregiver never has.
    """
    wanted = pc.unique(caregiver_ids.cast(pa.string())).drop_null()
    found: list[str] = []
    with reading(connection, "looking for forgotten caregivers"):
        for start in range(0, len(wanted), _IDS_PER_QUERY):
            ids = wanted.slice(start, _IDS_PER_QUERY).to_pylist()
            found.extend(row[0] for row in connection.execute(_SUPPRESSED, (ids,)))
    return pa.array(found, pa.string())


def delete_suppressed(
    connection: psycopg.Connection, table: sql.Identifier, *, rows: sql.Composable | None = None
) -> int:
    """Delete the rows of a table whose caregiver_id is on the list, of those that `rows` selects; return how many.

    `rows` is a condition that calls the table `stored`. With an empty list it costs next to nothing. Raises
    InvalidInputError when there is a list and the database has lost its secret.
    """
    if connection.execute(_IS_LOST).fetchone() == (True,):
        raise InvalidInputError(_LOST)
    condition = sql.SQL(_ON_THE_LIST).format(hash=sql.SQL(HASH_OF).format(id=sql.SQL("stored.caregiver_id")))
    statement = _DELETE.format(table=table, rows=rows or sql.SQL("true"), condition=condition)
    return connection.execute(statement).rowcount


def forgotten_keys(connection: psycopg.Connection) -> pa.Table:
    """The keys that forgotten caregivers had, ascending: one column caregiver_key (int64).

    What a run computed from while they were being forgotten may still hold them.
    """
    schema = pa.schema([pa.field("caregiver_key", pa.int64(), nullable=False)])
    with reading(connection, "looking for forgotten caregivers"):
        return copy_out(connection, sql.SQL(_FORGOTTEN_KEYS), (), schema)


def without_keys(rows: pa.Table, keys: pa.Table) -> pa.Table:
    """The rows whose caregiver_key is none of `keys`."""
    return rows.filter(pc.invert(pc.is_in(rows["caregiver_key"], value_set=keys["caregiver_key"].combine_chunks())))


def checked_id(caregiver_id: str) -> str:
    """The id itself; InvalidInputError when no caregiver can have it."""
    if not caregiver_id.strip() or "\0" in caregiver_id:
        raise InvalidInputError(
            "caregiver_id: found an empty text or one with U+0000; give the id as the source spells it, for example "
            "CG-12345"
        )
    return caregiver_id
