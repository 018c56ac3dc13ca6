"""What the guard of promotion needs from the lake: the history of the week, both models, and the logs behind them.

The checks are pure and belong to evaluation.guard and engagement.completeness; what follows from them, to promotion.
"""

from datetime import date

from bandicoot_core.calendar import weeks_ending_with
from bandicoot_core.checks import CheckOutcome
from bandicoot_core.contracts import CLUSTER_ASSIGNMENTS, ENGAGEMENT_HISTORY
from bandicoot_core.engagement.completeness import LOG_CHECKS, logs_complete
from bandicoot_core.evaluation.guard import GUARD_CHECKS, backtest_not_worse, predicts_last_weeks
from bandicoot_core.model.bundle import ModelBundle
from bandicoot_core.settings import ModelOptions
from bandicoot_core.stores.installation import Installation
from bandicoot_core.stores.lake.manifest import Manifest

GUARDED = {**LOG_CHECKS, **GUARD_CHECKS}
"""Names of the checks made here, and what each demands."""


def guard_outcomes(
    stores: Installation, week: date, options: ModelOptions, *, candidate: ModelBundle, champion: ModelBundle | None
) -> tuple[CheckOutcome, ...]:
    """The outcomes of GUARDED, in that order, for the candidate of a week; all block.

    `champion` is None before the first promotion. MissingPartitionError names what to materialize when the week's
    history or assignments are absent.
    """
    key = week.isoformat()
    manifest = stores.lake.require("engagement_history", key)
    n_weeks = int(manifest.facts["n_weeks"])
    with stores.engine() as engine, stores.lake.reader(engine) as reader:
        scanned = reader.scan(ENGAGEMENT_HISTORY, "engagement_history", [key])
        history = engine.create_table("history", scanned, temp=True)
        return (
            _logs_are_complete(manifest, week, options),
            backtest_not_worse(history, n_weeks, options, champion.recipe if champion else None),
            predicts_last_weeks(
                history,
                n_weeks,
                candidate,
                champion,
                assignments=reader.scan(CLUSTER_ASSIGNMENTS, "cluster_assignments", [key]),
                max_loss_increase=options.max_loss_increase,
            ),
        )


def _logs_are_complete(manifest: Manifest, week: date, options: ModelOptions) -> CheckOutcome:
    rates = manifest.facts.get("messages_per_caregiver")
    if rates is None:
        text = f"the history of {week} does not say how many messages were sent; materialize engagement_history again"
        return CheckOutcome("logs_complete", False, True, text)
    weeks = weeks_ending_with(week, len(rates))
    return logs_complete(rates, weeks=weeks, minimum=options.min_log_completeness)
