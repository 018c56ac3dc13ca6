"""Which columns of the lake and of the published list come from which: what an analyst sees as column lineage.

Only tables whose rows are about caregivers, clusters or the list are here; a report's figures come from whole tables,
and the graph of assets says which.
"""

from collections.abc import Iterable, Mapping

from bandicoot_core.contracts.list_tables import CALL_LIST

_TUPLE = ("n_rr", "n_ru", "n_ur", "n_uu")
_ACTIVE_TUPLE = tuple(name.replace("n_", "n_active_") for name in _TUPLE)
_WORDS = ("opened_weeks", "called_weeks", "observed_weeks")
_MESSAGE_INSTANTS = ("sent_at", "delivered_at", "opened_at", "clicked_at")
_EVENTS = (
    "sms_events.event_type",
    "sms_events.occurred_at",
    "received_events.event_type",
    "received_events.occurred_at",
)


def _of(table: str, columns: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"{table}.{column}" for column in columns)


def _same(table: str, *columns: str) -> dict[str, tuple[str, ...]]:
    return {column: (f"{table}.{column}",) for column in columns}


def _each(columns: Iterable[str], sources: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    return dict.fromkeys(columns, sources)


_REGISTRY = "suvita_production/caregivers"
_SMS_LOGS = "suvita_production/sms_logs"
_DOSES = "suvita_production/vaccinations"
_OUTCOMES = "bandicoot/call_outcomes"
_FEATURES = ("district", "enrolled_at", "age", "parity", "phone_reliable", "enrollment_source")
_LIFT = (*_of("cluster_assignments", ("cluster_id",)), *_of("engagement_history", _WORDS))

COLUMN_LINEAGE: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "caregivers": {
        **_same(_REGISTRY, *_FEATURES, "status"),
        "caregiver_key": _of(_REGISTRY, ("caregiver_id",)),
        "ab_arm": _of(_REGISTRY, ("caregiver_id", "enrolled_at", "district", "age", "parity", "phone_reliable")),
    },
    "sms_events": {
        "caregiver_key": _of(_SMS_LOGS, ("caregiver_id",)),
        "message_id": _of(_SMS_LOGS, ("message_id",)),
        "event_type": _of(_SMS_LOGS, (*_MESSAGE_INSTANTS, "status")),
        "occurred_at": _of(_SMS_LOGS, _MESSAGE_INSTANTS),
    },
    "vaccinations": {
        **_same(_DOSES, "vaccine_name", "scheduled_date", "actual_date"),
        "caregiver_key": _of(_DOSES, ("caregiver_id",)),
    },
    "calls": {
        **_same(_OUTCOMES, "call_id", "call_date", "attempted_at", "outcome"),
        "caregiver_key": _of(_OUTCOMES, ("caregiver_id",)),
    },
    "caregiver_states": {
        **_same("caregivers", "caregiver_key", "district", "status", "ab_arm"),
        **_each(("state", "last_open_date", "days_since_last_open"), _EVENTS),
        "last_call_date": ("calls.attempted_at",),
        "warm_up_end_date": ("caregivers.enrolled_at",),
    },
    "engagement_history": {
        **_same("caregivers", "caregiver_key"),
        "opened_weeks": _EVENTS,
        "called_weeks": ("calls.attempted_at",),
        "observed_weeks": ("caregivers.enrolled_at",),
    },
    "passive_counts": {
        **_each(_TUPLE, _of("engagement_history", _WORDS)),
        "n_caregivers": ("engagement_history.caregiver_key",),
    },
    "clusters": {
        **_each(
            ("cluster_id", "p_passive_u", "p_passive_r", "n_caregivers"),
            _of("passive_counts", (*_TUPLE, "n_caregivers")),
        ),
        "n_tuples": _of("passive_counts", _TUPLE),
    },
    "cluster_assignments": {
        "caregiver_key": ("caregivers.caregiver_key",),
        "cluster_id": ("clusters.cluster_id", *_of("engagement_history", _WORDS), *_of("caregivers", _FEATURES)),
        "assigned_by": _of("engagement_history", _WORDS),
        **_each((*_TUPLE, *_ACTIVE_TUPLE), _of("engagement_history", _WORDS)),
    },
    "transition_models": {
        "cluster_id": ("clusters.cluster_id",),
        **_each(
            ("state", "action", "n_to_r", "n_to_u", "p_next_r", "p_low", "p_high", "n_effective", "correlation"), _LIFT
        ),
    },
    "whittle_indices": {
        **_same("transition_models", "cluster_id", "state"),
        **_each(("whittle_index", "is_indexable"), ("transition_models.p_next_r",)),
        **_each(
            ("index_low", "index_high"),
            _of("transition_models", ("p_next_r", "p_low", "p_high", "n_effective", "correlation")),
        ),
        **_each(("p_passive", "p_active"), _of("transition_models", ("action", "p_next_r"))),
    },
    "call_list": {
        **_same(
            "caregiver_states", "caregiver_key", "district", "state", "days_since_last_open", "last_call_date", "ab_arm"
        ),
        **_same("whittle_indices", "whittle_index", "index_low", "index_high"),
        "cluster_id": ("cluster_assignments.cluster_id",),
        "reason": (
            *_of("caregiver_states", ("state", "days_since_last_open", "last_call_date")),
            *_of("whittle_indices", ("p_passive", "p_active")),
        ),
        **_each(
            ("own_index", "rank", "p_top_k", "propensity"),
            (
                *_of("cluster_assignments", (*_TUPLE, *_ACTIVE_TUPLE)),
                *_of("caregiver_states", ("state", "last_call_date")),
                "whittle_indices.whittle_index",
            ),
        ),
    },
    "published_call_list": {
        **_same("call_list", *(name for name in CALL_LIST.column_names if name != "caregiver_key")),
        "caregiver_id": ("call_list.caregiver_key",),
    },
}
"""Asset -> column -> the columns it comes from, as `asset.column`; the source's tables with their schema."""
