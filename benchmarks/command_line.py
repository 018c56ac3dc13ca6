"""The nightly run as cron starts it: `bandicoot run`, the whole process from start to exit, on an embedded server.

A demo programme is filled for some days ahead; a first run makes the history, the model and the list of a Monday, and
the runs of the following days are measured. No day of them closes a week, so that none trains a model, and the demo
needs no continuing between them: each does what a night in production does.
"""

import sys
from collections.abc import Callable
from datetime import date, timedelta

from benchmarks.measure import Case, Measured, default_settings, run_command

FIRST_DATE = date(2026, 6, 29)
"""A Monday."""

_BANDICOOT = [sys.executable, "-c", "from bandicoot_dagster.cli import main; main()"]


def nightly_runs(case: Case, say: Callable[[str], None]) -> Measured:
    """Whole-process seconds and peak memory of each night after the first; the server's are not in them.

    Facts: seconds of the demo's filling and of the first run. Raises RuntimeError with a command's last words when it
    fails. The server that the commands start is left to the caller.
    """
    environment = default_settings(home=str(case.home))
    nights = [FIRST_DATE + timedelta(days=k) for k in range(case.repeats + 1)]
    say(f"command: filling a demo programme of {case.n_caregivers:,} caregivers")
    size = str(case.n_caregivers)
    demo = run_command([*_BANDICOOT, "demo", "--caregivers", size, "--as-of", str(nights[-1])], environment)
    say(f"  {demo.seconds:.0f} s; the first run, with history and training")
    first = run_command([*_BANDICOOT, "run", "--as-of", str(nights[0])], environment)
    say(f"  {first.seconds:.0f} s, {first.peak_mb:.0f} MB")
    later = []
    for night in nights[1:]:
        later.append(run_command([*_BANDICOOT, "run", "--as-of", str(night)], environment))
        say(f"  the list of {night}: {later[-1].seconds:.1f} s, {later[-1].peak_mb:.0f} MB")
    return Measured(
        seconds=[ended.seconds for ended in later],
        cpu_seconds=[ended.cpu_seconds for ended in later],
        peak_mb=max(ended.peak_mb for ended in later),
        base_mb=0.0,
        n_rows=case.n_caregivers,
        facts={"demo_seconds": demo.seconds, "first_run_seconds": first.seconds},
    )
