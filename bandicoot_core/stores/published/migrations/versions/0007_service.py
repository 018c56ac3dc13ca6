"""What the service on request needs: keys of its clients, each caregiver's own indices, and a count of noted opens.

A caregiver's own index is kept in both states, so that an open that is noted during the day changes her place without
asking the model. Both are empty until the next publication.
"""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_KEYS = """
    CREATE TABLE IF NOT EXISTS bandicoot.api_keys (
        key_id text PRIMARY KEY CHECK (key_id ~ '^[a-z0-9]{12}$'),
        client text NOT NULL CHECK (client <> ''),
        scopes text NOT NULL CHECK (scopes ~ '^(read|call|admin)( (read|call|admin))*$'),
        tier text NOT NULL CHECK (tier IN ('fast', 'standard')),
        salt text NOT NULL CHECK (salt ~ '^[0-9a-f]{32}$'),
        secret_hash text NOT NULL CHECK (secret_hash ~ '^[0-9a-f]{64}$'),
        created_at timestamptz NOT NULL,
        expires_at timestamptz CHECK (expires_at > created_at),
        revoked_at timestamptz
    )
"""

_OWN_INDICES = """
    ALTER TABLE bandicoot.caregiver_states
        ADD COLUMN IF NOT EXISTS own_index_u double precision,
        ADD COLUMN IF NOT EXISTS own_index_r double precision
"""

_NOTED = """
    CREATE TABLE IF NOT EXISTS bandicoot.noted_opens (
        is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
        n_batches bigint NOT NULL CHECK (n_batches >= 0)
    )
"""

_DROP = """
    DO $$ BEGIN
        IF NOT EXISTS (SELECT FROM bandicoot.api_keys) THEN
            DROP TABLE bandicoot.api_keys;
        END IF;
        DROP TABLE bandicoot.noted_opens;
        ALTER TABLE bandicoot.caregiver_states DROP COLUMN own_index_u, DROP COLUMN own_index_r;
    END $$
"""


def upgrade() -> None:
    """Add the tables and columns, unless a downgrade left them."""
    for statement in (_KEYS, _OWN_INDICES, _NOTED):
        op.execute(statement)


def downgrade() -> None:
    """Remove what the next publication makes again; keys stay, and an older release ignores them."""
    op.execute(_DROP)
