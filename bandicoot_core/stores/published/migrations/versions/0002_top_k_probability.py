"""Call lists say what a call is worth to the caregiver herself, and how sure it is that she is among the true top K.

Both columns are empty in lists that were published before. They stand at the end of the table and of the view, so that
what readers knew of either stays where it was. A downgrade leaves them there: an older release names the columns it
reads and writes, so it works beside them, and what published lists said is not lost.
"""

from alembic import op
from sqlalchemy import text

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_IS_KEPT = """
    SELECT EXISTS (
        SELECT FROM pg_attribute
        WHERE attrelid = 'bandicoot.call_list'::regclass AND attname = 'own_index' AND NOT attisdropped
    )
"""

_COLUMNS = """
    ALTER TABLE bandicoot.call_list
        ADD COLUMN own_index double precision,
        ADD COLUMN p_top_k double precision CHECK (p_top_k BETWEEN 0 AND 1)
"""

# A view keeps its readers' rights only when it is replaced, never when it is dropped.
_VIEW = """
    CREATE OR REPLACE VIEW bandicoot.current_call_list AS
    SELECT
        call_date, rank, caregiver_id, district, state, cluster_id, whittle_index, index_low, index_high, reason,
        days_since_last_open, last_call_date, ab_arm, propensity, model_version, run_id, published_at,
        own_index, p_top_k
    FROM bandicoot.call_list
    WHERE call_date = (SELECT max(call_date) FROM bandicoot.list_publications)
    ORDER BY rank
"""


def upgrade() -> None:
    """Add the columns to the table and to the view, unless a downgrade has left them there."""
    if not op.get_bind().scalar(text(_IS_KEPT)):
        op.execute(_COLUMNS)
    op.execute(_VIEW)


def downgrade() -> None:
    """Nothing to undo: the columns stay, at the end and empty in the lists of an older release."""
