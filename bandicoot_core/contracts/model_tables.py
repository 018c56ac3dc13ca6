"""Tables of the model group: clusters, assignments, transition models and indices."""

from bandicoot_core.contracts.columns import (
    ASSIGNED_BY_COLUMN,
    CAREGIVER_KEY_COLUMN,
    CLUSTER_ID_COLUMN,
    state_column,
    tuple_columns,
)
from bandicoot_core.contracts.table_contract import Column, TableContract
from bandicoot_core.contracts.vocabulary import ACTIONS, ACTIVE_TUPLE, PASSIVE_TUPLE

CLUSTERS = TableContract(
    "clusters",
    "Clusters of passive behaviour",
    (
        CLUSTER_ID_COLUMN,
        Column("p_passive_u", "float64", "Centroid: P(next = R | U, passive)", minimum=0, maximum=1),
        Column("p_passive_r", "float64", "Centroid: P(next = R | R, passive)", minimum=0, maximum=1),
        Column(
            "n_caregivers",
            "int64",
            "Caregivers whose history lies in the cluster",
            unit="caregivers",
            minimum=0,
        ),
        Column("n_tuples", "int64", "Distinct tuples in the cluster", unit="tuples", minimum=1),
    ),
    key=("cluster_id",),
    sort_by=("cluster_id",),
)

TUPLE_CLUSTERS = TableContract(
    "tuple_clusters",
    "Which cluster each distinct tuple belongs to",
    (
        *tuple_columns(),
        CLUSTER_ID_COLUMN,
        Column("n_caregivers", "int64", "Caregivers with this tuple", minimum=1),
    ),
    key=PASSIVE_TUPLE,
    sort_by=PASSIVE_TUPLE,
)

CLUSTER_ASSIGNMENTS = TableContract(
    "cluster_assignments",
    "Which cluster each caregiver belongs to, and how she was assigned",
    (
        CAREGIVER_KEY_COLUMN,
        CLUSTER_ID_COLUMN,
        ASSIGNED_BY_COLUMN,
        *tuple_columns(),
        *tuple_columns("active", "n_active"),
    ),
    key=("caregiver_key",),
    sort_by=("caregiver_key",),
)

TRANSITION_MODELS = TableContract(
    "transition_models",
    "Per cluster, state and action: the chance to be responsive next week, with the counts behind it",
    (
        CLUSTER_ID_COLUMN,
        state_column("State the week starts from"),
        Column("action", "string", "Whether a call was attempted in the week", allowed=ACTIONS),
        Column("n_to_r", "int64", "Observed transitions to R", unit="caregiver-weeks", minimum=0),
        Column("n_to_u", "int64", "Observed transitions to U", unit="caregiver-weeks", minimum=0),
        Column("p_next_r", "float64", "P(next = R | state, action), posterior mean", minimum=0, maximum=1),
        Column("p_low", "float64", "Lower end of the credible interval", minimum=0, maximum=1),
        Column("p_high", "float64", "Upper end of the credible interval", minimum=0, maximum=1),
        Column(
            "n_effective",
            "float64",
            "Evidence the estimate is worth, prior included: its posterior is Beta(n p, n (1 - p))",
            unit="caregiver-weeks",
            minimum=0,
        ),
        Column(
            "correlation",
            "float64",
            "Correlation between the errors of this estimate and of that of the other action",
            minimum=-1,
            maximum=1,
        ),
    ),
    key=("cluster_id", "state", "action"),
    sort_by=("cluster_id", "state", "action"),
)

WHITTLE_INDICES = TableContract(
    "whittle_indices",
    "Per cluster and state: the Whittle index, its interval, and the two chances behind it",
    (
        CLUSTER_ID_COLUMN,
        state_column("State of the caregiver"),
        Column(
            "whittle_index",
            "float64",
            "Subsidy for staying passive at which a call just pays",
            unit="responsive weeks",
        ),
        Column("index_low", "float64", "Lower end of the index interval", unit="responsive weeks"),
        Column("index_high", "float64", "Upper end of the index interval", unit="responsive weeks"),
        Column("is_indexable", "bool", "Whether the arm is indexable"),
        Column("p_passive", "float64", "P(next = R | state, passive)", minimum=0, maximum=1),
        Column("p_active", "float64", "P(next = R | state, active)", minimum=0, maximum=1),
    ),
    key=("cluster_id", "state"),
    sort_by=("cluster_id", "state"),
)

TUPLE_INDICES = TableContract(
    "tuple_indices",
    "Per distinct tuple of passive and active counts, cluster and state: the index from a caregiver's own weeks",
    (
        *tuple_columns(),
        *tuple_columns("active", "n_active"),
        CLUSTER_ID_COLUMN,
        state_column("State of the caregiver"),
        Column(
            "own_index",
            "float64",
            "What a call is worth to a caregiver with these weeks",
            unit="responsive weeks",
        ),
    ),
    key=(*PASSIVE_TUPLE, *ACTIVE_TUPLE, "cluster_id", "state"),
    sort_by=(*PASSIVE_TUPLE, *ACTIVE_TUPLE, "cluster_id", "state"),
)

_TYPE_ID_COLUMN = Column("type_id", "int16", "Behavioural type: a point of the grid of passive chances", minimum=0)

BEHAVIOURAL_TYPES = TableContract(
    "behavioural_types",
    "The types of behaviour that caregivers may have, how frequent each is, and what a call does to it",
    (
        _TYPE_ID_COLUMN,
        Column("share", "float64", "Share of caregivers of this type", minimum=0, maximum=1),
        Column("p_passive_u", "float64", "P(next = R | U, passive)", minimum=0, maximum=1),
        Column("p_passive_r", "float64", "P(next = R | R, passive)", minimum=0, maximum=1),
        Column("p_active_u", "float64", "P(next = R | U, active)", minimum=0, maximum=1),
        Column("p_active_r", "float64", "P(next = R | R, active)", minimum=0, maximum=1),
        CLUSTER_ID_COLUMN,
    ),
    key=("type_id",),
    sort_by=("type_id",),
)

CLUSTER_TYPES = TableContract(
    "cluster_types",
    "How the types are mixed among the members of each cluster: what is known of a caregiver assigned by features",
    (
        CLUSTER_ID_COLUMN,
        _TYPE_ID_COLUMN,
        Column("share", "float64", "Share of the cluster's members of this type", minimum=0, maximum=1),
    ),
    key=("cluster_id", "type_id"),
    sort_by=("cluster_id", "type_id"),
)
