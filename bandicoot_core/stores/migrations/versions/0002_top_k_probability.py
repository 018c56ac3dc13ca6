"""Call lists say what a call is worth to the caregiver herself, and how sure it is that she is among the true top K.

Both columns are empty in lists that were published before. They stand at the end of the table and of the view, so that
what readers knew of either stays where it was.
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_STATEMENTS = (
    """
    ALTER TABLE bandicoot.call_list
        ADD COLUMN own_index double precision,
        ADD COLUMN p_top_k double precision CHECK (p_top_k BETWEEN 0 AND 1)
    """,
    # A view keeps its readers' rights only when it is replaced, never when it is dropped.
    """
    CREATE OR REPLACE VIEW bandicoot.current_call_list AS
    SELECT
        call_date, rank, caregiver_id, district, state, cluster_id, whittle_index, index_low, index_high, reason,
        days_since_last_open, last_call_date, ab_arm, propensity, model_version, run_id, published_at,
        own_index, p_top_k
    FROM bandicoot.call_list
    WHERE call_date = (SELECT max(call_date) FROM bandicoot.list_publications)
    ORDER BY rank
    """,
)


def upgrade() -> None:
    """Add the columns to the table and to the view."""
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Refuse: what the lists said would be lost."""
    raise NotImplementedError(
        "revision 0002 is not undone: dropping own_index and p_top_k would lose what published lists said; an older "
        "release reads the schema as it is, or restore a backup"
    )
