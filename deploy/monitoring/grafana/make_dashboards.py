"""Writes the five dashboards beside this file, from the questions they answer.

    python deploy/monitoring/grafana/make_dashboards.py

A panel is a title, a query and a unit; what Grafana wants around it is made here. Queries in SQL run as the role
bandicoot_watcher, which can name no caregiver. Layout: two panels in a row, the order is the reading order.
"""

# Queries are put together from constants of this file alone.
# ruff: noqa: S608

import json
from pathlib import Path
from typing import Any

PROMETHEUS, PUBLISHED, DAGSTER = "prometheus", "published", "dagster"
FOLDER = Path(__file__).parent / "dashboards"

# Probes are no questions of clients: they are left out of rates, errors and times, as in alerts.yaml.
_CLIENTS = 'route!~"/(health|ready|metrics)"'
_WIDTH, _HEIGHT = 12, 8


def metric(title: str, *queries: tuple[str, str], unit: str = "short", kind: str = "timeseries") -> dict[str, Any]:
    """A panel of PromQL queries, each with what its line is called."""
    targets = [{"expr": query, "legendFormat": legend} for query, legend in queries]
    return _panel(title, kind, PROMETHEUS, "prometheus", targets, unit)


def table(title: str, query: str, *, source: str = PUBLISHED) -> dict[str, Any]:
    """A panel that shows the rows of a query."""
    return _panel(title, "table", source, "postgres", [_sql(query, "table")], "short")


def bars(title: str, query: str, *, unit: str = "short", source: str = PUBLISHED) -> dict[str, Any]:
    """A panel that compares the rows of a query, whose first column is their name."""
    return _panel(title, "barchart", source, "postgres", [_sql(query, "table")], unit)


def lines(title: str, query: str, *, unit: str = "short", source: str = PUBLISHED) -> dict[str, Any]:
    """A panel over time; the query's first column is `time`."""
    return _panel(title, "timeseries", source, "postgres", [_sql(query, "time_series")], unit)


def text(title: str, markdown: str) -> dict[str, Any]:
    """A panel that says something."""
    return {"title": title, "type": "text", "options": {"mode": "markdown", "content": markdown}}


def _sql(query: str, form: str) -> dict[str, Any]:
    return {"rawSql": query, "format": form, "rawQuery": True, "editorMode": "code"}


def _panel(title: str, kind: str, uid: str, plugin: str, targets: list[dict[str, Any]], unit: str) -> dict[str, Any]:
    source = {"type": plugin, "uid": uid}
    return {
        "title": title,
        "type": kind,
        "datasource": source,
        "targets": [{"refId": chr(ord("A") + i), "datasource": source, **each} for i, each in enumerate(targets)],
        "fieldConfig": {"defaults": {"unit": unit}, "overrides": []},
    }


SYSTEM = [
    metric("Firing alerts", ('sum by (alertname, severity) (ALERTS{alertstate="firing"})', "{{alertname}}")),
    metric(
        "Whether the service and PostgreSQL answer",
        ('up{job="bandicoot-api"}', "service"),
        ("1 - max(bandicoot_api_database_away)", "PostgreSQL"),
    ),
    metric(
        "Requests per second",
        (f"sum by (route) (rate(bandicoot_api_request_seconds_count{{{_CLIENTS}}}[$__rate_interval]))", "{{route}}"),
        unit="reqps",
    ),
    metric(
        "Share of requests that fail (alert above 5%)",
        (
            f'(sum(rate(bandicoot_api_request_seconds_count{{{_CLIENTS},status="5xx"}}[$__rate_interval])) '
            f"or vector(0)) / sum(rate(bandicoot_api_request_seconds_count{{{_CLIENTS}}}[$__rate_interval]))",
            "5xx",
        ),
        unit="percentunit",
    ),
    metric(
        "Time of requests (alert when the 95th percentile is above 1 s)",
        *(
            (
                f"histogram_quantile({share}, sum by (le) "
                f"(rate(bandicoot_api_request_seconds_bucket{{{_CLIENTS}}}[$__rate_interval])))",
                f"{share:.0%}",
            )
            for share in (0.5, 0.95, 0.99)
        ),
        unit="s",
    ),
    metric(
        "Requests refused per minute, by guard",
        ("60 * sum by (guard) (rate(bandicoot_api_refused_total[$__rate_interval]))", "{{guard}}"),
    ),
    metric(
        "Where answers came from, per second",
        ("sum by (source) (rate(bandicoot_api_answers_total[$__rate_interval]))", "{{source}}"),
        unit="reqps",
    ),
    metric(
        "Mean size of bodies",
        (
            "sum by (route) (rate(bandicoot_api_request_bytes_sum[$__rate_interval])) "
            "/ sum by (route) (rate(bandicoot_api_request_bytes_count[$__rate_interval]))",
            "{{route}}",
        ),
        unit="bytes",
    ),
    metric(
        "From the start of the process to its first answer",
        ("bandicoot_api_cold_start_seconds", "{{instance}}"),
        unit="s",
    ),
    bars(
        "PostgreSQL: connections, and how many there may be",
        "SELECT coalesce(datname, 'its own') AS database, count(*) AS connections, "
        "current_setting('max_connections')::int AS limit_of_all "
        "FROM pg_stat_activity GROUP BY 1 ORDER BY 2 DESC",
    ),
    bars(
        "PostgreSQL: size of the published tables",
        "SELECT relname AS relation, pg_total_relation_size(oid) AS bytes FROM pg_class "
        "WHERE relnamespace = 'bandicoot'::regnamespace AND relkind = 'r' ORDER BY 2 DESC LIMIT 12",
        unit="bytes",
    ),
]

