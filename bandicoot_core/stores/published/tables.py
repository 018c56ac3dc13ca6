"""The tables of schema `bandicoot` as contracts: their columns, types, nullability and meaning.

Built on the registry in contracts; columns that exist only in PostgreSQL are described here. The migrations create
the tables, a test holds both together, and the comments in the database come from these descriptions.
"""

from dataclasses import replace

from bandicoot_core import contracts
from bandicoot_core.contracts import Column, TableContract
from bandicoot_core.stores.published.event_tables import DEAD_LETTERS, INGESTED_FILES
from bandicoot_core.stores.published.service_tables import API_KEYS, NOTED_OPENS

SCHEMA = "bandicoot"

MODEL_STATUSES = ("candidate", "champion", "retired", "rejected")
CANDIDATE, CHAMPION, RETIRED, REJECTED = MODEL_STATUSES

_CAREGIVER_ID = contracts.PUBLISHED_CALL_LIST.column("caregiver_id")
_CAREGIVER_KEY = contracts.CAREGIVERS.column("caregiver_key")
_MODEL_VERSION = Column("model_version", "string", "Model the row belongs to")
_EXPERIMENT = Column("experiment", "string", "Name of the experiment")

CAREGIVER_KEYS = TableContract(
    "caregiver_keys",
    "Which caregiver each pseudonymous key stands for; the only place that knows",
    (
        replace(_CAREGIVER_KEY, description="Key of the caregiver in the lake; never used twice"),
        _CAREGIVER_ID,
        Column("first_seen_at", "timestamp", "When the caregiver was first seen", unit="UTC"),
    ),
    key=("caregiver_key",),
)

EXPERIMENT_ASSIGNMENTS = TableContract(
    "experiment_assignments",
    "How each caregiver was drawn for an experiment; a draw never changes, and arms follow from the share in force",
    (
        _EXPERIMENT,
        _CAREGIVER_KEY,
        Column("assigned_at", "timestamp", "When she was drawn", unit="UTC"),
        Column("stratum", "string", "Registry facts within which arms are balanced, as they were when she was drawn"),
        Column("block", "int32", "Block of the stratum in which arms are balanced exactly, from 0", minimum=0),
        Column("draw", "float64", "Her draw: in treatment when it lies below the rollout share", minimum=0, maximum=1),
    ),
    key=("experiment", "caregiver_key"),
)

EXPERIMENT_ROLLOUTS = TableContract(
    "experiment_rollouts",
    "From when on which share of the caregivers was in an experiment's treatment arm; the first row is its beginning",
    (
        _EXPERIMENT,
        Column("in_force_at", "timestamp", "When the share came into force", unit="UTC"),
        Column("rollout_share", "float64", "Share of caregivers in the treatment arm", minimum=0, maximum=1),
    ),
    key=("experiment", "in_force_at"),
)

LIST_PUBLICATIONS = TableContract(
    "list_publications",
    "Which days have a published call list, empty lists included",
    (
        contracts.PUBLISHED_CALL_LIST.column("call_date"),
        Column("n_rows", "int32", "Rows of the list", unit="caregivers", minimum=0),
        Column("budget", "int32", "Calls the list was made for", unit="calls", minimum=0),
        contracts.PUBLISHED_CALL_LIST.column("model_version"),
        Column("run_id", "string", "Run that published the list"),
        Column("published_at", "timestamp", "When it was published", unit="UTC"),
        Column(
            "states_as_of_date",
            "date",
            "Day at whose end bandicoot.caregiver_states stood after this publication; empty when left as it was",
            unit="IST day",
            is_nullable=True,
        ),
    ),
    key=("call_date",),
)

SUPPRESSION_SECRET = TableContract(
    "suppression_secret",
    "The secret with which forgotten caregivers are hashed; without it nobody on the list can be recognized",
    (
        Column("is_only", "bool", "Always true: there is one secret"),
        Column("inner_key", "string", "Secret XOR 0x36, the inner key of HMAC-SHA256", unit="hex"),
        Column("outer_key", "string", "Secret XOR 0x5C, the outer key of HMAC-SHA256", unit="hex"),
    ),
    key=("is_only",),
)

FORGETTING_STATES = ("requested", "done")
REQUESTED, DONE = FORGETTING_STATES

FORGETTINGS = TableContract(
    "forgettings",
    "Who was forgotten, by keyed hash: the list of those who must not come in again, and the record of their removal",
    (
        Column("suppression_hash", "string", "HMAC-SHA256 of the caregiver_id with suppression_secret", unit="hex"),
        replace(
            _CAREGIVER_KEY,
            description="Key she had, which is nobody's any more; empty when she had none",
            is_nullable=True,
        ),
        Column(
            "state",
            "string",
            "Done when every store was gone through; until then the command has to be repeated",
            allowed=FORGETTING_STATES,
        ),
        Column("requested_at", "timestamp", "When it was first asked for", unit="UTC"),
        Column("requested_by", "string", "Who asked"),
        Column("reason", "string", "Why"),
        Column("done_at", "timestamp", "When every store had been gone through", unit="UTC", is_nullable=True),
        Column("removed_rows", "string", "Rows removed, by store and table", unit="JSON"),
    ),
    key=("suppression_hash",),
)

FORGOTTEN_DRAWS = TableContract(
    "forgotten_draws",
    "Places in the experiment's blocks that stay taken although their caregivers were forgotten",
    (
        _EXPERIMENT,
        EXPERIMENT_ASSIGNMENTS.column("stratum"),
        Column("n_draws", "int64", "Draws of forgotten caregivers", unit="caregivers", minimum=1),
    ),
    key=("experiment", "stratum"),
)

