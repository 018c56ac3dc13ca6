"""The registry of table contracts: every table's columns, types, units, bounds, keys and sort order, once.

Validation, Arrow schemas, the column schemas shown in the UI and the documentation all come from here. What
belongs elsewhere: how a table is computed (engagement, model, policy) and where it is stored (stores).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import pyarrow as pa

ColumnType = Literal["int16", "int32", "int64", "float64", "string", "bool", "date", "timestamp"]

_ARROW_TYPES: dict[ColumnType, pa.DataType] = {
    "int16": pa.int16(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "string": pa.string(),
    "bool": pa.bool_(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us", tz="UTC"),
}

RESPONSIVE = "R"
UNRESPONSIVE = "U"
STATES = (UNRESPONSIVE, RESPONSIVE)
"""The order [U, R] in which arrays over states are laid out everywhere."""

PASSIVE = "passive"
ACTIVE = "active"
ACTIONS = (PASSIVE, ACTIVE)
"""The order [passive, active] in which arrays over actions are laid out everywhere."""

EVENT_TYPES = ("sent", "delivered", "opened", "clicked", "failed")
ENGAGED_EVENT_TYPES = ("opened", "clicked")
CALL_OUTCOMES = ("reached", "no_answer", "busy", "wrong_number", "refused")
CONTROL_ARM = "control"
TREATMENT_ARM = "treatment"
EXPERIMENT_ARMS = (TREATMENT_ARM, CONTROL_ARM)
ACTIVE_STATUS = "active"


@dataclass(frozen=True)
class Column:
    """One column: its type, what it means, its unit and what values are allowed."""

    name: str
    type: ColumnType
    description: str
    unit: str | None = None
    is_nullable: bool = False
    minimum: float | None = None
    maximum: float | None = None
    allowed: tuple[str, ...] | None = None

    @property
    def arrow_type(self) -> pa.DataType:
        """The Arrow type in which the column is stored and exchanged."""
        return _ARROW_TYPES[self.type]


@dataclass(frozen=True)
class TableContract:
    """One table: its columns in order, its key, and the order its rows are stored in."""

    name: str
    description: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    sort_by: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        names = {column.name for column in self.columns}
        for name in (*self.key, *self.sort_by):
            if name not in names:
                raise ValueError(f"{self.name}: key or sort column {name!r} is not a column of the table")

    @property
    def column_names(self) -> list[str]:
        """Column names in their order."""
        return [column.name for column in self.columns]

    def column(self, name: str) -> Column:
        """The column of that name; KeyError when the table has none."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(f"{self.name} has no column {name!r}; it has {', '.join(self.column_names)}")

    def arrow_schema(self) -> pa.Schema:
        """The Arrow schema, with nullability."""
        return pa.schema([pa.field(c.name, c.arrow_type, nullable=c.is_nullable) for c in self.columns])

    def empty(self) -> pa.Table:
        """A table of this contract without rows."""
        return self.arrow_schema().empty_table()


def _states_column(description: str) -> Column:
    return Column("state", "string", description, allowed=STATES)


_CAREGIVER_KEY = Column("caregiver_key", "int64", "Caregiver, pseudonymous; stable within an installation", minimum=1)
_CAREGIVER_ID = Column("caregiver_id", "string", "Caregiver as the source names her, for example CG-12345")
_CLUSTER_ID = Column(
    "cluster_id", "int16", "Cluster of passive behaviour; ids ascend with P(R|U), then P(R|R)", minimum=0
)
_DISTRICT = Column("district", "string", "District of the registry; empty when unknown", is_nullable=True)
_AB_ARM = Column("ab_arm", "string", "Arm of the running experiment", allowed=EXPERIMENT_ARMS)


def _tuple_columns(kind: str = "passive", prefix: str = "n") -> tuple[Column, ...]:
    return tuple(
        Column(
            f"{prefix}_{a}{b}",
            "int16",
            f"{kind.capitalize()} weeks from {a.upper()} to {b.upper()}",
            unit="weeks",
            minimum=0,
            maximum=61,
        )
        for a in "ru"
        for b in "ru"
    )


