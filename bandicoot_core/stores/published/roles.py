"""Who may do what in schema `bandicoot`: five roles with least privilege, compared with the database and applied.

The roles cannot log in: an administrator makes users and grants them a role. What is not listed here is refused, to
tables added later as well, until a line here grants it. The tables' owner, who migrates, needs no role. Rights in
other schemas do not belong here, except the one of Dagster's storage beside this one.
"""

from collections.abc import Mapping
from typing import NamedTuple

import psycopg
from psycopg import sql

from bandicoot_core.errors import InvalidInputError
from bandicoot_core.stores.postgres.connections import Lock, limit, lock, whole_transaction
from bandicoot_core.stores.published.tables import SCHEMA

READER, CALLER, WRITER, SERVICE = "bandicoot_reader", "bandicoot_caller", "bandicoot_writer", "bandicoot_service"
WATCHER = "bandicoot_watcher"

_READS: Mapping[str, tuple[str, ...]] = {"current_call_list": ("SELECT",)}


def _columns(*names: str) -> tuple[str, ...]:
    return tuple(f"SELECT ({name})" for name in names)


RIGHTS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    READER: _READS,
    # ON CONFLICT (call_id) DO NOTHING reads that one column; no other of an outcome can be read.
    CALLER: {**_READS, "call_outcomes": ("INSERT", "SELECT (call_id)")},
    WRITER: {
        **_READS,
        "alembic_version": ("SELECT",),
        # Without DELETE nobody could be forgotten.
        "caregiver_keys": ("SELECT", "INSERT", "DELETE"),
        "experiment_assignments": ("SELECT", "INSERT", "DELETE"),
        "experiment_rollouts": ("SELECT", "INSERT"),
        "call_list": ("SELECT", "INSERT", "DELETE"),
        "list_publications": ("SELECT", "INSERT", "UPDATE"),
        "call_outcomes": ("SELECT", "DELETE"),
        "caregiver_states": ("SELECT", "INSERT", "UPDATE", "DELETE"),
        "model_versions": ("SELECT", "INSERT", "UPDATE"),
        "clusters": ("SELECT", "INSERT"),
        "whittle_indices": ("SELECT", "INSERT"),
        "suppression_secret": ("SELECT",),
        "forgettings": ("SELECT", "INSERT", "UPDATE"),
        "forgotten_draws": ("SELECT", "INSERT", "UPDATE"),
        "incidents": ("SELECT", "INSERT", "UPDATE"),
        "dead_letters": ("SELECT", "INSERT", "UPDATE", "DELETE"),
        "ingested_files": ("SELECT", "INSERT", "UPDATE", "DELETE"),
        "noted_opens": ("SELECT", "INSERT", "UPDATE"),
    },
    # It answers, records outcomes, and takes events in as the pipeline does; keys are made by the schema's owner.
    SERVICE: {
        **_READS,
        "alembic_version": ("SELECT",),
        "api_keys": ("SELECT",),
        "call_list": ("SELECT",),
        "list_publications": ("SELECT", "UPDATE"),
        "call_outcomes": ("SELECT", "INSERT"),
        "caregiver_keys": ("SELECT",),
        "caregiver_states": ("SELECT", "UPDATE"),
        "model_versions": ("SELECT",),
        "clusters": ("SELECT",),
        "whittle_indices": ("SELECT",),
        "suppression_secret": ("SELECT",),
        "forgettings": ("SELECT",),
        "dead_letters": ("SELECT", "INSERT", "UPDATE", "DELETE"),
        "noted_opens": ("SELECT", "INSERT", "UPDATE"),
    },
    # It counts: of tables about caregivers it reads the columns that name nobody, neither by id nor by key. Each of
    # them is as old as its table: rights are applied at older revisions as well.
    WATCHER: {
        "list_publications": ("SELECT",),
        "model_versions": ("SELECT",),
        "clusters": ("SELECT",),
        "whittle_indices": ("SELECT",),
        "incidents": ("SELECT",),
        "experiment_rollouts": ("SELECT",),
        "call_list": _columns("call_date", "district", "state", "whittle_index", "ab_arm", "propensity"),
        "call_outcomes": _columns("call_date", "attempted_at", "outcome"),
        "caregiver_states": _columns("district", "state", "status", "ab_arm", "cluster_id"),
        "experiment_assignments": _columns("experiment", "assigned_at"),
        "dead_letters": _columns("source", "kind", "received_at", "n_received"),
    },
}
"""Role -> table or view of the schema -> what it may do with it."""

