"""The source's columns and types as they are checked before every read: each way to drift, in words."""

import psycopg
import pytest

from bandicoot_core.errors import SchemaDriftError
from bandicoot_core.stores.source.source import Source
from tests.source_programme import SCHEMA, SourceProgramme, ist


@pytest.fixture
def programme(database_url: str) -> SourceProgramme:
    return SourceProgramme(database_url)


def drift(programme: SourceProgramme, *tables: str) -> str:
    with pytest.raises(SchemaDriftError) as caught:
        Source(programme.url, SCHEMA).check_schema(*([tables] if tables else []))
    return str(caught.value)


def test_the_expected_tables_pass_whatever_further_columns_they_have(programme: SourceProgramme) -> None:
    Source(programme.url, SCHEMA).check_schema()


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE {schema}.caregivers ALTER age TYPE bigint",
        "ALTER TABLE {schema}.caregivers ALTER district TYPE character(12)",
        "CREATE TYPE {schema}.status AS ENUM ('active'); "
        "ALTER TABLE {schema}.caregivers ALTER status TYPE {schema}.status USING status::{schema}.status",
        "CREATE DOMAIN {schema}.age AS integer CHECK (value < 200); "
        "ALTER TABLE {schema}.caregivers ALTER age TYPE {schema}.age",
        "ALTER TABLE {schema}.sms_logs RENAME TO raw; CREATE VIEW {schema}.sms_logs AS SELECT * FROM {schema}.raw",
    ],
    ids=["wider integer", "padded text", "enumeration", "domain", "view"],
)
def test_types_of_the_same_family_pass_and_can_be_read(programme: SourceProgramme, statement: str) -> None:
    programme.execute(statement)
    programme.caregiver("CG-1")
    source = Source(programme.url, SCHEMA)
    source.check_schema()
    day = ist("2026-11-20 00:00").date()
    with source.snapshot() as snapshot, snapshot.rows("caregivers", day, day) as reader:
        row = reader.read_all().to_pylist()[0]
    assert (row["district"], row["age"], row["status"]) == ("Patna", 24, "active")


def test_a_missing_column_is_named_with_what_was_expected(programme: SourceProgramme) -> None:
    programme.execute("ALTER TABLE {schema}.sms_logs DROP opened_at")
    assert "sms_logs.opened_at is missing, expected timestamptz" in drift(programme)


def test_a_missing_table_is_named(programme: SourceProgramme) -> None:
    programme.execute("DROP TABLE {schema}.vaccinations")
    assert f"vaccinations is missing, expected a table or view in schema {SCHEMA}" in drift(programme)


def test_only_the_tables_asked_for_are_checked(programme: SourceProgramme) -> None:
    programme.execute("DROP TABLE {schema}.vaccinations")
    Source(programme.url, SCHEMA).check_schema(["caregivers", "sms_logs"])


def test_a_timestamp_without_time_zone_is_called_naive(programme: SourceProgramme) -> None:
    programme.execute("ALTER TABLE {schema}.sms_logs ALTER sent_at TYPE timestamp")
    message = drift(programme)
    assert "sms_logs.sent_at is timestamp without time zone: its values are naive" in message
    assert "expected timestamptz; cast it in a view, sent_at AT TIME ZONE" in message


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("not a time", "'not a time'"),
        ("2026-11-20 09:00", "'2026-11-20 09:00' has no UTC offset"),
    ],
)
def test_an_instant_that_became_text_shows_the_first_value_that_cannot_be_read(
    programme: SourceProgramme, value: str, said: str
) -> None:
    programme.execute("ALTER TABLE {schema}.sms_logs ALTER sent_at TYPE text")
    for message_id, sent_at in (("M-1", "2026-11-20T09:00+05:30"), ("M-2", None), ("M-3", value), ("M-4", "later")):
        programme.execute("INSERT INTO {schema}.sms_logs (message_id, sent_at) VALUES (%s, %s)", (message_id, sent_at))
    assert (
        f"sms_logs.sent_at is text (first unreadable: message_id=M-3 {said}), expected timestamptz; cast it in a view"
    ) in drift(programme)


