"""From SMS logs to the published list through Dagster, on a small programme and a real PostgreSQL."""

from contextlib import suppress
from datetime import date, timedelta
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr

from bandicoot_core.contracts import (
    CALL_LIST,
    CALLS,
    CAREGIVER_STATES,
    CONTROL_ARM,
    ENGAGEMENT_HISTORY,
    PUBLISHED_CALL_LIST,
)
from bandicoot_core.demo import stored_programme
from bandicoot_core.errors import (
    CheckFailedError,
    CorruptPartitionError,
    InvalidInputError,
    InvalidSettingError,
    RejectedModelError,
    UnreachableError,
)
from bandicoot_core.pipeline.call_list import make_call_list_again
from bandicoot_core.settings import Settings, load_model_options
from bandicoot_core.stores.installation import Installation
from bandicoot_core.stores.published.call_lists import pending_keys
from bandicoot_core.stores.published.models import champion, list_models, roll_back
from bandicoot_dagster.demo_source import extend_demo
from tests.servers.redis import RedisServer
from tests.small_programme import CALL_DATE, NOON, Programme


def test_the_current_list_is_published_with_the_columns_its_readers_rely_on(programme: Programme) -> None:
    with programme.installation.published() as connection:
        cursor = connection.execute("SELECT * FROM bandicoot.current_call_list")
        assert [column.name for column in cursor.description or ()] == PUBLISHED_CALL_LIST.column_names
        rows = cursor.fetchall()
    assert len(rows) == 20
    assert {row[0] for row in rows} == {CALL_DATE}


def test_nobody_on_the_list_is_in_control_in_cool_down_or_warming_up(programme: Programme) -> None:
    with programme.installation.published() as connection:
        offenders = connection.execute(
            """
            SELECT listed.caregiver_id FROM bandicoot.call_list AS listed
            JOIN bandicoot.caregiver_states AS states USING (caregiver_id)
            WHERE listed.call_date = %(day)s AND (
                states.ab_arm = %(control)s OR states.status <> 'active' OR states.warm_up_end_date > %(day)s
                OR EXISTS (SELECT FROM bandicoot.call_outcomes AS called
                           WHERE called.caregiver_id = listed.caregiver_id
                           AND (called.attempted_at AT TIME ZONE 'Asia/Kolkata')::date >= %(day)s - 14))
            """,
            {"day": CALL_DATE, "control": CONTROL_ARM},
        ).fetchall()
    assert offenders == []


def test_a_caregiver_who_opened_in_the_last_seven_days_is_responsive_and_no_other(programme: Programme) -> None:
    with programme.installation.published() as connection:
        n_wrong, n_all = connection.execute(
            """
            SELECT count(*) FILTER (WHERE (states.state = 'R') IS DISTINCT FROM EXISTS (
                SELECT FROM suvita_production.sms_logs AS sms WHERE sms.caregiver_id = states.caregiver_id
                AND ((sms.opened_at AT TIME ZONE 'Asia/Kolkata')::date BETWEEN %(first)s AND %(last)s
                  OR (sms.clicked_at AT TIME ZONE 'Asia/Kolkata')::date BETWEEN %(first)s AND %(last)s))), count(*)
            FROM bandicoot.caregiver_states AS states
            """,
            {"first": CALL_DATE - timedelta(days=7), "last": CALL_DATE - timedelta(days=1)},
        ).fetchone() or (None, None)
    assert (n_wrong, n_all and n_all > 1000) == (0, True)


def test_running_a_day_again_gives_the_same_rows(programme: Programme) -> None:
    before = programme.published()
    programme.catch_up()
    assert programme.published() == before


def test_a_list_with_budget_zero_is_published_empty(programme: Programme) -> None:
    day = CALL_DATE - timedelta(days=1)
    programme.catch_up(day, budget=0)
    with programme.installation.published() as connection:
        row = connection.execute(
            "SELECT n_rows, budget FROM bandicoot.list_publications WHERE call_date = %s", (day,)
        ).fetchone()
    assert row == (0, 0)
    assert programme.published(day) == []


def test_a_budget_above_the_eligible_lists_all_of_them_for_certain(programme: Programme) -> None:
    day = CALL_DATE - timedelta(days=1)
    programme.catch_up(day, budget=100_000)
    facts = programme.installation.lake.require("call_list", day.isoformat()).facts
    rows = programme.published(day)
    assert len(rows) == facts["n_eligible"] > 100
    assert {row[5] for row in rows} == {1.0}


def test_a_negative_budget_is_refused_before_anything_runs(programme: Programme) -> None:
    with pytest.raises(InvalidSettingError, match=r"budget \(found -5\)"):
        programme.list_options(budget=-5)
    before = programme.published()
    config = {"ops": {"call_list": {"config": {"budget": -5}}}}
    result = programme.run("daily_list", CALL_DATE.isoformat(), config)
    assert not result.success
    assert programme.published() == before


