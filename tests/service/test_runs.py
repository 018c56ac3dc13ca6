"""Training that is started over HTTP, on a real Dagster: a webserver, a code server and the run queue."""

import asyncio
import json
import logging
import socket
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from fastapi.testclient import TestClient

from bandicoot_api.dagster_runs import DagsterRefusedError, DagsterRuns
from bandicoot_core.contracts import WHITTLE_INDICES
from bandicoot_core.stores.published.api_keys import parse_key
from tests.servers.dagster import DagsterServer
from tests.servers.processes import free_port
from tests.service.conftest import Site

WEEK = "2026-11-08"
PATIENCE_SECONDS = 120


@pytest.fixture
def queued(trained: Site, dagster: DagsterServer) -> Iterator[Site]:
    """The site while runs stay in the queue; those that are there at the end are taken from it."""
    with dagster.queue_paused():
        yield trained
        dagster.end_queued_runs()


def under_way(site: Site) -> list[tuple[str, str]]:
    """Runs that have not ended: id and job."""
    return [
        (str(run_id), str(job))
        for run_id, job in site.execute(
            "SELECT run_id, pipeline_name FROM dagster.runs WHERE status NOT IN ('SUCCESS', 'FAILURE', 'CANCELED')"
        )
    ]


def ended(client: TestClient, location: str) -> dict:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (job := client.get(location).json())["is_over"]:
        assert time.monotonic() < deadline, job
        time.sleep(0.2)
    return job


def client_of(site: Site, dagster: DagsterServer, *scopes: str, **options: object) -> TestClient:
    return site.client(*(scopes or ("admin", "read")), api_dagster_url=dagster.url, **options)


def audited(log: pytest.LogCaptureFixture) -> list[dict]:
    lines = [json.loads(record.getMessage()) for record in log.records if record.name == "bandicoot_api.audit"]
    return [line for line in lines if line["audit"] == "admin"]


def test_indices_are_made_again_and_the_run_is_followed_to_its_end(trained: Site, dagster: DagsterServer) -> None:
    lake = trained.stores.lake
    champion = "SELECT model_version FROM bandicoot.model_versions WHERE status = 'champion'"
    model, indices = trained.execute(champion), lake.read(WHITTLE_INDICES, "whittle_indices", WEEK)
    client, other = client_of(trained, dagster), client_of(trained, dagster)
    started = client.post("/precompute_indices")
    assert started.status_code == 202, started.text
    run_id = started.json()["run_id"]
    assert started.json() == {"run_id": run_id, "job": "precompute_indices", "week": WEEK}
    assert started.headers["Location"] == f"/jobs/{run_id}"
    refused = other.post("/precompute_indices")
    assert (refused.status_code, refused.json()["code"]) == (409, "already_running")
    assert refused.json()["details"] == {"run_id": run_id}
    job = ended(client, started.headers["Location"])
    assert (job["status"], job["failed_steps"], job["week"]) == ("SUCCESS", [], WEEK)
    assert job["created_at"] <= job["started_at"] <= job["ended_at"]
    assert job["created_at"].endswith("Z")
    made = trained.execute(
        "SELECT DISTINCT asset_key FROM dagster.event_logs WHERE run_id = %s "
        "AND dagster_event_type = 'ASSET_MATERIALIZATION'",
        run_id,
    )
    assert {json.loads(str(row[0]))[0] for row in made} == {"transition_models", "whittle_indices", "model_version"}
    assert trained.execute(champion) == model
    assert lake.read(WHITTLE_INDICES, "whittle_indices", WEEK).equals(indices)


def test_a_run_that_fails_says_at_which_step(trained: Site, dagster: DagsterServer) -> None:
    client = client_of(trained, dagster)
    started = client.post("/precompute_indices", json={"week": "2026-10-04"})
    assert started.status_code == 202, started.text
    job = ended(client, started.headers["Location"])
    assert (job["status"], job["failed_steps"], job["week"]) == ("FAILURE", ["transition_models"], "2026-10-04")


def test_training_is_the_weekly_job_and_says_in_dagster_who_asked(queued: Site, dagster: DagsterServer) -> None:
    client = client_of(queued, dagster)
    started = client.post("/train_clusters", json={"week": "2026-11-01"})
    assert started.status_code == 202, started.text
    run_id = started.json()["run_id"]
    assert under_way(queued) == [(run_id, "weekly_training")]
    job = client.get(f"/jobs/{run_id}").json()
    assert (job["job"], job["week"], job["status"], job["is_over"]) == (
        "weekly_training",
        "2026-11-01",
        "QUEUED",
        False,
    )
    assert (job["started_at"], job["ended_at"]) == (None, None)
    [(asked_by,)] = queued.execute(
        "SELECT value FROM dagster.run_tags WHERE run_id = %s AND key = 'bandicoot/asked_by'", run_id
    )
    [(name,)] = queued.execute("SELECT client FROM bandicoot.api_keys WHERE key_id = %s", key_id(client))
    assert asked_by == f"{name} ({key_id(client)})"


