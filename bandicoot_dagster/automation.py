"""What follows its inputs by itself, declared at the asset, and the one sensor that looks after it.

Here is what has to be made again because a person made something before it again by hand. What the clock starts stays
with jobs, schedules and sensors: a job's runs carry `FOLLOWED_TAG` when the job, or a sensor after it, makes all that
follows, and nothing here is requested because of them. An asset follows only when it takes no options of a run, since a
request has none: reports judge the options that a training had.
"""

from datetime import timedelta

import dagster as dg

from bandicoot_dagster.abandoned_runs import PROCESS_TAG

FOLLOWED_TAG = "bandicoot/followed"
FOLLOWED = {FOLLOWED_TAG: "by its own job"}
"""Tag of a job after which nothing has to follow by a condition."""

_MADE_BY_HAND = (
    dg.AutomationCondition.newly_updated()
    & ~dg.AutomationCondition.executed_with_tags(tag_keys={FOLLOWED_TAG})
    & ~dg.AutomationCondition.executed_with_tags(tag_keys={PROCESS_TAG})  # `bandicoot run` makes what follows itself
).with_label("made by hand")
_IDLE = ~dg.AutomationCondition.in_progress() & ~dg.AutomationCondition.any_deps_in_progress()

CACHE_FOLLOWS_ITS_LIST = (
    # Two days, since before today's list is out the newest one is yesterday's.
    dg.AutomationCondition.in_latest_time_window(timedelta(days=2))
    & dg.AutomationCondition.any_deps_match(dg.AutomationCondition.newly_updated()).since_last_handled()
    & _IDLE
).with_label("its list was published and it was not filled after")
"""Whoever published: a run that broke off before it filled the cache is made good, too."""

STATES_FOLLOW_THEIR_EVENTS = (
    # The newest day alone: its run renews every earlier day whose events have changed.
    dg.AutomationCondition.in_latest_time_window()
    # Late events are told all day long; what they change waits for the night, which renews every day they reach.
    & dg.AutomationCondition.any_deps_match(_MADE_BY_HAND)
    .ignore(dg.AssetSelection.assets("received_events"))
    .since_last_handled()
    & ~dg.AutomationCondition.missing()  # the night makes them first
    & _IDLE
).with_label("events, calls or registry of its window were made by hand")

COVERAGE_FOLLOWS_ITS_MODEL = (
    dg.AutomationCondition.in_latest_time_window()
    & dg.AutomationCondition.any_deps_match(_MADE_BY_HAND)
    .allow(dg.AssetSelection.assets("model_version"))
    .since_last_handled()
    & _IDLE
).with_label("the model of its week was made by hand")

what_follows = dg.AutomationConditionSensorDefinition(
    "what_follows",
    target=dg.AssetSelection.assets("index_cache", "caregiver_states", "coverage_report"),
    description="Makes again what follows from something that a person made again by hand; each asset says when.",
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=60,
    emit_backfills=False,
)
