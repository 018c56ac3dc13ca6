"""The calls of published lists whose next week is known, with what the model of a week says of each.

The comparison belongs to evaluation.drawn_calls; here lists and histories are read from the lake and brought together.
"""

from collections.abc import Sequence
from datetime import date

import ibis
import numpy as np
import pyarrow as pa
from ibis.backends.duckdb import Backend

from bandicoot_core.calendar import week_of
from bandicoot_core.contracts import (
    ACTIVE_TUPLE,
    BEHAVIOURAL_TYPES,
    CALL_LIST,
    CLUSTER_TYPES,
    DRAWN_CALLS,
    ENGAGEMENT_HISTORY,
    PASSIVE_TUPLE,
    RESPONSIVE,
    UNRESPONSIVE,
)
from bandicoot_core.engagement.counts import transition_counts
from bandicoot_core.engagement.words import bits
from bandicoot_core.evaluation.drawn_calls import drawn_calls_table
from bandicoot_core.model.behavioural_types import BehaviouralTypes, means_under_posteriors
from bandicoot_core.pipeline.training import MIXES, TYPES
from bandicoot_core.stores.lake.lake import Lake
from bandicoot_core.stores.lake.reader import LakeReader


def calls_of_lists(lake: Lake, reader: LakeReader, engine: Backend, weeks: Sequence[date]) -> pa.Table:
    """DRAWN_CALLS of the lists published within the window of a week's history, by the model of that week.

    weeks: the window, oldest first. A call counts in the week of its list when it was attempted in that week. No list,
    or no model of the week, makes an empty table.
    """
    key = weeks[-1].isoformat()
    published = [
        name
        for name in lake.partitions("call_list")
        if weeks[0] <= date.fromisoformat(name) < weeks[-1] and not lake.require("call_list", name).facts["refusals"]
    ]
    if not published or lake.manifest("transition_models", key) is None:
        return DRAWN_CALLS.empty()
    history = reader.scan(ENGAGEMENT_HISTORY, "engagement_history", [key])
    lists = reader.scan(CALL_LIST, "call_list", published).select("caregiver_key", "call_date", "propensity")
    calls = _called(lists, history, weeks, [date.fromisoformat(name) for name in published]).to_pyarrow()
    if not calls.num_rows:
        return DRAWN_CALLS.empty()
    known = engine.create_table("weeks_up_to_calls", calls.select(_WORDS), temp=True, overwrite=True)
    tuples = transition_counts(known).order_by("caregiver_key").to_pyarrow().select([*PASSIVE_TUPLE, *ACTIVE_TUPLE])
    types = BehaviouralTypes.from_tables(
        reader.scan(BEHAVIOURAL_TYPES, "transition_models", [key], TYPES).to_pyarrow(),
        reader.scan(CLUSTER_TYPES, "transition_models", [key], MIXES).to_pyarrow(),
    )
    of_states = means_under_posteriors(types, tuples, types.p_active.T)
    is_u = calls["state"].to_numpy(zero_copy_only=False) == UNRESPONSIVE
    return drawn_calls_table(
        calls.append_column("p_fitted", pa.array(np.where(is_u, of_states[:, 0], of_states[:, 1])))
    )


_WORDS = ["caregiver_key", "opened_weeks", "called_weeks", "observed_weeks"]


def _called(lists: ibis.Table, history: ibis.Table, weeks: Sequence[date], call_dates: Sequence[date]) -> ibis.Table:
    """One row per call, numbered in the place of caregiver_key, with her words up to the week of the call."""
    number = [weeks.index(week_of(day)) for day in call_dates]
    days = ibis.memtable(
        {"call_date": list(call_dates), "week": number, "words_until": [bits(0, week + 1) for week in number]},
        schema={"call_date": "date", "week": "int32", "words_until": "int64"},
    )
    both = lists.inner_join(days, "call_date").inner_join(history, "caregiver_key")
    is_known = (both.observed_weeks >> both.week) & (both.observed_weeks >> (both.week + 1)) & 1 == 1
    called = both.filter(is_known, (both.called_weeks >> both.week) & 1 == 1)
    return called.select(
        caregiver_key=ibis.row_number().over(order_by=[called.call_date, called.caregiver_key]),
        propensity=called.propensity,
        state=((called.opened_weeks >> called.week) & 1 == 1).ifelse(RESPONSIVE, UNRESPONSIVE),
        is_responsive_next=(called.opened_weeks >> (called.week + 1)) & 1 == 1,
        opened_weeks=called.opened_weeks,
        called_weeks=called.called_weeks,
        observed_weeks=called.observed_weeks & called.words_until,
    ).order_by("caregiver_key")
