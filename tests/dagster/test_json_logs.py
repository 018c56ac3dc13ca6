"""Logs as JSON, as processes of their own write them: runs with Dagster's own console, and the command line."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from bandicoot_core.settings import Settings
from bandicoot_core.stores.installation import Installation
from bandicoot_dagster.dagster_home import prepare_environment
from bandicoot_dagster.json_lines import json_formatter

_PASSWORD = "hunter2-in-the-url"
PROJECT = Path(__file__).parents[2]


@pytest.fixture
def stores(published_url: str, tmp_path: Path) -> Iterator[Installation]:
    """An installation in which nothing has happened yet."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
        patch.setenv("BANDICOOT_DAGSTER_STORAGE", "")
        installation = Installation(Settings(home=tmp_path, database_url=SecretStr(published_url)))
        installation.prepare()
        prepare_environment(installation)
        yield installation


def lines(stores: Installation, *command: str, log_format: str = "json") -> tuple[int, list[str]]:
    """The exit code of a command on the installation, and what it wrote to standard error."""
    settings = stores.settings
    assert settings.database_url is not None
    done = subprocess.run(
        # Dagster's command would rather be another one, and says so outside the log.
        [sys.executable, "-W", "ignore:Function", "-m", *command],
        env=os.environ
        | {
            "BANDICOOT_HOME": str(settings.home),
            "BANDICOOT_DATABASE_URL": settings.database_url.get_secret_value(),
            "BANDICOOT_LOG_FORMAT": log_format,
            "BANDICOOT_ALARM_SMTP_URL": f"smtp://alarms:{_PASSWORD}@mail.example.org",
            "BANDICOOT_ALARM_EMAIL_FROM": "from@example.org",
            "BANDICOOT_ALARM_EMAIL_TO": '["to@example.org"]',
        },
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return done.returncode, done.stderr.splitlines()


def materialize(stores: Installation, asset: str, partition: str) -> tuple[int, list[dict[str, Any]]]:
    command = ("dagster", "asset", "materialize", "-m", "bandicoot_dagster.definitions")
    code, written = lines(stores, *command, "--select", asset, "--partition", partition)
    if code != 0:
        assert written.pop() == "Error: Materialization failed."  # the command's, to a person
    return code, [json.loads(line) for line in written]


def test_every_line_of_a_run_is_json_that_names_run_asset_and_partition(stores: Installation) -> None:
    code, written = materialize(stores, "cost_report", "2026-11-18")
    assert code == 0
    (made,) = [line for line in written if line.get("event") == "ASSET_MATERIALIZATION"]
    assert made["asset"] == "cost_report"
    assert made["partition"] == "2026-11-18"
    assert made["step"] == "cost_report"
    assert made["severity"] == "DEBUG"
    assert datetime.fromisoformat(made["at"]).utcoffset() is not None
    assert {line["run_id"] for line in written if "event" in line} == {made["run_id"]}
    (started,) = [line for line in written if line.get("event") == "STEP_START"]
    assert (started["asset"], started["partition"]) == ("cost_report", "2026-11-18")


def test_a_run_that_fails_names_the_class_of_its_error_and_shows_the_stack(stores: Installation) -> None:
    code, written = materialize(stores, "coverage_report", "2024-01-07")
    assert code != 0
    (failed,) = [line for line in written if line.get("event") == "STEP_FAILURE"]
    assert failed["severity"] == "ERROR"
    assert failed["asset"] == "coverage_report"
    assert failed["error_class"] == "NoChampionError"
    assert "Traceback" in failed["stack"] or "File " in failed["stack"]


def test_the_command_line_tells_its_progress_and_its_refusals_as_json(stores: Installation) -> None:
    code, written = lines(stores, "bandicoot_dagster.cli", "evaluate", "coverage", "--week", "2024-01-07")
    assert code == 6
    entries = [json.loads(line) for line in written]
    assert entries[0]["message"] == "coverage_report: 2024-01-07 (not made yet, or to be made again)"
    assert [line["asset"] for line in entries if line.get("event") == "STEP_START"] == ["coverage_report"]
    assert entries[-1]["severity"] == "ERROR"
    assert entries[-1]["error_class"] == "NoChampionError"
    code, (usage,) = lines(stores, "bandicoot_dagster.cli", "evaluate", "nothing")
    assert code == 2
    assert json.loads(usage)["error_class"] == "BadParameter"


def test_logs_are_text_unless_asked_for_otherwise(stores: Installation) -> None:
    code, written = lines(stores, "bandicoot_dagster.cli", "evaluate", "nothing", log_format="text")
    assert code == 2
    assert written[0].startswith("Usage:")
    code, written = lines(stores, "bandicoot_dagster.cli", "status", log_format="yaml")
    assert code == 3
    assert written[0].startswith("bandicoot: invalid setting: log_format (found 'yaml')")


def test_a_password_stands_in_no_field() -> None:
    try:
        raise RuntimeError(f"no route to smtp://alarms:{_PASSWORD}@mail")
    except RuntimeError:
        record = logging.LogRecord("a", logging.ERROR, __file__, 1, "with %s", (_PASSWORD,), sys.exc_info())
    line = json.loads(json_formatter(secrets=[_PASSWORD]).format(record))
    assert line["message"] == "with ***"
    assert "smtp://alarms:***@mail" in line["stack"]
    assert line["error_class"] == "RuntimeError"


@pytest.mark.parametrize(("name", "field"), [("alarms", "sensor"), ("nightly_schedule", "schedule")])
def test_what_a_tick_logs_names_its_sensor_or_schedule(name: str, field: str) -> None:
    record = logging.LogRecord("dagster", logging.INFO, __file__, 1, f"repository - {name} - looked", (), None)
    record.dagster_meta = {"repository_name": "repository", "name": name, "orig_message": "looked"}
    line = json.loads(json_formatter().format(record))
    assert line[field] == name
    assert line["message"] == "looked"
