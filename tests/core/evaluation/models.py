"""Histories in an engine, and model bundles trained on them as promotion would bundle them."""

import uuid

import ibis
import pyarrow as pa
from ibis.backends.duckdb import Backend

from bandicoot_core.contracts import ENGAGEMENT_HISTORY
from bandicoot_core.model.bundle import ModelBundle
from bandicoot_core.model.indices import index_table, tuple_index_table
from bandicoot_core.model.recipe import TrainedRecipe, train_recipe
from bandicoot_core.settings import ModelOptions
from tests.core.evaluation.histories import weeks_of


def in_engine(engine: Backend, rows: pa.Table) -> ibis.Table:
    """A table of the engine with a name of its own."""
    return engine.create_table(f"rows_{uuid.uuid4().hex}", rows, temp=True)


def history_of(engine: Backend, *rows: tuple[int, int, int, int]) -> ibis.Table:
    """A history: (caregiver_key, opened_weeks, called_weeks, observed_weeks)."""
    names = ENGAGEMENT_HISTORY.column_names
    literal = [dict(zip(names, row, strict=True)) for row in rows]
    return in_engine(engine, pa.Table.from_pylist(literal, schema=ENGAGEMENT_HISTORY.arrow_schema()))


def bundle_of(trained: TrainedRecipe, options: ModelOptions) -> ModelBundle:
    """The bundle of a training run over a window of ten weeks."""
    window = weeks_of(10)
    return ModelBundle(
        clusters=trained.fit.clusters,
        tuple_clusters=trained.fit.tuple_clusters,
        transitions=trained.transitions,
        indices=index_table(trained.transitions, discount=0.99, interval=0.9, n_draws=100, seed=7),
        tuple_indices=tuple_index_table(
            trained.fit.tuple_clusters, trained.transitions, prior_weight=8.0, discount=0.99
        ),
        recipe=options.model_dump(),
        first_week=window[0],
        last_week=window[-1],
    )


def trained_bundle(history: ibis.Table, options: ModelOptions) -> ModelBundle:
    """A bundle trained on a history without a registry."""
    return bundle_of(train_recipe(history, options), options)
