"""Local production with its own commands and scripts: set up, filled, served and watched, but for the containers."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest
import redis
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.local_production.composed import DEPLOY, Composed, composed, services
from tests.local_production.dashboards import as_sent, names_in, panels, queries, rules
from tests.servers.debian_postgres import debian_postgres
from tests.servers.processes import free_port, wait_until

_SMALL = {
    "BANDICOOT_TRAINING_WEEKS": "10",
    "BANDICOOT_N_CLUSTERS": "3",
    "BANDICOOT_N_DRAWS": "200",
    "BANDICOOT_LOOKBACK_DAYS": "42",
    "BANDICOOT_MEMORY_LIMIT": "1GB",
    "BANDICOOT_SIMULATED_CAREGIVERS": "200",
    "BANDICOOT_SIMULATED_COHORTS": "2",
    "BANDICOOT_SIMULATED_PROGRAMMES": "1",
}
# Prometheus's own, beside those of what it asks.
_OF_PROMETHEUS = {"up": {"job", "instance"}, "ALERTS": {"alertname", "alertstate", "severity"}}


@pytest.fixture(scope="module")
def site() -> Iterator[Composed]:
    """Set up on a server of its own, with roles by name, a demo programme and a first list."""
    with debian_postgres() as server, composed(server) as site:
        site.fill_programme(2000)
        site.run("code-location", "bandicoot", "run", **_SMALL)
        day = site.run(
            "code-location", "psql", site.postgres.url("bandicoot"), "-Atc", "SELECT now()::date - 1"
        ).strip()
        module = ["--module-name", "bandicoot_dagster.definitions"]
        made = ["dagster", "asset", "materialize", "--select", "cost_report", "--partition", day, *module]
        site.run("code-location", *made)
        yield site


@pytest.fixture(scope="module")
def scraped(site: Composed) -> dict[str, set[str]]:
    """What /metrics of the service shows after a few requests: every sample's name, with its labels."""
    port = str(free_port())
    create = ["bandicoot", "api", "keys", "create", "--client", "centre", "--scope", "read", "--scope", "call"]
    key = next(line for line in site.run("schema", *create).splitlines() if line.startswith("bdc_"))
    who = {"Authorization": f"Bearer {key}"}
    with site.served("api", port_8080=port) as process:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: _answers(f"{url}/health"), process, site.folder / "api.log")
        assert httpx.get(f"{url}/ready").json()["is_ready"], "the service does not stand on the list that was made"
        assert httpx.get(f"{url}/recommend?budget=3", headers=who).status_code == 200
        called = {"call_id": "c-1", "caregiver_id": "nobody", "outcome": "reached"}  # refused, and counted as that
        httpx.post(f"{url}/call-outcomes", headers=who, json=[called])
        shown = httpx.get(f"{url}/metrics").text + httpx.get(f"{url}/metrics").text
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(shown):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False


def test_the_list_is_made_through_the_pooler_by_who_owns_nothing(site: Composed) -> None:
    with psycopg.connect(site.postgres.url("bandicoot")) as connection:
        (listed,) = connection.execute("SELECT count(*) FROM bandicoot.current_call_list").fetchone() or (0,)
        owners = connection.execute(
            "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'bandicoot'"
        ).fetchall()
    assert listed == 100
    assert owners == [("bandicoot_owner",)]


def test_redis_holds_the_list_and_asks_for_its_password(site: Composed) -> None:
    password = site.values["BANDICOOT_REDIS_PASSWORD"]
    with redis.Redis(port=site.redis_port, password=password) as client:
        assert client.dbsize() > 0
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "volatile-lru"}
    with redis.Redis(port=site.redis_port) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()


def test_starting_again_changes_nothing(site: Composed) -> None:
    assert "nothing to do: every role has exactly its rights" in site.run("schema")
    site.give_roles()


def test_each_query_of_the_dashboards_runs_on_the_real_tables_and_finds_rows(site: Composed) -> None:
    may_be_empty = re.compile(r"incidents|dead_letters|call_outcomes|billed_usd")
    databases = {"published": "bandicoot", "dagster": "dagster"}
    asked = [query for query in queries() if query.source in databases]
    assert len(asked) > 25
    connections = {source: site.dashboards(database) for source, database in databases.items()}
    silent = []
    for query in asked:
        rows = connections[query.source].execute(as_sent(query.text)).fetchall()  # type: ignore[arg-type]
        if not rows and not may_be_empty.search(query.text):
            silent.append(query.panel)
    assert not silent, "these panels show nothing of a programme that has everything"
    for connection in connections.values():
        connection.close()


def test_the_cost_dashboard_shows_what_the_report_says(site: Composed) -> None:
    (by_component,) = (query for query in queries() if query.panel == "cost: By component, in the newest report")
    with site.dashboards("dagster") as connection:
        facts = dict(
            connection.execute(
                "SELECT fact, amount FROM dashboards.cost_reports('2000-01-01', '2100-01-01')"
            ).fetchall()
        )
        parts = connection.execute(as_sent(by_component.text)).fetchall()  # type: ignore[arg-type]
    assert facts["monthly_limit_usd"] == 200
    assert {"database", "lake"} <= {component for component, _, _ in parts}
    assert sum(spent for _, spent, _ in parts) == pytest.approx(facts["spent_usd"], rel=1e-2)