def test_of_two_services_that_start_at_the_same_moment_one_does(queued: Site, dagster: DagsterServer) -> None:
    clients = [client_of(queued, dagster, api_trainings_per_hour=10) for _ in range(2)]
    for _ in range(3):
        with ThreadPoolExecutor(2) as threads:
            answers = list(threads.map(lambda client: client.post("/train_clusters"), clients))
        assert sorted(answer.status_code for answer in answers) == [202, 409], [each.text for each in answers]
        winner, loser = sorted(answers, key=lambda answer: answer.status_code)
        assert loser.json()["details"]["run_id"] == winner.json()["run_id"]
        assert under_way(queued) == [(winner.json()["run_id"], "weekly_training")]
        dagster.end_queued_runs()


def test_the_one_job_keeps_the_other_out_for_both_write_the_same(queued: Site, dagster: DagsterServer) -> None:
    client = client_of(queued, dagster, api_trainings_per_hour=2)
    started = client.post("/train_clusters")
    assert started.status_code == 202
    refused = client.post("/precompute_indices")
    assert (refused.status_code, refused.json()["details"]) == (409, {"run_id": started.json()["run_id"]})
    assert "weekly_training is running" in refused.json()["message"]


def test_a_key_starts_one_run_an_hour_and_a_refused_start_does_not_count(queued: Site, dagster: DagsterServer) -> None:
    client = client_of(queued, dagster)
    elder = client_of(queued, dagster).post("/train_clusters")
    assert elder.status_code == 202, elder.text
    assert [client.post("/train_clusters").status_code for _ in range(2)] == [409, 409]
    assert client.post("/train_clusters", json={"week": "tomorrow"}).status_code == 422
    dagster.end_queued_runs()
    assert client.post("/precompute_indices").status_code == 202
    refused = client.post("/train_clusters")
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_requests")
    assert 0 < int(refused.headers["Retry-After"]) <= 3600


def test_what_a_key_has_started_counts_in_every_process_and_what_it_was_refused_in_none(
    cached_site: Site, queued: Site, dagster: DagsterServer
) -> None:
    first = client_of(cached_site, dagster)
    second = client_of(cached_site, dagster)
    second.headers["Authorization"] = first.headers["Authorization"]
    assert first.post("/train_clusters", json={"week": "2026-11-09"}).status_code == 422
    assert second.post("/train_clusters", json={"week": "2026-11-09"}).status_code == 422
    started = first.post("/train_clusters")
    assert started.status_code == 202, started.text
    assert second.post("/train_clusters").status_code == 429
    assert [run_id for run_id, _ in under_way(queued)] == [started.json()["run_id"]]


def test_refused_starts_are_bounded_too(trained: Site, dagster: DagsterServer) -> None:
    client = client_of(trained, dagster, api_reads_per_minute=2)
    answers = [client.post("/train_clusters", json={"week": "2026-11-09"}).status_code for _ in range(3)]
    assert answers == [422, 422, 429]


@pytest.mark.parametrize("scopes", [("read",), ("call",), ("read", "call")])
def test_only_a_key_for_it_starts_training(queued: Site, dagster: DagsterServer, scopes: tuple[str, ...]) -> None:
    client = client_of(queued, dagster, *scopes)
    for address in ("/train_clusters", "/precompute_indices"):
        refused = client.post(address)
        assert (refused.status_code, refused.json()["details"]) == (403, {"scope": "admin"})
    assert under_way(queued) == []


def test_a_start_and_a_refusal_are_written_into_the_audit(
    queued: Site, dagster: DagsterServer, caplog: pytest.LogCaptureFixture
) -> None:
    client = client_of(queued, dagster)
    with caplog.at_level(logging.INFO, logger="bandicoot_api.audit"):
        run_id = client.post("/train_clusters").json()["run_id"]
        other = client_of(queued, dagster)
        other.post("/train_clusters")
        other.post("/train_clusters", json={"week": "2026-11-22"})
        other.post("/train_clusters", json={"week": "tomorrow"})
        other.post("/train_clusters", content=b"x" * 1_000_000)
        client.post("/train_clusters")
    started, refused, invalid, unread, too_often = audited(caplog)
    assert (unread["result"], unread["status"], unread["route"]) == ("refused", 422, "/train_clusters")
    assert (too_often["key_id"], too_often["status"], too_often["limit"]) == (key_id(client), 429, 1)
    assert (started["key_id"], started["route"], started["job"], started["week"], started["result"]) == (
        key_id(client),
        "/train_clusters",
        "weekly_training",
        WEEK,
        "started",
    )
    assert started["run_id"] == run_id
    assert (refused["key_id"], refused["result"], refused["code"], refused["run_id"]) == (
        key_id(other),
        "refused",
        "already_running",
        run_id,
    )
    assert (invalid["result"], invalid["status"]) == ("refused", 422)


