"""Alert policies and dashboard: every filter names what there is, in a way that can be calculated."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from google.cloud.monitoring_dashboard_v1.types import Dashboard
from google.protobuf import json_format
from planned import Resources, of_kind, profiles

from deploy import cost

KNOWN: dict[str, Any] = json.loads((Path(__file__).parent / "cloud_metrics.json").read_text())
OF_LOGS = "logging.googleapis.com/user/"

# What an aligner takes and gives, as Cloud Monitoring's reference of `Aligner` says; None gives what it got.
_NUMBERS = {"INT64", "DOUBLE"}
ALIGNERS: dict[str, tuple[set[str], set[str], str | None]] = {
    "ALIGN_DELTA": ({"DELTA", "CUMULATIVE"}, _NUMBERS | {"DISTRIBUTION"}, None),
    "ALIGN_RATE": ({"DELTA", "CUMULATIVE"}, _NUMBERS, "DOUBLE"),
    "ALIGN_NEXT_OLDER": ({"GAUGE"}, _NUMBERS | {"BOOL", "DISTRIBUTION"}, None),
    "ALIGN_MAX": ({"GAUGE", "DELTA"}, _NUMBERS, None),
    "ALIGN_MEAN": ({"GAUGE", "DELTA"}, _NUMBERS, "DOUBLE"),
    "ALIGN_SUM": ({"GAUGE", "DELTA"}, _NUMBERS | {"DISTRIBUTION"}, None),
    "ALIGN_FRACTION_TRUE": ({"GAUGE"}, {"BOOL"}, "DOUBLE"),
}
REDUCERS: dict[str | None, tuple[set[str], str | None]] = {
    None: (_NUMBERS, None),
    "REDUCE_NONE": (_NUMBERS, None),
    "REDUCE_SUM": (_NUMBERS | {"DISTRIBUTION"}, None),
    "REDUCE_MAX": (_NUMBERS, None),
    "REDUCE_MEAN": (_NUMBERS | {"DISTRIBUTION"}, "DOUBLE"),
    "REDUCE_PERCENTILE_95": (_NUMBERS | {"DISTRIBUTION"}, "DOUBLE"),
    "REDUCE_COUNT_FALSE": ({"BOOL"}, "INT64"),
}


@dataclass(frozen=True)
class Query:
    """What a condition or a chart asks for, and where it stands."""

    where: str
    filter: str
    aligner: str
    reducer: str | None
    by: tuple[str, ...]


def queries(planned: Resources) -> Iterator[Query]:
    """Every question that is asked of Cloud Monitoring."""
    for address, policy in of_kind(planned, "monitoring_alert_policy").items():
        for condition in policy["conditions"]:
            (told,) = condition["condition_threshold"] or condition["condition_absent"]
            asked = [(told["filter"], told["aggregations"])]
            if told.get("denominator_filter"):
                asked.append((told["denominator_filter"], told["denominator_aggregations"]))
            for text, (how,) in asked:
                by = tuple(how["group_by_fields"] or ())
                yield Query(address, text, how["per_series_aligner"], how["cross_series_reducer"], by)
    (dashboard,) = of_kind(planned, "monitoring_dashboard").values()
    for tile in json.loads(dashboard["dashboard_json"])["mosaicLayout"]["tiles"]:
        (data,) = tile["widget"]["xyChart"]["dataSets"]
        asked_for = data["timeSeriesQuery"]["timeSeriesFilter"]
        how = asked_for["aggregation"]
        by = tuple(how["groupByFields"])
        title = tile["widget"]["title"]
        yield Query(title, asked_for["filter"], how["perSeriesAligner"], how["crossSeriesReducer"], by)


def faults(query: Query, of_logs: set[str]) -> list[str]:
    """What Cloud Monitoring would not take, or never find anything for."""
    terms = {}
    for term in query.filter.split(" AND "):
        found = re.fullmatch(r'([\w.]+) = (?:\w+\()?"([^"]*)"\)?', term)
        if found is None:
            return [f"{term!r} cannot be read"]
        terms[found[1]] = found[2]
    resource, metric = terms.pop("resource.type", ""), terms.pop("metric.type", "")
    if metric.startswith(OF_LOGS):
        if metric.removeprefix(OF_LOGS) not in of_logs:
            return [f"no metric of logs is made that is called {metric}"]
        known = {"kind": "DELTA", "value": "INT64", "resources": list(KNOWN["resources"]), "labels": []}
    elif metric not in KNOWN["metrics"]:
        return [f"{metric} is not in cloud_metrics.json"]
    else:
        known = KNOWN["metrics"][metric]
    said = [] if resource in known["resources"] else [f"{metric} is not of {resource!r}"]
    labels = {f"metric.labels.{name}" for name in known["labels"]}
    labels |= {f"resource.labels.{name}" for name in KNOWN["resources"].get(resource, ())}
    named = [*terms, *(name.replace(".label.", ".labels.") for name in query.by)]
    said += [f"{metric} of {resource} has no {name}" for name in named if name not in labels]
    kinds, values, aligned = ALIGNERS[query.aligner]
    if known["kind"] not in kinds or known["value"] not in values:
        return [*said, f"{query.aligner} takes no {known['kind']} of {known['value']}"]
    takes, gives = REDUCERS[query.reducer]
    aligned = aligned or known["value"]
    if aligned not in takes:
        said.append(f"{query.reducer} takes no {aligned}")
    elif (gives or aligned) not in _NUMBERS:
        said.append(f"{gives or aligned} is no number to compare or draw")
    return said


@profiles
def test_every_filter_names_a_metric_of_google_and_is_calculated_as_its_kind_allows(
    known_plans: Callable[..., Resources], profile: str
) -> None:
    planned = known_plans(profile)
    made = {each["name"] for each in of_kind(planned, "logging_metric").values()}
    asked = list(queries(planned))
    assert len(asked) > 18
    found = {query.where: faults(query, made) for query in asked}
    assert {where: said for where, said in found.items() if said} == {}
    watched = {name for query in asked for name in re.findall(f"{OF_LOGS}([\\w/]+)", query.filter)}
    assert watched == made


def test_the_table_of_metrics_has_none_that_nobody_asks_for(known_plans: Callable[..., Resources]) -> None:
    asked = {re.findall(r'metric.type = "([^"]+)"', query.filter)[0] for query in queries(known_plans("safe"))}
    assert set(KNOWN["metrics"]) <= asked


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (
            {"filter": 'resource.type = "cloud_run_job" AND metric.type = "run.googleapis.com/runs"'},
            "not in cloud_metrics",
        ),
        (
            {"filter": 'resource.type = "gce_instance" AND metric.type = "run.googleapis.com/request_count"'},
            "is not of",
        ),
        ({"by": ("metric.label.code",)}, "has no metric.labels.code"),
        ({"aligner": "ALIGN_FRACTION_TRUE"}, "takes no DELTA of INT64"),
        ({"reducer": "REDUCE_COUNT_FALSE"}, "takes no INT64"),
        ({"filter": 'resource.type = "gce_instance" AND metric.type = "logging.googleapis.com/user/x"'}, "called"),
    ],
)
def test_a_filter_that_is_wrong_is_found(broken: dict[str, Any], said: str) -> None:
    right = 'resource.type = "cloud_run_revision" AND metric.type = "run.googleapis.com/request_count"'
    query = {"where": "here", "filter": right, "aligner": "ALIGN_DELTA", "reducer": "REDUCE_SUM", "by": ()}
    assert faults(Query(**query), set()) == []
    assert said in str(faults(Query(**(query | broken)), set()))


@profiles
def test_the_dashboard_is_one_that_cloud_monitoring_takes(known_plans: Callable[..., Resources], profile: str) -> None:
    (dashboard,) = of_kind(known_plans(profile), "monitoring_dashboard").values()
    parsed = json_format.ParseDict(json.loads(dashboard["dashboard_json"]), Dashboard.pb(Dashboard()))
    titles = [tile.widget.title for tile in parsed.mosaic_layout.tiles]
    assert ("Memory of Redis, share" in titles) == (profile == "safe")
    assert ("List fresh and service ready, share of checks" in titles) == (profile != "development")
    assert "Incidents opened" in titles
    connections = 50 if profile == "safe" else 200
    assert f"Connections to PostgreSQL, of {connections}" in titles
    places = [(tile.x_pos, tile.y_pos) for tile in parsed.mosaic_layout.tiles]
    assert len(set(places)) == len(places)


def test_metrics_of_logs_are_there_before_what_watches_them(plans: Callable[..., Resources]) -> None:
    """Cloud Monitoring knows a new one after minutes, and refuses a policy until then."""
    first = plans("lean", image=None)
    assert len(of_kind(first, "logging_metric")) == 3
    assert of_kind(first, "monitoring_alert_policy") == {}


def test_a_late_list_alone_does_not_look_like_a_broken_service(known_plans: Callable[..., Resources]) -> None:
    planned = known_plans("lean")
    policies = of_kind(planned, "monitoring_alert_policy")
    (errors,) = [each for each in policies.values() if each["display_name"] == "Bandicoot: service answers with errors"]
    assert errors["combiner"] == "AND"
    share, count = (each["condition_threshold"][0] for each in errors["conditions"])
    assert (share["threshold_value"], share["duration"]) == (0.05, "300s")
    assert (count["aggregations"][0]["alignment_period"], count["comparison"]) == ("300s", "COMPARISON_GT")
    (check,) = of_kind(planned, "monitoring_uptime_check_config").values()
    # Three places in the USA, one in each of the others; all may ask in the same five minutes.
    n_places = sum(3 if region == "USA" else 1 for region in check["selected_regions"])
    assert count["threshold_value"] > n_places * max(1, 300 // int(check["period"].removesuffix("s")))


@pytest.mark.parametrize(("profile", "most"), [("lean", 180), ("safe", 45)])
def test_a_shared_database_is_watched_like_ones_own(
    known_plans: Callable[..., Resources], profile: str, most: int
) -> None:
    policies = of_kind(known_plans(profile), "monitoring_alert_policy").values()
    (told,) = [
        each["conditions"][0]["condition_threshold"][0] for each in policies if "connections" in each["display_name"]
    ]
    assert told["threshold_value"] == most
    instance = "programme" if profile == "lean" else "bandicoot"
    assert f'resource.labels.database_id = "some-project:{instance}"' in told["filter"]


@pytest.mark.parametrize(
    ("phrase", "where"),
    [
        ("was not told by", "bandicoot_core/pipeline/alarms.py"),
        (" incidents opened", "bandicoot_dagster/alarm_sensor.py"),
        ('name="alarms"', "bandicoot_dagster/alarm_sensor.py"),
    ],
)
def test_what_is_looked_for_in_logs_is_logged(phrase: str, where: str) -> None:
    assert phrase in (cost.DEPLOY.parent / where).read_text()
