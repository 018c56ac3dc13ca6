#!/usr/bin/env python3
"""Whether a revision may keep its traffic: the triggers of a rollback, asked of Cloud Monitoring and Cloud Run.

- more than 20 % of the revision's answers were errors (5xx) over the window, which is 15 minutes or longer;
- the 95th percentile of its answers took more than two seconds;
- the three newest executions that train, all since the deployment, failed. Each try of a run is an execution.

Fewer than 30 requests are no measure of either share: the uptime check alone asks /ready up to six times in 15
minutes, which answers 503 before the first list, and the first answer of an instance is slow. The smoke test asks the
revision at each step.

Exit codes: 0 it may; 1 a trigger has fired; 2 nobody could be asked, which deploy.sh takes for a trigger: who cannot
see does not go on. It needs Python and gcloud.
"""
# ruff: noqa: S310, S603, S607, T201 - it asks Google, by addresses of ours and gcloud, and says what it found

import argparse
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from datetime import UTC, datetime, timedelta
from typing import Any

SERVICE = "bandicoot-api"
LARGE_JOB = "bandicoot-run-large"
TRAINING = "weekly_training"
LOOKED_BACK = 100
"""Executions among which trainings are looked for: evaluations and backfills run on the same machines."""
MIN_REQUESTS = 30
MAX_ERROR_SHARE = 0.2
MAX_P95_SECONDS = 2.0
FAILED_TRAININGS = 3
MONITORING = os.environ.get("BANDICOOT_MONITORING_URL", "https://monitoring.googleapis.com")


def gcloud(*arguments: str) -> str:
    """What gcloud prints."""
    return subprocess.run(["gcloud", *arguments], check=True, capture_output=True, text=True, timeout=120).stdout


def time_series(project: str, **query: Any) -> list[dict[str, Any]]:
    """Time series of Cloud Monitoring; asked three times before that is given up."""
    address = f"{MONITORING}/v3/projects/{project}/timeSeries?{urllib.parse.urlencode(query, doseq=True)}"
    request = urllib.request.Request(
        address, headers={"Authorization": f"Bearer {gcloud('auth', 'print-access-token').strip()}"}
    )
    for pause in (5, 20, None):
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.load(answer).get("timeSeries", [])
        except (urllib.error.URLError, TimeoutError, json.JSONDecodeError):
            if pause is None or os.environ.get("BANDICOOT_MONITORING_URL"):
                raise
            time.sleep(pause)
    return []


def asked(metric: str, revision: str, region: str, window: int, **aggregation: str) -> dict[str, Any]:
    """The query for one metric of the revision over the window that ends now, as one point."""
    end = datetime.now(UTC)
    return {
        "filter": (
            f'metric.type="run.googleapis.com/{metric}" AND resource.type="cloud_run_revision" '
            f'AND resource.labels.service_name="{SERVICE}" AND resource.labels.location="{region}" '
            f'AND resource.labels.revision_name="{revision}"'
        ),
        "interval.startTime": (end - timedelta(seconds=window)).isoformat(),
        "interval.endTime": end.isoformat(),
        "aggregation.alignmentPeriod": f"{window}s",
        **{f"aggregation.{name}": value for name, value in aggregation.items()},
    }


def newest(series: dict[str, Any]) -> float:
    """The newest point of a series."""
    value = series["points"][0]["value"]
    return float(value.get("int64Value", value.get("doubleValue", 0)))


def is_training(execution: dict[str, Any]) -> bool:
    """Whether an execution runs the job that trains: the launcher gives it Dagster's run as its last argument."""
    (container, *_) = execution["spec"]["template"]["spec"]["containers"]
    try:
        run = json.loads((container.get("args") or [""])[-1])
    except json.JSONDecodeError:  # a command of the project's own, started by hand
        return False
    return isinstance(run, dict) and (run.get("pipeline_origin") or {}).get("pipeline_name") == TRAINING


def reasons(project: str, region: str, revision: str, window: int, since: datetime) -> list[str]:
    """The triggers that have fired, in words."""
    found = []
    counted = time_series(
        project,
        **asked(
            "request_count",
            revision,
            region,
            window,
            perSeriesAligner="ALIGN_DELTA",
            crossSeriesReducer="REDUCE_SUM",
            groupByFields="metric.labels.response_code_class",
        ),
    )
    by_class = {one["metric"]["labels"]["response_code_class"]: newest(one) for one in counted}
    total, errors = sum(by_class.values()), by_class.get("5xx", 0.0)
    print(f"{total:.0f} requests, {errors:.0f} answered with an error, in {window} seconds")
    if total < MIN_REQUESTS:
        print(f"fewer than {MIN_REQUESTS} say nothing of shares: the smoke test decides")
    elif errors / total > MAX_ERROR_SHARE:
        found.append(f"{errors / total:.0%} of {total:.0f} answers were errors, more than {MAX_ERROR_SHARE:.0%}")
    slow = time_series(
        project,
        **asked(
            "request_latencies",
            revision,
            region,
            window,
            perSeriesAligner="ALIGN_DELTA",
            crossSeriesReducer="REDUCE_PERCENTILE_95",
        ),
    )
    for one in slow:
        seconds = newest(one) / 1000
        print(f"95 % of answers within {seconds:.2f} seconds")
        if total >= MIN_REQUESTS and seconds > MAX_P95_SECONDS:
            found.append(f"the 95th percentile is {seconds:.2f} s, more than {MAX_P95_SECONDS:.0f} s")
    executions = json.loads(
        gcloud(
            *("run", "jobs", "executions", "list", "--job", LARGE_JOB, "--project", project, "--region", region),
            *("--sort-by", "~metadata.creationTimestamp", "--limit", str(LOOKED_BACK), "--format", "json"),
        )
    )
    failed = [
        one["metadata"]["name"]
        for one in [each for each in executions if is_training(each)][:FAILED_TRAININGS]
        if one.get("status", {}).get("failedCount", 0)
        and datetime.fromisoformat(one["metadata"]["creationTimestamp"].replace("Z", "+00:00")) >= since
    ]
    if len(failed) == FAILED_TRAININGS:
        found.append(f"the last {FAILED_TRAININGS} executions of {TRAINING} failed: {', '.join(failed)}")
    return found


def main() -> int:
    """Say what was found; the exit code is the verdict."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("project", "region", "revision"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--window", type=int, default=900, help="seconds looked back")
    parser.add_argument("--since", required=True, help="when the deployment began, in UTC")
    given = parser.parse_args()
    since = datetime.fromisoformat(given.since.replace("Z", "+00:00"))
    try:
        found = reasons(given.project, given.region, given.revision, given.window, since)
    except (OSError, ValueError, KeyError, IndexError, subprocess.SubprocessError) as error:
        print(f"judge.py: {given.revision} could not be judged: {type(error).__name__} {error}", file=sys.stderr)
        return 2
    for reason in found:
        print(f"judge.py: {given.revision}: {reason}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
