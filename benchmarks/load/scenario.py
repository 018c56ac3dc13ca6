"""The loads: who asks what for how long, with what running, what changing and what breaking.

Each gives what was measured; the order of things belongs to `__main__`, words about them to `report`.
"""

import http.client
import json
import statistics
import threading
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.load.faults import Fault, Suffered, strike, suffered
from benchmarks.load.installation import Hands, Publication
from benchmarks.load.judging import Verdict, judge
from benchmarks.load.serving import Serving, ask, bare, service
from benchmarks.load.traffic import FAST, KINDS, STANDARD, Load, Question, Told, finish_clients, start_clients
from tests.servers.redis import RedisServer

USUAL = Question(STANDARD, 100)
_READS_PER_MINUTE = "1000000"
_CALL_SECONDS = 1.0


@dataclass(frozen=True)
class Measured:
    """One load: how fast, by what, and whether it was right."""

    n_users: int
    per_second: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    shares: dict[str, float]
    """Of each of KINDS among the answers."""
    verdict: Verdict
    broken: list[str]
    service_ms: float
    """Processor time that the service's own process used for an answer."""
    clients_cpu: float
    """Share of one core that the clients used."""


@dataclass(frozen=True)
class Ratio:
    """The service against the bare application: milliseconds of one client who asks both in turn."""

    n_bytes: int
    service_p50_ms: float
    service_p95_ms: float
    bare_p50_ms: float
    bare_p95_ms: float


@dataclass(frozen=True)
class Stage:
    """What the loads are run against."""

    hands: Hands
    redis: RedisServer
    folder: Path
    settings: dict[str, str]
    """Of the service, beside Redis and the limit of reads."""
    keys: dict[str, list[str]]
    """By tier; those of tier standard may report calls."""
    questions: list[Question]
    """What is asked again and again."""
    n_users: int
    pause_seconds: tuple[float, float]

    def serving(self, *, has_redis: bool = True) -> AbstractContextManager[Serving]:
        """A new process of the service."""
        settings = {**self.settings, "api_reads_per_minute": _READS_PER_MINUTE}
        if has_redis:
            settings["redis_url"] = self.redis.url
        return service(self.folder, settings)

    def load(self, serving: Serving, seconds: float) -> Load:
        """The usual clients for some seconds."""
        keys = {tier: tuple(keys) for tier, keys in self.keys.items()}
        return Load([serving.address], keys, self.questions, self.n_users, seconds, self.pause_seconds)

    def published(self) -> Publication:
        """What is current."""
        return self.hands.newest(self.questions)


def questions_of(districts: Sequence[str]) -> list[Question]:
    """What people and programs ask all day: mostly the default, often one's own district, seldom everything."""
    budgets_of_all = (100, 100, 100, 100, 100, 100, 25, 25, 25, 50, 50, 1000)
    questions = []
    for tier in (STANDARD, STANDARD, FAST):
        questions += [Question(tier, budget) for budget in budgets_of_all]
        questions += [Question(tier, 25, district) for district in districts[:6]]
        questions += [Question(tier, 100, district) for district in districts[:3]]
    return questions


def starts(stage: Stage, n_starts: int) -> list[float]:
    """Seconds from the start of a process of the service to its first answer to USUAL."""
    seconds = []
    for _ in range(n_starts):
        with stage.serving() as serving:
            seconds.append(serving.first_answer(USUAL.path, stage.keys[STANDARD][0])[0])
    return seconds


def read_warm(stage: Stage, seconds: float, *, has_redis: bool = True) -> Measured:
    """The usual clients, who ask what was asked before."""
    with stage.serving(has_redis=has_redis) as serving:
        warm_up(stage, serving)
        load = stage.load(serving, seconds)
        return _run(stage, serving, load, [stage.published()])


def read_without_pause(stage: Stage, seconds: float, n_users: int) -> Measured:
    """A few clients who ask again as soon as they are answered: as many answers as can be had."""
    with stage.serving() as serving:
        warm_up(stage, serving)
        load = replace(stage.load(serving, seconds), n_users=n_users, pause_seconds=(0.0, 0.0))
        return _run(stage, serving, load, [stage.published()])


def read_each_once(stage: Stage, seconds: float) -> Measured:
    """One client who never asks the same twice: each answer is a ranking of everybody."""
    questions = [Question(STANDARD, budget) for budget in range(1000, 200, -1)]
    with stage.serving() as serving:
        warm_up(stage, serving)
        load = replace(
            stage.load(serving, seconds), questions=questions, n_users=1, pause_seconds=(0.0, 0.0), is_distinct=True
        )
        return _run(stage, serving, load, [stage.hands.newest(questions[:1])])