@pytest.mark.parametrize(
    ("week", "problem"),
    [
        ("2026-11-09", "2026-11-09 is a Monday"),
        ("2026-11-15", "the newest that has is 2026-11-08"),
        ("2023-12-31", "its partitions are from 2024-01-07"),
        ("0001-01-01", "0001-01-01 is a Monday"),
        ("0001-01-07", "its partitions are from 2024-01-07"),
        ("soon", "body.week"),
    ],
)
def test_a_week_that_cannot_be_trained_is_refused_with_the_reason(
    queued: Site, dagster: DagsterServer, week: str, problem: str
) -> None:
    refused = client_of(queued, dagster).post("/train_clusters", json={"week": week})
    assert refused.status_code == 422, refused.text
    assert problem in refused.json()["message"]
    assert under_way(queued) == []


def test_a_run_that_nobody_started_here_is_not_found(trained: Site, dagster: DagsterServer) -> None:
    client = client_of(trained, dagster, "read")
    [(other_job,), *_] = trained.execute("SELECT run_id FROM dagster.runs WHERE pipeline_name = 'daily_list'")
    for run_id in (uuid.uuid4(), other_job):
        refused = client.get(f"/jobs/{run_id}")
        assert (refused.status_code, refused.json()["code"]) == (404, "not_found")
    assert client.get("/jobs/latest").status_code == 422


def test_a_job_that_dagster_does_not_have_is_refused(dagster: DagsterServer) -> None:
    async def start() -> str:
        runs = DagsterRuns(dagster.url, timeout_seconds=10)
        try:
            return await runs.start("train_everything")
        finally:
            await runs.close()

    with pytest.raises(DagsterRefusedError, match="no code location of Dagster has a job train_everything"):
        asyncio.run(start())


def test_without_dagster_training_cannot_be_started(site: Site) -> None:
    client = site.client("admin", "read")
    for answer in (client.post("/train_clusters"), client.get(f"/jobs/{uuid.uuid4()}")):
        assert (answer.status_code, answer.json()["code"]) == (503, "not_configured")


def test_while_dagsters_webserver_is_away_a_start_is_refused_and_not_counted(site: Site) -> None:
    url = f"http://someone:s3cret@127.0.0.1:{free_port()}"
    client = site.client("admin", "read", api_dagster_url=url)
    for answer in (*(client.post("/train_clusters") for _ in range(3)), client.get(f"/jobs/{uuid.uuid4()}")):
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert "Retry-After" in answer.headers
        assert "s3cret" not in answer.text


def test_a_webserver_that_hangs_is_not_waited_for_longer_than_half_a_request(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        client = site.client("admin", api_dagster_url=url, api_timeout_seconds=2)
        began = time.monotonic()
        refused = client.post("/train_clusters")
        assert time.monotonic() - began < 1.9
    assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")


def test_a_server_that_is_not_dagsters_is_told_from_it(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    asked: list[str | None] = []

    class Stranger(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.headers["Authorization"])
            self.send_response(404)
            self.end_headers()
            self.wfile.write(b"<html>nothing here</html>")

    with ThreadingHTTPServer(("127.0.0.1", 0), Stranger) as stranger, caplog.at_level(logging.INFO):
        Thread(target=stranger.serve_forever, daemon=True).start()
        url = f"http://someone:s3cret@127.0.0.1:{stranger.server_port}/dagster/"
        refused = site.client("admin", api_dagster_url=url).post("/train_clusters")
        stranger.shutdown()
    assert refused.status_code == 503
    assert "(HTTP 404) at BANDICOOT_API_DAGSTER_URL is not Dagster's webserver" in refused.json()["message"]
    assert asked == ["Basic c29tZW9uZTpzM2NyZXQ="]
    assert "s3cret" not in caplog.text


def key_id(client: TestClient) -> str:
    """The public part of a client's key."""
    parsed = parse_key(str(client.headers["Authorization"]).removeprefix("Bearer "))
    assert parsed is not None
    return parsed[0]
