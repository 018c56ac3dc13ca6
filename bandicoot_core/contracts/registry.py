"""Every table contract by name, and the document that describes them all."""

from bandicoot_core.contracts.backtest_tables import CALIBRATION, MEMORY_TEST, MODEL_BACKTEST
from bandicoot_core.contracts.cost_tables import SPENDING
from bandicoot_core.contracts.coverage_tables import COVERAGE
from bandicoot_core.contracts.engagement_tables import CAREGIVER_STATES, ENGAGEMENT_HISTORY, PASSIVE_COUNTS
from bandicoot_core.contracts.estimation_tables import DRAWN_CALLS, ESTIMATION
from bandicoot_core.contracts.event_tables import RECEIVED_EVENTS
from bandicoot_core.contracts.experiment_tables import (
    EXPERIMENT_BALANCE,
    EXPERIMENT_EFFECTS,
    EXPERIMENT_WEEKS,
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
from bandicoot_core.contracts.simulation_tables import CALL_WORTH, POLICY_SIMULATION
from bandicoot_core.contracts.source_tables import CALLS, CAREGIVERS, SET_ASIDE, SMS_EVENTS, VACCINATIONS
from bandicoot_core.contracts.table_contract import TableContract

TABLES: dict[str, TableContract] = {
    contract.name: contract
    for contract in (
        CAREGIVERS,
        SMS_EVENTS,
        RECEIVED_EVENTS,
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
        BEHAVIOURAL_TYPES,
        CLUSTER_TYPES,
        CALL_LIST,
        PENDING_CAREGIVERS,
        PUBLISHED_CALL_LIST,
        CALL_OUTCOMES_TABLE,
        COVERAGE,
        POLICY_SIMULATION,
        CALL_WORTH,
        MODEL_BACKTEST,
        CALIBRATION,
        MEMORY_TEST,
        ESTIMATION,
        DRAWN_CALLS,
        EXPERIMENT_EFFECTS,
        EXPERIMENT_WEEKS,
        EXPERIMENT_BALANCE,
        OFF_POLICY_VALUES,
        SPENDING,
    )
}


def tables_document() -> str:
    """Every table of the registry as Markdown: columns, types, units, nullability and meaning."""
    parts = ["# Tables\n\nWritten from the registry in `bandicoot_core/contracts`; a test holds both together.\n"]
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
