"""Retrying a step whose fault passes by itself: a server that was away for a moment, a deadlock, another writer.

Dagster's RetryPolicy would repeat bad input just as often, and a person would wait for the same refusal. So the step
asks for a retry itself (RetryRequested), for the errors of which waiting is the remedy; the UI shows each of them.
"""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import dagster as dg

from bandicoot_core.errors import BusyError, UnreachableError

N_RETRIES = 2
SECONDS_BETWEEN = 2

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


def retried_when_transient(compute: Callable[_Parameters, _Result]) -> Callable[_Parameters, _Result]:
    """An asset's function whose step is tried N_RETRIES times more after UnreachableError and BusyError."""

    @functools.wraps(compute)
    def step(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:
        try:
            return compute(*args, **kwargs)
        except (UnreachableError, BusyError) as error:
            raise dg.RetryRequested(max_retries=N_RETRIES, seconds_to_wait=SECONDS_BETWEEN) from error

    return step
