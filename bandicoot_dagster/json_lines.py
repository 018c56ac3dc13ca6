"""One line of a log as one JSON object: which fields it has, and where they come from. structlog renders it.

Where lines go, and which processes write them this way, belongs to logs. Fields that are not known are left out.
"""

import logging
from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from typing import Any

import structlog
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    PARTITION_NAME_TAG,
)
from structlog.typing import EventDict, Processor

from bandicoot_dagster.run_failures import innermost

_HIDDEN = "***"


def json_formatter(*, assets: Collection[str] = (), secrets: Iterable[str] = ()) -> logging.Formatter:
    """A formatter that makes one JSON object of each record.

    Fields: `severity` (DEBUG to CRITICAL), `at` (UTC, ISO 8601), `logger`, `message`; of a run `run_id`, `job`, `step`,
    `event`, `partition` (`first...last` for a range) and `asset`; of a tick `sensor` or `schedule`; of an error
    `error_class` and `stack`. `assets` names the steps that make an asset. `secrets` are hidden wherever they stand.
    """
    hidden = tuple(sorted(secrets, key=len, reverse=True))
    # Dagster's own lines come as records of the standard library: structlog calls them foreign.
    chain: list[Processor] = [_fields_of_record(frozenset(assets)), _without(hidden)]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=chain,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
    )


def _fields_of_record(assets: frozenset[str]) -> Processor:
    def fields(_logger: Any, _method: str, event_dict: EventDict) -> EventDict:
        record: logging.LogRecord = event_dict["_record"]
        meta = getattr(record, "dagster_meta", None) or {}
        event = meta.get("dagster_event") or getattr(record, "dagster_event", None)
        known = {
            "severity": record.levelname,
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "logger": record.name,
            "message": meta.get("orig_message") or event_dict["event"],
            "run_id": meta.get("run_id"),
            "job": meta.get("job_name"),
            "step": meta.get("step_key"),
            "event": getattr(event, "event_type_value", None),
            "asset": _asset(event, meta, assets),
            "partition": getattr(event, "partition", None) or _partition(meta.get("job_tags") or {}),
            **_tick(meta),
            **_error(record, event),
        }
        # The formatter takes its own two keys out of what is returned.
        own = {name: value for name, value in event_dict.items() if name.startswith("_")}
        return {**{name: value for name, value in known.items() if value}, **own}

    return fields


def _asset(event: Any, meta: Any, assets: frozenset[str]) -> str | None:
    key = getattr(event, "asset_key", None)
    if key is not None:
        return key.to_user_string()
    step = meta.get("step_key")
    return step if step in assets else None


def _partition(tags: Any) -> str | None:
    if PARTITION_NAME_TAG in tags:
        return tags[PARTITION_NAME_TAG]
    if ASSET_PARTITION_RANGE_START_TAG in tags:
        return f"{tags[ASSET_PARTITION_RANGE_START_TAG]}...{tags.get(ASSET_PARTITION_RANGE_END_TAG, '')}"
    return None


def _tick(meta: Any) -> dict[str, str]:
    """The schedule or sensor whose tick it is; every schedule of the project is named `..._schedule`."""
    name = meta.get("name")
    if not name or "repository_name" not in meta:
        return {}
    return {"schedule" if name.endswith("_schedule") else "sensor": name}


def _error(record: logging.LogRecord, event: Any) -> dict[str, str]:
    error = getattr(getattr(event, "event_specific_data", None), "error", None)
    if error is not None:
        return {"error_class": innermost(error).cls_name or "", "stack": error.to_string()}
    if record.exc_info and record.exc_info[0] is not None:
        stack = logging.Formatter().formatException(record.exc_info)
        return {"error_class": record.exc_info[0].__name__, "stack": stack}
    return {}


def _without(secrets: tuple[str, ...]) -> Processor:
    def hide(_logger: Any, _method: str, event_dict: EventDict) -> EventDict:
        for name, value in event_dict.items():
            if not name.startswith("_") and isinstance(value, str):
                for secret in secrets:
                    value = value.replace(secret, _HIDDEN)  # noqa: PLW2901 - hidden one after the other
                event_dict[name] = value
        return event_dict

    return hide
