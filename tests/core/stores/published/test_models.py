"""The model registry: what is registered, promoted, retired and rejected, and what is refused."""

import math
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from published_rows import NIGHT

from bandicoot_core.contracts import CLUSTERS, WHITTLE_INDICES
from bandicoot_core.errors import CheckFailedError, InvalidInputError
from bandicoot_core.stores.postgres.connections import connect
from bandicoot_core.stores.published.models import (
    ModelRecord,
    champion,
    find_model,
    is_held_back,
    list_models,
    promote,
    read_clusters,
    read_indices,
    register_model,
    reject,
    roll_back,
)

WEEK = date(2026, 11, 15)
NAN = float("nan")


def clusters(*p_passive_u: float) -> pa.Table:
    n_rows = len(p_passive_u)
    columns = {
        "cluster_id": list(range(n_rows)),
        "p_passive_u": list(p_passive_u),
        "p_passive_r": [0.1 + 0.2] * n_rows,
        "n_caregivers": [10**10] * n_rows,
        "n_tuples": [5] * n_rows,
    }
    return pa.table(columns, schema=CLUSTERS.arrow_schema())


def indices(*whittle_index: float) -> pa.Table:
    n_rows = len(whittle_index)
    columns = {
        "cluster_id": [number // 2 for number in range(n_rows)],
        "state": ["RU"[number % 2] for number in range(n_rows)],
        "whittle_index": list(whittle_index),
        "index_low": [-1e-9] * n_rows,
        "index_high": [1 / 3] * n_rows,
        "is_indexable": [not math.isnan(index) for index in whittle_index],
        "p_passive": [0.3] * n_rows,
        "p_active": [0.6] * n_rows,
    }
    return pa.table(columns, schema=WHITTLE_INDICES.arrow_schema())


def register(connection: psycopg.Connection, version: str = "m-1", **changes: Any) -> ModelRecord:
    model = {
        "training_week": WEEK,
        "checks": {"mean_shift": {"passed": True, "value": 0.125}},
        "recipe": {"n_clusters": 2, "note": 'é "quoted" \'; DROP TABLE x; --'},
        "clusters": clusters(0.2, 0.5),
        "indices": indices(0.5, 0.25, NAN, -0.0),
        "run_id": "run-1",
        "created_at": NIGHT,
    }
    return register_model(connection, version, **(model | changes))


def statuses(connection: psycopg.Connection) -> dict[str, str]:
    return {model.model_version: model.status for model in list_models(connection)}


def advance(connection: psycopg.Connection, version: str, *, hours: int = 1, run_id: str = "run-9") -> ModelRecord:
    return promote(connection, version, promoted_at=NIGHT + timedelta(hours=hours), run_id=run_id)


def test_a_registered_model_reads_back_as_it_was(published: psycopg.Connection) -> None:
    assert register(published) == ModelRecord(
        model_version="m-1",
        training_week=WEEK,
        status="candidate",
        checks={"mean_shift": {"passed": True, "value": 0.125}},
        recipe={"n_clusters": 2, "note": 'é "quoted" \'; DROP TABLE x; --'},
        created_at=NIGHT,
        promoted_at=None,
        run_id="run-1",
        promotion_run_id=None,
        note=None,
    )
    assert read_clusters(published, "m-1") == clusters(0.2, 0.5)
    found = read_indices(published, "m-1")
    assert found.schema == WHITTLE_INDICES.arrow_schema()
    assert repr(found.to_pylist()) == repr(indices(0.5, 0.25, NAN, -0.0).to_pylist())
    assert champion(published) is None


def test_registering_the_same_content_again_changes_nothing(published: psycopg.Connection) -> None:
    first = register(published)
    again = register(published, run_id="run-2", created_at=NIGHT + timedelta(hours=1))
    assert again == first
    assert list_models(published) == [first]


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"clusters": clusters(0.2, 0.5000000000000001)}, "another clusters;"),
        ({"indices": indices(0.5, 0.25, NAN, 0.0)}, "another whittle_indices;"),
        ({"clusters": clusters(0.2), "indices": indices(0.5, 0.25)}, "another clusters and whittle_indices;"),
        ({"training_week": date(2026, 11, 8)}, "another training_week;"),
    ],
)
def test_a_version_names_one_content(published: psycopg.Connection, changes: dict[str, Any], what: str) -> None:
    first = register(published)
    with pytest.raises(InvalidInputError, match=f"model m-1 is registered with {what}"):
        register(published, **changes)
    assert list_models(published) == [first]
    assert read_clusters(published, "m-1") == clusters(0.2, 0.5)


