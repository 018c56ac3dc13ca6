"""An answer to `whom should I call now`: which tier makes it, where it is looked for, and what it says of itself.

Standard ranks everybody as of now; fast takes the published list. A key has one of them, and gets the fast one too when
as many rankings are under way as may be, or memory is tight; while PostgreSQL is away there is only the list in Redis,
and the answer says that it is stale. An answer is kept under the version of the data it was made from.
"""

import asyncio
import dataclasses
import json
import re
from collections.abc import Hashable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final, Literal

from bandicoot_api.answers import Together
from bandicoot_api.problems import Problem
from bandicoot_api.service import Made, Service
from bandicoot_api.watch import DatabaseAwayError
from bandicoot_core.errors import BusyError, TransientError
from bandicoot_core.pipeline.recommendations import Recommendations, Recommended, recommend_listed, recommend_now
from bandicoot_core.stores.cache.keys import recommendation_key
from bandicoot_core.stores.published.districts import known_districts
from bandicoot_core.stores.published.live_ranking import LiveRules, LiveVersion
from bandicoot_core.stores.published.service_tables import FAST, STANDARD

Source = Literal["memory", "redis", "computed"]
TierReason = Literal["key", "load", "database_away", "indices_not_published"]
BY_KEY: Final = "key"
BY_LOAD: Final = "load"
BY_LOSS: Final = "database_away"
BY_MODEL: Final = "indices_not_published"

_MODELS_TRIED = 3
"""How often a ranking is made again because a publication with other states came in between."""

_TIER = re.compile(rb'"tier":"(\w+)","tier_reason":"(\w+)".*?"model_version":"((?:[^"\\]|\\.)*)","is_stale"')
"""In an answer's own words. Within a text that somebody gave, quotes have a stroke before them."""
_FIELDS = {each.name for each in dataclasses.fields(Recommended)}
_STALE_SECONDS = 1.0
"""How long an answer from Redis alone is kept: only as long as nobody is asked twice at the same moment."""


@dataclass(frozen=True)
class Asked:
    """What a request for recommendations asks."""

    budget: int
    district: str | None = None
    exclude_control: bool = True
    model_version: str | None = None


@dataclass(frozen=True)
class Answer:
    """The JSON text of an answer, and what the log and the metrics say of it."""

    body: bytes
    tier: str
    tier_reason: str
    source: Source
    version: str
    model_version: str


async def recommend(service: Service, asked: Asked, *, tier: str) -> Answer:
    """The answer for a key of a tier.

    Raises Problem: 503 when neither PostgreSQL nor Redis has a list, 404 for a model that is not known and for a
    district where nobody is.
    """
    try:
        version = await service.watch.version()
    except DatabaseAwayError as error:
        return await _from_redis(service, asked, error)
    if version is None:
        raise Problem(503, "no call list is published yet; come again after the first night", code="not_ready")
    _refuse_other_model(asked, version)
    rules = service.watch.rules()
    service.newest_list.keep_there(version, rules)
    try:
        if tier == STANDARD:
            found = await _ranking(service, asked, version, rules)
            if found is not None:
                return found
            return await _answer(service, service.together, asked, version, rules, FAST, BY_LOAD)
        return await _answer(service, service.together, asked, version, rules, FAST, BY_KEY)
    except TransientError as error:
        if not isinstance(error, BusyError):
            service.watch.note_away(error)
        return await _from_redis(service, asked, error)


async def _ranking(service: Service, asked: Asked, version: LiveVersion, rules: LiveRules) -> Answer | None:
    """The answer of tier standard; None when it is not there, nobody is at it, and no more may be begun."""
    key = _key(version, rules, STANDARD, BY_KEY, asked)
    is_there = service.answers.find(key) is not None or service.rankings.is_under_way(key)
    if not is_there and (service.memory.is_tight or service.rankings.n_under_way >= service.options.api_live_queries):
        return None
    try:
        return await _answer(service, service.rankings, asked, version, rules, STANDARD, BY_KEY)
    except BusyError:  # PostgreSQL answers, but something there has to be waited for
        return None