PASSIVE_TUPLE = ("n_rr", "n_ru", "n_ur", "n_uu")
ACTIVE_TUPLE = ("n_active_rr", "n_active_ru", "n_active_ur", "n_active_uu")

CAREGIVERS = TableContract(
    "caregivers",
    "Registry snapshot at the end of a day, allow-listed columns only",
    (
        _CAREGIVER_KEY,
        _DISTRICT,
        Column("enrolled_at", "timestamp", "Enrolment", unit="UTC"),
        Column("age", "int16", "Age at enrolment", unit="years", is_nullable=True, minimum=10, maximum=60),
        Column("parity", "int16", "Children born", unit="children", is_nullable=True, minimum=0, maximum=20),
        Column("phone_reliable", "bool", "Whether her phone is known to be reliable", is_nullable=True),
        Column("enrollment_source", "string", "Where she enrolled", is_nullable=True),
        Column("status", "string", "Status in the registry; only 'active' caregivers are called"),
        _AB_ARM,
    ),
    key=("caregiver_key",),
    sort_by=("caregiver_key",),
)

SMS_EVENTS = TableContract(
    "sms_events",
    "What happened to messages on a day, one row per message and event type",
    (
        _CAREGIVER_KEY,
        Column("message_id", "string", "Message as the source names it"),
        Column("event_type", "string", "What happened", allowed=EVENT_TYPES),
        Column("occurred_at", "timestamp", "When it happened; a failure carries its sending time", unit="UTC"),
    ),
    key=("message_id", "event_type"),
    sort_by=("event_type", "caregiver_key", "occurred_at", "message_id"),
)

VACCINATIONS = TableContract(
    "vaccinations",
    "Doses given on a day",
    (
        _CAREGIVER_KEY,
        Column("vaccine_name", "string", "Vaccine and dose"),
        Column("scheduled_date", "date", "Day the dose was due", unit="IST day", is_nullable=True),
        Column("actual_date", "date", "Day the dose was given", unit="IST day"),
    ),
    sort_by=("caregiver_key", "vaccine_name", "scheduled_date", "actual_date"),
)

CALLS = TableContract(
    "calls",
    "Attempted calls of a day and their outcome",
    (
        Column("call_id", "string", "Idempotency key of the call"),
        _CAREGIVER_KEY,
        Column("call_date", "date", "Day of the list the call came from", unit="IST day"),
        Column("attempted_at", "timestamp", "When the call was attempted", unit="UTC"),
        Column("outcome", "string", "What came of it", allowed=CALL_OUTCOMES),
    ),
    key=("call_id",),
    sort_by=("caregiver_key", "attempted_at", "call_id"),
)

SET_ASIDE = TableContract(
    "set_aside",
    "Source rows or values that were not taken over, and why",
    (
        Column("source_row", "string", "Key of the row in the source, for example message_id=M-17"),
        Column("column_name", "string", "Column at fault"),
        Column("found", "string", "Value found", is_nullable=True),
        Column("reason", "string", "What was expected"),
        Column("action", "string", "What was done", allowed=("row set aside", "value blanked")),
    ),
    sort_by=("source_row", "column_name", "reason", "found"),
)

CAREGIVER_STATES = TableContract(
    "caregiver_states",
    "Every caregiver at the end of a day: her state and the facts that decide whether she may be called",
    (
        _CAREGIVER_KEY,
        _DISTRICT,
        _states_column("R if an SMS was opened or clicked in the last 7 days, else U"),
        Column(
            "last_open_date",
            "date",
            "Last day with an open or click, within the lookback",
            unit="IST day",
            is_nullable=True,
        ),
        Column(
            "days_since_last_open",
            "int16",
            "Days from the last open to the day after this one",
            unit="days",
            is_nullable=True,
            minimum=1,
        ),
        Column(
            "last_call_date",
            "date",
            "Last day on which a call was attempted, within the lookback",
            unit="IST day",
            is_nullable=True,
        ),
        Column("warm_up_end_date", "date", "First day on which she may be called", unit="IST day"),
        Column("status", "string", "Status in the registry"),
        _AB_ARM,
    ),
    key=("caregiver_key",),
    sort_by=("caregiver_key",),
)