def test_dashboards_name_no_caregiver_and_change_nothing(site: Composed) -> None:
    refused = (
        ("bandicoot", "SELECT caregiver_id FROM bandicoot.call_list"),
        ("bandicoot", "SELECT * FROM bandicoot.current_call_list"),
        ("bandicoot", "SELECT * FROM bandicoot.caregiver_keys"),
        ("dagster", "SELECT * FROM event_logs"),
        ("dagster", "SELECT run_body FROM runs"),
    )
    for database, statement in refused:
        with site.dashboards(database) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(statement)  # type: ignore[call-overload]


def test_each_metric_and_label_that_is_asked_for_is_exported(scraped: dict[str, set[str]]) -> None:
    exported = scraped | _OF_PROMETHEUS
    asked = [query for query in queries() if query.source == "prometheus"] + rules()
    assert len(asked) > 20
    for query in asked:
        metrics, labels = names_in(query.text)
        assert metrics, query
        assert metrics <= set(exported), f"{query.panel} asks for {metrics - set(exported)}, which nothing exports"
        known = set().union(*(exported[name] for name in metrics))
        assert labels <= known, f"{query.panel} asks for labels {labels - known}; there are {known}"


def test_every_metric_of_the_service_is_on_a_dashboard(scraped: dict[str, set[str]]) -> None:
    shown = set().union(*(names_in(query.text)[0] for query in [*queries(), *rules()] if query.source == "prometheus"))
    families = {re.sub(r"_(total|created|bucket|sum|count)$", "", name) for name in shown}
    exported = {re.sub(r"_(total|created|bucket|sum|count)$", "", name) for name in scraped}
    assert exported <= families


def test_panels_ask_sources_that_are_provisioned() -> None:
    known = {
        source["uid"]: source["type"]
        for source in yaml.safe_load((DEPLOY / "monitoring" / "grafana" / "datasources.yaml").read_text())[
            "datasources"
        ]
    }
    for name, panel in panels():
        for target in panel.get("targets", []):
            assert known[target["datasource"]["uid"]] == target["datasource"]["type"], (name, panel["title"])


def test_the_code_location_and_the_webserver_start_and_are_healthy(site: Composed) -> None:
    code_port, port = str(free_port()), str(free_port())
    text = (DEPLOY / "compose" / "workspace.yaml").read_text()
    (site.folder / "dagster" / "workspace.yaml").write_text(
        text.replace("host: code-location", "host: localhost").replace("4000", code_port)
    )

    def is_healthy(service: str, own: str, here: str) -> bool:
        check = [word.replace(own, here) for word in services()[service]["healthcheck"]["test"][1:]]
        return subprocess.run(check, env=site.environment(service), capture_output=True, check=False).returncode == 0

    with site.served("code-location", port_4000=code_port) as code:
        log = site.folder / "code-location.log"
        wait_until(lambda: is_healthy("code-location", "4000", code_port), code, log, timeout_seconds=180)
        with site.served("webserver", port_3000=port) as web:
            log = site.folder / "webserver.log"
            wait_until(lambda: is_healthy("webserver", "3000", port), web, log, timeout_seconds=180)
            asked = "{ repositoriesOrError { ... on RepositoryConnection { nodes { location { name } } } } }"
            found = httpx.post(f"http://127.0.0.1:{port}/graphql", json={"query": asked}, timeout=60).json()
    assert found["data"]["repositoriesOrError"]["nodes"] == [{"location": {"name": "bandicoot"}}]


@pytest.mark.parametrize("service", ["code-location", "daemon", "webserver", "api"])
def test_a_command_and_its_healthcheck_exist_with_their_options(service: str) -> None:
    described = services()[service]
    commands = [described["command"]]
    check = described.get("healthcheck", {}).get("test", ["CMD", "python"])[1:]
    if check[0] != "python":
        commands.append(check)
    for command in commands:
        words = [word for word in command if not word.startswith("-")]
        verbs = {"dagster": words[1:3], "dagster-daemon": words[1:2], "dagster-webserver": [], "bandicoot": words[1:2]}
        program = str(Path(sys.executable).parent / words[0])
        done = subprocess.run([program, *verbs[words[0]], "--help"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        for option in (word for word in command if word.startswith("--")):
            assert option in done.stdout, f"{' '.join(command)}: no option {option}"


def test_metrics_and_labels_are_told_from_functions_and_durations() -> None:
    expression = (
        'histogram_quantile(0.95, sum by (le) (rate(asked_bucket{route!~"/(health|ready)",status="5xx"}[5m]))) > 1 '
        "and on (guard) group_left () increase(refused_total[10m]) > 20 or 1 - max(is_away) == 26 * 3600"
    )
    assert names_in(expression) == ({"asked_bucket", "refused_total", "is_away"}, {"le", "route", "status", "guard"})
