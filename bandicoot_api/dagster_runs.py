"""Runs of Dagster's jobs through its webserver: starting one at a time, and what became of one.

Here: GraphQL, and what Dagster's answers mean. Which jobs may be started, and by whom, belongs to routes.runs. What
Dagster says of itself goes to the log, since it may name servers; whoever asked is told what to do.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx

from bandicoot_core.errors import (
    BandicootError,
    InvalidInputError,
    InvalidSettingError,
    RefusedWriteError,
    UnreachableError,
)

_log = logging.getLogger(__name__)

_OVER = ("SUCCESS", "FAILURE", "CANCELED")
_UNDER_WAY = ("QUEUED", "NOT_STARTED", "STARTING", "STARTED", "CANCELING")
_PARTITION_TAG = "dagster/partition"

_JOBS = """
query { workspaceOrError { __typename ... on Workspace { locationEntries { name locationOrLoadError { __typename
    ... on RepositoryLocation { repositories { name jobs { name } } } ... on PythonError { message }
} } } ... on PythonError { message } } }
"""
_PARTITIONS = """
query ($of: PipelineSelector!) { pipelineOrError(params: $of) { __typename
    ... on Pipeline { partitionKeysOrError { partitionKeys } } ... on Error { message }
} }
"""
_RUNS_UNDER_WAY = """
query ($filter: RunsFilter!) { runsOrError(filter: $filter) { __typename
    ... on Runs { results { runId creationTime } } ... on Error { message }
} }
"""
_LAUNCH = """
mutation ($params: ExecutionParams!) { launchRun(executionParams: $params) { __typename
    ... on LaunchRunSuccess { run { runId } } ... on RunConfigValidationInvalid { errors { message } }
    ... on Error { message }
} }
"""
_TERMINATE = """
mutation ($id: String!) { terminateRun(runId: $id, terminatePolicy: SAFE_TERMINATE) { __typename
    ... on TerminateRunFailure { message } ... on Error { message }
} }
"""
_RUN = """
query ($id: ID!) { runOrError(runId: $id) { __typename
    ... on Run {
        runId jobName status creationTime startTime endTime tags { key value } stepStats { stepKey status }
    }
    ... on Error { message }
} }
"""


class RunUnderWayError(BandicootError):
    """A run of this job, or of one that writes the same, has not ended yet."""

    def __init__(self, job: str, run_id: str) -> None:
        super().__init__(f"{job} is running already (run {run_id}); wait until it has ended")
        self.run_id = run_id


class DagsterRefusedError(RefusedWriteError):
    """Dagster answers, but does not do what was asked; why is in the log."""


@dataclass(frozen=True)
class DagsterRun:
    """What Dagster knows of a run; instants in UTC, None as long as they have not come."""

    run_id: str
    job: str
    partition: str | None
    status: str
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    failed_steps: tuple[str, ...]

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come of it."""
        return self.status in _OVER


