"""A code location whose runs do what a test wants: end well, fail, or go on until a file says that they may end."""

import os
import time
from pathlib import Path

import dagster as dg

from bandicoot_dagster.run_sizes import LARGE

FOLDER_VARIABLE = "TEST_FOLDER"


@dg.op
def end_well(context: dg.OpExecutionContext) -> None:
    print(f"executed by {os.environ['CLOUD_RUN_EXECUTION']}")
    context.log.info("done")


@dg.op
def fail() -> None:
    raise ValueError("this run fails")


@dg.op
def go_on(context: dg.OpExecutionContext) -> None:
    """A run that repeats another one may end with it."""
    may_end = Path(os.environ[FOLDER_VARIABLE]) / (context.run.root_run_id or context.run_id)
    while not may_end.exists():
        time.sleep(0.05)


@dg.job(executor_def=dg.in_process_executor)
def short() -> None:
    end_well()


@dg.job(executor_def=dg.in_process_executor)
def failing() -> None:
    fail()


@dg.job(executor_def=dg.in_process_executor, tags=LARGE)
def long() -> None:
    go_on()


defs = dg.Definitions(jobs=[short, failing, long])