ENGAGEMENT_HISTORY = TableContract(
    "engagement_history",
    "Each caregiver's training window as words of bits: bit k is week k, oldest first",
    (
        _CAREGIVER_KEY,
        Column("opened_weeks", "int64", "Weeks in which an SMS was opened or clicked", unit="bits", minimum=0),
        Column("called_weeks", "int64", "Weeks in which a call was attempted", unit="bits", minimum=0),
        Column("observed_weeks", "int64", "Complete weeks since enrolment", unit="bits", minimum=0),
    ),
    key=("caregiver_key",),
    sort_by=("caregiver_key",),
)

PASSIVE_COUNTS = TableContract(
    "passive_counts",
    "Distinct tuples of passive transition counts and how many caregivers have each",
    (
        *_tuple_columns(),
        Column("n_caregivers", "int64", "Caregivers with this tuple", unit="caregivers", minimum=1),
    ),
    key=PASSIVE_TUPLE,
    sort_by=PASSIVE_TUPLE,
)

CLUSTERS = TableContract(
    "clusters",
    "Clusters of passive behaviour",
    (
        _CLUSTER_ID,
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
        *_tuple_columns(),
        _CLUSTER_ID,
        Column("n_caregivers", "int64", "Caregivers with this tuple", minimum=1),
    ),
    key=PASSIVE_TUPLE,
    sort_by=PASSIVE_TUPLE,
)

CLUSTER_ASSIGNMENTS = TableContract(
    "cluster_assignments",
    "Which cluster each caregiver belongs to, and how she was assigned",
    (
        _CAREGIVER_KEY,
        _CLUSTER_ID,
        Column(
            "assigned_by",
            "string",
            "From her own history or from her registry features",
            allowed=("history", "features"),
        ),
        *_tuple_columns(),
    ),
    key=("caregiver_key",),
    sort_by=("caregiver_key",),
)

