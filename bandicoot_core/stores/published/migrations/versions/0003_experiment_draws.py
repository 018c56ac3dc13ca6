"""Experiments by draw: every assignment has its stratum, block and draw, and the rollout shares have a record.

An arm follows from a caregiver's draw and the share in force, so that a rollout can be raised without drawing anybody
again. Who was assigned before keeps her arm: she was in control when h = first 8 hex digits of
md5(experiment:caregiver_id) / 2**32 lay below the control share c, hence in treatment when 1 - h is below 1 - c; her
draw is 1 - h, half a step inward. All of them form one block of a stratum of their own, within which the hash drew
everybody independently.

A downgrade writes down the arms that follow from draws and shares, and leaves both where they are: the older release
does not see them. It gives new caregivers arms of its own, by the hash; an upgrade takes the draws that are there and
completes them as it did the first time.
"""

from alembic import op
from sqlalchemy import text

from bandicoot_core.errors import InvalidInputError

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_STATEMENTS = (
    """
    CREATE TABLE IF NOT EXISTS bandicoot.experiment_rollouts (
        experiment text NOT NULL CHECK (experiment <> ''),
        in_force_at timestamptz NOT NULL,
        rollout_share double precision NOT NULL CHECK (rollout_share > 0 AND rollout_share <= 1),
        PRIMARY KEY (experiment, in_force_at)
    )
    """,
    """
    ALTER TABLE bandicoot.experiment_assignments
        ADD COLUMN IF NOT EXISTS stratum text,
        ADD COLUMN IF NOT EXISTS block integer,
        ADD COLUMN IF NOT EXISTS draw double precision
    """,
    """
    UPDATE bandicoot.experiment_assignments AS assigned
    SET stratum = 'drawn by hash',
        block = 0,
        draw = 1 - (('x' || substr(md5(assigned.experiment || ':' || known.caregiver_id), 1, 8))::bit(32)::bigint + 0.5)
            / 4294967296.0
    FROM bandicoot.caregiver_keys AS known
    WHERE known.caregiver_key = assigned.caregiver_key AND assigned.draw IS NULL
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
    WHERE NOT EXISTS (SELECT FROM bandicoot.experiment_rollouts AS kept WHERE kept.experiment = seen.experiment)
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

_WITHOUT_SHARE = """
    SELECT min(experiment) FROM bandicoot.experiment_assignments AS assigned
    WHERE NOT EXISTS (SELECT FROM bandicoot.experiment_rollouts AS share WHERE share.experiment = assigned.experiment)
"""

_DOWNGRADE = (
    """
    ALTER TABLE bandicoot.experiment_assignments
        DROP CONSTRAINT experiment_assignments_draw,
        DROP CONSTRAINT experiment_assignments_block,
        ALTER COLUMN stratum DROP NOT NULL,
        ALTER COLUMN block DROP NOT NULL,
        ALTER COLUMN draw DROP NOT NULL,
        ADD COLUMN ab_arm text CHECK (ab_arm IN ('treatment', 'control'))
    """,
    """
    UPDATE bandicoot.experiment_assignments AS assigned
    SET ab_arm = CASE WHEN assigned.draw < newest.rollout_share THEN 'treatment' ELSE 'control' END
    FROM (
        SELECT DISTINCT ON (experiment) experiment, rollout_share FROM bandicoot.experiment_rollouts
        ORDER BY experiment, in_force_at DESC
    ) AS newest
    WHERE newest.experiment = assigned.experiment
    """,
    "ALTER TABLE bandicoot.experiment_assignments ALTER COLUMN ab_arm SET NOT NULL",
)


def upgrade() -> None:
    """Add draws and rollouts, or take back those that a downgrade has left; arms that were stored stay as they were."""
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Store the arms in force; draws and rollouts stay.

    InvalidInputError when an experiment has draws and no rollout on record: nobody in it has an arm.
    """
    experiment = op.get_bind().scalar(text(_WITHOUT_SHARE))
    if experiment is not None:
        raise InvalidInputError(
            f"revision 0003 is not undone: experiment {experiment!r} has draws, but no rollout says which arms they "
            "mean; materialize caregivers once with BANDICOOT_EXPERIMENT set to it, which records one, then run again"
        )
    for statement in _DOWNGRADE:
        op.execute(statement)
