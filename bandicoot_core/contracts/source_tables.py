"""Tables of the source group: what the programme recorded, by day."""

from dataclasses import replace

from bandicoot_core.contracts.columns import AB_ARM_COLUMN, CAREGIVER_KEY_COLUMN, DISTRICT_COLUMN
from bandicoot_core.contracts.table_contract import Column, TableContract
from bandicoot_core.contracts.vocabulary import CALL_OUTCOMES, EVENT_TYPES

CAREGIVERS = TableContract(
    "caregivers",
    "Registry snapshot at the end of a day, allow-listed columns only",
    (
        CAREGIVER_KEY_COLUMN,
        DISTRICT_COLUMN,
        Column("enrolled_at", "timestamp", "Enrolment", unit="UTC"),
        Column("age", "int16", "Age at enrolment", unit="years", is_nullable=True, minimum=10, maximum=60),
        Column("parity", "int16", "Children born", unit="children", is_nullable=True, minimum=0, maximum=20),
        Column("phone_reliable", "bool", "Whether her phone is known to be reliable", is_nullable=True),
        Column("enrollment_source", "string", "Where she enrolled", is_nullable=True),
        Column("status", "string", "Status in the registry; only 'active' caregivers are called"),
        AB_ARM_COLUMN,
    ),
    key=("caregiver_key",),
    sort_by=("caregiver_key",),
)

SMS_EVENTS = TableContract(
    "sms_events",
    "What happened to messages on a day, one row per message and event type",
    (
        CAREGIVER_KEY_COLUMN,
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
        CAREGIVER_KEY_COLUMN,
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
        CAREGIVER_KEY_COLUMN,
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
        # It is what a forgotten caregiver's records are found by.
        replace(CAREGIVER_KEY_COLUMN, description="Key of the caregiver, where she has one", is_nullable=True),
    ),
    sort_by=("source_row", "column_name", "reason", "found", "caregiver_key"),
)
