"""The site that faults are tried on, how often, and the table at the end.

BANDICOOT_FAULT_TRIES says how often each fault is tried (1 by default), BANDICOOT_FAULT_SEED from which seed its
moments are drawn, BANDICOOT_FAULT_REPORT into which document the table is written.
"""

import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest

from bandicoot_core.stores.embedded import server as embedded
from tests.faults.cutting_proxy import CuttingProxy
from tests.faults.list_reader import ListReader
from tests.faults.record import (
    EVENTS_BEGIN,
    EVENTS_END,
    EventsRecord,
    FaultRecord,
    events_table,
    table,
    write_document,
)
from tests.faults.site_under_fault import CALL_DATE, Site

_Named = TypeVar("_Named")

N_TRIES = int(os.environ.get("BANDICOOT_FAULT_TRIES", "1"))
SEED = int(os.environ.get("BANDICOOT_FAULT_SEED", "20261125"))
_RECORDS: dict[str, FaultRecord] = {}
_READS: list[int] = []
EVENTS: list[EventsRecord] = []
"""What became of events, one for each try."""


def drawn_for_this_pass(names: Sequence[_Named], n_in_short_pass: int) -> list[_Named]:
    """All of them in a long pass; in a short one some, drawn by the seed."""
    if N_TRIES > 1:
        return list(names)
    places = np.random.default_rng([SEED, len(names)]).permutation(len(names))[:n_in_short_pass]
    return [names[place] for place in sorted(places)]


@pytest.fixture(scope="package")
def site() -> Iterator[Site]:
    """One installation for all faults; each leaves it as healthy as it found it."""
    with tempfile.TemporaryDirectory(prefix="bandicoot-faults-") as folder, pytest.MonkeyPatch.context() as patch:
        home = Path(folder)
        patch.setenv("DAGSTER_HOME", str(home / "dagster"))
        patch.setenv("BANDICOOT_DAGSTER_STORAGE", "")
        patch.setenv("DAGSTER_EVENT_BATCH_SIZE", "500")
        try:
            site = Site(home, SEED, records=_RECORDS)
            site.build()
            yield site
        finally:
            embedded.destroy(home)


@pytest.fixture
def reader(site: Site) -> Iterator[ListReader]:
    """A consumer that reads the list all the time."""
    with ListReader(site.server.url, CALL_DATE) as reader:
        yield reader
    _READS.append(reader.n_reads)


@pytest.fixture
def proxy(site: Site) -> Iterator[CuttingProxy]:
    """A door to the server that can strike."""
    with CuttingProxy(site.socket_path) as proxy:
        yield proxy


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, exitstatus: int) -> None:
    """The tables of all faults tried in this session."""
    document = os.environ.get("BANDICOOT_FAULT_REPORT") if exitstatus == 0 else None
    if EVENTS:
        terminalreporter.write_line(f"\n{events_table(EVENTS)}")
        if document:
            write_document(Path(document), events_table(EVENTS), begin=EVENTS_BEGIN, end=EVENTS_END)
    if not _RECORDS:
        return
    text = (
        f"{sum(record.n_tried for record in _RECORDS.values())} faults, moments drawn from seed {SEED}; meanwhile a "
        f"consumer read the list {sum(_READS):,} times.\n\n{table(_RECORDS.values())}"
    )
    terminalreporter.write_line(f"\n{text}")
    if document:
        write_document(Path(document), text)
