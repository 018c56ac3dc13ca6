"""A file of the lake is truncated, replaced by garbage, or deleted after it was written and before it is read."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from bandicoot_core.settings import load_list_options, load_model_options
from bandicoot_dagster.catch_up import catch_up
from tests.faults.child_run import ChildRun
from tests.faults.conftest import N_TRIES, drawn_for_this_pass
from tests.faults.list_reader import ListReader
from tests.faults.site_under_fault import CALL_DATE, NOON, Site, Work

Damage = Callable[[Path, np.random.Generator], None]


def truncate(path: Path, generator: np.random.Generator) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(generator.integers(0, len(content)))])


def replace_by_garbage(path: Path, generator: np.random.Generator) -> None:
    path.write_bytes(generator.bytes(path.stat().st_size))


def scratch(path: Path, generator: np.random.Generator) -> None:
    """Garbage in the middle only: size and ends stay, as a failing disk does it."""
    content = bytearray(path.read_bytes())
    start = int(generator.integers(4, len(content) // 2))
    length = min(int(generator.integers(8, 4096)), len(content) - 8 - start)
    content[start : start + length] = generator.bytes(length)
    path.write_bytes(bytes(content))


def delete(path: Path, _: np.random.Generator) -> None:
    path.unlink()


DAMAGES: dict[str, Damage] = {
    "partition file truncated": truncate,
    "partition file replaced by garbage": replace_by_garbage,
    "partition file scratched": scratch,
    "partition file deleted between write and read": delete,
}


def run_again(site: Site, budget: int) -> None:
    """What `bandicoot run` does."""
    catch_up(
        site.installation,
        CALL_DATE,
        list_options=load_list_options(budget=budget),
        model_options=load_model_options(training_weeks=6, n_clusters=4, n_draws=200),
        say=lambda _line: None,
        clock=lambda: NOON,
    )


@pytest.mark.parametrize("fault", drawn_for_this_pass(list(DAMAGES), 1))
def test_a_damaged_file_stops_the_list_and_is_made_again(site: Site, reader: ListReader, fault: str) -> None:
    generator = site.generator(fault)
    with site.installation.published() as connection:
        version = connection.execute("SELECT model_version FROM bandicoot.model_versions WHERE status = 'champion'")
        [(champion,)] = version.fetchall()
    day = (CALL_DATE - timedelta(days=1)).isoformat()
    earlier = (CALL_DATE - timedelta(days=int(generator.integers(6, 14)))).isoformat()
    # What the list is made of, what only training reads, and a day that no run would read again by itself.
    places = [("caregiver_states", day), ("model_bundles", champion), ("caregivers", day), ("sms_events", earlier)]
    for place in generator.permutation(len(places))[: max(1, N_TRIES // 5)]:
        asset, partition = places[place]
        budget = site.prepare(Work.LIST)
        before = site.look()
        manifest = site.installation.lake.require(asset, partition)
        table = {"model_bundles": "tuple_indices"}.get(asset, "data")
        DAMAGES[fault](
            Path(str(site.installation.lake.folder(asset, partition))) / manifest.entries[table].name, generator
        )
        damaged = site.look()
        outcome = site.start(Work.LIST, budget).finish()
        print(f"{fault}, {asset}/{partition}: {outcome.error_class}: {outcome.message}")
        if asset != "sms_events":
            assert outcome.error_class == "CorruptPartitionError", outcome
            assert f"{asset}/{partition}" in outcome.message
        # What the fault itself did is no change by the run.
        site.answer(
            fault,
            Work.LIST,
            damaged,
            outcome,
            wanted=budget,
            reader=reader,
            recover=partial(must_succeed, site, budget),
            expected=before,
        )


def must_succeed(site: Site, budget: int) -> None:
    outcome = ChildRun(partial(run_again, site, budget)).finish()
    assert outcome.is_success, f"{outcome.message}\n{outcome.trace}"
