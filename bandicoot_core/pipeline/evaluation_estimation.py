"""The estimation report of a week: which estimator of what calls do comes nearest to the truth, and what it says.

Two comparisons of estimators: on simulated programmes, whose truth is known, and on the last weeks of the programme's
own history, held out. The first does not depend on the programme; it stands beside the second so that both are read
together. And one of the model with the calls that chance chose (drawn_calls).
"""

from datetime import date

import pyarrow as pa
import pyarrow.compute as pc

from bandicoot_core.calendar import weeks_ending_with
from bandicoot_core.contracts import DRAWN_CALLS, ENGAGEMENT_HISTORY, ESTIMATION
from bandicoot_core.evaluation.drawn_calls import drawn_calls_sentence
from bandicoot_core.evaluation.estimation import HELD_OUT, compare_estimators, held_out_comparison
from bandicoot_core.evaluation.estimation_charts import gain_by_active_weeks
from bandicoot_core.evaluation.report import Report
from bandicoot_core.pipeline.drawn_calls import calls_of_lists
from bandicoot_core.settings import EvaluationOptions, ModelOptions
from bandicoot_core.stores.installation import Installation
from bandicoot_core.stores.lake.lake import Lake
from bandicoot_core.stores.lake.manifest import Manifest

_DRAWN = "drawn_calls"
_SEED = 1
_HELD_OUT_WEEKS = 4


def materialize_estimation_report(
    stores: Installation, week: date, model_options: ModelOptions, options: EvaluationOptions
) -> Manifest:
    """Write the `estimation_report` partition of a week: ESTIMATION, simulated and held out, and DRAWN_CALLS.

    MissingPartitionError when the week's history is absent, InvalidInputError when its first weeks have no behaviour.
    """
    lake, key = stores.lake, week.isoformat()
    n_weeks = int(lake.require("engagement_history", key).facts["n_weeks"])
    with stores.engine() as engine, lake.reader(engine) as reader:
        scanned = reader.scan(ENGAGEMENT_HISTORY, "engagement_history", [key])
        held_out = held_out_comparison(
            engine.create_table("history", scanned, temp=True),
            n_weeks=n_weeks,
            n_held_out=min(_HELD_OUT_WEEKS, n_weeks - 2),
            n_clusters=model_options.n_clusters,
            min_passive_weeks=model_options.min_passive_weeks,
            seed=model_options.model_seed,
        )
        weeks = weeks_ending_with(week, n_weeks)
        drawn = calls_of_lists(lake, reader, engine, weeks)
        inputs = dict(reader.inputs)
    simulated = compare_estimators(seed=_SEED, n_programmes=options.simulated_programmes)
    return lake.write(
        "estimation_report",
        key,
        {"data": (ESTIMATION, pa.concat_tables([simulated, held_out])), _DRAWN: (DRAWN_CALLS, drawn)},
        inputs=inputs,
        recipe={
            **model_options.model_dump(include={"n_clusters", "min_passive_weeks", "model_seed"}),
            **options.model_dump(include={"simulated_programmes"}),
            "seed": _SEED,
        },
        facts={"estimator": model_options.estimator, "n_held_out_weeks": min(_HELD_OUT_WEEKS, n_weeks - 2)},
    )


def read_estimation_report(lake: Lake, week: date) -> Report:
    """The materialized report; MissingPartitionError when it is absent."""
    key = week.isoformat()
    facts = lake.require("estimation_report", key).facts
    table = lake.read(ESTIMATION, "estimation_report", key)
    drawn = lake.read(DRAWN_CALLS, "estimation_report", key, _DRAWN)
    is_held_out = pc.equal(table["programme"], HELD_OUT)
    held_out = table.filter(is_held_out).select(["estimator", "n_active", "log_loss"]).sort_by("log_loss")
    simulated = table.filter(pc.invert(is_held_out)).drop_columns(["log_loss"])
    weeks = f"the last {facts['n_held_out_weeks']} weeks of the programme's own history, held out"
    verdict = (
        f"On {weeks}, `{held_out['estimator'][0].as_py()}` predicts weeks with calls best."
        if held_out.num_rows
        else f"In {weeks}, nobody was called whose cluster the weeks before tell: they do not say which is best."
    )
    return Report(
        title=f"How well chances are estimated from few calls, week {week}",
        sentences=[
            f"The model of this week is estimated by `{facts['estimator']}`. {verdict}",
            drawn_calls_sentence(drawn),
        ],
        tables={"held-out weeks": held_out, "calls by what chose them": drawn, "simulated programmes": simulated},
        pictures={"gain by active weeks": gain_by_active_weeks(simulated)},
    )
