"""Where model bundles are kept in the lake, and reading one back.

A bundle is written once, by `promotion`, under its version; what it is made of belongs to model.bundle.
"""

from datetime import date

from bandicoot_core.contracts import (
    BEHAVIOURAL_TYPES,
    CLUSTER_TYPES,
    CLUSTERS,
    TRANSITION_MODELS,
    TUPLE_CLUSTERS,
    TUPLE_INDICES,
    WHITTLE_INDICES,
)
from bandicoot_core.model.behavioural_types import BehaviouralTypes
from bandicoot_core.model.bundle import ModelBundle
from bandicoot_core.pipeline.training import MIXES, TYPES
from bandicoot_core.policy.top_k import IndexPosterior
from bandicoot_core.stores.installation import Installation

BUNDLES = "model_bundles"
"""Asset folder of the immutable bundles in the lake; the partition is the model version."""

BUNDLE_FORMAT = 2
"""Which tables and columns a bundle has. A model of another format is trained again before the next list."""


def load_bundle(stores: Installation, version: str) -> ModelBundle:
    """A stored bundle; MissingPartitionError when the lake has none of that version."""
    lake = stores.lake
    facts = lake.require(BUNDLES, version).facts
    return ModelBundle(
        clusters=lake.read(CLUSTERS, BUNDLES, version, "clusters"),
        tuple_clusters=lake.read(TUPLE_CLUSTERS, BUNDLES, version, "tuple_clusters"),
        transitions=lake.read(TRANSITION_MODELS, BUNDLES, version, "transitions"),
        indices=lake.read(WHITTLE_INDICES, BUNDLES, version, "indices"),
        tuple_indices=lake.read(TUPLE_INDICES, BUNDLES, version, "tuple_indices"),
        recipe=facts["recipe"],
        first_week=date.fromisoformat(facts["first_week"]),
        last_week=date.fromisoformat(facts["last_week"]),
    )


def index_posterior(stores: Installation, version: str) -> IndexPosterior:
    """What a stored model knows of its indices; MissingPartitionError when the lake has none of that version."""
    lake = stores.lake
    recipe = lake.require(BUNDLES, version).facts["recipe"]
    return IndexPosterior(
        transitions=lake.read(TRANSITION_MODELS, BUNDLES, version, "transitions"),
        types=load_types(stores, version),
        discount=float(recipe["discount"]),
        seed=int(recipe["model_seed"]),
    )


def load_types(stores: Installation, version: str) -> BehaviouralTypes:
    """The behavioural types of a stored model; MissingPartitionError when the lake has none of that version."""
    return BehaviouralTypes.from_tables(
        stores.lake.read(BEHAVIOURAL_TYPES, BUNDLES, version, TYPES),
        stores.lake.read(CLUSTER_TYPES, BUNDLES, version, MIXES),
    )
