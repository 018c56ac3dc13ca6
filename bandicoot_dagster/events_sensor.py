"""Sensors of events: one takes in what waits in Pub/Sub with every tick, one starts a run when files were dropped.

A tick is given a minute, so it stops pulling long before; what is left waits for the next one. What becomes of events
belongs to bandicoot_core.pipeline. Without a subscription or a folder in the settings the sensor is there, but off.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta

import dagster as dg
from pydantic import BaseModel

from bandicoot_core.pipeline.event_sources import consume_subscription, new_files
from bandicoot_core.pipeline.received_events import ingest_waiting
from bandicoot_core.pipeline.told_events import RECEIVED
from bandicoot_core.settings import Settings
from bandicoot_core.stores.installation import Installation
from bandicoot_core.stores.lake.manifest import Manifest
from bandicoot_core.stores.published.dead_letters import known_by_now
from bandicoot_dagster.assets.events import materialization
from bandicoot_dagster.clock import Clock
from bandicoot_dagster.event_files import ingest_event_files

_SECONDS_PER_TICK = 25.0
_REPORT_EVERY = timedelta(minutes=15)
"""How often Dagster is told of a partition that goes on changing: each time it keeps a record."""
_AGAIN_AFTER = timedelta(minutes=10)
"""How long after a failed run files are left alone."""


class Reported(BaseModel):
    """What the sensor remembers from tick to tick."""

    at: dict[str, datetime] = {}
    """When Dagster was last told of a day's partition."""
    pending: list[str] = []
    """Days that have changed since."""

    def after(self, changed: Mapping[str, Manifest], now: datetime) -> tuple[list[str], "Reported"]:
        """The days to tell of now, and what to remember then."""
        pending = sorted({*self.pending, *changed})
        due = [day for day in pending if day not in self.at or now - self.at[day] >= _REPORT_EVERY]
        recent = {day: at for day, at in self.at.items() if now - at < _REPORT_EVERY}
        return due, Reported(at={**recent, **dict.fromkeys(due, now)}, pending=[d for d in pending if d not in due])


def event_sensors(settings: Settings) -> list[dg.SensorDefinition]:
    """Both sensors, each running where its source is configured."""
    return [
        _from_subscription(_status(settings.events_subscription)),
        _from_files(_status(settings.events_folder)),
    ]


def _status(source: str | None) -> dg.DefaultSensorStatus:
    return dg.DefaultSensorStatus.RUNNING if source else dg.DefaultSensorStatus.STOPPED


def _from_subscription(status: dg.DefaultSensorStatus) -> dg.SensorDefinition:
    @dg.sensor(
        name="events_from_subscription",
        description="Takes in caregiver events from Pub/Sub: each is acknowledged after it is in the lake. Who opens a "
        "message is Responsive in the published states within two minutes.",
        default_status=status,
        minimum_interval_seconds=30,
    )
    def events_from_subscription(
        context: dg.SensorEvaluationContext, stores: dg.ResourceParam[Installation], clock: dg.ResourceParam[Clock]
    ) -> dg.SensorResult:
        holder = "sensor events_from_subscription"
        total = ingest_waiting(stores, holder=holder)
        subscription = stores.event_subscription()
        if subscription is None:
            return dg.SensorResult(skip_reason="no subscription is configured (BANDICOOT_EVENTS_SUBSCRIPTION)")
        with subscription:
            total += consume_subscription(stores, subscription, clock=clock, seconds=_SECONDS_PER_TICK, holder=holder)
        remembered = Reported.model_validate_json(context.cursor) if context.cursor else Reported()
        due, reported = remembered.after(total.partitions, clock())
        manifests = stores.lake.require_all(RECEIVED, due)
        return dg.SensorResult(
            skip_reason=(
                f"{total.n_messages} messages: {total.n_new} new events, {total.n_repeated} known, {total.n_waiting} "
                f"waiting for their caregivers, {total.n_dead} dead letters, {total.n_forgotten} of forgotten "
                f"caregivers; {total.n_states} states changed"
            ),
            asset_events=[materialization(manifest) for manifest in manifests],
            cursor=reported.model_dump_json(),
        )

    return events_from_subscription


def _from_files(status: dg.DefaultSensorStatus) -> dg.SensorDefinition:
    @dg.sensor(
        name="events_from_files",
        description="Starts `ingest_event_files` when files of caregiver events were dropped in the configured folder "
        "(JSON lines or CSV); each is taken in once, and again only when it was changed.",
        job=ingest_event_files,
        default_status=status,
        minimum_interval_seconds=30,
    )
    def events_from_files(
        context: dg.SensorEvaluationContext, stores: dg.ResourceParam[Installation], clock: dg.ResourceParam[Clock]
    ) -> dg.RunRequest | dg.SkipReason:
        folder = stores.settings.events_folder
        if folder is None:
            return dg.SkipReason("no folder is configured (BANDICOOT_EVENTS_FOLDER)")
        files = new_files(stores, folder, now=clock())
        if not files and not _somebody_became_known(stores):
            return dg.SkipReason("no new files")
        why_not = _why_not_now(context.instance, clock())
        # Without a run key: a file that was not taken in has to be asked for again.
        return dg.SkipReason(why_not) if why_not else dg.RunRequest()

    return events_from_files


def _somebody_became_known(stores: Installation) -> bool:
    with stores.published() as connection:
        return known_by_now(connection, after=0, limit=1).num_rows > 0


def _why_not_now(instance: dg.DagsterInstance, now: datetime) -> str | None:
    """Why no run is to be started: one is at work, or has just failed."""
    newest = instance.get_run_records(dg.RunsFilter(job_name=ingest_event_files.name), limit=1)
    if not newest:
        return None
    [record] = newest
    if not record.dagster_run.is_finished:
        return "a run is taking files in"
    if not record.dagster_run.is_success and record.end_time is not None:
        again_at = record.end_time + _AGAIN_AFTER.total_seconds()
        if now.timestamp() < again_at:
            return f"the last run failed; the next one starts {_AGAIN_AFTER.seconds // 60} minutes after it"
    return None
