"""`POST /update_state`: caregiver events as they happen, taken in as those of the stream are."""

import hashlib
import importlib
import json
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from bandicoot_api.away import in_lane
from bandicoot_api.bodies import one_or_many, rows_of
from bandicoot_api.guarded_route import Guard, client_of, guarded
from bandicoot_api.problems import responses
from bandicoot_api.service import Service, service_of
from bandicoot_core.stores.events.records import EventRecord

router = APIRouter(
    tags=["events"],
    route_class=guarded(Guard("call", lambda service: service.bulk, lambda service: service.max_bulk)),
    responses=responses(415),
)

_SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": "One caregiver event, as the event stream has it; other fields are passed over",
    "properties": {
        "event_type": {"description": "sms_delivered, sms_opened or vaccination_completed"},
        "caregiver_id": {"description": "Caregiver as the source names her"},
        "timestamp": {"description": "When it happened: ISO 8601 with a time zone"},
        "metadata": {"description": "An object with message_id, which messages need"},
    },
}
_EXAMPLE = [
    {
        "event_type": "sms_opened",
        "caregiver_id": "CG-012345",
        "timestamp": "2026-11-28T12:00:00+05:30",
        "metadata": {"message_id": "M-1"},
    }
]


class EventProblem(BaseModel):
    """An event that was not taken in."""

    row: int = Field(description="Its place in the body, from 0")
    kind: str = Field(description="unreadable, refused, or unknown_caregiver: taken in when the registry has her")
    column: str | None = Field(description="Field at fault", examples=["timestamp"])
    problem: str = Field(
        description="What was expected",
        examples=["expected ISO 8601 with a time zone, such as 2026-11-20T12:00:00+05:30"],
    )


class EventResults(BaseModel):
    """What became of the events; each is counted once."""

    n_new: int = Field(examples=[1])
    n_repeated: int = Field(description="Known before; they change nothing")
    n_waiting: int = Field(description="Of caregivers who are not known yet; taken in when they are")
    n_dead: int = Field(description="No event; kept as dead letters")
    n_forgotten: int = Field(description="Of caregivers who asked to be forgotten; nothing is kept")
    n_states_changed: int
    problems: list[EventProblem]


@router.post(
    "/update_state",
    summary="Bring in caregiver events",
    openapi_extra=one_or_many(_SCHEMA, _EXAMPLE),
)
async def take_in_events(request: Request) -> EventResults:
    """The same schema and the same path as the event stream: when this answers, the events are durably kept.

    Sent again, they change nothing. Who opened a message is responsive at once.
    """
    service, client = service_of(request), client_of(request)
    rows = await rows_of(request)
    results = await in_lane(service, service.events_lane, lambda: _taken_in(service, rows, f"service:{client.client}"))
    service.watch.look_again()
    return results


def _taken_in(service: Service, rows: list[dict[str, Any]], source: str) -> EventResults:
    # The engine takes a second to import; only a process that is sent events pays for it.
    events = importlib.import_module("bandicoot_core.pipeline.received_events")
    payloads = [json.dumps(row, sort_keys=True, ensure_ascii=False).encode("utf-8", "surrogatepass") for row in rows]
    places = [hashlib.sha256(payload).hexdigest() for payload in payloads]
    records = [EventRecord(place, payload) for place, payload in zip(places, payloads, strict=True)]
    ingested, letters = events.ingest_and_tell(
        service.stores, records, source=source, received_at=service.clock(), holder="the service"
    )
    number_of = {place: number for number, place in reversed(list(enumerate(places)))}
    return EventResults(
        n_new=ingested.n_new,
        n_repeated=ingested.n_repeated,
        n_waiting=ingested.n_waiting,
        n_dead=ingested.n_dead,
        n_forgotten=ingested.n_forgotten,
        n_states_changed=ingested.n_states,
        problems=[
            EventProblem(
                row=number_of[letter.position],
                kind=letter.kind,
                column=letter.column_name,
                problem=letter.reason,
            )
            for letter in letters
        ],
    )
