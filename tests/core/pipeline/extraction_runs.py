"""The four extractions over one source, published schema and lake, run and read back in short words."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from ibis.backends.duckdb import Backend

from bandicoot_core.contracts import SET_ASIDE, TABLES
from bandicoot_core.pipeline.extraction import (
    extract_calls,
    extract_caregivers,
    extract_sms_events,
    extract_vaccinations,
)
from bandicoot_core.settings import Settings
from bandicoot_core.stores.lake.lake import Lake
from bandicoot_core.stores.lake.manifest import Manifest
from bandicoot_core.stores.source.source import Source
from tests.source_programme import SourceProgramme, ist

DAY = date(2026, 11, 20)
NEXT_DAY = date(2026, 11, 21)
SEEN_AT = datetime(2026, 11, 20, 19, 30, tzinfo=UTC)
ASSETS = ("caregivers", "sms_events", "vaccinations", "calls")


@dataclass
class Extraction:
    """The four extractions over one source, published schema and lake."""

    source: Source
    connection: psycopg.Connection
    lake: Lake
    engine: Backend
    settings: Settings

    def run(self, asset: str, *days: date, **options: Any) -> list[Manifest]:
        """Extract some days of an asset; `settings` among the options replaces the usual ones."""
        options = {"days": days or (DAY,), "settings": self.settings} | options
        places = (self.connection, self.lake, self.engine)
        if asset == "caregivers":
            options = {"seen_at": SEEN_AT} | options
            return extract_caregivers(self.source, *places, **options)
        if asset == "sms_events":
            return extract_sms_events(self.source, *places, **options)
        if asset == "vaccinations":
            return extract_vaccinations(self.source, *places, **options)
        return extract_calls(*places, **options)

    def run_all(self, *days: date) -> None:
        for asset in ASSETS:
            self.run(asset, *days)

    def data(self, asset: str, day: date = DAY) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.lake.read(TABLES[asset], asset, day.isoformat()).to_pylist()
        return rows

    def set_aside(self, asset: str, day: date = DAY) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.lake.read(SET_ASIDE, asset, day.isoformat(), "set_aside").to_pylist()
        return rows

    def facts(self, asset: str, day: date = DAY) -> tuple[int, int, int, int]:
        facts = self.lake.require(asset, day.isoformat()).facts
        return facts["n_read"], facts["n_accepted"], facts["n_set_aside"], facts["n_blanked"]


def fill(programme: SourceProgramme, days: Sequence[date]) -> None:
    """Three caregivers, and on each day two messages, a dose and a call."""
    for n in (1, 2, 3):
        programme.caregiver(f"CG-{n}", enrolled_at=ist(f"2026-01-0{n} 10:00"))
    for n, day in enumerate(days):
        programme.message(f"M-{n}-a", "CG-1", sent_at=f"{day} 09:00", delivered_at=f"{day} 09:01")
        opened_on = day + timedelta(days=n % 3)
        programme.message(f"M-{n}-b", "CG-2", sent_at=f"{day} 23:30", opened_at=f"{opened_on} 23:59")
        programme.dose("CG-2", f"dose {n}", day)
        programme.call(f"C-{n}", "CG-3", f"{day} 11:00")


def content(lake: Lake) -> dict[str, bytes]:
    """Every file of the lake and its bytes."""
    root = Path(str(lake.root))
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def manifests(lake: Lake) -> dict[str, bytes]:
    """Every manifest of the lake and its bytes, which name the content of every file that counts."""
    return {name: raw for name, raw in content(lake).items() if name.endswith("manifest.json")}
