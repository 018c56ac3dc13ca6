"""The record of experiments in schema `bandicoot`: which rollout share was in force when, and everybody's draw.

A draw is stored once and never changes; an arm follows from the draw and the share in force. Drawing happens in
policy, and the draws of new caregivers are stored with their keys (keys).
"""

from dataclasses import dataclass
from datetime import datetime

import psycopg
import pyarrow as pa
from psycopg import sql
from psycopg.rows import class_row

from bandicoot_core.errors import InvalidInputError, InvalidSettingError
from bandicoot_core.stores.postgres.arrow_copy import copy_out
from bandicoot_core.stores.postgres.connections import Lock, lock, reading, whole_transaction
from bandicoot_core.stores.published.contract_checks import require_instant
from bandicoot_core.stores.published.tables import EXPERIMENT_ASSIGNMENTS

_ROLLOUTS = """
    SELECT in_force_at, rollout_share FROM bandicoot.experiment_rollouts WHERE experiment = %s ORDER BY in_force_at
"""

_ASSIGNMENTS = """
    SELECT caregiver_key, stratum, block, draw FROM bandicoot.experiment_assignments
    WHERE experiment = %s ORDER BY caregiver_key
"""

ASSIGNMENTS_SCHEMA = pa.schema(
    [EXPERIMENT_ASSIGNMENTS.arrow_schema().field(name) for name in ("caregiver_key", "stratum", "block", "draw")]
)
"""What is read of the assignments of one experiment."""


@dataclass(frozen=True)
class Rollout:
    """From when on (UTC) which share of the caregivers was in the treatment arm."""

    in_force_at: datetime
    rollout_share: float


def record_rollout(
    connection: psycopg.Connection, *, experiment: str, rollout_share: float, in_force_at: datetime
) -> bool:
    """Record that a share is in force from an instant on, unless it is already; return whether it was new.

    The first record of an experiment is its beginning. Raises InvalidSettingError when the share lies outside (0, 1],
    and InvalidInputError when another share came into force later than `in_force_at`: the past is not rewritten.
    """
    instant = require_instant(in_force_at, "in_force_at")
    if not 0 < rollout_share <= 1:
        raise InvalidSettingError(f"rollout_share is {rollout_share}; it must lie above 0 and not above 1")
    with whole_transaction(connection, "recording the rollout of an experiment"):
        lock(connection, Lock.KEYS)
        known = read_rollouts(connection, experiment=experiment)
        if known and known[-1].rollout_share == rollout_share:
            return False
        if known and known[-1].in_force_at >= instant:
            raise InvalidInputError(
                f"experiment {experiment!r}: a rollout of {rollout_share:g} cannot come into force at "
                f"{instant.isoformat()}, since one of {known[-1].rollout_share:g} did at "
                f"{known[-1].in_force_at.isoformat()}; set the clock right, or give the experiment another name"
            )
        connection.execute(
            "INSERT INTO bandicoot.experiment_rollouts (experiment, in_force_at, rollout_share) VALUES (%s, %s, %s)",
            (experiment, instant, rollout_share),
        )
    return True


def read_rollouts(connection: psycopg.Connection, *, experiment: str) -> list[Rollout]:
    """The shares of an experiment in the order in which they came into force; empty before the first."""
    with reading(connection, "reading rollouts"), connection.cursor(row_factory=class_row(Rollout)) as cursor:
        return cursor.execute(_ROLLOUTS, (experiment,)).fetchall()


def read_assignments(connection: psycopg.Connection, *, experiment: str) -> pa.Table:
    """The stratum, block and draw of everybody in an experiment, by ascending key (ASSIGNMENTS_SCHEMA)."""
    return copy_out(connection, sql.SQL(_ASSIGNMENTS), (experiment,), ASSIGNMENTS_SCHEMA)
