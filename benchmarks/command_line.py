"""The nightly run as cron starts it: `bandicoot run`, the whole process from start to exit, on an embedded server.

A demo programme is filled for some days ahead; a first run makes the history, the model and the list of a Monday, and
the runs of the following days are measured. No day of them closes a week, so that none trains a model, and the demo
needs no continuing between them: each does what a night in production does.
"""

import shutil
import sys
from collections.abc import Callable
from datetime import date, timedelta

from benchmarks.measure import Case, Measured, default_settings, run_command

FIRST_DATE = date(2026, 6, 29)
"""A Monday."""

_BANDICOOT = [sys.executable, "-c", "from bandicoot_dagster.cli import main; main()"]


def nightly_runs(case: Case, say: Callable[[str], None]) -> Measured:
    """Whole-process seconds and peak memory of each night after the first; the server's memory is not in it.

    Raises RuntimeError with the command's words when one fails. The embedded server is removed at the end.
    """
    environment = default_settings(home=str(case.home))
    nights = [FIRST_DATE + timedelta(days=k) for k in range(case.repeats + 1)]
    seconds, peaks, cpu_seconds = [], [], []
    try:
        say(f"filling a demo programme of {case.n_caregivers:,} caregivers")
        size = str(case.n_caregivers)
        demo = run_command([*_BANDICOOT, "demo", "--caregivers", size, "--as-of", str(nights[-1])], environment)
        say(f"  {demo.seconds:.0f} s; first run, with history and training")
        first = run_command([*_BANDICOOT, "run", "--as-of", str(nights[0])], environment)
        say(f"  {first.seconds:.0f} s, {first.peak_mb:.0f} MB")
        for night in nights[1:]:
            ended = run_command([*_BANDICOOT, "run", "--as-of", str(night)], environment)
            say(f"  the night of {night}: {ended.seconds:.1f} s, {ended.peak_mb:.0f} MB")
            seconds.append(ended.seconds)
            cpu_seconds.append(ended.cpu_seconds)
            peaks.append(ended.peak_mb)
    finally:
        run_command([sys.executable, "-c", _DESTROY, str(case.home)], environment)
        shutil.rmtree(case.home, ignore_errors=True)
    facts = {"first_run_seconds": first.seconds, "demo_seconds": demo.seconds}
    return Measured(seconds, cpu_seconds, max(peaks), 0.0, case.n_caregivers, facts)


_DESTROY = (
    "import sys; from pathlib import Path; from bandicoot_core.stores import embedded; "
    "embedded.destroy(Path(sys.argv[1]))"
)