def test_an_unknown_district_is_refused_with_the_known_ones(programme: Programme) -> None:
    with pytest.raises(InvalidSettingError, match=r"Atlantis.*Gaya"):
        programme.catch_up(district_budgets={"Atlantis": 5})
    with pytest.raises(InvalidSettingError, match=r"Atlantis.*Gaya"):
        programme.catch_up(only_districts=["Atlantis"])


def test_a_list_can_be_limited_to_districts(programme: Programme) -> None:
    day = CALL_DATE - timedelta(days=1)
    programme.catch_up(day, only_districts=["Gaya"], budget=5)
    table = programme.installation.lake.read(CALL_LIST, "call_list", day.isoformat())
    assert set(table["district"].to_pylist()) == {"Gaya"}


def test_a_refused_list_leaves_the_published_one(programme: Programme) -> None:
    before = programme.published()
    with pytest.raises(CheckFailedError, match="engagement_is_plausible"):
        programme.catch_up(min_engagement=0.9)
    assert programme.published() == before
    result = programme.run("daily_list", CALL_DATE.isoformat())
    assert result.success


def test_a_refused_list_is_not_published_by_materializing_publication_alone(programme: Programme) -> None:
    before = programme.published()
    with pytest.raises(CheckFailedError):
        programme.catch_up(min_engagement=0.9)
    from bandicoot_core.pipeline.call_list import materialize_published_call_list

    with pytest.raises(CheckFailedError, match="refused by its checks and is not published"):
        materialize_published_call_list(
            programme.installation, CALL_DATE, run_id="by-hand", published_at=programme.clock()
        )
    assert programme.published() == before
    programme.catch_up()


def test_a_rejected_candidate_leaves_the_champion_and_the_list_still_goes_out(programme: Programme) -> None:
    with programme.installation.published() as connection:
        before = champion(connection)
    assert before is not None
    trained = programme.model_options
    programme.model_options = load_model_options(
        **{**trained.model_dump(), "n_clusters": 1, "discount": 0.3, "max_index_shift": 0.0}
    )
    try:
        with pytest.raises(RejectedModelError, match="index_shift_bounded"):
            programme.catch_up()
    finally:
        programme.model_options = trained
    with programme.installation.published() as connection:
        assert champion(connection) == before
        rejected = [model for model in list_models(connection) if model.status == "rejected"]
    assert rejected
    assert "index_shift_bounded" in (rejected[0].note or "")
    assert {row[6] for row in programme.published()} == {before.model_version}
    programme.catch_up()


def test_training_again_on_the_same_data_gives_the_same_version(programme: Programme) -> None:
    with programme.installation.published() as connection:
        before = champion(connection)
        assert before is not None
    config = {"resources": {"training": {"config": programme.model_options.model_dump()}}}
    result = programme.run("weekly_training", before.training_week.isoformat(), config)
    assert result.success
    with programme.installation.published() as connection:
        assert champion(connection) == before


def test_a_champion_that_was_rolled_back_is_not_promoted_again_by_training(programme: Programme) -> None:
    with programme.installation.published() as connection:
        first = champion(connection)
        assert first is not None
    trained = programme.model_options
    other = load_model_options(**{**trained.model_dump(), "discount": 0.98})
    config = {"resources": {"training": {"config": other.model_dump()}}}
    assert programme.run("weekly_training", first.training_week.isoformat(), config).success
    with programme.installation.published() as connection:
        second = champion(connection)
        assert second is not None
        assert second.model_version != first.model_version
        roll_back(connection, note="a trial", rolled_back_at=NOON, run_id="by hand")
    result = programme.run("weekly_training", first.training_week.isoformat(), config)
    assert result.success
    (materialized,) = result.asset_materializations_for_node("model_version")
    assert "not promoted" in str(materialized.metadata["decision"].value)
    with programme.installation.published() as connection:
        after = champion(connection)
        assert after is not None
        assert after.model_version == first.model_version
    programme.catch_up()