_DATABASE_RIGHTS: Mapping[str, tuple[str, ...]] = {
    READER: ("CONNECT",),
    CALLER: ("CONNECT",),
    # New lists and states are compared in temporary tables before they replace the old ones.
    WRITER: ("CONNECT", "TEMPORARY"),
    # Opens are compared in a temporary table before they change states.
    SERVICE: ("CONNECT", "TEMPORARY"),
    WATCHER: ("CONNECT",),
}

_FOUND_ROLES = "SELECT rolname, rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = ANY (%s)"

# Whoever the owner let into the schema's objects, PUBLIC (0) included: whole objects, single columns, functions.
_FOUND_RIGHTS = """
    WITH held AS (
        SELECT 'SCHEMA' AS kind, space.nspname::text AS name, acl.grantee, acl.privilege_type AS verb
        FROM pg_namespace AS space, aclexplode(space.nspacl) AS acl WHERE space.nspname = %(schema)s
        UNION ALL
        SELECT CASE relation.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, relation.relname, acl.grantee,
            acl.privilege_type
        FROM pg_class AS relation, aclexplode(relation.relacl) AS acl
        WHERE relation.relnamespace = to_regnamespace(%(schema)s)
        UNION ALL
        SELECT 'TABLE', relation.relname, acl.grantee, format('%%s (%%I)', acl.privilege_type, attribute.attname)
        FROM pg_class AS relation JOIN pg_attribute AS attribute ON attribute.attrelid = relation.oid,
            aclexplode(attribute.attacl) AS acl
        WHERE relation.relnamespace = to_regnamespace(%(schema)s)
    )
    SELECT coalesce(role.rolname, 'PUBLIC'), held.kind, held.name, held.verb
    FROM held LEFT JOIN pg_roles AS role ON role.oid = held.grantee
    WHERE held.grantee = 0 OR role.rolname = ANY (%(roles)s)
"""

_FOUND_OBJECTS = """
    SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace(%s) AND relkind IN ('r', 'v', 'm', 'p')
"""

_LACKS_ON_DATABASE = "SELECT NOT has_database_privilege(%s, current_database(), %s)"


class Right(NamedTuple):
    """One thing a role may do: a verb, such as `SELECT` or `SELECT (call_id)`, with an object of the schema."""

    role: str
    kind: str
    name: str
    verb: str

    def __str__(self) -> str:
        where = f"schema {self.name}" if self.kind == "SCHEMA" else f"{SCHEMA}.{self.name}"
        return f"{self.verb} on {where}"


def apply_roles(connection: psycopg.Connection, *, dagster_schema: str | None = None) -> list[str]:
    """Make the roles where they are missing and give them exactly RIGHTS; returns what was done, a line for each act.

    Done in one transaction, any number of times: the second time there is nothing to do. `dagster_schema` is made for
    the writer where it is missing. Raises InvalidInputError when the user is not the owner of the tables, may not
    make roles, or a role is one that no right could bind (a superuser).
    """
    with whole_transaction(connection, "applying the roles"):
        lock(connection, Lock.MIGRATION)
        limit(connection, lock_timeout=10)
        done = _create_missing(connection)
        done += apply_rights(connection)
        for role, verbs in _DATABASE_RIGHTS.items():
            done += [line for verb in verbs for line in _grant_on_database(connection, role, verb)]
        if dagster_schema is not None:
            done += _make_room_for_dagster(connection, dagster_schema)
    return done


def existing_roles(connection: psycopg.Connection) -> list[str]:
    """Which of the five roles the server has, in the order of RIGHTS."""
    found = _found_roles(connection)
    return [role for role in RIGHTS if role in found]


def _found_roles(connection: psycopg.Connection) -> dict[str, bool]:
    """The roles that the server has, and whether each escapes all rights."""
    found: dict[str, bool] = dict(connection.execute(_FOUND_ROLES, (list(RIGHTS),)).fetchall())
    return found


