"""The model registry: every model with its tables, and which one is the champion that ranks the lists.

A candidate becomes champion or is rejected; a champion that is replaced is retired and may come back. Whether a model
is good enough is decided by the checks of policy and model; fitting it, in model.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import psycopg
import pyarrow as pa
from psycopg import sql
from psycopg.rows import class_row

from bandicoot_core.calendar import require_sunday
from bandicoot_core.contracts import CLUSTERS, WHITTLE_INDICES, TableContract
from bandicoot_core.errors import CheckFailedError, InvalidInputError
from bandicoot_core.stores.postgres.arrow_copy import copy_in, copy_out
from bandicoot_core.stores.postgres.connections import Lock, lock, reading, whole_transaction
from bandicoot_core.stores.published.contract_checks import require_contract, require_instant
from bandicoot_core.stores.published.tables import CANDIDATE, CHAMPION, MODEL_VERSIONS, REJECTED, RETIRED

_TABLES = {"clusters": CLUSTERS, "whittle_indices": WHITTLE_INDICES}

_SELECT = sql.SQL("SELECT {} FROM bandicoot.model_versions ").format(
    sql.SQL(", ").join(map(sql.Identifier, MODEL_VERSIONS.column_names))
)

_READING = "reading the models"

_INSERT = """
    INSERT INTO bandicoot.model_versions
        (model_version, training_week, status, checks, recipe, created_at, run_id, note)
    VALUES (%s, %s, %s, %s::jsonb, %s::jsonb, %s, %s, %s)
"""

_PROMOTE = """
    UPDATE bandicoot.model_versions SET status = %s, promoted_at = %s, promotion_run_id = %s, note = NULL
    WHERE model_version = %s
