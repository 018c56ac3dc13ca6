"""Contracts of the tables that go with received events: dead letters, and the files that were taken in."""

from dataclasses import replace

from bandicoot_core import contracts
from bandicoot_core.contracts import Column, TableContract

DEAD_LETTER_KINDS = ("unreadable", "refused", "unknown_caregiver")

DEAD_LETTERS = TableContract(
    "dead_letters",
    "Messages that were received and are no event, and why; events of caregivers who are not known yet wait here",
    (
        Column("letter_id", "int64", "Number of the letter"),
        Column("source", "string", "Subscription or file it came from"),
        Column("position", "string", "Where it was there: the broker's message id, or the line"),
        Column(
            "kind",
            "string",
            "Unreadable ones and refused ones stay until somebody deletes them; those of unknown caregivers are taken "
            "in when she is known",
            allowed=DEAD_LETTER_KINDS,
        ),
        Column("column_name", "string", "Field at fault; empty when nothing could be read", is_nullable=True),
        Column("found", "string", "Value found, shortened and without telephone numbers", is_nullable=True),
        Column("reason", "string", "What was expected"),
        Column("event_type", "string", "What happened; only of unknown caregivers", is_nullable=True),
        replace(
            contracts.PUBLISHED_CALL_LIST.column("caregiver_id"),
            description="Caregiver who is not known yet",
            is_nullable=True,
        ),
        Column(
            "occurred_at", "timestamp", "When it happened; only of unknown caregivers", unit="UTC", is_nullable=True
        ),
        Column("message_id", "string", "Message it is about; only of unknown caregivers", is_nullable=True),
        Column("received_at", "timestamp", "When it was first received", unit="UTC"),
        Column("n_received", "int32", "How often it was received", unit="times", minimum=1),
    ),
    key=("letter_id",),
)

INGESTED_FILES = TableContract(
    "ingested_files",
    "Files of events that were taken in, so that each is read once",
    (
        Column("uri", "string", "Where the file lies"),
        Column("version", "string", "Changes when its content may have changed; it is then read again"),
        Column("n_records", "int64", "Messages in it", unit="messages", minimum=0),
        Column("n_new", "int64", "Events that the lake did not have", unit="events", minimum=0),
        Column("n_dead", "int64", "Messages that became dead letters", unit="messages", minimum=0),
        Column("ingested_at", "timestamp", "When it was taken in", unit="UTC"),
    ),
    key=("uri",),
)