def apply_rights(connection: psycopg.Connection) -> list[str]:
    """Give the roles that exist exactly RIGHTS on the objects that exist; returns what was done. Commits nothing.

    Runs after each migration as well, within its transaction, so that a new table is open to the pipeline at once.
    """
    roles = existing_roles(connection)
    wanted = _wanted(connection, roles)
    found = {
        Right(*row)
        for row in connection.execute(_FOUND_RIGHTS, {"schema": SCHEMA, "roles": list(RIGHTS)}).fetchall()
        if roles
    }
    done = []
    for word, preposition, rights in (("REVOKE", "from", found - wanted), ("GRANT", "to", wanted - found)):
        for right in sorted(rights):
            connection.execute(_statement(word, preposition, right))
            done.append(f"{'revoked' if word == 'REVOKE' else 'granted'} {right} {preposition} {right.role}")
    return done


def _wanted(connection: psycopg.Connection, roles: list[str]) -> set[Right]:
    objects = {row[0] for row in connection.execute(_FOUND_OBJECTS, (SCHEMA,)).fetchall()}
    return {Right(role, "SCHEMA", SCHEMA, "USAGE") for role in roles} | {
        Right(role, "TABLE", name, verb)
        for role in roles
        for name, verbs in RIGHTS[role].items()
        if name in objects
        for verb in verbs
    }


def _statement(word: str, preposition: str, right: Right) -> sql.Composed:
    where = sql.Identifier(right.name) if right.kind == "SCHEMA" else sql.Identifier(SCHEMA, right.name)
    verb, _, column = right.verb.partition(" ")
    what = sql.SQL(verb) + (sql.SQL(" ({})").format(sql.Identifier(column.strip('()"'))) if column else sql.SQL(""))
    whom = sql.SQL("PUBLIC") if right.role == "PUBLIC" else sql.Identifier(right.role)
    words = (sql.SQL(part) for part in (word, right.kind, preposition.upper()))
    act, kind, to = words
    return sql.SQL("{} {} ON {} {} {} {}").format(act, what, kind, where, to, whom)


def _create_missing(connection: psycopg.Connection) -> list[str]:
    found = _found_roles(connection)
    unbound = [role for role, is_unbound in found.items() if is_unbound]
    if unbound:
        raise InvalidInputError(
            f"role {unbound[0]} is a superuser or bypasses row security, so that no right binds it; expected an "
            f"ordinary role: ALTER ROLE {unbound[0]} NOSUPERUSER NOBYPASSRLS, or drop it, then run again"
        )
    missing = [role for role in RIGHTS if role not in found]
    for role in missing:
        connection.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(role)))
    return [f"created role {role}" for role in missing]


def _grant_on_database(connection: psycopg.Connection, role: str, verb: str) -> list[str]:
    """Grant a right on the database where neither PUBLIC nor the role has it."""
    if connection.execute(_LACKS_ON_DATABASE, (role, verb)).fetchone() != (True,):
        return []
    database = connection.info.dbname
    statement = sql.SQL("GRANT {} ON DATABASE {} TO {}")
    connection.execute(statement.format(sql.SQL(verb), sql.Identifier(database), sql.Identifier(role)))
    return [f"granted {verb} on database {database} to {role}"]


def _make_room_for_dagster(connection: psycopg.Connection, schema: str) -> list[str]:
    """A schema in which the writer may make and use Dagster's tables; those of another owner are opened to it."""
    done = []
    name, writer = sql.Identifier(schema), sql.Identifier(WRITER)
    if connection.execute("SELECT to_regnamespace(%s)", (schema,)).fetchone() == (None,):
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(name))
        done.append(f"created schema {schema}")
    lacking = connection.execute(
        "SELECT NOT has_schema_privilege(%s, %s, 'CREATE') OR NOT has_schema_privilege(%s, %s, 'USAGE')",
        (WRITER, schema, WRITER, schema),
    ).fetchone()
    if lacking == (True,):
        connection.execute(sql.SQL("GRANT USAGE, CREATE ON SCHEMA {} TO {}").format(name, writer))
        for kind in ("TABLES", "SEQUENCES"):
            statement = sql.SQL("GRANT ALL ON ALL {} IN SCHEMA {} TO {}")
            connection.execute(statement.format(sql.SQL(kind), name, writer))
        done.append(f"granted USAGE, CREATE on schema {schema}, and its tables, to {WRITER}")
    return done