PIPELINE = [
    metric("Age of the newest list (alert above 26 hours)", ("max(bandicoot_api_list_age_seconds)", "age"), unit="s"),
    table(
        "Open incidents",
        "SELECT opened_at, severity, kind, asset, partition, cause, next_step FROM bandicoot.incidents "
        "WHERE recovered_at IS NULL ORDER BY opened_at DESC",
    ),
    lines(
        "Calls on the list, and the budget",
        "SELECT call_date::timestamp AS time, n_rows AS listed, budget FROM bandicoot.list_publications "
        "WHERE $__timeFilter(call_date) ORDER BY 1",
    ),
    lines(
        "Hours after midnight in India at which the list was out (due by 2)",
        "SELECT call_date::timestamp AS time, "
        "extract(epoch FROM (published_at AT TIME ZONE 'Asia/Kolkata') - call_date) / 3600 AS hours "
        "FROM bandicoot.list_publications WHERE $__timeFilter(call_date) ORDER BY 1",
        unit="h",
    ),
    lines(
        "How long runs took, by job",
        "SELECT ended_at AS time, job AS metric, extract(epoch FROM ended_at - started_at) AS seconds "
        "FROM dashboards.runs($__timeFrom(), $__timeTo()) WHERE ended_at IS NOT NULL ORDER BY 1",
        unit="s",
        source=DAGSTER,
    ),
    table(
        "Runs by job and how they ended",
        "SELECT job, count(*) FILTER (WHERE status = 'SUCCESS') AS succeeded, "
        "count(*) FILTER (WHERE status = 'FAILURE') AS failed, "
        "count(*) FILTER (WHERE status = 'CANCELED') AS canceled, "
        "count(*) FILTER (WHERE ended_at IS NULL) AS not_ended, max(ended_at) AS last_ended_at "
        "FROM dashboards.runs($__timeFrom(), $__timeTo()) GROUP BY job ORDER BY job",
        source=DAGSTER,
    ),
    bars(
        "Incidents by kind",
        "SELECT kind, count(*) AS incidents FROM bandicoot.incidents WHERE $__timeFilter(opened_at) "
        "GROUP BY kind ORDER BY 2 DESC",
    ),
    bars(
        "Messages that were no event, by reason",
        "SELECT kind, count(*) AS messages FROM bandicoot.dead_letters WHERE $__timeFilter(received_at) "
        "GROUP BY kind ORDER BY 2 DESC",
    ),
    bars(
        "Calls on the newest list, by district",
        "SELECT coalesce(district, 'unknown') AS district, count(*) AS calls FROM bandicoot.call_list "
        "WHERE call_date = (SELECT max(call_date) FROM bandicoot.list_publications) GROUP BY 1 ORDER BY 2 DESC",
    ),
    lines(
        "Outcomes of calls by day",
        "SELECT date_trunc('day', attempted_at AT TIME ZONE 'Asia/Kolkata') AS time, outcome AS metric, "
        "count(*) AS calls FROM bandicoot.call_outcomes WHERE $__timeFilter(attempted_at) GROUP BY 1, 2 ORDER BY 1",
    ),
    metric(
        "Outcomes received per hour by the service, by what became of them",
        ("3600 * sum by (result) (rate(bandicoot_api_outcomes_total[$__rate_interval]))", "{{result}}"),
    ),
    metric(
        "Caregivers recommended per second, by tier",
        ("sum by (tier, tier_reason) (rate(bandicoot_api_recommendations_total[$__rate_interval]))", "{{tier}}"),
    ),
]

_CHAMPION = "(SELECT model_version FROM bandicoot.model_versions WHERE status = 'champion')"