TRANSITION_MODELS = TableContract(
    "transition_models",
    "Per cluster, state and action: the chance to be responsive next week, with the counts behind it",
    (
        _CLUSTER_ID,
        _states_column("State the week starts from"),
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
        _CLUSTER_ID,
        _states_column("State of the caregiver"),
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
        *_tuple_columns(),
        _CLUSTER_ID,
        _states_column("State of the caregiver"),
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

_LIST_FACTS = (
    _DISTRICT,
    _states_column("State in the 7 days before the list"),
    _CLUSTER_ID,
    Column("whittle_index", "float64", "Priority: what a call is worth", unit="responsive weeks"),
    Column("index_low", "float64", "Lower end of the index interval", unit="responsive weeks"),
    Column("index_high", "float64", "Upper end of the index interval", unit="responsive weeks"),
    Column("reason", "string", "Why she is on the list, for the health worker"),
    Column(
        "days_since_last_open",
        "int16",
        "Days since the last open; empty when none in the lookback",
        unit="days",
        is_nullable=True,
        minimum=1,
    ),
    Column("last_call_date", "date", "Last day a call was attempted", unit="IST day", is_nullable=True),
    _AB_ARM,
    Column("propensity", "float64", "Chance with which the draw put her on the list", minimum=0, maximum=1),
    Column("model_version", "string", "Champion model the list was made with"),
)

_CALL_DATE = Column("call_date", "date", "Day on which to call", unit="IST day")
_RANK = Column("rank", "int32", "Order in which to call, 1 first", minimum=1)

CALL_LIST = TableContract(
    "call_list",
    "The ranked list of a day, before publication",
    (_CALL_DATE, _RANK, _CAREGIVER_KEY, *_LIST_FACTS),
    key=("call_date", "caregiver_key"),
    sort_by=("call_date", "rank"),
)

PUBLISHED_CALL_LIST = TableContract(
    "published_call_list",
    "The call list as downstream systems read it (bandicoot.call_list and the view bandicoot.current_call_list)",
    (
        _CALL_DATE,
        _RANK,
        _CAREGIVER_ID,
        *_LIST_FACTS,
        Column("run_id", "string", "Run that published the row"),
        Column("published_at", "timestamp", "When it was published", unit="UTC"),
    ),
    key=("call_date", "caregiver_id"),
    sort_by=("call_date", "rank"),
)

CALL_OUTCOMES_TABLE = TableContract(
    "call_outcomes",
    "What downstream writes back: one row per attempted call",
    (
        Column("call_id", "string", "Idempotency key, chosen by the writer"),
        _CAREGIVER_ID,
        Column("call_date", "date", "Day of the list the call came from", unit="IST day"),
        Column("attempted_at", "timestamp", "When the call was attempted", unit="UTC"),
        Column("outcome", "string", "What came of it", allowed=CALL_OUTCOMES),
        Column("recorded_by", "string", "Who recorded it"),
    ),
    key=("call_id",),
    sort_by=("call_id",),
)

TABLES: dict[str, TableContract] = {
    contract.name: contract
    for contract in (
        CAREGIVERS,
        SMS_EVENTS,
        VACCINATIONS,
        CALLS,
        SET_ASIDE,
        CAREGIVER_STATES,
        ENGAGEMENT_HISTORY,
        PASSIVE_COUNTS,
        CLUSTERS,
        TUPLE_CLUSTERS,
        CLUSTER_ASSIGNMENTS,
        TRANSITION_MODELS,
        WHITTLE_INDICES,
        TUPLE_INDICES,
        CALL_LIST,
        PUBLISHED_CALL_LIST,
        CALL_OUTCOMES_TABLE,
    )
}


def conform(table: pa.Table, contract: TableContract) -> pa.Table:
    """The table with the contract's columns in its order and types, sorted as the contract says.

    Raises ValueError when a column is missing, cannot be cast, or holds nulls that the contract forbids.
    """
    missing = [name for name in contract.column_names if name not in table.column_names]
    if missing:
        raise ValueError(
            f"{contract.name}: columns {missing} are missing; found {table.column_names}, "
            f"expected {contract.column_names}"
        )
    conformed = table.select(contract.column_names).cast(contract.arrow_schema())
    for column in contract.columns:
        n_nulls = conformed[column.name].null_count
        if n_nulls and not column.is_nullable:
            raise ValueError(f"{contract.name}.{column.name}: {n_nulls} nulls where the contract allows none")
    return _sorted(conformed, contract.sort_by)


def _sorted(table: pa.Table, sort_by: Sequence[str]) -> pa.Table:
    if not sort_by or table.num_rows < 2:
        return table
    return table.sort_by([(name, "ascending") for name in sort_by])


def tables_document() -> str:
    """Every table of the registry as Markdown: columns, types, units, nullability and meaning."""
    parts = ["# Tables\n\nWritten from the registry in `bandicoot_core/contracts.py`; a test holds both together.\n"]
    for contract in TABLES.values():
        key = f"Key: {', '.join(f'`{name}`' for name in contract.key)}." if contract.key else "No key."
        parts.append(f"\n## {contract.name}\n\n{contract.description}. {key}\n")
        parts.append("\n| column | type | unit | may be empty | meaning |\n| --- | --- | --- | --- | --- |\n")
        for column in contract.columns:
            allowed = f"; one of {', '.join(column.allowed)}" if column.allowed else ""
            may_be_empty = "yes" if column.is_nullable else ""
            parts.append(
                f"| `{column.name}` | {column.type} | {column.unit or ''} | {may_be_empty} "
                f"| {column.description}{allowed} |\n"
            )
    return "".join(parts)
