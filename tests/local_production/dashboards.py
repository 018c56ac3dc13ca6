"""What the dashboards of deploy/monitoring ask, panel by panel, and what Grafana makes of it."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

MONITORING = Path(__file__).parents[2] / "deploy" / "monitoring"


@dataclass(frozen=True)
class Asked:
    """One query of one panel."""

    panel: str
    source: str
    text: str


def panels() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every panel of every dashboard, with the dashboard's file."""
    for path in sorted((MONITORING / "grafana" / "dashboards").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            yield path.stem, panel


def queries() -> list[Asked]:
    """Every query, in SQL or PromQL, as it stands in the file."""
    return [
        Asked(f"{name}: {panel['title']}", target["datasource"]["uid"], target.get("rawSql") or target["expr"])
        for name, panel in panels()
        for target in panel.get("targets", [])
    ]


def rules() -> list[Asked]:
    """Every alert's expression."""
    groups = yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"]
    return [Asked(rule["alert"], "prometheus", rule["expr"]) for group in groups for rule in group["rules"]]


def as_sent(query: str, *, days: int = 60) -> str:
    """A query with Grafana's macros as Grafana replaces them, for the last days."""
    until = datetime.now(UTC) + timedelta(days=1)
    earliest, latest = (f"'{at:%Y-%m-%dT%H:%M:%SZ}'" for at in (until - timedelta(days=days), until))
    query = re.sub(r"\$__timeFilter\(([^)]*)\)", rf"\1 BETWEEN {earliest} AND {latest}", query)
    return query.replace("$__timeFrom()", earliest).replace("$__timeTo()", latest)


def names_in(expression: str) -> tuple[set[str], set[str]]:
    """The metrics and the labels that a PromQL expression names."""
    text = re.sub(r"\[[^\]]*\]", "", re.sub(r'"[^"]*"', '""', expression))
    matchers = re.findall(r"\{([^}]*)\}", text)
    grouped = re.findall(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)", text)
    labels = {label for part in matchers for label in re.findall(r"(\w+)\s*[=!]", part)}
    labels |= {label for part in grouped for label in re.findall(r"\w+", part)}
    text = re.sub(
        r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", " ", re.sub(r"\{[^}]*\}", " ", text)
    )
    words = set(re.findall(r"\b[A-Za-z_:]\w*\b(?!\s*\()", text))
    return words - {"and", "or", "unless", "bool", "offset"}, labels