MODEL = [
    table(
        "The champion, which ranks the lists",
        "SELECT model_version, training_week, promoted_at, current_date - training_week AS days_since_training_week, "
        "note FROM bandicoot.model_versions WHERE status = 'champion'",
    ),
    table(
        "Models of this time, and what became of them",
        "SELECT training_week, status, created_at, promoted_at, model_version, note FROM bandicoot.model_versions "
        "WHERE $__timeFilter(created_at) ORDER BY created_at DESC",
    ),
    bars(
        "What a call is worth by cluster, Unresponsive caregivers (responsive weeks)",
        "SELECT cluster_id::text AS cluster, whittle_index, index_low, index_high FROM bandicoot.whittle_indices "
        f"WHERE model_version = {_CHAMPION} AND state = 'U' ORDER BY cluster_id",
    ),
    bars(
        "What a call is worth by cluster, Responsive caregivers (responsive weeks)",
        "SELECT cluster_id::text AS cluster, whittle_index, index_low, index_high FROM bandicoot.whittle_indices "
        f"WHERE model_version = {_CHAMPION} AND state = 'R' ORDER BY cluster_id",
    ),
    bars(
        "Caregivers by cluster of the champion",
        "SELECT cluster_id::text AS cluster, n_caregivers FROM bandicoot.clusters "
        f"WHERE model_version = {_CHAMPION} ORDER BY cluster_id",
    ),
    bars(
        "Chance to be Responsive next week, without and with a call, Unresponsive caregivers",
        "SELECT cluster_id::text AS cluster, p_passive AS without_call, p_active AS with_call "
        f"FROM bandicoot.whittle_indices WHERE model_version = {_CHAMPION} AND state = 'U' ORDER BY cluster_id",
        unit="percentunit",
    ),
    lines(
        "Index of the listed by day: mean and lowest",
        "SELECT call_date::timestamp AS time, avg(whittle_index) AS mean, min(whittle_index) AS lowest "
        "FROM bandicoot.call_list WHERE $__timeFilter(call_date) GROUP BY 1 ORDER BY 1",
    ),
    table(
        "Alarms about models",
        "SELECT opened_at, recovered_at, kind, partition, cause FROM bandicoot.incidents "
        "WHERE kind IN ('model_late', 'model_rejected', 'drift') AND $__timeFilter(opened_at) ORDER BY opened_at DESC",
    ),
]

EXPERIMENT = [
    text(
        "What this shows, and what it does not",
        "Whether the experiment runs as it should: the arms' sizes, the share rolled out, whom lists name, what calls "
        "come to. **What calls do** is in the asset `experiment_report` in Dagster, which compares the arms as drawn; "
        "the shares of responsive caregivers below are those of today, and no estimate of an effect.",
    ),
    lines(
        "Share of caregivers rolled out to",
        # As of each day: the share in force may have come before the time that is shown.
        "SELECT day AS time, experiment AS metric, (SELECT rollout_share FROM bandicoot.experiment_rollouts AS rollout "
        "WHERE rollout.experiment = known.experiment AND in_force_at <= day ORDER BY in_force_at DESC LIMIT 1) "
        "AS share FROM (SELECT DISTINCT experiment FROM bandicoot.experiment_rollouts) AS known, "
        "generate_series($__timeFrom()::timestamptz, $__timeTo()::timestamptz, '1 day') AS day ORDER BY 1",
        unit="percentunit",
    ),
    table(
        "Experiments: who was drawn, and the share in force",
        "SELECT experiment, count(*) AS drawn, min(assigned_at) AS first_drawn_at, max(assigned_at) AS last_drawn_at, "
        "(SELECT rollout_share FROM bandicoot.experiment_rollouts AS rollout "
        "WHERE rollout.experiment = assigned.experiment ORDER BY in_force_at DESC LIMIT 1) AS rollout_share "
        "FROM bandicoot.experiment_assignments AS assigned GROUP BY experiment ORDER BY 4 DESC",
    ),
    bars(
        "Caregivers by arm",
        "SELECT coalesce(ab_arm, 'none') AS arm, count(*) AS caregivers FROM bandicoot.caregiver_states "
        "GROUP BY 1 ORDER BY 1",
    ),
    bars(
        "Share of caregivers who are Responsive, by arm",
        "SELECT coalesce(ab_arm, 'none') AS arm, avg((state = 'R')::int) AS responsive FROM bandicoot.caregiver_states "
        "GROUP BY 1 ORDER BY 1",
        unit="percentunit",
    ),
    lines(
        "Listed caregivers by arm; a list names nobody of the control arm",
        "SELECT call_date::timestamp AS time, coalesce(ab_arm, 'none') AS metric, count(*) AS listed "
        "FROM bandicoot.call_list WHERE $__timeFilter(call_date) GROUP BY 1, 2 ORDER BY 1",
    ),
    lines(
        "Share of the list that was drawn at random or tied (propensity below 1)",
        "SELECT call_date::timestamp AS time, avg((propensity < 1)::int) AS drawn FROM bandicoot.call_list "
        "WHERE $__timeFilter(call_date) GROUP BY 1 ORDER BY 1",
        unit="percentunit",
    ),
    lines(
        "Share of attempted calls that reached somebody",
        "SELECT call_date::timestamp AS time, avg((outcome = 'reached')::int) AS reached FROM bandicoot.call_outcomes "
        "WHERE $__timeFilter(call_date) GROUP BY 1 ORDER BY 1",
        unit="percentunit",
    ),
]

