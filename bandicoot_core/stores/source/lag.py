"""Whether a source that is a streaming replica has everything that happened before an instant.

A day must not be closed from a replica that lacks its end. A primary lacks nothing. What a replica has is told by, in
this order:

- the commit time of the last transaction it has replayed: everything committed before is there;
- when nothing is committed on the primary that time stands still though nothing is missing. So a replica that receives
  (its WAL receiver runs) and has replayed all that was received is complete up to now, as long as no more arrives
  while one looks: a replica that catches up receives all the time. Lost packets show only after
  wal_receiver_timeout, and so much is deducted;
- a replica that was restarted and has replayed nothing since knows no commit time: the newest instant in sms_logs
  stands for it.

A subscriber of logical replication is no replica in this sense: PostgreSQL does not tell how far it is.
"""

from dataclasses import dataclass
from datetime import datetime

import psycopg
from psycopg import sql

from bandicoot_core.calendar import PROGRAMME_TIME_ZONE
from bandicoot_core.errors import LaggingSourceError
from bandicoot_core.stores.source.tables import SMS_LOGS_TABLE

_LOOKS = 3
"""How often one looks, a second apart, whether more arrives."""

# Without pg_read_all_stats the server hides all of a receiver but that it runs; with it, the end of the primary's log
# is known exactly.
_STANDING = """
    SELECT pg_last_xact_replay_timestamp(), pg_last_wal_receive_lsn()::text,
        receiver.pid IS NOT NULL AND coalesce(receiver.status, 'streaming') = 'streaming',
        coalesce(pg_last_wal_replay_lsn() >= greatest(pg_last_wal_receive_lsn(), receiver.latest_end_lsn), false),
        now() - current_setting('wal_receiver_timeout')::interval
    FROM (SELECT) AS one_row LEFT JOIN pg_stat_wal_receiver AS receiver ON true
"""


@dataclass(frozen=True)
class _Standing:
    """How far a replica is at one look."""

    replayed_at: datetime | None
    received_lsn: str | None
    is_receiving: bool
    has_replayed_all: bool
    known_until: datetime

    @property
    def seems_complete(self) -> bool:
        return self.is_receiving and self.has_replayed_all


def require_complete(connection: psycopg.Connection, schema: str, until: datetime, *, where: str) -> None:
    """Nothing when the server has all that was committed before `until` (UTC), else LaggingSourceError.

    `where` names the server in the message. Takes some seconds at most; a primary is asked once.
    """
    row = connection.execute("SELECT pg_is_in_recovery()").fetchone()
    if row == (False,):
        return
    standing = _look(connection)
    for _ in range(_LOOKS):
        if standing.replayed_at is not None and standing.replayed_at >= until:
            return
        connection.execute("SELECT pg_sleep(1)")
        before, standing = standing, _look(connection)
        is_settled = before.seems_complete and standing.seems_complete and before.received_lsn == standing.received_lsn
        if is_settled and standing.known_until >= until:
            return
    reached = standing.replayed_at
    if reached is None:
        ((reached,),) = connection.execute(newest_message_query(schema)).fetchall()
    if reached is None or reached < until:
        raise LaggingSourceError(_refusal(standing, reached, until, where))


def _look(connection: psycopg.Connection) -> _Standing:
    (row,) = connection.execute(_STANDING).fetchall()
    return _Standing(*row)


def newest_message_query(schema: str) -> sql.Composed:
    """The query for the newest instant in sms_logs that is not in the future, each column by the end of its index."""
    newest = sql.SQL("(SELECT max({column}) FROM {table} WHERE {column} <= now())")
    table = sql.Identifier(schema, SMS_LOGS_TABLE.name)
    columns = [newest.format(column=sql.Identifier(name), table=table) for name in SMS_LOGS_TABLE.happens]
    return sql.SQL("SELECT greatest({})").format(sql.SQL(", ").join(columns))


def _refusal(standing: _Standing, reached: datetime | None, until: datetime, where: str) -> str:
    state = "it is still replaying" if standing.is_receiving else "it receives nothing from its primary"
    found = f"up to {_shown(reached)}" if reached is not None else "up to an unknown instant"
    return (
        f"{where}, is a replica that has followed its primary {found} ({state}); expected everything up to "
        f"{_shown(until)}, or the day would be closed without its end; nothing was read; run "
        "again when it has caught up, or let the end of a day be missing with max_source_lag_minutes "
        "(BANDICOOT_MAX_SOURCE_LAG_MINUTES)"
    )


def _shown(instant: datetime) -> str:
    return f"{instant.astimezone(PROGRAMME_TIME_ZONE):%Y-%m-%d %H:%M:%S} IST"
