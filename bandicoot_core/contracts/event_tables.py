"""Tables of events that are told as they happen, beside the logs that are read at night."""

from bandicoot_core.contracts.columns import CAREGIVER_KEY_COLUMN
from bandicoot_core.contracts.table_contract import Column, TableContract
from bandicoot_core.contracts.vocabulary import RECEIVED_EVENT_TYPES

RECEIVED_EVENTS = TableContract(
    "received_events",
    "Events of a day that were received while it went on or later, each once, however often it was told",
    (
        CAREGIVER_KEY_COLUMN,
        Column(
            "event_type",
            "string",
            "What happened: a message was delivered or opened, or a dose was given",
            allowed=tuple(RECEIVED_EVENT_TYPES.values()),
        ),
        Column("occurred_at", "timestamp", "When it happened, as the event says", unit="UTC"),
        Column("message_id", "string", "Message it is about; empty for doses that name none", is_nullable=True),
    ),
    key=("caregiver_key", "event_type", "occurred_at", "message_id"),
    sort_by=("event_type", "caregiver_key", "occurred_at", "message_id"),
)
