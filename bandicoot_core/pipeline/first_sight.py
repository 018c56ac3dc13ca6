"""Who is seen for the first time: keys for new caregivers, and their draws for the running experiment.

How a draw is made belongs to policy.experiment, where keys and draws are kept to stores; what else becomes of the
registry's rows, to extraction.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

import ibis
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from ibis.backends.duckdb import Backend

from bandicoot_core.engagement.intake import is_blank
from bandicoot_core.policy.experiment import REGISTRY_FACTS, draw_caregivers
from bandicoot_core.settings import Settings
from bandicoot_core.stores.published.experiments import record_rollout
from bandicoot_core.stores.published.keys import ensure_keys, load_keys


def keys_of_all(
    registry: ibis.Table,
    connection: psycopg.Connection,
    engine: Backend,
    *,
    settings: Settings,
    seen_at: datetime,
    name: str,
) -> ibis.Table:
    """The keys with arms, as table `name` of the engine, after everyone in the registry who was not forgotten has both.

    registry: rows of the source table caregivers, held in the engine. The rollout share of the settings is in force
    from `seen_at` (UTC) on when it was not before; only caregivers without a draw travel to the server.
    """
    experiment = settings.experiment
    record_rollout(connection, experiment=experiment, rollout_share=settings.rollout_share, in_force_at=seen_at)
    keys = load_keys(connection, engine, experiment=experiment, name=name)
    facts = _facts_of_undrawn(registry, keys).to_pyarrow()
    n_without_draw = int(keys.ab_arm.isnull().sum().fill_null(0).to_pyarrow().as_py())
    if not facts.num_rows and not n_without_draw:
        return keys

    def draw_of(caregiver_ids: Sequence[str], n_drawn: Mapping[str, int]) -> pa.Table:
        ids = pa.array(caregiver_ids, pa.string())
        # A caregiver who has left the registry has no facts any more, only nulls: they are a stratum of their own.
        known = facts.drop_columns(["caregiver_id"]).take(pc.index_in(ids, value_set=facts["caregiver_id"]))
        return draw_caregivers(known.append_column("caregiver_id", ids), experiment=experiment, n_drawn=n_drawn)

    n_new = ensure_keys(connection, facts["caregiver_id"], draw_of=draw_of, experiment=experiment, seen_at=seen_at)
    if not n_new and not n_without_draw:
        return keys  # those without a key are forgotten caregivers, whom the source still has
    return load_keys(connection, engine, experiment=experiment, name=name)


def _facts_of_undrawn(registry: ibis.Table, keys: ibis.Table) -> ibis.Table:
    """REGISTRY_FACTS of everyone without a draw, one row each: of several rows the one that enrolled last."""
    identified = registry.filter(is_blank(registry.caregiver_id) == ibis.literal(False))
    undrawn = identified.anti_join(keys.filter(keys.ab_arm.notnull()), "caregiver_id").select(*REGISTRY_FACTS)
    newest_first = [ibis.desc(undrawn[name], nulls_first=False) for name in REGISTRY_FACTS[1:]]
    ranked = undrawn.mutate(place=ibis.row_number().over(group_by="caregiver_id", order_by=newest_first))
    return ranked.filter(ranked.place == 0).drop("place")