SEVERITIES = ("error", "warning")

INCIDENTS = TableContract(
    "incidents",
    "What went wrong or was late, from when to when, and on which channels a person was told",
    (
        Column("incident_id", "int64", "Number of the incident"),
        Column("kind", "string", "Kind of problem; docs/operations.md says what each means"),
        Column("asset", "string", "Asset or job it is about"),
        Column("partition", "string", "Day or week it began with; empty where there is none"),
        Column("cause", "string", "What was found and expected when it began"),
        Column("next_step", "string", "What to do"),
        Column("severity", "string", "Whether something is wrong or may become so", allowed=SEVERITIES),
        Column("opened_at", "timestamp", "When it was first seen", unit="UTC"),
        Column("told_at", "timestamp", "When a channel last told of it", unit="UTC", is_nullable=True),
        Column("told_channels", "string", "Channels that told of it, by name, separated by a space"),
        Column("recovered_at", "timestamp", "When it was first seen to be over", unit="UTC", is_nullable=True),
        Column("recovery_told_at", "timestamp", "When a channel last told so", unit="UTC", is_nullable=True),
        Column("recovery_told_channels", "string", "Channels that told so"),
    ),
    key=("incident_id",),
)

INCOMING_STATES = TableContract(
    "caregiver_states",
    "What the pipeline brings to bandicoot.caregiver_states: one row per caregiver, by key",
    (
        _CAREGIVER_KEY,
        *(
            contracts.CAREGIVER_STATES.column(name)
            for name in (
                "district",
                "state",
                "last_open_date",
                "last_call_date",
                "warm_up_end_date",
                "status",
                "ab_arm",
            )
        ),
        replace(
            contracts.CLUSTERS.column("cluster_id"),
            description="Cluster of passive behaviour; empty before the first assignment",
            is_nullable=True,
        ),
        *(
            replace(
                contracts.TUPLE_INDICES.column("own_index"),
                name=f"own_index_{state.lower()}",
                description=f"What a call is worth to her, by her own weeks, when her state is {state}; empty without "
                "cluster",
                is_nullable=True,
            )
            for state in contracts.STATES
        ),
    ),
    key=("caregiver_key",),
)

PUBLISHED_STATES = TableContract(
    "caregiver_states",
    "Every caregiver as of the last list: her state and the facts that decide whether she may be called",
    (
        _CAREGIVER_ID,
        *(column for column in INCOMING_STATES.columns[1:] if not column.name.startswith("own_index")),
        Column(
            "as_of_date",
            "date",
            "Day at whose end her row last changed, or of the open that changed it since; list_publications says as of "
            "when the whole table stands",
            unit="IST day",
        ),
        *(column for column in INCOMING_STATES.columns if column.name.startswith("own_index")),
    ),
    key=("caregiver_id",),
)

PUBLISHED_CLUSTERS = replace(
    contracts.CLUSTERS,
    columns=(_MODEL_VERSION, *contracts.CLUSTERS.columns),
    key=("model_version", "cluster_id"),
)

PUBLISHED_INDICES = replace(
    contracts.WHITTLE_INDICES,
    columns=(_MODEL_VERSION, *contracts.WHITTLE_INDICES.columns),
    key=("model_version", "cluster_id", "state"),
)

MODEL_VERSIONS = TableContract(
    "model_versions",
    "Every model ever registered, and which one is the champion that ranks the lists",
    (
        Column("model_version", "string", "Name of the model; the same content has the same name"),
        Column("training_week", "date", "Last week of the training window, named by its Sunday", unit="IST week"),
        Column("status", "string", "Champion ranks the lists; at most one", allowed=MODEL_STATUSES),
        Column("checks", "string", "Checks against the champion of then, and their results", unit="JSON"),
        Column("recipe", "string", "Settings that shaped the model", unit="JSON"),
        Column("created_at", "timestamp", "When it was registered", unit="UTC"),
        Column("promoted_at", "timestamp", "When it last became champion", unit="UTC", is_nullable=True),
        Column("run_id", "string", "Run that registered it"),
        Column("promotion_run_id", "string", "Run that last made it champion", is_nullable=True),
        Column("note", "string", "Why it was rejected, or another remark", is_nullable=True),
    ),
    key=("model_version",),
)

PUBLISHED_TABLES: dict[str, TableContract] = {
    "caregiver_keys": CAREGIVER_KEYS,
    "experiment_assignments": EXPERIMENT_ASSIGNMENTS,
    "experiment_rollouts": EXPERIMENT_ROLLOUTS,
    "call_list": contracts.PUBLISHED_CALL_LIST,
    "list_publications": LIST_PUBLICATIONS,
    "call_outcomes": contracts.CALL_OUTCOMES_TABLE,
    "caregiver_states": PUBLISHED_STATES,
    "model_versions": MODEL_VERSIONS,
    "clusters": PUBLISHED_CLUSTERS,
    "whittle_indices": PUBLISHED_INDICES,
    "suppression_secret": SUPPRESSION_SECRET,
    "forgettings": FORGETTINGS,
    "forgotten_draws": FORGOTTEN_DRAWS,
    "incidents": INCIDENTS,
    "dead_letters": DEAD_LETTERS,
    "ingested_files": INGESTED_FILES,
    "api_keys": API_KEYS,
    "noted_opens": NOTED_OPENS,
}
"""Table of the schema -> its contract."""

PUBLISHED_VIEWS: dict[str, TableContract] = {
    "current_call_list": replace(
        contracts.PUBLISHED_CALL_LIST, description="The newest published call list, in calling order"
    ),
}
"""View of the schema -> its contract."""
