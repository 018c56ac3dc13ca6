"""Tables of the model group: clusters, assignments, transition models and indices."""

from bandicoot_core.contracts.columns import CAREGIVER_KEY_COLUMN, CLUSTER_ID_COLUMN, state_column, tuple_columns
from bandicoot_core.contracts.table_contract import Column, TableContract
from bandicoot_core.contracts.vocabulary import ACTIONS, PASSIVE_TUPLE

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
        Column(
            "assigned_by",
            "string",
            "From her own history or from her registry features",
            allowed=("history", "features"),
        ),
        *tuple_columns(),
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
    "Per distinct tuple, cluster and state: the index from her own passive counts, which orders ties",
    (
        *tuple_columns(),
        CLUSTER_ID_COLUMN,
        state_column("State of the caregiver"),
        Column(
            "own_index",
            "float64",
            "Index with her own posterior passive chances and the cluster's lift",
            unit="responsive weeks",
        ),
    ),
    key=(*PASSIVE_TUPLE, "cluster_id", "state"),
    sort_by=(*PASSIVE_TUPLE, "cluster_id", "state"),
)