def test_a_past_list_is_made_again_from_its_date_and_model_version_value_by_value(programme: Programme) -> None:
    day = CALL_DATE - timedelta(days=1)
    programme.catch_up(day, budget=300)
    programme.catch_up(budget=17, exploration_share=0.2)
    published = programme.published()
    with programme.installation.published() as connection:
        # Outcomes of the day before that arrive later must not change who waited for a call then.
        connection.execute(
            """
            INSERT INTO bandicoot.call_outcomes
            SELECT 'late-' || caregiver_id, caregiver_id, call_date, call_date + interval '1 hour', 'busy', 'test'
            FROM bandicoot.call_list WHERE call_date = %s
            """,
            (day,),
        )
        made = make_call_list_again(programme.installation, CALL_DATE)
        connection.execute("DELETE FROM bandicoot.call_outcomes WHERE recorded_by = 'test'")
    assert made.is_identical
    rows = made.with_ids.select(
        ["rank", "caregiver_id", "state", "whittle_index", "reason", "propensity", "model_version"]
    ).to_pylist()
    assert [tuple(row.values()) for row in rows] == published
    assert len(rows) == 17
    programme.catch_up()


def test_a_list_made_again_with_another_model_says_that_it_is_another(programme: Programme) -> None:
    with programme.installation.published() as connection:
        current = champion(connection)
        assert current is not None
        others = [model for model in list_models(connection) if model.model_version != current.model_version]
    made = make_call_list_again(programme.installation, CALL_DATE, model_version=others[0].model_version)
    assert made.is_identical is None
    assert set(made.call_list["model_version"].to_pylist()) == {others[0].model_version}


def test_a_list_whose_states_changed_is_not_made_again(programme: Programme) -> None:
    lake, day = programme.installation.lake, (CALL_DATE - timedelta(days=1)).isoformat()
    kept = lake.read(CAREGIVER_STATES, "caregiver_states", day)
    manifest = lake.require("caregiver_states", day)
    lake.write("caregiver_states", day, {"data": (CAREGIVER_STATES, kept.slice(1))}, facts=manifest.facts)
    with pytest.raises(InvalidInputError, match=f"caregiver_states/{day} has changed"):
        make_call_list_again(programme.installation, CALL_DATE)
    programme.catch_up()
    assert make_call_list_again(programme.installation, CALL_DATE).is_identical


def test_a_future_day_is_refused(programme: Programme) -> None:
    result = programme.run("daily_list", (CALL_DATE + timedelta(days=1)).isoformat())
    assert not result.success
    failure = result.all_events_of_type if False else [e for e in result.all_events if e.is_step_failure]
    assert "lies in the future" in str(failure[0].step_failure_data.error)