def test_promotion_retires_the_champion_before_and_may_bring_it_back(published: psycopg.Connection) -> None:
    register(published, "m-1")
    register(published, "m-2", created_at=NIGHT + timedelta(hours=1))
    first = advance(published, "m-1", hours=1, run_id="run-a")
    assert (first.status, first.promoted_at, first.promotion_run_id) == (
        "champion",
        NIGHT + timedelta(hours=1),
        "run-a",
    )
    assert champion(published) == first
    advance(published, "m-2", hours=2)
    assert statuses(published) == {"m-2": "champion", "m-1": "retired"}
    back = advance(published, "m-1", hours=3)
    assert champion(published) == back
    assert back.promoted_at == NIGHT + timedelta(hours=3)
    assert statuses(published) == {"m-2": "retired", "m-1": "champion"}


def test_promoting_the_champion_again_changes_nothing(published: psycopg.Connection) -> None:
    register(published)
    first = advance(published, "m-1", hours=1)
    assert advance(published, "m-1", hours=5, run_id="other") == first


def test_the_verdict_on_a_champion_or_retired_model_outlives_a_new_registration(published: psycopg.Connection) -> None:
    register(published, "m-1")
    register(published, "m-2")
    advance(published, "m-1")
    advance(published, "m-2")
    for version, status in (("m-1", "retired"), ("m-2", "champion")):
        again = register(published, version, checks={"other": 1}, status="rejected", note="late")
        assert (again.status, again.note, set(again.checks)) == (status, None, {"mean_shift"})


def test_a_rejected_model_cannot_become_champion_until_it_is_examined_again(published: psycopg.Connection) -> None:
    register(published)
    rejected = reject(published, "m-1", note="mean shift 0.8")
    assert (rejected.status, rejected.note) == ("rejected", "mean shift 0.8")
    with pytest.raises(CheckFailedError, match=r"m-1 was rejected \(mean shift 0.8\)"):
        advance(published, "m-1")
    assert champion(published) is None
    examined = register(published, checks={"mean_shift": {"passed": True, "value": 0.8}})
    assert (examined.status, examined.note) == ("candidate", None)
    assert examined.checks["mean_shift"]["value"] == 0.8
    assert advance(published, "m-1").status == "champion"


def test_a_model_may_be_registered_as_rejected_but_not_as_champion(published: psycopg.Connection) -> None:
    model = register(published, status="rejected", note="not indexable")
    assert (model.status, model.note) == ("rejected", "not indexable")
    with pytest.raises(ValueError, match="not 'champion'; use promote"):
        register(published, "m-2", status="champion")


def test_a_champion_cannot_be_rejected_and_a_retired_model_keeps_its_status(published: psycopg.Connection) -> None:
    register(published, "m-1")
    register(published, "m-2")
    advance(published, "m-1")
    with pytest.raises(InvalidInputError, match="m-1 is the champion; promote another"):
        reject(published, "m-1", note="regret")
    advance(published, "m-2")
    retired = reject(published, "m-1", note="regret")
    assert (retired.status, retired.note) == ("retired", "regret")


def test_an_unknown_version_is_named_with_the_newest_there_is(published: psycopg.Connection) -> None:
    with pytest.raises(InvalidInputError, match=r"model m-7 is not registered \(newest: none\)"):
        advance(published, "m-7")
    register(published)
    for attempt in (
        lambda: advance(published, "m-7"),
        lambda: reject(published, "m-7", note="x"),
        lambda: read_clusters(published, "m-7"),
        lambda: read_indices(published, "m-7"),
    ):
        with pytest.raises(InvalidInputError, match=r"model m-7 is not registered \(newest: m-1\); materialize"):
            attempt()


def test_models_are_listed_newest_first_then_by_version(published: psycopg.Connection) -> None:
    for version, hours in (("b", 0), ("a", 0), ("c", 2), ("d", 1)):
        register(published, version, created_at=NIGHT + timedelta(hours=hours))
    assert list(statuses(published)) == ["c", "d", "a", "b"]


