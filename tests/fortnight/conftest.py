"""The fortnight, lived through once for all tests of this folder.

BANDICOOT_FORTNIGHT=whole lets all of it pass, else some nights around a Sunday; BANDICOOT_FORTNIGHT_REPORT names the
document that is written.
"""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pytest

from tests.fortnight.record import document
from tests.fortnight.scenario import Day, Plan, live_through
from tests.fortnight.site import FortnightSite, Run, fortnight_site, india

IS_WHOLE = os.environ.get("BANDICOOT_FORTNIGHT") == "whole"

WHOLE = Plan(
    first_day=date(2026, 2, 4),
    n_nights=14,
    late_source=date(2026, 2, 10),
    source_returns="01:30",
    outage=date(2026, 2, 12),
    messages_missing_from=date(2026, 2, 5),
    burst=date(2026, 2, 16),
)
SHORT = Plan(
    first_day=date(2026, 2, 5),
    n_nights=4,
    late_source=date(2026, 2, 6),
    source_returns="01:04",
    outage=date(2026, 2, 9),
    messages_missing_from=date(2026, 2, 5),
    burst=date(2026, 2, 8),
)


@dataclass(frozen=True)
class Lived:
    """A site at the end, its days, and the runs that nobody but the daemon has started."""

    site: FortnightSite
    plan: Plan
    days: list[Day]
    runs: list[Run]


@pytest.fixture(scope="package")
def lived() -> Iterator[Lived]:
    """All nights, one after the other."""
    plan = WHOLE if IS_WHOLE else SHORT
    began = time.monotonic()
    with fortnight_site(india(plan.first_day, "12:00")) as site:
        site.begin()
        n_runs = len(site.runs())
        site.pass_until(india(plan.first_day, "12:10"))
        days = list(live_through(site, plan))
        lived = Lived(site, plan, days, site.runs()[n_runs:])
        print(f"\n{document(days, lived.runs)}\n{time.monotonic() - began:.0f} s, of which {site.seconds}")
        yield lived
    path = os.environ.get("BANDICOOT_FORTNIGHT_REPORT")
    if path:
        Path(path).write_text(document(days, lived.runs))
