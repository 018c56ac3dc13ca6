"""The record of rollouts, and what the migration to draws leaves of arms that were stored before it."""

from datetime import timedelta

import alembic.command
import psycopg
import pytest
import sqlalchemy
from published_rows import EXPERIMENT, NIGHT

from bandicoot_core.errors import InvalidInputError, InvalidSettingError
from bandicoot_core.stores.postgres.connections import connect
from bandicoot_core.stores.published.call_lists import migrate
from bandicoot_core.stores.published.experiments import Rollout, read_assignments, read_rollouts, record_rollout
from bandicoot_core.stores.published.keys import read_keys
from bandicoot_core.stores.published.migrations.upgrade import alembic_config, sqlalchemy_url

WEEK = timedelta(weeks=1)


def record(connection: psycopg.Connection, share: float, weeks: int, experiment: str = EXPERIMENT) -> bool:
    return record_rollout(connection, experiment=experiment, rollout_share=share, in_force_at=NIGHT + weeks * WEEK)


def test_a_share_is_recorded_when_it_changes_and_each_experiment_has_its_own(published: psycopg.Connection) -> None:
    assert [record(published, share, weeks) for weeks, share in enumerate((0.1, 0.1, 0.5, 0.5))] == [
        True,
        False,
        True,
        False,
    ]
    assert record(published, 0.5, 0, "winter")
    assert read_rollouts(published, experiment=EXPERIMENT) == [Rollout(NIGHT, 0.1), Rollout(NIGHT + 2 * WEEK, 0.5)]
    assert read_rollouts(published, experiment="winter") == [Rollout(NIGHT, 0.5)]
    assert read_rollouts(published, experiment="unknown") == []


def test_the_past_is_not_rewritten(published: psycopg.Connection) -> None:
    record(published, 0.1, 1)
    assert not record(published, 0.1, 0)
    with pytest.raises(InvalidInputError, match=r"a rollout of 0\.5 cannot come into force at .* one of 0\.1 did"):
        record(published, 0.5, 0)


@pytest.mark.parametrize("share", [0, 1.01])
def test_a_share_out_of_bounds_and_a_naive_instant_are_refused(published: psycopg.Connection, share: float) -> None:
    with pytest.raises(InvalidSettingError, match="must lie above 0"):
        record(published, share, 0)
    with pytest.raises(ValueError, match="has no time zone"):
        record_rollout(published, experiment="e", rollout_share=0.5, in_force_at=NIGHT.replace(tzinfo=None))


@pytest.mark.parametrize("control_share", [0.0, 0.1, 0.5])
def test_arms_that_were_stored_before_draws_existed_stay_as_they_were(database_url: str, control_share: float) -> None:
    engine = sqlalchemy.create_engine(sqlalchemy_url(database_url))
    with connect(database_url) as connection:
        connection.execute("CREATE SCHEMA bandicoot")
        with engine.begin() as session:
            config = alembic_config()
            config.attributes["connection"] = session
            alembic.command.upgrade(config, "0001")
        connection.execute(
            """
            INSERT INTO bandicoot.caregiver_keys (caregiver_id, first_seen_at)
            SELECT 'CG-' || number, %(at)s FROM generate_series(1, 3000) AS number;
            INSERT INTO bandicoot.experiment_assignments (experiment, caregiver_key, ab_arm, assigned_at)
            SELECT 'demo', caregiver_key, CASE
                WHEN ('x' || substr(md5('demo:' || caregiver_id), 1, 8))::bit(32)::bigint / 4294967296.0 < %(share)s
                THEN 'control' ELSE 'treatment' END, %(at)s FROM bandicoot.caregiver_keys
            """.replace("%(at)s", f"'{NIGHT.isoformat()}'").replace("%(share)s", str(control_share))
        )
        before = connection.execute(
            "SELECT ab_arm FROM bandicoot.experiment_assignments ORDER BY caregiver_key"
        ).fetchall()
        migrate(database_url)
        (rollout,) = read_rollouts(connection, experiment="demo")
        after = read_keys(connection, experiment="demo")["ab_arm"].to_pylist()
        drawn = read_assignments(connection, experiment="demo")
    engine.dispose()
    assert after == [arm for (arm,) in before]
    assert rollout == Rollout(NIGHT, pytest.approx(1 - control_share, abs=1e-3))
    assert control_share == 0 or rollout.rollout_share == 1 - control_share
    assert set(drawn["stratum"].to_pylist()) == {"drawn by hash"}
    assert len(set(drawn["draw"].to_pylist())) == 3000