def read_while_called(stage: Stage, seconds: float) -> Measured:
    """The usual clients while every second a call is reported, so that no answer is right for longer."""
    called_at: dict[str, float] = {}
    is_over = threading.Event()
    publication = stage.published()

    def report_calls(port: int) -> None:
        for number, row in enumerate(publication.rankings.get(USUAL) or publication.rows):
            body = json.dumps(stage.hands.call_of(str(row[1]), number)).encode()
            status, said = ask(port, "/call-outcomes", stage.keys[STANDARD][0], body=body)
            if status == 200:
                called_at[str(row[1])] = time.monotonic()
            else:
                raise RuntimeError(f"a call was not taken: {status}, {said[:500]!r}")
            if is_over.wait(_CALL_SECONDS):
                return

    with stage.serving() as serving:
        warm_up(stage, serving)
        calls = threading.Thread(target=report_calls, args=(serving.port,))
        calls.start()
        try:
            return _run(stage, serving, stage.load(serving, seconds), [publication], called_at=called_at)
        finally:
            is_over.set()
            calls.join()


def read_while_it_breaks(
    stage: Stage, seconds: float, *, list_at: float, n_fewer: int, others: Sequence[Fault]
) -> tuple[Measured, list[Suffered]]:
    """The usual clients while a new list comes out, without the first rows of the old one, and other things break.

    What is right is asked of PostgreSQL before and after, so that only clients are a burden to it.
    """
    publications = [stage.published()]
    committed_at: list[float] = []

    def publish() -> None:
        committed_at.append(stage.hands.publish_without_first(n_fewer))

    faults = sorted([*others, Fault("a new list", list_at, 0.0, publish)], key=lambda fault: fault.after_seconds)
    with stage.serving() as serving:
        warm_up(stage, serving)
        load = stage.load(serving, seconds)
        begins_at = time.monotonic() + load.starting_seconds + 1.0
        written = stage.folder / "told.json"
        clients = start_clients(load, written)
        try:
            cpu_before = serving.cpu_seconds
            struck = strike(faults, starting_at=begins_at)
        except BaseException:
            clients.kill()
            raise
        told = finish_clients(clients, written)
        cpu_seconds = serving.cpu_seconds - cpu_before
    publications += [stage.hands.newest(stage.questions, committed_at=moment) for moment in committed_at]
    return _measured(told, load, judge(told.bodies, load.questions, publications), cpu_seconds), suffered(told, struck)


def compare_with_bare(stage: Stage, n_requests: int) -> Ratio:
    """USUAL from the service, warm, and the same bytes from the bare application, in turn over two connections."""
    key = stage.keys[STANDARD][0]
    with stage.serving() as serving:
        warm_up(stage, serving)
        body = serving.first_answer(USUAL.path, key)[1]
        with bare(stage.folder, body) as plain:
            plain.first_answer("/recommend")
            took: dict[int, list[float]] = {serving.port: [], plain.port: []}
            connections = {port: http.client.HTTPConnection("127.0.0.1", port) for port in took}
            for number in range(n_requests):
                for port, connection in connections.items():
                    started = time.perf_counter()
                    connection.request("GET", USUAL.path, headers={"Authorization": f"Bearer {key}"})
                    answer = connection.getresponse()
                    found = answer.read()
                    if number >= n_requests // 20:
                        took[port].append((time.perf_counter() - started) * 1000)
                    if answer.status != 200 or len(found) != len(body):
                        raise RuntimeError(f"{answer.status} of {len(found)} bytes, expected 200 of {len(body)}")
            for connection in connections.values():
                connection.close()
    of_service, of_bare = took[serving.port], took[plain.port]
    return Ratio(
        len(body),
        statistics.median(of_service),
        float(np.percentile(of_service, 95)),
        statistics.median(of_bare),
        float(np.percentile(of_bare, 95)),
    )


def warm_up(stage: Stage, serving: Serving) -> None:
    """Have every question answered once."""
    for question in dict.fromkeys(stage.questions):
        serving.first_answer(question.path, stage.keys[question.tier][0])


def _run(
    stage: Stage,
    serving: Serving,
    load: Load,
    publications: Sequence[Publication],
    *,
    called_at: dict[str, float] | None = None,
) -> Measured:
    written = stage.folder / "told.json"
    clients = start_clients(load, written)
    cpu_before = serving.cpu_seconds
    told = finish_clients(clients, written)
    cpu_seconds = serving.cpu_seconds - cpu_before
    return _measured(told, load, judge(told.bodies, load.questions, publications, called_at=called_at), cpu_seconds)


def _measured(told: Told, load: Load, verdict: Verdict, cpu_seconds: float) -> Measured:
    kinds = np.bincount(told.kinds, minlength=len(KINDS))
    p50, p95, p99 = np.percentile(told.took_ms, (50, 95, 99)) if told.took_ms else (np.nan,) * 3
    return Measured(
        load.n_users,
        len(told.kinds) / told.seconds,
        float(p50),
        float(p95),
        float(p99),
        {name: float(n) / max(len(told.kinds), 1) for name, n in zip(KINDS, kinds, strict=True)},
        verdict,
        told.broken,
        cpu_seconds / max(verdict.n_answers, 1) * 1000,
        told.cpu_share,
    )