_COSTS = "dashboards.cost_reports($__timeFrom(), $__timeTo())"

COST = [
    text(
        "Where the figures come from",
        "From the asset `cost_report`, made every morning at 06:00: runs by their durations, the lake by its size, the "
        "rest by monthly prices, and where Google's bill is configured by the bill. The prices that come along are "
        "Google's: **on a machine of your own** name yours in `BANDICOOT_PRICES_FILE`, or the figures are not what you "
        "pay.",
    ),
    lines(
        "Spent since the month began, where it will end, and the limit",
        "SELECT day::timestamp AS time, replace(fact, '_usd', '') AS metric, amount "
        f"FROM {_COSTS} WHERE fact IN ('spent_usd', 'projected_usd', 'monthly_limit_usd') ORDER BY 1",
        unit="currencyUSD",
        source=DAGSTER,
    ),
    lines(
        "What use and prices say, and what the bill says so far",
        "SELECT day::timestamp AS time, replace(fact, '_usd', '') AS metric, amount "
        f"FROM {_COSTS} WHERE fact IN ('estimated_usd', 'billed_usd') ORDER BY 1",
        unit="currencyUSD",
        source=DAGSTER,
    ),
    bars(
        "By component, in the newest report",
        "SELECT trim(split_part(line, '|', 2)) AS component, trim(split_part(line, '|', 4))::float AS spent_usd, "
        "trim(split_part(line, '|', 5))::float AS projected_usd "
        f"FROM (SELECT shown FROM {_COSTS} WHERE fact = 'table_of_spending' ORDER BY day DESC LIMIT 1) AS newest, "
        "regexp_split_to_table(shown, E'\\n') WITH ORDINALITY AS part (line, number) WHERE number > 2 ORDER BY 2 DESC",
        unit="currencyUSD",
        source=DAGSTER,
    ),
    bars(
        "Hours that runs took, by job",
        "SELECT job, sum(extract(epoch FROM ended_at - started_at)) / 3600 AS hours "
        "FROM dashboards.runs($__timeFrom(), $__timeTo()) WHERE ended_at IS NOT NULL GROUP BY job ORDER BY 2 DESC",
        unit="h",
        source=DAGSTER,
    ),
    table(
        "Alarms about spending",
        "SELECT opened_at, recovered_at, kind, partition, cause FROM bandicoot.incidents "
        "WHERE kind LIKE 'spending%' AND $__timeFilter(opened_at) ORDER BY opened_at DESC",
    ),
]

DASHBOARDS = {
    "system": ("System", "now-6h", SYSTEM),
    "pipeline": ("Pipeline", "now-30d", PIPELINE),
    "model": ("Model", "now-90d", MODEL),
    "experiment": ("Experiment", "now-90d", EXPERIMENT),
    "cost": ("Cost", "now-60d", COST),
}


def dashboard(name: str) -> dict[str, Any]:
    """One of DASHBOARDS as Grafana reads it."""
    title, since, panels = DASHBOARDS[name]
    places = [
        {"x": _WIDTH * (number % 2), "y": _HEIGHT * (number // 2), "w": _WIDTH, "h": _HEIGHT}
        for number in range(len(panels))
    ]
    return {
        "uid": f"bandicoot-{name}",
        "title": title,
        "tags": ["bandicoot"],
        "timezone": "Asia/Kolkata",
        "schemaVersion": 41,
        "editable": False,
        "refresh": "1m" if name == "system" else "15m",
        "time": {"from": since, "to": "now"},
        "panels": [
            {"id": number, "gridPos": place, **panel}
            for number, (place, panel) in enumerate(zip(places, panels, strict=True), start=1)
        ],
    }


def rendered(name: str) -> str:
    """The text of a dashboard's file."""
    return json.dumps(dashboard(name), indent=2) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for each in DASHBOARDS:
        (FOLDER / f"{each}.json").write_text(rendered(each))
