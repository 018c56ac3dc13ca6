"""Runs in which somebody asked why a caregiver is listed: their configuration names her, their metadata answers.

Forgetting her removes them from Dagster's storage whole, and what they printed. No other run names a caregiver. What is
removed everywhere else belongs to bandicoot_core.pipeline.forgetting.
"""

import json
from contextlib import closing
from typing import Any

import dagster as dg
import psycopg

from bandicoot_core.errors import BusyError
from bandicoot_core.stores.postgres.connections import connect, whole_transaction
from bandicoot_dagster.pruning import libpq_url

PLACE = "dagster.runs"
_ASSET = "why_listed"

# Every run that made the asset, or was to make it, names it in its body or is one of its job.
_ASKING = "SELECT run_id FROM runs WHERE pipeline_name = 'explain_listing' OR position(%s IN run_body) > 0"
# The newest answer is kept once more beside the asset, and a backfill keeps what its runs were asked.
_FORGET_ANSWER = """
    UPDATE asset_keys SET last_materialization = NULL
    WHERE asset_key = %s AND last_run_id <> ALL (SELECT run_id FROM runs)
"""
_FORGET_BACKFILLS = "DELETE FROM bulk_actions WHERE position(%s IN body) > 0 AND position(%s IN body) > 0"


def asked_about(instance: dg.DagsterInstance, storage_url: str, caregiver_id: str) -> list[str]:
    """Ids of the runs in which somebody asked about a caregiver, whatever came of them."""
    with closing(connect(libpq_url(storage_url))) as connection:
        run_ids = [row[0] for row in connection.execute(_ASKING, (_ASSET,)).fetchall()]
    runs = (instance.get_run_by_id(run_id) for run_id in run_ids)
    return [run.run_id for run in runs if run is not None and _names(run.run_config, caregiver_id)]


def forget_asked(instance: dg.DagsterInstance, storage_url: str, caregiver_id: str) -> int:
    """Delete those runs, their events and what they printed; how many there were. Again is harmless.

    BusyError when one of them has not ended: its answer would come after.
    """
    run_ids = asked_about(instance, storage_url, caregiver_id)
    for run_id in run_ids:
        run = instance.get_run_by_id(run_id)
        if run is not None and not run.is_finished:
            raise BusyError(
                f"run {run_id} of {run.job_name} asks about this caregiver and has not ended; wait for it or end it, "
                "then give the same command again"
            )
    for run_id in run_ids:
        instance.compute_log_manager.delete_logs(prefix=[run_id])
        instance.event_log_storage.delete_events(run_id)  # before the run, by which it would be found again
        instance.delete_run(run_id)
    with (
        closing(connect(libpq_url(storage_url))) as connection,
        whole_transaction(connection, "removing answers from Dagster's storage"),
    ):
        _forget_rest(connection, caregiver_id)
    return len(run_ids)


def _forget_rest(connection: psycopg.Connection, caregiver_id: str) -> None:
    connection.execute(_FORGET_ANSWER, (dg.AssetKey(_ASSET).to_string(),))
    connection.execute(_FORGET_BACKFILLS, (_ASSET, json.dumps(caregiver_id)))


def _names(value: Any, caregiver_id: str) -> bool:
    """Whether a configuration holds her id, as a whole value anywhere in it."""
    if isinstance(value, dict):
        return any(_names(each, caregiver_id) for each in value.values())
    if isinstance(value, list | tuple):
        return any(_names(each, caregiver_id) for each in value)
    return value == caregiver_id
