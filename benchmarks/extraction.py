"""Reading the source: the registry and the messages of a day, and of the seven days that are read at a time.

The question is memory: what a night and a backfill hold while they read, with the engine limited to MEMORY_LIMIT. The
source has the programme's tables with their indexes, everybody in the registry, and two messages a week for each, of
which a third is opened within a day. Stages for `python -m benchmarks.extraction <stage> <case>`: `load_source` fills
the source, `first_sight` reads the registry when nobody has a key yet, the others are nights after it.
"""

import sys
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta

from bandicoot_core.calendar import days_between, end_of_day, start_of_day
from bandicoot_core.demo.source_schema import create_indexes, create_source_schema, drop_indexes
from bandicoot_core.pipeline.extraction import DAYS_PER_READ, extract_caregivers, extract_sms_events
from bandicoot_core.settings import Settings
from bandicoot_core.stores.installation import Installation
from bandicoot_core.stores.lake.manifest import Manifest
from benchmarks.data import LAST_DAY
from benchmarks.measure import Case, Measured, Outcome, repeat, serve

MEMORY_LIMIT = "1GB"

FIRST_DAY = LAST_DAY - timedelta(days=DAYS_PER_READ - 1)
_SEEN_AT = datetime(2026, 6, 27, 19, 30, tzinfo=UTC)

_CAREGIVERS = """
    INSERT INTO suvita_production.caregivers
        (caregiver_id, full_name, phone_number, district, enrolled_at, age, parity, phone_reliable, enrollment_source,
        status)
    SELECT 'CG-' || lpad(n::text, 8, '0'), 'full name ' || n, '+91' || n,
        (ARRAY['Patna', 'Gaya', 'Nalanda', 'Vaishali'])[n %% 4 + 1], %(before)s - n %% 500 * interval '1 day',
        18 + n %% 25, n %% 5, n %% 3 > 0, 'hospital', 'active'
    FROM generate_series(1, %(n)s) AS n
"""
_MESSAGES = """
    INSERT INTO suvita_production.sms_logs
        (message_id, caregiver_id, message_type, sent_at, delivered_at, opened_at, status)
    SELECT 'SMS-' || lpad(n::text, 9, '0'), 'CG-' || lpad((n %% %(n)s + 1)::text, 8, '0'), 'reminder',
        at, at + interval '30 seconds', CASE WHEN n %% 3 = 0 THEN at + n %% 20 * interval '1 hour' END, 'delivered'
    FROM (SELECT n, %(from)s + n * (%(until)s - %(from)s) / (2 * %(n)s) AS at
          FROM generate_series(0, 2 * %(n)s - 1) AS n) AS sent
"""


def load_source(case: Case) -> Measured:
    """Fill the programme's tables."""
    stores = _stores(case)
    stores.prepare()
    facts = {"n": case.n_caregivers, "before": start_of_day(FIRST_DAY)}
    span = {"from": start_of_day(FIRST_DAY), "until": end_of_day(LAST_DAY)}

    def work() -> Outcome:
        with stores.published() as connection:
            create_source_schema(connection)
            drop_indexes(connection)
            connection.execute(_CAREGIVERS, facts)
            n_rows = connection.execute(_MESSAGES, facts | span).rowcount
            create_indexes(connection)
            connection.execute("VACUUM (ANALYZE) suvita_production.sms_logs")
        return Outcome(n_rows)

    return repeat(work, repeats=1)


def first_sight(case: Case) -> Measured:
    """The registry when everybody in it is new: keys and draws for all."""
    return _registry(case)


def registry_night(case: Case) -> Measured:
    """The registry when nobody in it is new."""
    return _registry(case)


def messages_night(case: Case) -> Measured:
    """The messages of a day."""
    return _messages(case, [LAST_DAY])


def messages_chunk(case: Case) -> Measured:
    """The messages of as many days as are read at a time."""
    return _messages(case, days_between(FIRST_DAY, LAST_DAY))


def _registry(case: Case) -> Measured:
    stores = _stores(case)
    return _measured(case, stores, extract_caregivers, [LAST_DAY], seen_at=_SEEN_AT)


def _messages(case: Case, days: Sequence[date]) -> Measured:
    return _measured(case, _stores(case), extract_sms_events, days)


def _measured(
    case: Case, stores: Installation, extract: Callable[..., list[Manifest]], days: Sequence[date], **options: datetime
) -> Measured:
    def work() -> Outcome:
        with stores.published() as connection, stores.engine() as engine:
            manifests = extract(
                stores.source(), connection, stores.lake, engine, days=days, settings=stores.settings, **options
            )
        return Outcome(sum(manifest.n_rows() for manifest in manifests))

    return repeat(work, repeats=case.repeats)


def _stores(case: Case) -> Installation:
    return Installation(Settings(home=case.home, lake_root=case.lake_root, memory_limit=MEMORY_LIMIT))


if __name__ == "__main__":
    serve((load_source, first_sight, registry_night, messages_night, messages_chunk), sys.argv[1:])
