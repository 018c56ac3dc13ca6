"""Whether a week's model still follows from its inputs and options, read from the lake's manifests."""

from datetime import date

from bandicoot_core.calendar import days_between, last_day_of_week
from bandicoot_core.pipeline.bundles import BUNDLE_FORMAT
from bandicoot_core.pipeline.engagement import covered_days, training_weeks
from bandicoot_core.pipeline.told_events import RECEIVED, received_input, received_on
from bandicoot_core.settings import ModelOptions
from bandicoot_core.stores.lake.lake import Lake

_MODEL_ASSETS = (
    "passive_counts",
    "clusters",
    "features_only_mapper",
    "cluster_assignments",
    "transition_models",
    "whittle_indices",
    "model_version",
)
MODEL_PARTS = ("engagement_history", *_MODEL_ASSETS)
"""Assets of a week's training, in the order in which they are made."""


def why_model_is_stale(lake: Lake, week: date, options: ModelOptions) -> str | None:
    """Why the model of a week has to be trained (again), or None when it is up to date.

    A model is stale when one of its partitions is missing, was made with other options, or was computed from
    partitions whose content has changed since.
    """
    key = week.isoformat()
    history = lake.manifest("engagement_history", key)
    if history is None:
        return "the week has no model yet"
    if history.recipe.get("training_weeks") != options.training_weeks:
        return f"training_weeks is now {options.training_weeks}"
    first_day = training_weeks(lake, week, options.training_weeks)[0]
    last_day = last_day_of_week(week)
    days = days_between(first_day, last_day)
    read = {
        "caregivers": [last_day.isoformat()],
        "sms_events": [day.isoformat() for day in days],
        "calls": covered_days(lake.partitions("calls"), days),
    }
    for asset, partitions in read.items():
        existing = set(lake.partitions(asset))
        digest = lake.digest(asset, [partition for partition in partitions if partition in existing])
        if history.inputs.get(asset) != digest:
            return f"{asset} has changed since the model was trained"
    received = received_on(lake.partitions(RECEIVED), read["sms_events"])
    if received_input(history) != lake.digest(RECEIVED, received):
        return f"{RECEIVED} has changed since the model was trained"
    decided = lake.manifest("model_version", key)
    if decided is not None and decided.recipe.get("bundle_format") != BUNDLE_FORMAT:
        return "the software keeps models in another form now"
    recipe = options.model_dump()
    for asset in _MODEL_ASSETS:
        manifest = lake.manifest(asset, key)
        if manifest is None:
            return f"{asset} is missing"
        for name, value in manifest.recipe.items():
            if name in recipe and recipe[name] != value:
                return f"{name} is now {recipe[name]} (was {value})"
        for upstream, digest in manifest.inputs.items():
            if upstream in MODEL_PARTS and lake.digest(upstream, [key]) != digest:
                return f"{upstream} has changed since {asset} was computed"
    return None
