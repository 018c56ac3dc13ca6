"""The registry of table contracts: every table's columns, types, units, bounds, keys and sort order, once.

Validation, Arrow schemas, the column schemas shown in the UI and the documentation all come from here. What belongs
elsewhere: how a table is computed (engagement, model, policy, evaluation) and where it is stored (stores). The words
stand in `vocabulary`, what a contract is in `table_contract`, and each group's tables in a module of their own.
"""

from bandicoot_core.contracts.backtest_tables import (
    BACKTEST_SCOPES,
    CALIBRATION,
    MEMORY_TEST,
    MODEL_BACKTEST,
    PREDICTORS,
)
from bandicoot_core.contracts.cost_tables import SPENDING
from bandicoot_core.contracts.coverage_tables import COVERAGE, COVERAGE_DIMENSIONS
from bandicoot_core.contracts.engagement_tables import CAREGIVER_STATES, ENGAGEMENT_HISTORY, PASSIVE_COUNTS
from bandicoot_core.contracts.estimation_tables import DRAWN_CALLS, ESTIMATION
from bandicoot_core.contracts.event_tables import RECEIVED_EVENTS
from bandicoot_core.contracts.experiment_tables import (
    EXPERIMENT_BALANCE,
    EXPERIMENT_EFFECTS,
    EXPERIMENT_OUTCOMES,
    EXPERIMENT_WEEKS,
    OFF_POLICY_ESTIMATORS,
    OFF_POLICY_VALUES,
)
from bandicoot_core.contracts.list_tables import (
    CALL_LIST,
    CALL_OUTCOMES_TABLE,
    PENDING_CAREGIVERS,
    PUBLISHED_CALL_LIST,
)
from bandicoot_core.contracts.model_tables import (
    BEHAVIOURAL_TYPES,
    CLUSTER_ASSIGNMENTS,
    CLUSTER_TYPES,
    CLUSTERS,
    TRANSITION_MODELS,
    TUPLE_CLUSTERS,
    TUPLE_INDICES,
    WHITTLE_INDICES,
)
from bandicoot_core.contracts.registry import TABLES, tables_document
from bandicoot_core.contracts.simulation_tables import CALL_WORTH, POLICY_SIMULATION
from bandicoot_core.contracts.source_tables import CALLS, CAREGIVERS, SET_ASIDE, SMS_EVENTS, VACCINATIONS
from bandicoot_core.contracts.table_contract import Column, ColumnType, TableContract, conform
from bandicoot_core.contracts.vocabulary import (
    ACTIONS,
    ACTIVE,
    ACTIVE_STATUS,
    ACTIVE_TUPLE,
    ASSIGNMENT_METHODS,
    BY_FEATURES,
    BY_HISTORY,
    CALL_OUTCOMES,
    CONTROL_ARM,
    ENGAGED_EVENT_TYPES,
    EVENT_TYPES,
    EXPERIMENT_ARMS,
    PASSIVE,
    PASSIVE_TUPLE,
    RECEIVED_EVENT_TYPES,
    RESPONSIVE,
    SPENDING_LEVELS,
    STATES,
    TREATMENT_ARM,
    UNRESPONSIVE,
)

__all__ = [
    "ACTIONS",
    "ACTIVE",
    "ACTIVE_STATUS",
    "ACTIVE_TUPLE",
    "ASSIGNMENT_METHODS",
    "BACKTEST_SCOPES",
    "BEHAVIOURAL_TYPES",
    "BY_FEATURES",
    "BY_HISTORY",
    "CALIBRATION",
    "CALLS",
    "CALL_LIST",
    "CALL_OUTCOMES",
    "CALL_OUTCOMES_TABLE",
    "CALL_WORTH",
    "CAREGIVERS",
    "CAREGIVER_STATES",
    "CLUSTERS",
    "CLUSTER_ASSIGNMENTS",
    "CLUSTER_TYPES",
    "CONTROL_ARM",
    "COVERAGE",
    "COVERAGE_DIMENSIONS",
    "DRAWN_CALLS",
    "ENGAGED_EVENT_TYPES",
    "ENGAGEMENT_HISTORY",
    "ESTIMATION",
    "EVENT_TYPES",
    "EXPERIMENT_ARMS",
    "EXPERIMENT_BALANCE",
    "EXPERIMENT_EFFECTS",
    "EXPERIMENT_OUTCOMES",
    "EXPERIMENT_WEEKS",
    "MEMORY_TEST",
    "MODEL_BACKTEST",
    "OFF_POLICY_ESTIMATORS",
    "OFF_POLICY_VALUES",
    "PASSIVE",
    "PASSIVE_COUNTS",
    "PASSIVE_TUPLE",
    "PENDING_CAREGIVERS",
    "POLICY_SIMULATION",
    "PREDICTORS",
    "PUBLISHED_CALL_LIST",
    "RECEIVED_EVENTS",
    "RECEIVED_EVENT_TYPES",
    "RESPONSIVE",
    "SET_ASIDE",
    "SMS_EVENTS",
    "SPENDING",
    "SPENDING_LEVELS",
    "STATES",
    "TABLES",
    "TRANSITION_MODELS",
    "TREATMENT_ARM",
    "TUPLE_CLUSTERS",
    "TUPLE_INDICES",
    "UNRESPONSIVE",
    "VACCINATIONS",
    "WHITTLE_INDICES",
    "Column",
    "ColumnType",
    "TableContract",
    "conform",
    "tables_document",
]
