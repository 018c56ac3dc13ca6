"""Tables of the engagement group: states, histories and passive counts."""

from bandicoot_core.contracts.columns import (
    AB_ARM_COLUMN,
    CAREGIVER_KEY_COLUMN,
    DISTRICT_COLUMN,
    state_column,
    tuple_columns,
)
from bandicoot_core.contracts.table_contract import Column, TableContract
from bandicoot_core.contracts.vocabulary import PASSIVE_TUPLE

CAREGIVER_STATES = TableContract(
    "caregiver_states",
    "Every caregiver at the end of a day: her state and the facts that decide whether she may be called",
    (
        CAREGIVER_KEY_COLUMN,
        DISTRICT_COLUMN,
        state_column("R if an SMS was opened or clicked in the last 7 days, else U"),
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
        AB_ARM_COLUMN,
    ),
    key=("caregiver_key",),
    sort_by=("caregiver_key",),
)

ENGAGEMENT_HISTORY = TableContract(
    "engagement_history",
    "Each caregiver's training window as words of bits: bit k is week k, oldest first",
    (
        CAREGIVER_KEY_COLUMN,
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
        *tuple_columns(),
        Column("n_caregivers", "int64", "Caregivers with this tuple", unit="caregivers", minimum=1),
    ),
    key=PASSIVE_TUPLE,
    sort_by=PASSIVE_TUPLE,
)
