"""Caregivers can be forgotten: who was is known by a keyed hash alone, and their outcomes are no longer taken.

The secret of the hash is made here, once for an installation; a copy or a backup of the database carries it along.
"""

import secrets

from alembic import op
from sqlalchemy import text

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_BLOCK_BYTES = 64

_TABLES = (
    """
    CREATE TABLE bandicoot.suppression_secret (
        is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
        inner_key text NOT NULL CHECK (inner_key ~ '^[0-9a-f]{128}$'),
        outer_key text NOT NULL CHECK (outer_key ~ '^[0-9a-f]{128}$')
    )
    """,
    """
    CREATE TABLE bandicoot.forgettings (
        suppression_hash text PRIMARY KEY CHECK (suppression_hash ~ '^[0-9a-f]{64}$'),
        caregiver_key bigint,
        state text NOT NULL CHECK (state IN ('requested', 'done')),
        requested_at timestamptz NOT NULL,
        requested_by text NOT NULL CHECK (requested_by <> ''),
        reason text NOT NULL,
        done_at timestamptz,
        removed_rows jsonb NOT NULL,
        CONSTRAINT forgettings_done_at CHECK ((state = 'done') = (done_at IS NOT NULL))
    )
    """,
    """
    CREATE TABLE bandicoot.forgotten_draws (
        experiment text NOT NULL CHECK (experiment <> ''),
        stratum text NOT NULL,
        n_draws bigint NOT NULL CHECK (n_draws >= 1),
        PRIMARY KEY (experiment, stratum)
    )
    """,
)

# It runs with the rights of its owner: who may record outcomes need not be able to read who was forgotten.
_TRIGGER = (
    """
    CREATE FUNCTION bandicoot.leave_out_forgotten() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    BEGIN
        IF EXISTS (
            SELECT FROM bandicoot.forgettings AS forgotten, bandicoot.suppression_secret AS secret
            WHERE forgotten.suppression_hash = encode(sha256(decode(secret.outer_key, 'hex')
                || sha256(decode(secret.inner_key, 'hex') || convert_to(NEW.caregiver_id, 'UTF8'))), 'hex')
        ) THEN
            RETURN NULL;
        END IF;
        RETURN NEW;
    END $$
    """,
    "REVOKE ALL ON FUNCTION bandicoot.leave_out_forgotten() FROM PUBLIC",
    """
    CREATE TRIGGER leave_out_forgotten BEFORE INSERT ON bandicoot.call_outcomes
    FOR EACH ROW EXECUTE FUNCTION bandicoot.leave_out_forgotten()
    """,
)

_REFUSE_WHILE_NEEDED = """
    DO $$ BEGIN
        IF EXISTS (SELECT FROM bandicoot.forgettings) THEN
            RAISE EXCEPTION 'revision 0004 is not undone: caregivers were forgotten and would come back without it'
            USING HINT = 'keep this release, or empty bandicoot.forgettings if they may come back';
        END IF;
    END $$
"""


def upgrade() -> None:
    """Add the tables, a fresh secret, and the trigger."""
    for statement in _TABLES:
        op.execute(statement)
    # HMAC (RFC 2104) with SHA-256: PostgreSQL has the hash and no exclusive or, so that the padded keys are stored.
    secret = secrets.token_bytes(_BLOCK_BYTES)
    op.execute(
        text("INSERT INTO bandicoot.suppression_secret (inner_key, outer_key) VALUES (:inner, :outer)").bindparams(
            inner=bytes(byte ^ 0x36 for byte in secret).hex(), outer=bytes(byte ^ 0x5C for byte in secret).hex()
        )
    )
    for statement in _TRIGGER:
        op.execute(statement)


def downgrade() -> None:
    """Remove them; refused while anybody is forgotten, since she would come back with the next extraction."""
    op.execute(_REFUSE_WHILE_NEEDED)
    op.execute("DROP TRIGGER leave_out_forgotten ON bandicoot.call_outcomes")
    op.execute("DROP FUNCTION bandicoot.leave_out_forgotten()")
    for table in ("forgotten_draws", "forgettings", "suppression_secret"):
        op.execute(f"DROP TABLE bandicoot.{table}")  # allowed: sql-from-values, the names stand above