async def _answer(
    service: Service,
    together: Together[Hashable, Made],
    asked: Asked,
    version: LiveVersion,
    rules: LiveRules,
    tier: str,
    reason: TierReason,
) -> Answer:
    """The answer of a tier: from memory, or made once for all who ask the same now."""
    key = _key(version, rules, tier, reason, asked)
    kept = service.answers.find(key)
    if kept is not None:
        return _told(Made(kept, "memory", version.name))
    return _told(await together.make(key, lambda: _made(service, asked, version, rules, tier, reason)))


def _key(version: LiveVersion, rules: LiveRules, tier: str, reason: TierReason, asked: Asked) -> Hashable:
    return version.name, rules.call_date, tier, reason, asked


def _told(made: Made) -> Answer:
    """An answer with what its own text says of its tier: a ranking may have become a list on the way."""
    found = _TIER.search(made.body)
    assert found is not None  # noqa: S101 - every answer has it
    tier, reason, model = (part.decode() for part in found.groups())
    return Answer(made.body, tier, reason, made.source, made.version, json.loads(f'"{model}"'))


async def _made(
    service: Service, asked: Asked, version: LiveVersion, rules: LiveRules, tier: str, reason: TierReason
) -> Made:
    """The text of an answer, whether Redis had it, and its version: a later one when there is one by now."""
    cache = service.stores.cache
    if cache is not None:
        found = await asyncio.to_thread(cache.read, [_redis_key(asked, version, rules, tier, reason)])
        generated_at = _generated_at(found[0], version, asked) if found and found[0] is not None else None
        if found and found[0] is not None and generated_at is not None:
            age = max(0.0, (service.clock() - generated_at).total_seconds())
            service.answers.keep(
                _key(version, rules, tier, reason, asked), found[0], seconds=cache.options.recommendation_seconds - age
            )
            return Made(found[0], "redis", version.name)
    facts: dict[str, Any] = {"tier": tier, "tier_reason": reason}
    made = None
    if tier == STANDARD:
        made = await service.database_lane.run(lambda: _ranked(service, asked, version, rules))
        if made is None:
            facts = {"tier": FAST, "tier_reason": BY_MODEL}
    if made is None:
        version, snapshot = await service.newest_list.read(version, rules)
        made = recommend_listed(
            snapshot,
            rules.call_date,
            budget=asked.budget,
            district=asked.district,
            index_level=rules.index_level,
        )
    else:
        version = made.version or version
    model_version = _model(version, facts["tier"])
    if asked.model_version not in (None, model_version):
        raise _other_model(model_version)
    if asked.district is not None and not made.rows:
        district = asked.district
        await service.database_lane.run(lambda: _refuse_unknown_district(service, district))
    states = version.standing.states
    facts |= {
        "list_version": version.name,
        "list_date": version.standing.call_date,
        "states_as_of_date": states.as_of_date if states is not None else None,
        "model_version": model_version,
        "is_stale": version.standing.call_date < rules.call_date,
    }
    generated_at = service.clock()
    kept = _text(asked, rules.call_date, made, {**facts, "cached": True}, generated_at)
    service.answers.keep(_key(version, rules, tier, reason, asked), kept)
    if cache is not None:
        redis_key = _redis_key(asked, version, rules, tier, reason)
        await asyncio.to_thread(cache.keep, redis_key, kept, seconds=cache.options.recommendation_seconds)
    return Made(_text(asked, rules.call_date, made, {**facts, "cached": False}, generated_at), "computed", version.name)


def _redis_key(asked: Asked, version: LiveVersion, rules: LiveRules, tier: str, reason: TierReason) -> bytes:
    request = {
        **dataclasses.asdict(asked),
        "version": version.name,
        "tier": tier,
        "tier_reason": reason,
        "rules": [rules.cool_down_days, rules.pending_days, rules.index_level],
    }
    return recommendation_key(rules.call_date, request)


def _ranked(service: Service, asked: Asked, version: LiveVersion, rules: LiveRules) -> Recommendations | None:
    """Everybody ranked as of now, or None when indices are not published; of the model of the states ranked."""
    with service.stores.published() as connection:
        for _ in range(_MODELS_TRIED):
            states = version.standing.states
            if states is None:
                return None
            made = recommend_now(
                connection,
                rules,
                model_version=states.model_version,
                budget=asked.budget,
                district=asked.district,
                is_control_excluded=asked.exclude_control,
                lookback_days=service.stores.settings.lookback_days,
            )
            if made is None or made.version is None or made.version.standing.states == states:
                return made
            version = made.version  # published in between, perhaps with another model
    return None