def test_text_that_reads_as_instants_is_still_refused(programme: SourceProgramme) -> None:
    programme.execute("ALTER TABLE {schema}.sms_logs ALTER sent_at TYPE text")
    programme.execute("INSERT INTO {schema}.sms_logs (message_id, sent_at) VALUES ('M-1', '2026-11-20T09:00Z')")
    assert "sms_logs.sent_at is text (the first 1000 values could be read), expected timestamptz" in drift(programme)


@pytest.mark.parametrize(
    ("table", "column", "type_name", "value", "finding"),
    [
        (
            "caregivers",
            "age",
            "text",
            "'twenty'",
            "caregivers.age is text (first unreadable: 'twenty')",
        ),
        ("caregivers", "phone_reliable", "text", "'yes'", "caregivers.phone_reliable is text (first unreadable:"),
        ("caregivers", "age", "numeric", "23.5", "caregivers.age is numeric, expected smallint, integer or bigint"),
        ("caregivers", "caregiver_id", "integer", "1", "caregivers.caregiver_id is integer, expected text"),
        ("vaccinations", "actual_date", "text", "'20/11/2026'", "'20/11/2026'), expected date"),
        ("vaccinations", "actual_date", "timestamptz", "now()", "is timestamp with time zone, expected date"),
    ],
)
def test_another_family_of_types_is_named(
    programme: SourceProgramme, table: str, column: str, type_name: str, value: str, finding: str
) -> None:
    programme.execute(f"ALTER TABLE {{schema}}.{table} DROP {column}, ADD {column} {type_name}")
    names, values = ("caregiver_id, ", "'CG-9', ") if column != "caregiver_id" else ("", "")
    programme.execute(f"INSERT INTO {{schema}}.{table} ({names}{column}) VALUES ({values}{value})")
    if table == "vaccinations" and type_name == "text":
        programme.execute("ALTER TABLE {schema}.vaccinations DROP vaccine_name")
    assert finding in drift(programme, table)


def test_every_finding_is_reported_at_once(programme: SourceProgramme) -> None:
    programme.execute("ALTER TABLE {schema}.sms_logs DROP opened_at, DROP status")
    programme.execute("ALTER TABLE {schema}.caregivers ALTER enrolled_at TYPE timestamp")
    message = drift(programme)
    for column in ("sms_logs.opened_at", "sms_logs.status", "caregivers.enrolled_at"):
        assert column in message


def test_a_column_that_may_not_be_read_says_what_to_grant(programme: SourceProgramme) -> None:
    role = f"reader_{programme.url.split('/test_')[1][:12]}"
    with psycopg.connect(programme.url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN")
        try:
            connection.execute(f"GRANT USAGE ON SCHEMA {SCHEMA} TO {role}")
            connection.execute(
                "GRANT SELECT (message_id, caregiver_id, sent_at, delivered_at, clicked_at, status) "
                f"ON {SCHEMA}.sms_logs TO {role}"
            )
            source = Source(programme.url.replace("://postgres@", f"://{role}@"), SCHEMA)
            with pytest.raises(
                SchemaDriftError, match=r"sms_logs.opened_at may not be read .* GRANT SELECT \(opened_at\)"
            ):
                source.check_schema(["sms_logs"])
            # Names and phones need no grant: reading works without any right to them.
            connection.execute(f"GRANT SELECT (opened_at) ON {SCHEMA}.sms_logs TO {role}")
            source.check_schema(["sms_logs"])
            day = ist("2026-11-20 00:00").date()
            with source.snapshot() as snapshot, snapshot.rows("sms_logs", day, day) as reader:
                assert reader.read_all().num_rows == 0
        finally:
            connection.execute(f"DROP OWNED BY {role}")
            connection.execute(f"DROP ROLE {role}")
