"""A Dagster logger that tells a person at a terminal which asset is being made and how long each took.

Selected by the command line through run configuration; runs started from the UI keep Dagster's own logger. Where logs
are JSON, it writes what that one would, one object for each line.
"""

import logging
import sys
import time

import dagster as dg

from bandicoot_dagster.logs import json_handler, logs_are_json

_EVENTS = {"STEP_START", "STEP_SUCCESS", "STEP_FAILURE"}


class ProgressHandler(logging.Handler):
    """Prints one line per asset to standard error as it is finished; a terminal also sees it start."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self._started_at: dict[str, float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Print the record when it starts or ends a step; what else a run logs is kept with the run, for the UI."""
        event = getattr(record, "dagster_meta", {}).get("dagster_event")
        if event is not None and event.event_type_value in _EVENTS and event.step_key is not None:
            self._print_step(event.event_type_value, event.step_key)

    def _print_step(self, kind: str, step: str) -> None:
        is_terminal = sys.stderr.isatty()
        if kind == "STEP_START":
            self._started_at[step] = time.monotonic()
            if is_terminal:
                print(f"    {step} ...", end="\r", file=sys.stderr, flush=True)  # noqa: T201
            return
        seconds = time.monotonic() - self._started_at.get(step, time.monotonic())
        outcome = f"{seconds:6.1f} s" if kind == "STEP_SUCCESS" else "failed"
        print(f"    {step:<24} {outcome}", file=sys.stderr, flush=True)  # noqa: T201


@dg.logger({}, description="One line per asset, for a person at a terminal")
def progress_logger(init_context: dg.InitLoggerContext) -> logging.Logger:
    """The logger of one run."""
    logger = logging.getLogger("bandicoot.progress")
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    logger.handlers = [json_handler(logging.DEBUG) if logs_are_json() else ProgressHandler()]
    return logger
