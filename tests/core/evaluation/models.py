"""Model bundles trained on synthetic histories, as promotion would bundle them."""

from datetime import date

import ibis
from ibis.backends.duckdb import Backend

from bandicoot_core.model.bundle import ModelBundle
from bandicoot_core.model.indices import index_table, tuple_index_table
from bandicoot_core.model.recipe import TrainedRecipe, train_recipe
from bandicoot_core.settings import ModelOptions


def bundle_of(trained: TrainedRecipe, options: ModelOptions, *, first_week: date, last_week: date) -> ModelBundle:
    """The bundle of a training run."""
    return ModelBundle(
        clusters=trained.fit.clusters,
        tuple_clusters=trained.fit.tuple_clusters,
        transitions=trained.transitions,
        indices=index_table(
            trained.transitions, discount=options.discount, interval=options.interval, n_draws=100, seed=7
        ),
        tuple_indices=tuple_index_table(
            trained.fit.tuple_clusters,
            trained.transitions,
            prior_weight=options.prior_weight,
            discount=options.discount,
        ),
        recipe=options.model_dump(),
        first_week=first_week,
        last_week=last_week,
    )


def trained_bundle(history: ibis.Table, options: ModelOptions, *, first_week: date, last_week: date) -> ModelBundle:
    """A bundle trained on a history without a registry."""
    return bundle_of(train_recipe(history, options), options, first_week=first_week, last_week=last_week)


def table(engine: Backend, name: str, rows: object) -> ibis.Table:
    """A named table of an engine."""
    return engine.create_table(name, rows, temp=True, overwrite=True)
