"""`python -m benchmarks.load`: all loads, one after the other, and docs/load.md.

The home with the caregivers is made once, in BANDICOOT_LOAD_HOME or a folder of the system's temporary one, and kept;
its embedded server is stopped at the end. What a run leaves there (keys, calls, a list) it takes back.
"""

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path

from bandicoot_core.settings import Settings
from bandicoot_core.stores.embedded import server as embedded
from bandicoot_core.stores.installation import Installation
from benchmarks.load.faults import Fault
from benchmarks.load.installation import Hands, prepare
from benchmarks.load.report import report
from benchmarks.load.scenario import (
    Measured,
    Stage,
    compare_with_bare,
    questions_of,
    read_each_once,
    read_warm,
    read_while_called,
    read_while_it_breaks,
    read_without_pause,
    starts,
)
from benchmarks.load.traffic import FAST, STANDARD
from benchmarks.measure import say
from tests.servers.redis import running_redis

N_CAREGIVERS = 200_000
N_USERS = 1_000
PAUSE_SECONDS = (1.0, 2.0)
_N_KEYS = 10
_REDIS_SECONDS = 3.0
_POSTGRESQL_SECONDS = 5.0
# Redis is left alone for half a minute after it failed: PostgreSQL goes away when it is asked again.
_REDIS_AT, _LIST_AT, _POSTGRESQL_AT = 5.0, 20.0, 45.0
_FAULTS_SECONDS = 60.0


def main() -> None:
    """Measure, print the document, and write it."""
    parser = argparse.ArgumentParser(description="Put the service under load and write what came of it.")
    parser.add_argument("--caregivers", type=int, default=N_CAREGIVERS)
    parser.add_argument("--users", type=int, default=N_USERS)
    parser.add_argument("--seconds", type=float, default=30.0, help="of each load")
    parser.add_argument("--output", type=Path, default=Path("docs/load.md"), help="Markdown file to write")
    options = parser.parse_args()

    default_home = Path(tempfile.gettempdir()) / f"bandicoot-load-{options.caregivers}"
    home = Path(os.environ.get("BANDICOOT_LOAD_HOME", default_home)).absolute()
    began = time.monotonic()
    machine = _machine()
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))  # a connection is a file at both its ends
    prepare(home, options.caregivers)
    stores = Installation(Settings(home=home))
    try:
        with running_redis() as redis, tempfile.TemporaryDirectory(prefix="bandicoot-load-") as folder:
            hands = Hands(stores)
            try:
                stage = Stage(
                    hands=hands,
                    redis=redis,
                    folder=Path(folder),
                    settings={"home": str(home)},
                    keys={
                        STANDARD: hands.keys(STANDARD, _N_KEYS, "read", "call"),
                        FAST: hands.keys(FAST, _N_KEYS, "read"),
                    },
                    questions=questions_of(hands.districts()),
                    n_users=options.users,
                    pause_seconds=PAUSE_SECONDS,
                )
                document, n_wrong = _measure(stage, options.seconds, options.caregivers, machine)
            finally:
                hands.clean()
    finally:
        stores.close()
        embedded.stop(home)
    print(document)
    options.output.write_text(document)
    say(f"written to {options.output}; all of it took {(time.monotonic() - began) / 60:.1f} minutes")
    if n_wrong:
        raise SystemExit(f"{n_wrong} answers were wrong; what was wrong with the first stands above")


def _measure(stage: Stage, seconds: float, n_caregivers: int, machine: str) -> tuple[str, int]:
    """The document, and how many answers were wrong."""
    loads: dict[str, Measured] = {}

    def keep(name: str, measured: Measured) -> None:
        loads[name] = measured
        say(
            f"{name}: {measured.per_second:.0f}/s, {measured.p50_ms:.0f} ms, 95% {measured.p95_ms:.0f} ms, "
            f"{measured.verdict.n_wrong} wrong of {measured.verdict.n_answers} {measured.verdict.wrong} "
            f"{measured.broken}; {measured.service_ms:.2f} ms of processor, clients {measured.clients_cpu:.2f}; "
            f"machine {os.getloadavg()[0]:.1f}"
        )

    began = starts(stage, 5)
    say(f"starts: {', '.join(f'{each:.2f}' for each in began)} s")
    ratio = compare_with_bare(stage, 3_000)
    say(f"{ratio}")
    keep("warm", read_warm(stage, seconds))
    keep("warm, without Redis", read_warm(stage, seconds, has_redis=False))
    keep("warm, no pauses", read_without_pause(stage, seconds / 2, 16))
    keep("cold: a call is reported every second", read_while_called(stage, seconds))
    keep("cold: nobody asks twice", read_each_once(stage, seconds / 2))
    measured, suffered = read_while_it_breaks(
        stage, _FAULTS_SECONDS, list_at=_LIST_AT, n_fewer=7, others=_faults(stage)
    )
    keep("faults", measured)
    document = report(
        loads,
        suffered,
        ratio=ratio,
        starts=began,
        n_caregivers=n_caregivers,
        pause_seconds=stage.pause_seconds,
        machine=machine,
    )
    n_wrong = sum(measured.verdict.n_wrong + len(measured.broken) for measured in loads.values())
    return document, n_wrong + sum(fault.n_unmarked for fault in suffered)


def _faults(stage: Stage) -> list[Fault]:
    home = stage.hands.stores.settings.home
    return [
        Fault("Redis killed, back empty", _REDIS_AT, _REDIS_SECONDS, stage.redis.kill, stage.redis.start),
        Fault(
            "PostgreSQL stopped, and started again",
            _POSTGRESQL_AT,
            _POSTGRESQL_SECONDS,
            lambda: embedded.stop(home),
            lambda: embedded.start(home),
            is_marked=True,
        ),
    ]


def _machine() -> str:
    n_cores = os.cpu_count() or 1
    words = {1: "one core", 2: "two cores"}.get(n_cores, f"{n_cores} cores")
    load = os.getloadavg()[0]
    busy = (
        f" **The machine was busy with other work (load {load:.0f} at the start): times are provisional, "
        "counts are not.**"
        if load > n_cores / 2
        else ""
    )
    return f"The machine has {words}.{busy}"


if __name__ == "__main__":
    main()
