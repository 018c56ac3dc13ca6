"""The recipes for Redis in the documents, executed as they stand."""

import re
from pathlib import Path

import psycopg
import pyarrow as pa
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from published_rows import give_keys, list_rows, publish, state_rows

from bandicoot_core.settings import Settings
from bandicoot_core.stores.cache.cache import open_cache
from bandicoot_core.stores.cache.fill import fill_cache
from tests.registered_models import register
from tests.servers.redis import RedisServer

DOCS = Path(__file__).parents[4] / "docs"


def blocks(language: str) -> list[str]:
    """The code of one language in the section about Redis."""
    section = (DOCS / "consumers.md").read_text().partition("\n## Redis\n")[2].partition("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", section, flags=re.DOTALL)


@pytest.mark.parametrize("has_redis", [True, False])
def test_an_application_reads_with_the_rights_and_the_lines_of_the_guide(
    published: psycopg.Connection,
    published_url: str,
    redis_server: RedisServer,
    has_redis: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ids = [f"CG-{number:06d}" for number in range(41, 44)]
    register(published, "m-1")
    give_keys(published, ids)
    states: pa.Table = state_rows({1: "R", 2: "U", 3: "R"}, cluster_ids={2: 1})
    publish(published, list_rows([]), budget=0, states=states)
    grants, questions = blocks("sql")
    role = sql.Identifier("application")
    published.execute("DROP ROLE IF EXISTS application")
    published.execute("CREATE ROLE application LOGIN")
    try:
        published.execute(grants)
        monkeypatch.setenv("BANDICOOT_DATABASE_URL", published_url.replace("//postgres", "//application"))
        monkeypatch.setenv("BANDICOOT_REDIS_URL", redis_server.url if has_redis else "")
        assert conninfo_to_dict(published_url.replace("//postgres", "//application"))["user"] == "application"
        cache = open_cache(Settings())
        if cache is not None:
            fill_cache(cache, published)
        [lines] = blocks("python")
        exec(compile(lines, "docs/consumers.md", "exec"), {})  # noqa: S102 - the guide's own lines
        assert capsys.readouterr().out.splitlines() == [
            "CG-000042 U at the end of 2026-11-19",
            "CG-000043 R at the end of 2026-11-19",
            f"m-1 4 from {'cache' if has_redis else 'database'}",
        ]
        with psycopg.connect(published_url.replace("//postgres", "//application")) as connection:
            states_query, indices_query = questions.strip().rstrip(";").split(";")
            row = connection.execute(states_query).fetchone()
            assert row is not None
            assert row[:3] == ("CG-000042", "U", 1)
            assert len(connection.execute(indices_query).fetchall()) == 4
    finally:
        published.execute(sql.SQL("DROP OWNED BY {}").format(role))
        published.execute("DROP ROLE application")


def test_the_guide_names_every_status_that_a_fill_can_have() -> None:
    pipeline = (DOCS.parent / "bandicoot_core" / "pipeline" / "index_cache.py").read_text()
    statuses = set(re.findall(r'_(?:told|warned)\(\s*"([^"]+)"', pipeline)) | {"filled in part"}
    guide = (DOCS / "operations.md").read_text()
    assert len(statuses) == 7
    assert [status for status in statuses if f"| `{status}` |" not in guide] == []