"""


@dataclass(frozen=True)
class ModelRecord:
    """One registered model; instants are UTC, `training_week` is the Sunday of the last week it was trained on."""

    model_version: str
    training_week: date
    status: str
    checks: Mapping[str, Any]
    recipe: Mapping[str, Any]
    created_at: datetime
    promoted_at: datetime | None
    run_id: str
    promotion_run_id: str | None
    note: str | None


def register_model(
    connection: psycopg.Connection,
    version: str,
    *,
    training_week: date,
    checks: Mapping[str, Any],
    recipe: Mapping[str, Any],
    clusters: pa.Table,
    indices: pa.Table,
    run_id: str,
    created_at: datetime,
    status: str = CANDIDATE,
    note: str | None = None,
) -> ModelRecord:
    """Store a model with its clusters (CLUSTERS) and indices (WHITTLE_INDICES) as candidate or rejected.

    Registering a version again changes nothing but the verdict (status, checks, note) of one that was never champion.
    Raises InvalidInputError when the version exists with other tables, or a value breaks its contract.
    """
    if status not in (CANDIDATE, REJECTED):
        raise ValueError(f"status: a model is registered as {CANDIDATE} or {REJECTED}, not {status!r}; use promote")
    tables = {
        "clusters": require_contract(clusters, CLUSTERS),
        "whittle_indices": require_contract(indices, WHITTLE_INDICES),
    }
    texts = {name: _json(version, name, value) for name, value in (("checks", checks), ("recipe", recipe))}
    moment = require_instant(created_at, "created_at")
    with whole_transaction(connection, f"registering model {version}"):
        lock(connection, Lock.MODELS)
        known = _find(connection, version)
        if known is None:
            connection.execute(
                _INSERT,
                (
                    version,
                    require_sunday(training_week),
                    status,
                    texts["checks"],
                    texts["recipe"],
                    moment,
                    run_id,
                    note,
                ),
            )
            for name, rows in tables.items():
                stamped = rows.add_column(0, "model_version", pa.repeat(pa.scalar(version), rows.num_rows))
                copy_in(connection, sql.Identifier("bandicoot", name), stamped)
        else:
            _refuse_other_content(connection, known, training_week, tables)
            if known.status in (CANDIDATE, REJECTED):
                connection.execute(
                    "UPDATE bandicoot.model_versions SET status = %s, checks = %s::jsonb, note = %s "
                    "WHERE model_version = %s",
                    (status, texts["checks"], note, version),
                )
        return _require(connection, version)


def promote(connection: psycopg.Connection, version: str, *, promoted_at: datetime, run_id: str) -> ModelRecord:
    """Make a model the champion and retire the one before, in one transaction; nothing changes when it is already.

    Raises InvalidInputError when the version is not registered, CheckFailedError when it was rejected.
    """
    moment = require_instant(promoted_at, "promoted_at")
    with whole_transaction(connection, f"promoting model {version}"):
        lock(connection, Lock.MODELS)
        model = _require(connection, version)
        if model.status == REJECTED:
            raise CheckFailedError(
                f"model {version} was rejected ({model.note or 'no reason was noted'}) and cannot become champion; "
                "train another, or materialize model_version again with other bounds"
            )
        if model.status != CHAMPION:
            connection.execute("UPDATE bandicoot.model_versions SET status = %s WHERE status = %s", (RETIRED, CHAMPION))
            connection.execute(_PROMOTE, (CHAMPION, moment, run_id, version))
        return _require(connection, version)


def reject(connection: psycopg.Connection, version: str, *, note: str) -> ModelRecord:
    """Mark a candidate as rejected, with the reason; a retired model keeps its status and gets the note.

    Raises InvalidInputError when the version is not registered or is the champion.
    """
    with whole_transaction(connection, f"rejecting model {version}"):
        lock(connection, Lock.MODELS)
        model = _require(connection, version)
        if model.status == CHAMPION:
            raise InvalidInputError(f"model {version} is the champion; promote another before rejecting it")
        status = RETIRED if model.status == RETIRED else REJECTED
        connection.execute(
            "UPDATE bandicoot.model_versions SET status = %s, note = %s WHERE model_version = %s",
            (status, note, version),
        )
        return _require(connection, version)


def roll_back(
    connection: psycopg.Connection, *, note: str, rolled_back_at: datetime, run_id: str
) -> tuple[ModelRecord, ModelRecord]:
    """Bring back the champion before the current one, in one transaction; returns the new and the replaced champion.

    The one before is the retired model that was promoted last and never rolled back itself. The replaced one is
    retired with `note`, which keeps it from being promoted again by itself (see is_held_back). Raises
    InvalidInputError when there is no champion, or none before it.
    """
    moment = require_instant(rolled_back_at, "rolled_back_at")
    if not note:
        raise InvalidInputError("note is empty; say why the champion is rolled back")
    with whole_transaction(connection, "rolling back the champion"):
        lock(connection, Lock.MODELS)
        current = champion(connection)
        if current is None:
            raise InvalidInputError("no model has been promoted yet; there is nothing to roll back")
        earlier = [model for model in list_models(connection) if model.status == RETIRED and not is_held_back(model)]
        if not earlier:
            raise InvalidInputError(
                f"model {current.model_version} has no champion before it to go back to; promote another version, or "
                "train one"
            )
        previous = max(earlier, key=lambda model: (model.promoted_at, model.model_version))
        connection.execute(
            "UPDATE bandicoot.model_versions SET status = %s, note = %s WHERE model_version = %s",
            (RETIRED, note, current.model_version),
        )
        connection.execute(_PROMOTE, (CHAMPION, moment, run_id, previous.model_version))
        return _require(connection, previous.model_version), _require(connection, current.model_version)


def is_held_back(model: ModelRecord) -> bool:
    """Whether a model was champion and was taken back for a reason: only a person promotes it again."""
    return model.status == RETIRED and model.note is not None


def find_model(connection: psycopg.Connection, version: str) -> ModelRecord:
    """A registered model; InvalidInputError names the newest version when there is none of that name."""
    return _require(connection, version)


def champion(connection: psycopg.Connection) -> ModelRecord | None:
    """The model that ranks the lists; None before the first promotion."""
    with reading(connection, _READING), connection.cursor(row_factory=class_row(ModelRecord)) as cursor:
        return cursor.execute(_SELECT + sql.SQL("WHERE status = %s"), (CHAMPION,)).fetchone()


def list_models(connection: psycopg.Connection) -> list[ModelRecord]:
    """Every registered model, the newest first; by version where instants are equal."""
    with reading(connection, _READING), connection.cursor(row_factory=class_row(ModelRecord)) as cursor:
        return cursor.execute(_SELECT + sql.SQL('ORDER BY created_at DESC, model_version COLLATE "C"')).fetchall()


def read_clusters(connection: psycopg.Connection, version: str) -> pa.Table:
    """The clusters of a model (CLUSTERS); InvalidInputError when the version is not registered."""
    _require(connection, version)
    return _read(connection, version, "clusters", CLUSTERS)


def read_indices(connection: psycopg.Connection, version: str) -> pa.Table:
    """The indices of a model (WHITTLE_INDICES); InvalidInputError when the version is not registered."""
    _require(connection, version)
    return _read(connection, version, "whittle_indices", WHITTLE_INDICES)


def _find(connection: psycopg.Connection, version: str) -> ModelRecord | None:
    with reading(connection, _READING), connection.cursor(row_factory=class_row(ModelRecord)) as cursor:
        return cursor.execute(_SELECT + sql.SQL("WHERE model_version = %s"), (version,)).fetchone()


def _require(connection: psycopg.Connection, version: str) -> ModelRecord:
    model = _find(connection, version)
    if model is None:
        newest = next(iter(list_models(connection)), None)
        raise InvalidInputError(
            f"model {version} is not registered (newest: {newest.model_version if newest else 'none'}); "
            "materialize model_version first"
        )
    return model


def _read(connection: psycopg.Connection, version: str, table: str, contract: TableContract) -> pa.Table:
    rows = copy_out(
        connection,
        sql.SQL("SELECT {} FROM {} WHERE model_version = %s").format(
            sql.SQL(", ").join(map(sql.Identifier, contract.column_names)), sql.Identifier("bandicoot", table)
        ),
        (version,),
        contract.arrow_schema(),
    )
    return rows.sort_by([(name, "ascending") for name in contract.sort_by])


def _refuse_other_content(
    connection: psycopg.Connection, known: ModelRecord, training_week: date, tables: Mapping[str, pa.Table]
) -> None:
    version = known.model_version
    found = {"training_week": known.training_week} | {
        name: _read(connection, version, name, contract).to_pylist() for name, contract in _TABLES.items()
    }
    given = {"training_week": training_week} | {name: rows.to_pylist() for name, rows in tables.items()}
    # By representation, so that an undefined index (nan) equals itself.
    different = [name for name in found if repr(found[name]) != repr(given[name])]
    if different:
        raise InvalidInputError(
            f"model {version} is registered with another {' and '.join(different)}; a version names one content: "
            "give the new model a version of its own"
        )


def _json(version: str, name: str, value: Mapping[str, Any]) -> str:
    try:
        return json.dumps(value, allow_nan=False, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(
            f"model {version}: {name} cannot be kept as JSON ({error}); use plain finite numbers and texts"
        ) from error
