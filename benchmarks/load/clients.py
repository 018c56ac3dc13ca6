"""The clients: Locust's users in one process, who read recommendations, keep the time and look at every answer.

`python -m benchmarks.load.clients FILE` reads a load from standard input and writes what was told to FILE. Each text
that comes is parsed once, however often it came again. Times are taken here, around the whole request, because
Locust's own statistics round them.
"""

import json
import logging
import random
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gevent
from locust import constant, task
from locust.contrib.fasthttp import FastHttpUser
from locust.env import Environment

from benchmarks.load.traffic import BROKEN, COLUMNS, KINDS, REFUSED, Body, Load, Question, Told, load_from

_SHAPE = {"code", "message", "details", "request_id"}
_MAX_BROKEN = 20


@dataclass
class _Seen:
    question: int
    n_seen: int
    last_asked_at: float
    kind: int
    metadata: dict[str, Any]
    rows: list[tuple[Any, ...]]


class Notebook:
    """What came, as it came."""

    def __init__(self, questions: tuple[Question, ...]) -> None:
        self._questions = questions
        self._seen: dict[tuple[int, int], _Seen] = {}
        self.measured_from = float("inf")
        self.measured_until = float("inf")
        self.answered_at: list[float] = []
        self.took_ms: list[float] = []
        self.kinds: list[int] = []
        self.broken: list[str] = []

    def note(self, question: int, asked_at: float, status: int, content: bytes | None, error: object) -> None:
        """An answer, or that none came; one that comes after the end is looked at too, but not timed."""
        now = time.monotonic()
        kind = self._kind(question, asked_at, status, content or b"", error)
        if self.measured_from <= asked_at and now <= self.measured_until:
            self.answered_at.append(now)
            self.took_ms.append((now - asked_at) * 1000)
            self.kinds.append(kind)

    def bodies(self) -> list[Body]:
        """Every text that came."""
        return [
            Body(seen.question, seen.n_seen, seen.last_asked_at, seen.metadata, seen.rows)
            for seen in self._seen.values()
        ]

    def _kind(self, question: int, asked_at: float, status: int, content: bytes, error: object) -> int:
        if status == 200:
            seen = self._seen.get((question, hash(content)))
            if seen is None:
                try:
                    seen = _parsed(question, content)
                except (ValueError, KeyError, TypeError) as wrong:
                    return self._broken(f"200, but no answer: {wrong}")
                self._seen[question, hash(content)] = seen
            seen.n_seen += 1
            seen.last_asked_at = max(seen.last_asked_at, asked_at)
            return seen.kind
        if status == 503:
            try:
                if set(json.loads(content)) == _SHAPE:
                    return REFUSED
            except (ValueError, TypeError):
                pass
        after, took = asked_at - self.measured_from, time.monotonic() - asked_at
        return self._broken(f"status {status}, {error or content[:200]!r}, asked at {after:.1f} s, after {took:.1f} s")

    def _broken(self, words: str) -> int:
        if len(self.broken) < _MAX_BROKEN:
            self.broken.append(words)
        return BROKEN


def _parsed(question: int, content: bytes) -> _Seen:
    found = json.loads(content)
    metadata = found["metadata"]
    kind = metadata["tier"]
    if metadata["tier_reason"] == "load":
        kind = "by load"
    elif metadata["tier_reason"] == "database_away":
        kind = "stale"
    rows = [tuple(row[name] for name in COLUMNS) for row in found["recommendations"]]
    return _Seen(question, 0, 0.0, KINDS.index(kind), metadata, rows)


class _Turns:
    """Whose question is next, when each is asked once."""

    def __init__(self, n_questions: int) -> None:
        self._n_questions = n_questions
        self._next = 0

    def take(self) -> int | None:
        taken = self._next
        self._next += 1
        return taken if taken < self._n_questions else None


def main() -> None:
    """Ask for as long as the load says, and write what was told."""
    load = load_from(sys.stdin.read())
    logging.getLogger("locust").setLevel(logging.CRITICAL)  # what fails in a client is said once, at the end
    notebook = Notebook(tuple(load.questions))
    environment = Environment(user_classes=[_user_class(load, notebook)], host=load.addresses[0])
    runner = environment.create_local_runner()
    runner.start(load.n_users, spawn_rate=load.users_per_second)
    gevent.sleep(load.starting_seconds)
    started, cpu_started = time.monotonic(), time.process_time()
    notebook.measured_from = started
    notebook.measured_until = started + load.seconds
    gevent.sleep(load.seconds)
    seconds, cpu_seconds = time.monotonic() - started, time.process_time() - cpu_started
    runner.quit()
    if runner.exceptions:
        raise SystemExit(next(iter(runner.exceptions.values()))["traceback"])
    told = Told(
        notebook.answered_at,
        notebook.took_ms,
        notebook.kinds,
        seconds,
        notebook.bodies(),
        notebook.broken,
        cpu_seconds / seconds,
    )
    Path(sys.argv[1]).write_text(json.dumps(asdict(told)))


def _user_class(load: Load, notebook: Notebook) -> type[FastHttpUser]:
    draw = random.Random(7)  # noqa: S311 - which question comes next
    numbers = range(len(load.questions))
    headers = {tier: [{"Authorization": f"Bearer {key}"} for key in keys] for tier, keys in load.keys.items()}
    paths = [question.path for question in load.questions]
    turns = _Turns(len(load.questions))
    shortest, longest = load.pause_seconds
    places = iter(range(sys.maxsize))

    class Reader(FastHttpUser):
        """A client with one connection, which is kept open."""

        network_timeout = connection_timeout = 40.0
        concurrency = 1
        wait_time = constant(0)

        def __init__(self, environment: Environment) -> None:
            self.number = next(places)
            self.host = load.addresses[self.number % len(load.addresses)]
            super().__init__(environment)

        def on_start(self) -> None:
            """Begin at a moment of its own, so that not all ask at once."""
            gevent.sleep(draw.uniform(0, longest))

        @task
        def read(self) -> None:
            """Ask a question and note the answer."""
            number = turns.take() if load.is_distinct else draw.choice(numbers)
            if number is None:
                gevent.sleep(1)
                return
            of_tier = headers[load.questions[number].tier]
            asked_at = time.monotonic()
            headers_of_one = of_tier[self.number % len(of_tier)]
            answer = self.client.get(paths[number], headers=headers_of_one, name="/recommend")
            notebook.note(number, asked_at, answer.status_code, answer.content, getattr(answer, "error", None))
            gevent.sleep(draw.uniform(shortest, longest))

    return Reader


if __name__ == "__main__":
    main()
