"""One event that was told: read from its JSON text, or refused with the field at fault.

Here: what an event must look like (fields, types, bounds in time), and what of a refused one may be kept. Not here:
whose event it is, and where it goes (pipeline.received_events).

The text is read message by message, since that is how messages arrive; everything after works on whole tables.
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, Protocol

import pyarrow as pa

from bandicoot_core.contracts import RECEIVED_EVENT_TYPES

CLOCK_SKEW = timedelta(minutes=10)
"""How far ahead of this clock an event may say it happened."""

OLDEST = timedelta(weeks=62)
"""How old an event may be: nothing looks further back than the longest training window."""

UNREADABLE: Final = "unreadable"
REFUSED: Final = "refused"
UNKNOWN_CAREGIVER: Final = "unknown_caregiver"
DeadLetterKind = Literal["unreadable", "refused", "unknown_caregiver"]

_NEEDS_MESSAGE = ("sms_delivered", "sms_opened")
_MAX_TEXT = 200
_SHOWN = 40
_DIGITS = re.compile(r"\d[\d ()-]{5,}\d")

EVENTS_SCHEMA = pa.schema(
    [
        pa.field("position", pa.string(), nullable=False),
        pa.field("caregiver_id", pa.string(), nullable=False),
        pa.field("event_type", pa.string(), nullable=False),
        pa.field("occurred_at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("message_id", pa.string()),
    ]
)
"""Readable events: where each was in its source, and its fields; event_type is what the lake calls it."""


class Record(Protocol):
    """One message of a source: where it was, and its JSON text, or why there is none."""

    @property
    def position(self) -> str: ...  # noqa: D102
    @property
    def payload(self) -> bytes | None: ...  # noqa: D102
    @property
    def problem(self) -> str | None: ...  # noqa: D102


@dataclass(frozen=True)
class DeadLetter:
    """A message that is no event: what is wrong with it. Nothing of it is kept but the value of the field at fault.

    Of a caregiver's id not even that; an event of an unknown caregiver is kept whole, since it may be taken in later.
    """

    position: str
    kind: DeadLetterKind
    reason: str
    column_name: str | None = None
    found: str | None = None
    event_type: str | None = None
    caregiver_id: str | None = None
    occurred_at: datetime | None = None
    message_id: str | None = None


def decode_events(records: Iterable[Record], *, received_at: datetime) -> tuple[pa.Table, list[DeadLetter]]:
    """The events among some messages [EVENTS_SCHEMA], in their order, and a dead letter for each of the others.

    An event is a JSON object with `event_type` (a key of RECEIVED_EVENT_TYPES), `caregiver_id` (text), `timestamp`
    (ISO 8601 with a time zone, at most CLOCK_SKEW after `received_at` and at most OLDEST before it) and
    `metadata.message_id` (text; doses may lack it). Other fields are passed over and never kept. `received_at` is an
    aware instant.
    """
    rows: list[tuple[str, str, str, datetime, str | None]] = []
    letters: list[DeadLetter] = []
    for record in records:
        try:
            rows.append((record.position, *_event(record, received_at)))
        except _RefusedError as refused:
            letters.append(
                DeadLetter(record.position, refused.kind, refused.reason, refused.column_name, refused.found)
            )
    return events_table(rows), letters


def events_table(rows: Sequence[tuple[str, str, str, datetime, str | None]]) -> pa.Table:
    """Rows in the order of EVENTS_SCHEMA as a table."""
    columns: list[Sequence[Any]] = list(zip(*rows, strict=True)) or [[] for _ in EVENTS_SCHEMA]
    return pa.table(dict(zip(EVENTS_SCHEMA.names, columns, strict=True)), schema=EVENTS_SCHEMA)


def looks_like_telephone(text: str) -> bool:
    """Whether a text is a telephone number, as far as its form tells: ten to fifteen digits and little else."""
    return re.fullmatch(r"\+?[\d ().-]+", text) is not None and 10 <= sum(map(str.isdigit, text)) <= 15


class _RefusedError(Exception):
    def __init__(self, kind: DeadLetterKind, reason: str, column_name: str | None = None, found: object = None) -> None:
        super().__init__(reason)
        self.kind, self.reason, self.column_name = kind, reason, column_name
        self.found = None if found is None else _masked(found)


def _event(record: Record, received_at: datetime) -> tuple[str, str, datetime, str | None]:
    fields = _json_object(record)
    event_type = fields.get("event_type")
    if not isinstance(event_type, str) or event_type not in RECEIVED_EVENT_TYPES:
        raise _RefusedError(REFUSED, f"expected one of {', '.join(RECEIVED_EVENT_TYPES)}", "event_type", event_type)
    caregiver_id = fields.get("caregiver_id")
    if not isinstance(caregiver_id, str) or not caregiver_id.strip() or not _is_storable(caregiver_id):
        kind = "text that cannot be an id" if isinstance(caregiver_id, str) else type(caregiver_id).__name__
        raise _RefusedError(REFUSED, f"expected the id as the source spells it, found {kind}", "caregiver_id")
    metadata = fields.get("metadata")
    message_id = metadata.get("message_id") if isinstance(metadata, dict) else None
    is_needed = event_type in _NEEDS_MESSAGE
    if (message_id is None and is_needed) or (message_id is not None and not _is_text(message_id)):
        reason = f"expected the text that names the message, which {event_type} {'needs' if is_needed else 'may have'}"
        raise _RefusedError(REFUSED, reason, "metadata.message_id", message_id)
    return caregiver_id, RECEIVED_EVENT_TYPES[event_type], _instant(fields.get("timestamp"), received_at), message_id


def _json_object(record: Record) -> dict[str, Any]:
    if record.payload is None:
        raise _RefusedError(UNREADABLE, record.problem or "no event could be read")
    try:
        fields = json.loads(record.payload)
    except UnicodeDecodeError:
        raise _RefusedError(UNREADABLE, "expected JSON in UTF-8") from None
    except (ValueError, RecursionError) as error:
        where = f" at character {error.pos}" if isinstance(error, json.JSONDecodeError) else ""
        raise _RefusedError(UNREADABLE, f"expected JSON{where}") from None
    if not isinstance(fields, dict):
        raise _RefusedError(UNREADABLE, f"expected a JSON object, found {type(fields).__name__}")
    return fields


def _instant(text: object, received_at: datetime) -> datetime:
    try:
        instant = datetime.fromisoformat(text) if isinstance(text, str) else None
        occurred_at = instant.astimezone(UTC) if instant is not None and instant.tzinfo is not None else None
    except (ValueError, OverflowError):
        occurred_at = None
    if occurred_at is None:
        expected = "expected ISO 8601 with a time zone, such as 2026-11-20T12:00:00+05:30"
        raise _RefusedError(REFUSED, expected, "timestamp", text)
    if occurred_at > received_at + CLOCK_SKEW:
        raise _RefusedError(REFUSED, f"lies after its arrival, {received_at:%Y-%m-%dT%H:%M:%SZ}", "timestamp", text)
    if occurred_at < received_at - OLDEST:
        raise _RefusedError(REFUSED, f"lies more than {OLDEST.days // 7} weeks before its arrival", "timestamp", text)
    return occurred_at


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip()) and _is_storable(value)


def _is_storable(text: str) -> bool:
    """Whether every store could hold the text: not too long, no U+0000, nothing that is not Unicode."""
    return len(text) <= _MAX_TEXT and "\0" not in text and text.encode("utf-8", "ignore").decode() == text


def _masked(value: object) -> str:
    """A value for a message: its beginning, without anything that could be a telephone number."""
    text = value if isinstance(value, str) else json.dumps(value)
    if re.match(r"\d{4}-\d\d-\d\d", text):  # a timestamp, which is told as it is
        return text[:_SHOWN]
    return _DIGITS.sub("…", text.encode("utf-8", "ignore").decode().replace("\0", "�"))[:_SHOWN]
