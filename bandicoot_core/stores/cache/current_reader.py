"""What consumers read about the present: from Redis where it holds the newest publication, else from PostgreSQL.

Both give the same answers, and an answer is of one publication. Which publication is the newest is asked of PostgreSQL
at most once in the configured time; while PostgreSQL cannot be reached, Redis is believed. The answers themselves
belong to current_answers, keys and values to cache_keys, waiting for Redis to cache.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import date
from typing import TypeVar

import psycopg
import pyarrow as pa
from pydantic import BaseModel, ValidationError

from bandicoot_core.errors import MissingPartitionError, TransientError
from bandicoot_core.stores.cache.cache import Cache
from bandicoot_core.stores.cache.current_answers import Standing, is_storable, standing, states_of
from bandicoot_core.stores.cache.keys import (
    CURRENT_KEY,
    CachedIndex,
    CachedPublication,
    CachedState,
    CaregiverFacts,
    StatesAsOf,
    indices_table,
    state_key,
)
from bandicoot_core.stores.postgres.connections import reading
from bandicoot_core.stores.published.models import read_indices

CACHE, DATABASE, BOTH = "cache", "database", "cache and database"

Value = TypeVar("Value", bound=BaseModel)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CurrentIndices:
    """The indices of the model that made the newest list."""

    call_date: date
    model_version: str
    indices: pa.Table
    """WHITTLE_INDICES."""
    came_from: str = field(compare=False)


@dataclass(frozen=True)
class CurrentStates:
    """States of some caregivers, all at the end of one day, their clusters of one model."""

    as_of: StatesAsOf | None
    """None before the first publication that brought states."""
    states: Mapping[str, CaregiverFacts]
    """By caregiver_id; who is not known is not in it."""
    came_from: str = field(compare=False)


@dataclass(frozen=True)
class _Told:
    """Which publication PostgreSQL last called the newest, if it ever did."""

    publication: str | None = None
    is_known: bool = False


class CurrentReader:
    """Reads indices and states. May be shared between threads; `connect` opens a connection for each answer it gives.

    Every method raises MissingPartitionError when no list is published yet, and TransientError when PostgreSQL is
    needed and does not answer, or not in time.
    """

    def __init__(
        self,
        cache: Cache | None,
        connect: Callable[[], AbstractContextManager[psycopg.Connection]],
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cache = cache
        self._connect = connect
        self._monotonic = monotonic
        self._asking = threading.Lock()
        self._has_asked = False
        self._told = _Told()
        self._told_until = float("-inf")

    def read_indices(self) -> CurrentIndices:
        """The indices of the model that made the newest list."""
        return self._cached_indices() or self._stored_indices()

    def read_state(self, caregiver_id: str) -> CaregiverFacts | None:
        """The facts of one caregiver; None when she is not known."""
        return self.read_states([caregiver_id]).states.get(caregiver_id)

    def read_states(self, caregiver_ids: Iterable[str]) -> CurrentStates:
        """The facts of some caregivers."""
        asked = [caregiver_id for caregiver_id in dict.fromkeys(caregiver_ids) if is_storable(caregiver_id)]
        pointer, found = self._cached_states(asked)
        missing = [caregiver_id for caregiver_id in asked if caregiver_id not in found]
        if pointer is not None and not missing:
            return CurrentStates(pointer.states, found, CACHE)
        with self._connect() as connection, reading(connection, "reading states", is_snapshot=True):
            current = self._require(standing(connection))
            if pointer is not None and pointer.publication == current.publication:
                stored = states_of(connection, missing)
                together = {name: facts for name in asked if (facts := found.get(name) or stored.get(name))}
                return CurrentStates(current.states, together, BOTH if found else DATABASE)
            return CurrentStates(current.states, states_of(connection, asked), DATABASE)

    def _stored_indices(self) -> CurrentIndices:
        with self._connect() as connection:
            current = self._require(standing(connection))
            # The indices of a model never change, so this needs no snapshot.
            indices = read_indices(connection, current.model_version)
        return CurrentIndices(current.call_date, current.model_version, indices, DATABASE)

    def _cached_indices(self) -> CurrentIndices | None:
        read = self._trusted([])
        if read is None:
            return None
        cache, pointer, _ = read
        keys = pointer.index_keys()
        values = [_parsed(cache, CachedIndex, value, "an index") for value in cache.read(keys) or []]
        whole = [value for value, key in zip(values, keys, strict=False) if value is not None and value.key() == key]
        if len(whole) < len(keys) or not keys:
            return None
        return CurrentIndices(pointer.call_date, pointer.model_version, indices_table(whole), CACHE)

    def _cached_states(
        self, caregiver_ids: Sequence[str]
    ) -> tuple[CachedPublication | None, dict[str, CaregiverFacts]]:
        read = self._trusted([state_key(caregiver_id) for caregiver_id in caregiver_ids])
        if read is None or read[1].states is None:
            return None, {}
        cache, pointer, values = read
        found = {}
        for caregiver_id, value in zip(caregiver_ids, values, strict=True):
            state = _parsed(cache, CachedState, value, "a state")
            if state is not None and state.publication == pointer.publication:
                found[caregiver_id] = state.facts()
        return pointer, found

    def _trusted(self, keys: Sequence[bytes]) -> tuple[Cache, CachedPublication, list[bytes | None]] | None:
        """The pointer and, read with it, the values of some keys; None unless Redis holds the newest publication."""
        if self._cache is None or self._cache.is_paused:
            return None
        told = self._ask_newest()
        found = self._cache.read([CURRENT_KEY, *keys])
        pointer = _parsed(self._cache, CachedPublication, found[0], "a pointer") if found else None
        if not found or pointer is None:
            return None
        if told.is_known and told.publication != pointer.publication:
            return None
        return self._cache, pointer, found[1:]

    def _ask_newest(self) -> _Told:
        """What PostgreSQL last said, asked again when that was too long ago. One thread asks for all."""
        if self._cache is None or self._monotonic() < self._told_until:
            return self._told
        check_seconds = self._cache.options.check_seconds
        if not self._asking.acquire(blocking=not self._has_asked or not check_seconds):
            return self._told
        try:
            try:
                with self._connect() as connection:
                    self._remember(standing(connection))
            except TransientError as error:
                _log.warning("Redis answers without PostgreSQL: %s", error)
            self._has_asked, self._told_until = True, self._monotonic() + check_seconds
            return self._told
        finally:
            self._asking.release()

    def _remember(self, newest: Standing | None) -> Standing | None:
        self._told = _Told(newest.publication if newest else None, is_known=True)
        return newest

    def _require(self, newest: Standing | None) -> Standing:
        if self._remember(newest) is None or newest is None:
            raise MissingPartitionError("no call list is published yet; materialize published_call_list first")
        return newest


def _parsed(cache: Cache, kind: type[Value], value: bytes | None, what: str) -> Value | None:
    if value is None:
        return None
    try:
        return kind.model_validate_json(value)
    except ValidationError:
        cache.report_unreadable(what)
        return None
