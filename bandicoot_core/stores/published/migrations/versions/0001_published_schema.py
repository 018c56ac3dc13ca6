"""The published schema: keys, call lists, outcomes, current states, models and experiment assignments.

Caregiver ids come from outside and may be of any length, which a B-tree index does not take (2,700 bytes). Their
uniqueness is therefore kept by hash: an exclusion constraint where the id stands alone, which also serves look-ups by
id, and a unique index on its md5 within a day's list.
"""

from alembic import op
from sqlalchemy import text

from bandicoot_core.errors import InvalidInputError

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_STATEMENTS = (
    """
    CREATE TABLE bandicoot.caregiver_keys (
        caregiver_key bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        caregiver_id text NOT NULL CHECK (caregiver_id <> ''),
        first_seen_at timestamptz NOT NULL,
        CONSTRAINT caregiver_keys_caregiver_id_once EXCLUDE USING hash (caregiver_id WITH =)
    )
    """,
    """
    CREATE TABLE bandicoot.experiment_assignments (
        experiment text NOT NULL CHECK (experiment <> ''),
        caregiver_key bigint NOT NULL,
        ab_arm text NOT NULL CHECK (ab_arm IN ('treatment', 'control')),
        assigned_at timestamptz NOT NULL,
        PRIMARY KEY (experiment, caregiver_key)
    )
    """,
    """
    CREATE TABLE bandicoot.call_list (
        call_date date NOT NULL,
        rank integer NOT NULL CHECK (rank >= 1),
        caregiver_id text NOT NULL,
        district text,
        state text NOT NULL CHECK (state IN ('U', 'R')),
        cluster_id smallint NOT NULL CHECK (cluster_id >= 0),
        whittle_index double precision NOT NULL,
        index_low double precision NOT NULL,
        index_high double precision NOT NULL,
        reason text NOT NULL,
        days_since_last_open smallint CHECK (days_since_last_open >= 1),
        last_call_date date,
        ab_arm text NOT NULL CHECK (ab_arm IN ('treatment', 'control')),
        propensity double precision NOT NULL CHECK (propensity BETWEEN 0 AND 1),
        model_version text NOT NULL,
        run_id text NOT NULL,
        published_at timestamptz NOT NULL,
        PRIMARY KEY (call_date, rank)
    )
    """,
    "CREATE UNIQUE INDEX call_list_caregiver_once ON bandicoot.call_list (call_date, md5(caregiver_id))",
    """
    CREATE TABLE bandicoot.list_publications (
        call_date date PRIMARY KEY,
        n_rows integer NOT NULL,
        budget integer NOT NULL,
        model_version text NOT NULL,
        run_id text NOT NULL,
        published_at timestamptz NOT NULL,
        states_as_of_date date,
        CONSTRAINT list_publications_within_budget CHECK (n_rows BETWEEN 0 AND budget)
    )
    """,
    """
    CREATE VIEW bandicoot.current_call_list AS
    SELECT
        call_date, rank, caregiver_id, district, state, cluster_id, whittle_index, index_low, index_high, reason,
        days_since_last_open, last_call_date, ab_arm, propensity, model_version, run_id, published_at
    FROM bandicoot.call_list
    WHERE call_date = (SELECT max(call_date) FROM bandicoot.list_publications)
    ORDER BY rank
    """,
    """
    CREATE TABLE bandicoot.call_outcomes (
        call_id text PRIMARY KEY CHECK (call_id <> '' AND octet_length(call_id) <= 1000),
        caregiver_id text NOT NULL CHECK (caregiver_id <> ''),
        call_date date NOT NULL,
        attempted_at timestamptz NOT NULL,
        outcome text NOT NULL CHECK (outcome IN ('reached', 'no_answer', 'busy', 'wrong_number', 'refused')),
        recorded_by text NOT NULL
    )
    """,
    "CREATE INDEX call_outcomes_attempted_at ON bandicoot.call_outcomes (attempted_at)",
    "CREATE INDEX call_outcomes_listed ON bandicoot.call_outcomes (call_date, md5(caregiver_id))",
    # Room in each page keeps the nightly updates within their pages: no index is touched and no bloat remains.
    """
    CREATE TABLE bandicoot.caregiver_states (
        caregiver_id text NOT NULL,
        district text,
        state text NOT NULL CHECK (state IN ('U', 'R')),
        last_open_date date,
        last_call_date date,
        warm_up_end_date date NOT NULL,
        status text NOT NULL,
        ab_arm text NOT NULL CHECK (ab_arm IN ('treatment', 'control')),
        cluster_id smallint CHECK (cluster_id >= 0),
        as_of_date date NOT NULL,
        CONSTRAINT caregiver_states_caregiver_id_once EXCLUDE USING hash (caregiver_id WITH =)
    ) WITH (fillfactor = 85)
    """,
    """
    CREATE TABLE bandicoot.model_versions (
        model_version text PRIMARY KEY CHECK (model_version <> ''),
        training_week date NOT NULL CHECK (extract(dow FROM training_week) = 0),
        status text NOT NULL CHECK (status IN ('candidate', 'champion', 'retired', 'rejected')),
        checks jsonb NOT NULL,
        recipe jsonb NOT NULL,
        created_at timestamptz NOT NULL,
        promoted_at timestamptz,
        run_id text NOT NULL,
        promotion_run_id text,
        note text
    )
    """,
    """
    CREATE UNIQUE INDEX model_versions_one_champion ON bandicoot.model_versions (status)
    WHERE status = 'champion'
    """,
    """
    CREATE TABLE bandicoot.clusters (
        model_version text NOT NULL REFERENCES bandicoot.model_versions,
        cluster_id smallint NOT NULL CHECK (cluster_id >= 0),
        p_passive_u double precision NOT NULL CHECK (p_passive_u BETWEEN 0 AND 1),
        p_passive_r double precision NOT NULL CHECK (p_passive_r BETWEEN 0 AND 1),
        n_caregivers bigint NOT NULL,
        n_tuples bigint NOT NULL,
        PRIMARY KEY (model_version, cluster_id)
    )
    """,
    """
    CREATE TABLE bandicoot.whittle_indices (
        model_version text NOT NULL REFERENCES bandicoot.model_versions,
        cluster_id smallint NOT NULL CHECK (cluster_id >= 0),
        state text NOT NULL CHECK (state IN ('U', 'R')),
        whittle_index double precision NOT NULL,
        index_low double precision NOT NULL,
        index_high double precision NOT NULL,
        is_indexable boolean NOT NULL,
        p_passive double precision NOT NULL CHECK (p_passive BETWEEN 0 AND 1),
        p_active double precision NOT NULL CHECK (p_active BETWEEN 0 AND 1),
        PRIMARY KEY (model_version, cluster_id, state)
    )
    """,
)


