"""What stands in Redis: the names of its keys and the JSON behind them, which is a contract with its readers.

`whittle:current` names the publication that the cache holds; it is written last, so that readers switch to a new model
in one step. Every state says which publication it is of, and is trusted only when the pointer names the same. Here are
names and values alone: talking to Redis belongs to cache, filling it to cache_fill, reading it to current_reader.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any, Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from bandicoot_core.contracts import WHITTLE_INDICES

CURRENT_KEY = b"whittle:current"
"""The pointer: a CachedPublication."""

LIST_KEY = b"list:current"
"""The newest published list: a list_snapshot.ListSnapshot."""

LIST_NAME_KEY = b"list:current:name"
"""What the list was read from, by whoever read it for requests; none of the list that comes with the pointer."""

STATE_PREFIX = b"state:"
RECOMMENDATION_PREFIX = b"recommend:"

_FROZEN = ConfigDict(frozen=True, ser_json_inf_nan="null")


class CaregiverFacts(BaseModel):
    """One caregiver at the end of a day, as bandicoot.caregiver_states has her; days are IST days."""

    model_config = _FROZEN

    district: str | None
    state: Literal["U", "R"]
    last_open_date: date | None
    last_call_date: date | None
    warm_up_end_date: date
    status: str
    ab_arm: str
    cluster_id: int | None


class CachedState(CaregiverFacts):
    """The value of `state:{caregiver_id}`: her facts, as of which day, and the publication they belong to."""

    publication: str
    as_of_date: date
    model_version: str

    def facts(self) -> CaregiverFacts:
        """The facts alone."""
        return CaregiverFacts.model_construct(**{name: getattr(self, name) for name in CaregiverFacts.model_fields})


class CachedIndex(BaseModel):
    """The value of `whittle:{model_version}:{cluster_id}:{state}`: one row of WHITTLE_INDICES; null is undefined."""

    model_config = _FROZEN

    model_version: str
    cluster_id: int
    state: Literal["U", "R"]
    whittle_index: float | None
    index_low: float | None
    index_high: float | None
    is_indexable: bool
    p_passive: float
    p_active: float

    def key(self) -> bytes:
        """Where it stands."""
        return index_key(self.model_version, self.cluster_id, self.state)


class StatesAsOf(BaseModel):
    """The day at whose end the states stand, and the model that their clusters are of."""

    model_config = _FROZEN

    as_of_date: date
    model_version: str


class CachedPublication(BaseModel):
    """The value of `whittle:current`: the newest list when the cache was filled, and what stands behind it."""

    model_config = _FROZEN

    publication: str
    """The name that the publication's states carry; it means nothing else."""
    call_date: date
    published_at: datetime
    model_version: str
    cluster_ids: tuple[int, ...]
    states: StatesAsOf | None
    """None when the states are not in the cache, or not all of them yet."""

    def index_keys(self) -> list[bytes]:
        """Keys of all indices of the model."""
        return [index_key(self.model_version, cluster, state) for cluster in self.cluster_ids for state in ("R", "U")]


def index_key(model_version: str, cluster_id: int, state: str) -> bytes:
    """Key of an index."""
    return f"whittle:{model_version}:{cluster_id}:{state}".encode()


def state_key(caregiver_id: str) -> bytes:
    """Key of a caregiver's state: the id as it is, whatever characters it holds."""
    return STATE_PREFIX + caregiver_id.encode()


def recommendation_key(call_date: date, request: Mapping[str, Any]) -> bytes:
    """Key of the answer to a request for a day; requests with the same content have the same key."""
    content = json.dumps(request, sort_keys=True, ensure_ascii=False, default=str)
    return RECOMMENDATION_PREFIX + f"{call_date}:{hashlib.sha256(content.encode()).hexdigest()}".encode()


def index_values(model_version: str, indices: pa.Table) -> dict[bytes, bytes]:
    """Keys and values for the indices of a model (WHITTLE_INDICES)."""
    values = [CachedIndex(model_version=model_version, **row) for row in indices.to_pylist()]
    return {value.key(): value.model_dump_json().encode() for value in values}


def indices_table(values: Sequence[CachedIndex]) -> pa.Table:
    """Values read back, as WHITTLE_INDICES."""
    undefined = float("nan")
    columns = {
        column.name: [
            undefined if (found := getattr(value, column.name)) is None and column.type == "float64" else found
            for value in values
        ]
        for column in WHITTLE_INDICES.columns
    }
    rows = pa.table(columns, schema=WHITTLE_INDICES.arrow_schema())
    return rows.sort_by([(name, "ascending") for name in WHITTLE_INDICES.sort_by])