class DagsterRuns:
    """The jobs of one Dagster, by the address of its webserver. Nothing is asked before the first call.

    Every call takes timeout_seconds at most and raises UnreachableError when the webserver does not answer, or not as
    Dagster's does, and DagsterRefusedError when Dagster fails at what it was asked.
    """

    def __init__(self, url: str, *, timeout_seconds: float) -> None:
        try:
            address = httpx.URL(url)
        except httpx.InvalidURL as error:
            raise InvalidSettingError(f"api_dagster_url is no address ({error}); expected http://host:port") from error
        # A name and password of the address must not stand in the log, as the address of each request does.
        self._auth = (address.username, address.password) if address.username else None
        self._url = address.copy_with(
            username=None, password=None, path=f"{address.path.rstrip('/')}/graphql", query=None, fragment=None
        )
        self._timeout_seconds = timeout_seconds
        # Calls are rare: a new connection each never meets one that a restarted webserver has forgotten.
        self._client = httpx.AsyncClient(
            auth=self._auth, timeout=timeout_seconds, limits=httpx.Limits(max_keepalive_connections=0)
        )

    async def close(self) -> None:
        """Let go of the client."""
        await self._client.aclose()

    async def start(
        self,
        job: str,
        *,
        partition: str | None = None,
        run_config: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
        besides: Collection[str] = (),
    ) -> str:
        """Start a run of a job and return its id, as soon as it is queued.

        Raises RunUnderWayError while a run of the job, or of one of the jobs `besides`, is under way, whoever started
        it. Of two that are started at the same moment the younger is taken back. InvalidInputError when the job has no
        such partition.
        """
        async with self._in_time(f"{job} may have been started all the same; see its runs before the next try"):
            found = await self._runs_under_way(job, *besides)
            if found:
                raise RunUnderWayError(*found[0])
            selector = await self._place_of(job)
            if partition is not None:
                await self._require_partition(selector, partition)
            run_id = await self._launch(selector, partition, run_config or {}, tags or {})
            elder = (await self._runs_under_way(job, *besides) or [(job, run_id)])[0]
            if elder[1] != run_id and await self._is_taken_back(run_id):
                raise RunUnderWayError(*elder)
            return run_id

    async def status(self, run_id: str) -> DagsterRun | None:
        """What became of a run; None when Dagster knows none by this id."""
        async with self._in_time("ask again"):
            found = await self._ask(_RUN, {"id": run_id}, "runOrError")
        if found["__typename"] == "RunNotFoundError":
            return None
        run = _expected(found, "Run", f"asking for run {run_id}")
        tags = {tag["key"]: tag["value"] for tag in run["tags"]}
        return DagsterRun(
            run_id=run["runId"],
            job=run["jobName"],
            partition=tags.get(_PARTITION_TAG),
            status=run["status"],
            created_at=datetime.fromtimestamp(run["creationTime"], UTC),
            started_at=_instant(run["startTime"]),
            ended_at=_instant(run["endTime"]),
            failed_steps=tuple(step["stepKey"] for step in run["stepStats"] if step["status"] == "FAILURE"),
        )

    async def _runs_under_way(self, *jobs: str) -> list[tuple[str, str]]:
        """Jobs and ids of runs that have not ended, the eldest first; all services see them in the same order."""
        found = []
        for job in sorted(jobs):
            asked = {"filter": {"pipelineName": job, "statuses": list(_UNDER_WAY)}}
            told = await self._ask(_RUNS_UNDER_WAY, asked, "runsOrError")
            runs = _expected(told, "Runs", f"looking for runs of {job}")
            found += [(run["creationTime"], run["runId"], job) for run in runs["results"]]
        return [(job, run_id) for _, run_id, job in sorted(found)]

    async def _place_of(self, job: str) -> dict[str, str]:
        """How GraphQL names a job: by its code location and repository, which nobody has to configure."""
        found = await self._ask(_JOBS, {}, "workspaceOrError")
        entries = _expected(found, "Workspace", "looking for code locations")["locationEntries"]
        places, broken = [], []
        for entry in entries:
            loaded = entry["locationOrLoadError"]
            if loaded is None or loaded["__typename"] != "RepositoryLocation":
                broken.append(entry["name"])
                continue
            places += [
                {"repositoryLocationName": entry["name"], "repositoryName": repository["name"], "pipelineName": job}
                for repository in loaded["repositories"]
                if job in {each["name"] for each in repository["jobs"]}
            ]
        if len(places) == 1:
            return places[0]
        if places:
            names = ", ".join(place["repositoryLocationName"] for place in places)
            raise DagsterRefusedError(f"{len(places)} code locations have a job {job} ({names}); serve one of them")
        why = f"; these do not load: {', '.join(broken)}" if broken else ""
        raise DagsterRefusedError(f"no code location of Dagster has a job {job}{why}; see Deployment in Dagster's UI")

    async def _require_partition(self, selector: Mapping[str, str], partition: str) -> None:
        found = await self._ask(_PARTITIONS, {"of": selector}, "pipelineOrError")
        job = selector["pipelineName"]
        keys = _expected(found, "Pipeline", f"looking for partitions of {job}")["partitionKeysOrError"]["partitionKeys"]
        if partition not in keys:
            there = f"from {keys[0]} to {keys[-1]}" if keys else "none"
            raise InvalidInputError(f"{job} has no partition {partition}; its partitions are {there}")

    async def _launch(
        self,
        selector: Mapping[str, str],
        partition: str | None,
        run_config: Mapping[str, Any],
        tags: Mapping[str, str],
    ) -> str:
        all_tags = {**tags, **({_PARTITION_TAG: partition} if partition is not None else {})}
        params = {
            "selector": selector,
            "runConfigData": run_config,
            "executionMetadata": {"tags": [{"key": key, "value": value} for key, value in all_tags.items()]},
        }
        found = await self._ask(_LAUNCH, {"params": params}, "launchRun")
        run_id = _expected(found, "LaunchRunSuccess", f"starting {selector['pipelineName']}")["run"]["runId"]
        assert isinstance(run_id, str)  # noqa: S101 - by Dagster's schema
        return run_id

    async def _is_taken_back(self, run_id: str) -> bool:
        """End a run that has hardly begun; False when it was over by then."""
        found = await self._ask(_TERMINATE, {"id": run_id}, "terminateRun")
        if found["__typename"] == "TerminateRunSuccess":
            return True
        run = await self.status(run_id)
        if run is not None and run.is_over:
            return False
        _log.warning("run %s cannot be taken back: %s", run_id, found.get("message"))
        raise DagsterRefusedError(f"run {run_id} was started beside another and cannot be taken back; end it by hand")

    async def _ask(self, query: str, variables: Mapping[str, Any], field: str) -> dict[str, Any]:
        """One field of an answer."""
        try:
            answer = await self._client.post(self._url, json={"query": query, "variables": variables})
        except httpx.HTTPError as error:
            _log.warning("Dagster's webserver: %s: %s", type(error).__name__, error)
            raise UnreachableError("Dagster's webserver does not answer; come again") from error
        try:
            found = answer.json()
            data, errors = found.get("data"), found.get("errors")
        except (ValueError, AttributeError) as error:
            raise UnreachableError(
                f"what answers (HTTP {answer.status_code}) at BANDICOOT_API_DAGSTER_URL is not Dagster's webserver"
            ) from error
        if errors or not data or data.get(field) is None:
            _log.warning("Dagster fails at %s: %s", field, errors or found)
            raise DagsterRefusedError(f"Dagster fails at {field}; its reason is in the service's log")
        value = data[field]
        assert isinstance(value, dict)  # noqa: S101 - by Dagster's schema
        return value

    @asynccontextmanager
    async def _in_time(self, remark: str) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                yield
        except TimeoutError as error:
            raise UnreachableError(
                f"Dagster's webserver has not answered within {self._timeout_seconds:g} s; {remark}"
            ) from error


def _expected(found: dict[str, Any], kind: str, doing: str) -> dict[str, Any]:
    """A result of the kind that was hoped for; DagsterRefusedError for one of its errors."""
    if found["__typename"] == kind:
        return found
    errors = [found.get("message"), *(error["message"] for error in found.get("errors", ()))]
    _log.warning("%s: %s: %s", doing, found["__typename"], "; ".join(filter(None, errors)))
    raise DagsterRefusedError(f"{doing} failed ({found['__typename']}); Dagster's reason is in the service's log")


def _instant(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
