"""The figures of this machine: runs every stage in its own process and writes the table as Markdown.

Run `python -m benchmarks.figures [--caregivers N ...] [--output FILE]`. The order of things, the room they take and
what is removed afterwards belong here; what is measured belongs to the modules of the stages, the table to `report`.
Data lie in a temporary folder, or in new folders of --workdir, and are removed at the end. An embedded server that
runs as root has its data under /var/lib/bandicoot.
"""

import argparse
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from bandicoot_core.stores.embedded import server as embedded
from benchmarks.command_line import nightly_runs
from benchmarks.measure import Case, Measured, run_stage, say
from benchmarks.report import LARGE, N_STATES, SMALL, report

LARGEST_IN_POSTGRESQL = 2_000_000
"""Caregivers up to which the row-wise statement is measured; loading more would take longer than all the rest."""

_LAKE_BYTES, _SERVER_BYTES = 1_200, 8_000
"""Room on disk for each caregiver, generously: 26 weeks in the lake, 12 weeks with indexes in PostgreSQL."""
_DEMO_BYTES = 30_000
"""The same for the demo programme of 34 weeks in PostgreSQL, with its log and its lake."""

_STAGES = (
    ("benchmarks.data", "lake", 1),
    ("benchmarks.counting", "raw_scan", 5),
    ("benchmarks.counting", "full_scan", 3),
    ("benchmarks.counting", "weekly_counts", 5),
    ("benchmarks.counting", "extended_counts", 3),
    ("benchmarks.counting", "states_of_week", 5),
    ("benchmarks.pipeline_stages", "training", 3),
    ("benchmarks.pipeline_stages", "nightly", 5),
)
_SOURCE_STAGES = (
    ("benchmarks.extraction", "load_source", 1),
    ("benchmarks.extraction", "first_sight", 1),
    ("benchmarks.extraction", "registry_night", 3),
    ("benchmarks.extraction", "messages_night", 3),
    ("benchmarks.extraction", "messages_chunk", 1),
)
_POSTGRESQL_STAGES = (
    ("benchmarks.rowwise", "load", 1),
    ("benchmarks.rowwise", "as_planned", 5),
    ("benchmarks.rowwise", "row_by_row", 3),
)
"""Module, stage, repetitions. Later stages need what earlier ones write."""


def main() -> None:
    """Measure, print the table, and write it."""
    parser = argparse.ArgumentParser(description="Measure this machine and write the table of figures.")
    parser.add_argument("--caregivers", type=int, nargs="+", default=[SMALL, LARGE], help="sizes, also 10000000")
    parser.add_argument("--output", type=Path, default=Path("docs/figures.md"), help="Markdown file to write")
    parser.add_argument("--workdir", type=Path, help="where the data may lie; default: a temporary folder")
    parser.add_argument("--no-postgresql", action="store_true", help="leave the row-wise statement out")
    parser.add_argument("--no-command", action="store_true", help="leave `bandicoot run` out")
    options = parser.parse_args()

    started = time.monotonic()
    machine = _machine()
    results: dict[tuple[str, int], Measured] = {}
    with tempfile.TemporaryDirectory(prefix="bandicoot-figures-", dir=options.workdir) as folder:
        _require_room(Path(folder), options.caregivers, with_command=not options.no_command)
        for stage, n_repeats, size in (("closed_form", 9, LARGE), ("solver", 5, N_STATES)):
            results[stage, size] = _measure("benchmarks.whittle_stages", stage, Case(folder, size, n_repeats))
        with _home(Case(f"{folder}/publish", SMALL, 5)) as case:
            results["publish", SMALL] = _measure("benchmarks.publishing", "publish", case)
        with _home(Case(f"{folder}/cache", SMALL, 5)) as case:
            results["cache_fill", SMALL] = _measure("benchmarks.caching", "cache_fill", case)
        for n_caregivers in sorted(options.caregivers):
            with _home(Case(f"{folder}/{n_caregivers}", n_caregivers)) as case:
                has_postgresql = not options.no_postgresql and n_caregivers <= LARGEST_IN_POSTGRESQL
                for module, stage, n_repeats in (*_STAGES, *(_POSTGRESQL_STAGES if has_postgresql else ())):
                    results[stage, n_caregivers] = _measure(module, stage, replace(case, repeats=n_repeats))
            if has_postgresql:
                with _home(Case(f"{folder}/source-{n_caregivers}", n_caregivers)) as case:
                    for module, stage, n_repeats in _SOURCE_STAGES:
                        results[stage, n_caregivers] = _measure(module, stage, replace(case, repeats=n_repeats))
        if not options.no_command:
            with _home(Case(f"{folder}/command", SMALL, 3)) as case:
                results["command", SMALL] = nightly_runs(case, say)

    document = report(results, sizes=options.caregivers, machine=machine)
    print(document)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(document)
    say(f"written to {options.output}; all of it took {(time.monotonic() - started) / 60:.0f} minutes")


def _measure(module: str, stage: str, case: Case) -> Measured:
    measured = run_stage(module, stage, case)
    say(
        f"{stage} {case.n_caregivers:,}: {measured.median:.3g} s ({measured.median_cpu:.3g} s processor), "
        f"{measured.peak_mb:,.0f} MB, {measured.n_rows:,} rows"
    )
    return measured


@contextmanager
def _home(case: Case) -> Iterator[Case]:
    """The case with its folder, both gone at the end: the server that a stage may have started there, and the data."""
    case.home.mkdir(parents=True)
    try:
        yield case
    finally:
        embedded.destroy(case.home)
        shutil.rmtree(case.folder)


def _require_room(folder: Path, sizes: list[int], *, with_command: bool) -> None:
    """SystemExit when the largest case would not fit on the disk; cases are removed one after the other."""
    needed = max(n * (_LAKE_BYTES + (_SERVER_BYTES if n <= LARGEST_IN_POSTGRESQL else 0)) for n in sizes)
    needed = max(needed, SMALL * _DEMO_BYTES if with_command else 0)
    for place in (folder, Path("/var/lib") if os.geteuid() == 0 else folder):
        free = shutil.disk_usage(place).free
        if free < needed:
            raise SystemExit(
                f"{place} has {free / 1e9:.1f} GB free, but the data need up to {needed / 1e9:.1f} GB; make room, or "
                "choose fewer --caregivers or another --workdir"
            )


def _machine() -> str:
    """What the figures were measured on, and whether it was busy with something else."""
    n_cores = os.cpu_count() or 1
    memory_gb = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    found = (
        f"Measured on {n_cores} cores ({_processor()}) with {memory_gb:.0f} GB of memory; Python "
        f"{platform.python_version()}, DuckDB {version('duckdb')}, Ibis {version('ibis-framework')}."
    )
    load = os.getloadavg()[0]
    if load > n_cores / 4:
        found += f" **The machine was busy (load {load:.1f} at the start): take these numbers as provisional.**"
    return found


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


if __name__ == "__main__":
    main()
