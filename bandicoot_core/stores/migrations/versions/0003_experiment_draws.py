"""Experiments by draw: every assignment has its stratum, block and draw, and the rollout shares have a record.

An arm follows from a caregiver's draw and the share in force, so that a rollout can be raised without drawing anybody
again. Who was assigned before keeps her arm: she was in control when h = first 8 hex digits of
md5(experiment:caregiver_id) / 2**32 lay below the control share c, hence in treatment when 1 - h is below 1 - c; her
draw is 1 - h, half a step inward. All of them form one block of a stratum of their own, within which the hash drew
everybody independently.
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_STATEMENTS = (
    """
    CREATE TABLE bandicoot.experiment_rollouts (
        experiment text NOT NULL CHECK (experiment <> ''),
        in_force_at timestamptz NOT NULL,
        rollout_share double precision NOT NULL CHECK (rollout_share > 0 AND rollout_share <= 1),
        PRIMARY KEY (experiment, in_force_at)
    )
    """,
    """
    ALTER TABLE bandicoot.experiment_assignments
        ADD COLUMN stratum text, ADD COLUMN block integer, ADD COLUMN draw double precision
    """,
    """
    UPDATE bandicoot.experiment_assignments AS assigned
    SET stratum = 'drawn by hash',
        block = 0,
        draw = 1 - (('x' || substr(md5(assigned.experiment || ':' || known.caregiver_id), 1, 8))::bit(32)::bigint + 0.5)
            / 4294967296.0
    FROM bandicoot.caregiver_keys AS known
    WHERE known.caregiver_key = assigned.caregiver_key
    """,
    # The old share is not stored anywhere: any number between the arms' draws tells them apart as it did. A round one
    # is taken where there is one, since the setting was round.
    """
    INSERT INTO bandicoot.experiment_rollouts (experiment, in_force_at, rollout_share)
    SELECT experiment, since,
        CASE WHEN round(((low + high) / 2)::numeric, 3)::double precision > low
                AND round(((low + high) / 2)::numeric, 3)::double precision <= high
            THEN round(((low + high) / 2)::numeric, 3)::double precision
            ELSE (low + high) / 2 END
    FROM (
        SELECT experiment, min(assigned_at) AS since,
            coalesce(max(draw) FILTER (WHERE ab_arm = 'treatment'), 0) AS low,
            coalesce(min(draw) FILTER (WHERE ab_arm = 'control'), 1) AS high
        FROM bandicoot.experiment_assignments GROUP BY experiment
    ) AS seen
    """,
    """
    ALTER TABLE bandicoot.experiment_assignments
        DROP COLUMN ab_arm,
        ALTER COLUMN stratum SET NOT NULL,
        ALTER COLUMN block SET NOT NULL,
        ALTER COLUMN draw SET NOT NULL,
        ADD CONSTRAINT experiment_assignments_draw CHECK (draw > 0 AND draw < 1),
        ADD CONSTRAINT experiment_assignments_block CHECK (block >= 0)
    """,
)


def upgrade() -> None:
    """Add draws and rollouts; arms that were stored stay as they were."""
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Refuse: the draws, and with them the comparison of the arms, would be lost."""
    raise NotImplementedError(
        "revision 0003 is not undone: dropping the draws of an experiment would lose who was in which arm; restore a "
        "backup instead"
    )