def _refuse_unknown_district(service: Service, district: str) -> None:
    with service.stores.published() as connection:
        known = known_districts(connection)
    if district not in known:
        raise Problem(
            404,
            f"district: no caregiver is known there; choose one of {', '.join(known) or 'none yet'}",
            details={"districts": known},
        )


async def _from_redis(service: Service, asked: Asked, error: Exception) -> Answer:
    """The last list that Redis holds, marked stale."""
    snapshot = await service.newest_list.read_cached()
    if snapshot is None:
        raise Problem(
            503,
            "PostgreSQL does not answer, and Redis holds no list; no list is better than a wrong one: come again",
            retry_after=5,
        ) from error
    if asked.model_version not in (None, snapshot.model_version):
        raise Problem(503, "only the list of the champion is there while PostgreSQL is away", retry_after=5)
    call_date = service.watch.rules().call_date
    key = ("stale", snapshot.publication, call_date, asked)
    kept = service.answers.find(key)
    if kept is None:
        made = recommend_listed(
            snapshot,
            call_date,
            budget=asked.budget,
            district=asked.district,
            index_level=service.list_options.index_level,
        )
        facts = {
            "tier": FAST,
            "tier_reason": BY_LOSS,
            "list_version": snapshot.publication,
            "list_date": snapshot.call_date,
            "states_as_of_date": None,
            "model_version": snapshot.model_version,
            "is_stale": True,
            "cached": True,
        }
        kept = _text(asked, call_date, made, facts, service.clock())
        service.answers.keep(key, kept, seconds=_STALE_SECONDS)
    return _told(Made(kept, "redis", snapshot.publication))


def _refuse_other_model(asked: Asked, version: LiveVersion) -> None:
    known = {version.standing.model_version}
    if version.standing.states is not None:
        known.add(version.standing.states.model_version)
    if asked.model_version is not None and asked.model_version not in known:
        raise _other_model(version.standing.model_version)


def _other_model(known: str) -> Problem:
    return Problem(
        404,
        f"model_version: this answer is of model {known}, and no other can be asked here; leave it out, or make a past "
        "list again with `bandicoot call-list --again --model`",
        details={"model_version": known},
    )


def _model(version: LiveVersion, tier: str) -> str:
    if tier == STANDARD and version.standing.states is not None:
        return version.standing.states.model_version
    return version.standing.model_version


def _generated_at(body: bytes, version: LiveVersion, asked: Asked) -> datetime | None:
    """When what Redis holds was made; None unless it is a whole answer of this version to this question.

    Others may have written there.
    """
    try:
        found = json.loads(body)
        told, rows = found["metadata"], found["recommendations"]
        ranks = [row["rank"] for row in rows]
        is_answer = (
            _TIER.search(body) is not None
            and told["list_version"] == version.name
            and told["filters"] == dataclasses.asdict(asked)
            and told["returned"] == len(rows) <= asked.budget
            and ranks == sorted(set(ranks))
            and all(row.keys() == _FIELDS for row in rows)
        )
        moment = datetime.fromisoformat(told["generated_at"])
        return moment if is_answer and moment.tzinfo is not None else None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _text(asked: Asked, call_date: date, made: Recommendations, facts: dict[str, Any], generated_at: datetime) -> bytes:
    content = {
        "metadata": {
            "call_date": call_date,
            "evaluated": made.n_evaluated,
            "eligible": made.n_eligible,
            "returned": len(made.rows),
            "filters": dataclasses.asdict(asked),
            "generated_at": generated_at,
            **facts,
        },
        "recommendations": [dataclasses.asdict(row) for row in made.rows],
    }
    return json.dumps(content, default=_iso, separators=(",", ":"), ensure_ascii=False).encode()


def _iso(value: object) -> str:
    if isinstance(value, date | datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no form in JSON here")
