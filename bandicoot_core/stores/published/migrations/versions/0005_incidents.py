"""Incidents are kept: what a person is told once, and told again when it is over.

Which kinds there are is not frozen here: a kind that a release adds needs no migration.
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_TABLE = """
    CREATE TABLE IF NOT EXISTS bandicoot.incidents (
        incident_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        kind text NOT NULL CHECK (kind <> ''),
        asset text NOT NULL CHECK (asset <> ''),
        partition text NOT NULL,
        cause text NOT NULL,
        next_step text NOT NULL,
        severity text NOT NULL CHECK (severity IN ('error', 'warning')),
        opened_at timestamptz NOT NULL,
        told_at timestamptz,
        told_channels text NOT NULL DEFAULT '',
        recovered_at timestamptz,
        recovery_told_at timestamptz,
        recovery_told_channels text NOT NULL DEFAULT '',
        CONSTRAINT incidents_recovered_at CHECK (recovered_at >= opened_at)
    )
"""

_ONE_OPEN = """
    CREATE UNIQUE INDEX IF NOT EXISTS incidents_open ON bandicoot.incidents (kind, asset, partition)
    WHERE recovered_at IS NULL
"""

_DROP_EMPTY = """
    DO $$ BEGIN
        IF NOT EXISTS (SELECT FROM bandicoot.incidents) THEN
            DROP TABLE bandicoot.incidents;
        END IF;
    END $$
"""


def upgrade() -> None:
    """Add the table, unless a downgrade left it, and the index that lets an incident be open once."""
    op.execute(_TABLE)
    op.execute(_ONE_OPEN)


def downgrade() -> None:
    """Remove the table when it is empty; else it stays for the next upgrade, and an older release does not see it."""
    op.execute(_DROP_EMPTY)