def test_promotions_at_once_leave_exactly_one_champion(published: psycopg.Connection, published_url: str) -> None:
    versions = [f"m-{number}" for number in range(6)]
    for version in versions:
        register(published, version)

    def promote_apart(version: str) -> None:
        with connect(published_url) as connection:
            for _ in range(5):
                advance(connection, version)

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(promote_apart, versions))
    assert sorted(statuses(published).values()) == ["champion"] + ["retired"] * 5


def test_the_database_itself_refuses_a_second_champion(published: psycopg.Connection) -> None:
    register(published, "m-1")
    register(published, "m-2")
    advance(published, "m-1")
    with pytest.raises(psycopg.errors.UniqueViolation, match="model_versions_one_champion"):
        published.execute("UPDATE bandicoot.model_versions SET status = 'champion'")


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"clusters": clusters(0.2, 1.5)}, InvalidInputError, "clusters.p_passive_u: 1 rows .*cluster_id=1, found 1.5"),
        (
            {"indices": indices(0.5).drop_columns(["p_active"])},
            InvalidInputError,
            r"columns \['p_active'\] are missing",
        ),
        ({"checks": {"drift": NAN}}, InvalidInputError, "m-1: checks cannot be kept as JSON"),
        ({"recipe": {"when": NIGHT}}, InvalidInputError, "m-1: recipe cannot be kept as JSON"),
        ({"training_week": date(2026, 11, 16)}, ValueError, "named by its Sunday"),
        ({"created_at": NIGHT.replace(tzinfo=None)}, ValueError, "created_at: .* has no time zone"),
        ({"clusters": pa.concat_tables([clusters(0.2)] * 2)}, InvalidInputError, "duplicate key value"),
    ],
)
def test_an_impossible_model_is_refused_whole(
    published: psycopg.Connection, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        register(published, **changes)
    assert list_models(published) == []
    assert published.execute("SELECT count(*) FROM bandicoot.clusters").fetchone() == (0,)


def take_back(connection: psycopg.Connection, *, hours: int) -> tuple[str, str]:
    now, before = roll_back(
        connection, note="calls went to the wrong families", rolled_back_at=NIGHT + timedelta(hours=hours), run_id="x"
    )
    return now.model_version, before.model_version


def test_a_rollback_brings_back_the_champion_before_and_holds_the_other_one_back(
    published: psycopg.Connection,
) -> None:
    for hours, version in enumerate(("m-1", "m-2", "m-3"), start=1):
        register(published, version)
        advance(published, version, hours=hours)
    assert take_back(published, hours=5) == ("m-2", "m-3")
    assert statuses(published) == {"m-1": "retired", "m-2": "champion", "m-3": "retired"}
    held_back = find_model(published, "m-3")
    assert is_held_back(held_back)
    assert held_back.note == "calls went to the wrong families"
    now = find_model(published, "m-2")
    assert (now.promoted_at, now.promotion_run_id) == (NIGHT + timedelta(hours=5), "x")
    assert not is_held_back(find_model(published, "m-1"))


def test_a_second_rollback_goes_further_back_and_not_to_what_was_rolled_back(published: psycopg.Connection) -> None:
    for hours, version in enumerate(("m-1", "m-2", "m-3"), start=1):
        register(published, version)
        advance(published, version, hours=hours)
    take_back(published, hours=5)
    assert take_back(published, hours=6) == ("m-1", "m-2")
    with pytest.raises(InvalidInputError, match="m-1 has no champion before it"):
        take_back(published, hours=7)
    assert statuses(published)["m-1"] == "champion"


def test_a_model_that_was_rolled_back_is_free_again_once_a_person_promotes_it(published: psycopg.Connection) -> None:
    for hours, version in enumerate(("m-1", "m-2"), start=1):
        register(published, version)
        advance(published, version, hours=hours)
    take_back(published, hours=5)
    assert not is_held_back(advance(published, "m-2", hours=6))
    assert take_back(published, hours=7) == ("m-1", "m-2")


def test_a_rollback_without_champion_is_refused(published: psycopg.Connection) -> None:
    register(published)
    with pytest.raises(InvalidInputError, match="no model has been promoted"):
        take_back(published, hours=1)
