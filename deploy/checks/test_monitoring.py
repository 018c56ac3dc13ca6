"""Prometheus accepts its configuration and rules, each alert was seen firing, and each panel's query can be read.

That metrics are exported and SQL runs on the real tables is tried by tests/local_production.
"""

import json
import re
import runpy
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

MONITORING = Path(__file__).parents[1] / "monitoring"
DASHBOARDS = sorted((MONITORING / "grafana" / "dashboards").glob("*.json"))
GET_PROMTOOL = "apt-get install prometheus"
RULES = [
    rule for group in yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"] for rule in group["rules"]
]


@pytest.fixture
def promtool(tool: Callable[[str, str], str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run promtool in the folder of the rules."""
    program = tool("promtool", GET_PROMTOOL)

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([program, *words], cwd=MONITORING, capture_output=True, text=True, check=False)

    return run


def panels() -> list[tuple[str, dict[str, Any]]]:
    return [(path.stem, panel) for path in DASHBOARDS for panel in json.loads(path.read_text())["panels"]]


def test_prometheus_accepts_its_configuration(promtool: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = promtool("check", "config", "prometheus.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(RULES)} rules found" in done.stdout


def test_alerts_fire_when_they_should(promtool: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = promtool("test", "rules", "alerts_test.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_is_tried_firing() -> None:
    cases = yaml.safe_load((MONITORING / "alerts_test.yaml").read_text())["tests"]
    tried = {each["alertname"] for case in cases for each in case["alert_rule_test"] if each["exp_alerts"]}
    assert tried == {rule["alert"] for rule in RULES}


# Which test breaks when a threshold is moved: a rule that is wrong has to be noticed.
@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("> 0.05", "> 0.07"),
        ("> 0.05", "> 0.04"),
        (
            "le) (\n            rate(bandicoot_api_request_seconds_bucket",
            "le) (\n            rate(bandicoot_api_request_bytes_bucket",
        ),
        (")) > 1\n", ")) > 2\n"),
        ("26 * 3600", "24 * 3600"),
        ("bandicoot_api_database_away) == 1\n        for: 2m", "bandicoot_api_database_away) == 1\n        for: 0m"),
        ("> 0.1\n", "> 0.01\n"),
        ("[10m])) > 20", "[10m])) > 2"),
        ("cold_start_seconds > 20", "cold_start_seconds > 2"),
        (">= 3", ">= 1"),
    ],
)
def test_a_wrong_threshold_is_noticed(right: str, wrong: str, tmp_path: Path, tool: Callable[[str, str], str]) -> None:
    rules = (MONITORING / "alerts.yaml").read_text()
    assert right in rules
    (tmp_path / "alerts.yaml").write_text(rules.replace(right, wrong, 1))
    (tmp_path / "alerts_test.yaml").write_text((MONITORING / "alerts_test.yaml").read_text())
    command = [tool("promtool", GET_PROMTOOL), "test", "rules", "alerts_test.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1, f"{wrong} passes the rules' tests"


def test_each_query_of_a_panel_can_be_read(
    tmp_path: Path, promtool: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    queries = [target["expr"] for _, panel in panels() for target in panel.get("targets", []) if "expr" in target]
    assert len(queries) > 10
    rules = [
        {"record": f"panel:{number}", "expr": query.replace("$__rate_interval", "1m")}
        for number, query in enumerate(queries)
    ]
    assert not any("$" in rule["expr"] for rule in rules), "a macro is left that this test does not know"
    (tmp_path / "panels.yaml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    done = promtool("check", "rules", str(tmp_path / "panels.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_five_dashboards_are_what_their_questions_make() -> None:
    made = runpy.run_path(str(MONITORING / "grafana" / "make_dashboards.py"))
    assert {path.stem for path in DASHBOARDS} == {"system", "pipeline", "model", "experiment", "cost"}
    for path in DASHBOARDS:
        assert path.read_text() == made["rendered"](path.stem), f"run make_dashboards.py: {path.name} is another"


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_panels_of_a_dashboard_do_not_lie_over_each_other(path: Path) -> None:
    board = json.loads(path.read_text())
    places = [panel["gridPos"] for panel in board["panels"]]
    cells = [
        (x, y) for at in places for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in board["panels"]}) == len(places)


def test_each_alert_and_dashboard_is_explained() -> None:
    guide = (MONITORING.parents[1] / "docs" / "monitoring.md").read_text()
    for rule in RULES:
        assert re.search(rf"^\| `{rule['alert']}` \|", guide, re.MULTILINE), f"docs/monitoring.md lacks {rule['alert']}"
    for path in DASHBOARDS:
        assert re.search(rf"^\| {json.loads(path.read_text())['title']} \|", guide, re.MULTILINE)