def test_a_truncated_partition_stops_the_list_and_names_what_to_materialize(programme: Programme) -> None:
    lake = programme.installation.lake
    day = (CALL_DATE - timedelta(days=1)).isoformat()
    entry = lake.require("caregiver_states", day).entries["data"]
    path = Path(str(lake.folder("caregiver_states", day) / entry.name))
    content = path.read_bytes()
    before = programme.published()
    path.write_bytes(content[: len(content) // 2])
    try:
        from bandicoot_core.pipeline.call_list import materialize_call_list

        with pytest.raises(CorruptPartitionError, match=f"materialize caregiver_states for {day} again"):
            materialize_call_list(programme.installation, CALL_DATE, programme.list_options())
    finally:
        path.write_bytes(content)
    assert programme.published() == before


def test_an_unreachable_source_stops_the_run_and_names_the_server(programme: Programme) -> None:
    settings = programme.installation.settings
    unreachable = Settings(
        home=settings.home,
        database_url=settings.database_url,
        source_url="postgresql://reader:secret@127.0.0.1:9/programme",
        lookback_days=settings.lookback_days,
    )
    broken = Programme(Installation(unreachable), programme.model_options, programme.clock)
    before = programme.published()
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1 port 9") as refused:
        broken.catch_up()
    assert "secret" not in str(refused.value)
    assert programme.published() == before


@pytest.mark.parametrize(
    ("redis", "status", "is_passed"),
    [
        ("none", "cache not configured", True),
        ("running", "filled", True),
        ("paused", "cache unreachable: consumers read PostgreSQL", False),
    ],
)
def test_with_and_without_redis_the_list_is_published_and_its_readers_have_the_same_answers(
    programme: Programme, redis_server: RedisServer, redis: str, status: str, is_passed: bool
) -> None:
    url = None if redis == "none" else SecretStr(redis_server.url)
    settings = programme.installation.settings.model_copy(update={"redis_url": url})
    cached = Programme(Installation(settings), programme.model_options, programme.clock)
    before = programme.published()
    try:
        if redis == "paused":
            redis_server.pause()
        result = cached.run("daily_list", CALL_DATE.isoformat(), {"ops": {"call_list": {"config": {"budget": 20}}}})
        assert result.success
        [check] = [found for found in result.get_asset_check_evaluations() if found.check_name == "cache_is_filled"]
        assert (check.passed, check.blocking, check.severity.value) == (is_passed, False, "WARN")
        made = [event.step_materialization_data.materialization for event in result.get_asset_materialization_events()]
        assert [made.asset_key.to_user_string() for made in made] == ["call_list", "published_call_list", "index_cache"]
        assert made[-1].metadata["status"].value == status
        with programme.installation.published() as connection:
            ids = [row[0] for row in connection.execute("SELECT caregiver_id FROM bandicoot.caregiver_states")]
            assert connection.execute("SELECT DISTINCT run_id FROM bandicoot.current_call_list").fetchall() == [
                (result.run_id,)
            ]
        assert programme.published() == before
        reader, stored = cached.installation.current, programme.installation.current
        assert reader.read_states(ids) == stored.read_states(ids)
        assert len(reader.read_states(ids).states) == len(ids) > 1000
        assert reader.read_states(ids).came_from == ("cache" if redis == "running" else "database")
        assert reader.read_indices().indices.equals(stored.read_indices().indices)
    finally:
        if redis == "paused":
            redis_server.resume()


def test_an_outcome_written_back_puts_the_caregiver_in_cool_down(programme: Programme) -> None:
    listed = programme.published()[0][1]
    day_after = date(2026, 11, 20)
    with programme.installation.published() as connection:
        connection.execute(
            "INSERT INTO bandicoot.call_outcomes VALUES ('t-1', %s, %s, %s, 'no_answer', 'test')",
            (listed, CALL_DATE, programme.clock()),
        )
    later = Programme(
        programme.installation, programme.model_options, clock=lambda: programme.clock() + timedelta(days=1)
    )
    try:
        later.catch_up(day_after, budget=100_000)
        assert listed not in {row[1] for row in later.published(day_after)}
        waiting = {row[1] for row in programme.published()} - {listed}
        assert waiting.isdisjoint({row[1] for row in later.published(day_after)})
    finally:
        with programme.installation.published() as connection:
            connection.execute("DELETE FROM bandicoot.call_outcomes WHERE call_id = 't-1'")


def test_what_the_call_centre_writes_back_decides_the_next_list_and_the_next_training(programme: Programme) -> None:
    """A week as a call centre lives it: read the list, call all but the last, record each call twice."""
    installation = programme.installation
    assert installation.settings.database_url is not None
    url = installation.settings.database_url.get_secret_value()
    with installation.published() as connection:  # other tests may have made lists of later days
        connection.execute("DELETE FROM bandicoot.call_list WHERE call_date > %s", (CALL_DATE,))
        connection.execute("DELETE FROM bandicoot.list_publications WHERE call_date > %s", (CALL_DATE,))
    programme.catch_up()
    with psycopg.connect(url) as centre:
        listed = [row[0] for row in centre.execute("SELECT caregiver_id FROM bandicoot.current_call_list").fetchall()]
        called, waiting = listed[:-1], listed[-1]
        for n_taken in (1, 0):
            for rank, caregiver_id in enumerate(called):
                taken = centre.execute(
                    "INSERT INTO bandicoot.call_outcomes VALUES (%s, %s, %s, %s, 'no_answer', 'centre 7') "
                    "ON CONFLICT (call_id) DO NOTHING",
                    (f"centre-7-{rank}", caregiver_id, CALL_DATE, NOON),
                )
                assert taken.rowcount == n_taken
    with installation.published() as connection:
        stored = stored_programme(connection)
        keys = dict(connection.execute("SELECT caregiver_id, caregiver_key FROM bandicoot.caregiver_keys").fetchall())
    assert stored is not None
    sunday = date(2026, 11, 22)
    extend_demo(installation, stored, sunday, on_progress=lambda *_: None)
    later = Programme(installation, programme.model_options, clock=lambda: NOON + timedelta(days=3))
    with suppress(RejectedModelError):  # whether the next model is better is not the question here
        later.catch_up(sunday)

    day = CALL_DATE.isoformat()
    attempts = installation.lake.read(CALLS, "calls", day)["caregiver_key"].to_pylist()
    assert set(attempts) >= {keys[each] for each in called}
    assert all(attempts.count(keys[each]) == 1 for each in called)
    next_list = {row[1] for row in later.published(sunday)}
    assert len(next_list) == 20
    assert not next_list & set(listed)
    with installation.published() as connection:
        pending = pending_keys(connection, call_date=sunday, pending_days=3)["caregiver_key"].to_pylist()
    assert keys[waiting] in pending
    assert not {keys[each] for each in called} & set(pending)
    history = installation.lake.read(ENGAGEMENT_HISTORY, "engagement_history", "2026-11-15").to_pylist()
    last_week = 1 << (installation.lake.require("engagement_history", "2026-11-15").facts["n_weeks"] - 1)
    in_last_week = {row["caregiver_key"] for row in history if row["called_weeks"] & last_week}
    assert {keys[each] for each in called} <= in_last_week
    assert keys[waiting] not in in_last_week
