"""At which revision schema `bandicoot` is, who owns it, and whether this user may change that. Loads no Alembic."""

from dataclasses import dataclass

import psycopg
from psycopg.rows import class_row

from bandicoot_core.errors import InvalidInputError, OutdatedSchemaError
from bandicoot_core.stores.postgres.connections import reading
from bandicoot_core.stores.published.migrations import HEAD_REVISION
from bandicoot_core.stores.published.tables import SCHEMA

# By the catalogue: naming a table in a schema that the user may not enter is an error already.
_STATE = """
    SELECT space.nspname IS NOT NULL AS is_there,
        current_user::text AS user_name,
        pg_get_userbyid(coalesce(version.relowner, space.nspowner))::text AS owner,
        CASE WHEN space.oid IS NULL THEN has_database_privilege(current_database(), 'CREATE')
             ELSE has_schema_privilege(space.oid, 'CREATE')
                AND (version.oid IS NULL OR pg_has_role(version.relowner, 'USAGE')) END AS may_migrate,
        version.oid IS NOT NULL AS is_versioned,
        coalesce(has_schema_privilege(space.oid, 'USAGE') AND has_table_privilege(version.oid, 'SELECT'), true)
            AS may_read
    FROM (VALUES (1)) AS always (row)
    LEFT JOIN pg_namespace AS space ON space.nspname = %s
    LEFT JOIN pg_class AS version ON version.relnamespace = space.oid AND version.relname = 'alembic_version'
"""


@dataclass(frozen=True)
class _Found:
    is_there: bool
    user_name: str
    owner: str | None
    may_migrate: bool
    is_versioned: bool
    may_read: bool


@dataclass(frozen=True)
class SchemaState:
    """Where the published schema stands; `revision` and `owner` are None where there is none yet."""

    revision: str | None
    owner: str | None
    user_name: str
    may_migrate: bool

    @property
    def is_current(self) -> bool:
        """Whether it is at the revision that this release reads and writes."""
        return self.revision == HEAD_REVISION


def read_state(connection: psycopg.Connection) -> SchemaState:
    """Where the schema stands; InvalidInputError when this user may not even see that."""
    with reading(connection, f"looking at schema {SCHEMA}"):
        with connection.cursor(row_factory=class_row(_Found)) as cursor:
            found = cursor.execute(_STATE, (SCHEMA,)).fetchone()
        assert found is not None  # noqa: S101 - the query has one row
        if not found.may_read:
            raise InvalidInputError(
                f"user {found.user_name} may not read schema {SCHEMA}; connect as a member of bandicoot_writer, or "
                f"have {found.owner}, who owns it, run `bandicoot database roles`"
            )
        row = None
        if found.is_versioned:
            row = connection.execute("SELECT version_num FROM bandicoot.alembic_version").fetchone()
    return SchemaState(row[0] if row else None, found.owner, found.user_name, found.may_migrate)


def require_migratable(state: SchemaState) -> None:
    """Nothing when the user may migrate; else OutdatedSchemaError says who may, and by which command."""
    if state.may_migrate:
        return
    who = f"{state.owner}, who owns it," if state.owner else "a user who may create schemas in this database"
    if state.revision is not None and state.revision > HEAD_REVISION:
        remedy = f"install the release that has it, or have {who} downgrade it with that release"
    else:
        remedy = f"have {who} run `bandicoot database upgrade`"
    raise OutdatedSchemaError(
        f"schema {SCHEMA} is at revision {state.revision or 'none'}, expected {HEAD_REVISION}, and user "
        f"{state.user_name} may not change that; {remedy}"
    )