def upgrade() -> None:
    """Create the tables, the view and their indexes."""
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Drop the view and the tables, whatever revision made them, if they are empty.

    InvalidInputError when one holds rows: without the keys the lake can no longer be read, and lists, outcomes and
    draws are nowhere else.
    """
    connection = op.get_bind()
    tables = connection.scalars(
        text(
            "SELECT quote_ident(relname) FROM pg_class WHERE relnamespace = to_regnamespace('bandicoot') "
            "AND relkind = 'r' AND relname <> 'alembic_version' ORDER BY relname"
        )
    ).all()
    filled = [
        name
        for name in tables
        # allowed: sql-from-values, quote_ident has quoted the names
        if connection.scalar(text(f"SELECT EXISTS (SELECT FROM bandicoot.{name})"))  # noqa: S608
    ]
    if filled:
        raise InvalidInputError(
            f"revision 0001 is not undone: the tables {', '.join(filled)} hold rows that are kept nowhere else, and "
            "without caregiver_keys no partition of the lake can be read; stay at 0001, or drop schema bandicoot "
            "together with the lake"
        )
    op.execute("DROP VIEW bandicoot.current_call_list")
    # allowed: sql-from-values, quote_ident has quoted the names
    op.execute(f"DROP TABLE {', '.join(f'bandicoot.{name}' for name in tables)}")
