"""Runs of the command line whose process was killed: Dagster would take them for running, and keep others waiting.

A run that the daemon launched is watched by Dagster's run monitoring. One that `bandicoot run` executed in its own
process is nobody's: it carries a tag that names the process, and is ended here when that is gone.
"""

import os
import socket

import dagster as dg
import psutil

PROCESS_TAG = "bandicoot/process"

_UNDER_WAY = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]


def this_process() -> dict[str, str]:
    """The tag for a run that this process executes: host, process id and when it began, so that no id is mistaken."""
    process = psutil.Process(os.getpid())
    return {PROCESS_TAG: f"{socket.gethostname()} {process.pid} {process.create_time():.2f}"}


def end_abandoned_runs(instance: dg.DagsterInstance) -> list[str]:
    """Report the runs as failed whose process on this host has ended without a word; returns their ids.

    What such a run had written is whole, and the next run does what it left undone.
    """
    ended = []
    for run in instance.get_runs(dg.RunsFilter(statuses=_UNDER_WAY)):
        if PROCESS_TAG in run.tags and _has_ended(run.tags[PROCESS_TAG]):
            instance.report_run_failed(
                run,
                "The process that executed this run was killed. What it had written is whole and stays; run again.",
            )
            ended.append(run.run_id)
    return ended


def _has_ended(process: str) -> bool:
    host, pid, began = process.rsplit(" ", 2)
    if host != socket.gethostname():
        return False  # nobody can tell from here
    try:
        found = psutil.Process(int(pid))
        return f"{found.create_time():.2f}" != began or found.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
