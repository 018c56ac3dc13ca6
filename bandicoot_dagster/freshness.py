"""By when the list and the model have to be there, for the UI to say when one is late; nothing is started by it.

Deadlines are times in India. A materialization counts when it happened between the lower bound and the deadline, or
later: then the asset is late until it came.
"""

from datetime import timedelta

import dagster as dg

from bandicoot_dagster.partitions import TIME_ZONE

LIST_BY_TWO = dg.FreshnessPolicy.cron(
    deadline_cron="0 2 * * *",
    # Since midnight: what was made before was the list of another day.
    lower_bound_delta=timedelta(hours=2),
    timezone=TIME_ZONE,
)
"""The night begins at 01:00; call centres take the list in the morning."""

MODEL_BY_SUNDAY_AT_SIX = dg.FreshnessPolicy.cron(
    deadline_cron="0 6 * * 0",
    # Since midnight: the week that is trained on ends then.
    lower_bound_delta=timedelta(hours=6),
    timezone=TIME_ZONE,
)
"""Training begins on Sunday at 02:00."""
