"""Messages that are no event are kept with the reason, and files of events are remembered when they were taken in.

Who had asked to be forgotten is not among the letters: events of a forgotten caregiver are dropped before.
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_LETTERS = """
    CREATE TABLE IF NOT EXISTS bandicoot.dead_letters (
        letter_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        source text NOT NULL CHECK (source <> ''),
        position text NOT NULL,
        kind text NOT NULL CHECK (kind IN ('unreadable', 'refused', 'unknown_caregiver')),
        column_name text,
        found text,
        reason text NOT NULL,
        event_type text,
        caregiver_id text,
        occurred_at timestamptz,
        message_id text,
        received_at timestamptz NOT NULL,
        n_received integer NOT NULL DEFAULT 1 CHECK (n_received >= 1),
        CONSTRAINT dead_letters_place UNIQUE (source, position),
        CONSTRAINT dead_letters_waiting CHECK (
            (kind = 'unknown_caregiver') = (caregiver_id IS NOT NULL)
            AND (caregiver_id IS NULL) = (event_type IS NULL) AND (caregiver_id IS NULL) = (occurred_at IS NULL)
        )
    )
"""

# Hashed: ids may be longer than an index entry.
_OF_CAREGIVER = """
    CREATE INDEX IF NOT EXISTS dead_letters_caregiver ON bandicoot.dead_letters USING hash (caregiver_id)
    WHERE caregiver_id IS NOT NULL
"""

_RECENT = "CREATE INDEX IF NOT EXISTS dead_letters_received ON bandicoot.dead_letters (received_at)"

_FILES = """
    CREATE TABLE IF NOT EXISTS bandicoot.ingested_files (
        uri text PRIMARY KEY,
        version text NOT NULL,
        n_records bigint NOT NULL CHECK (n_records >= 0),
        n_new bigint NOT NULL CHECK (n_new >= 0),
        n_dead bigint NOT NULL CHECK (n_dead >= 0),
        ingested_at timestamptz NOT NULL
    )
"""

_DROP_EMPTY = """
    DO $$ BEGIN
        IF NOT EXISTS (SELECT FROM bandicoot.dead_letters) THEN
            DROP TABLE bandicoot.dead_letters;
        END IF;
        IF NOT EXISTS (SELECT FROM bandicoot.ingested_files) THEN
            DROP TABLE bandicoot.ingested_files;
        END IF;
    END $$
"""


def upgrade() -> None:
    """Add both tables, unless a downgrade left them."""
    for statement in (_LETTERS, _OF_CAREGIVER, _RECENT, _FILES):
        op.execute(statement)


def downgrade() -> None:
    """Remove what is empty; the rest stays for the next upgrade, and an older release does not see it."""
    op.execute(_DROP_EMPTY)
