"""What every step that writes has in common: it writes its partitions alone, and is tried again where waiting helps.

Dagster's RetryPolicy would repeat bad input just as often, and a person would wait for the same refusal. So a step
asks for a retry itself (RetryRequested), for the errors of which waiting is the remedy; the UI shows each of them.

Pools say the same to Dagster's run queue, so that a second run waits there and not in a process. The lock holds
where no queue is asked: on the command line, and between two instances.
"""

import functools
import socket
from collections.abc import Callable
from typing import Any

import dagster as dg

from bandicoot_core.errors import TransientError

N_RETRIES = 2
SECONDS_BETWEEN = 2


def retried(compute: Callable[..., Any]) -> Callable[..., Any]:
    """Decorates an asset's function (context first): tried N_RETRIES times more after a TransientError."""

    @functools.wraps(compute)
    def step(context: dg.AssetExecutionContext, **resources: Any) -> Any:
        try:
            return compute(context, **resources)
        except TransientError as error:
            raise dg.RetryRequested(max_retries=N_RETRIES, seconds_to_wait=SECONDS_BETWEEN) from error

    return step


def written_alone(
    *, is_retried: bool = False, writes_earlier: bool = False
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorates an asset's function (context first, `stores` among its resources).

    PartitionHeldError says who else is at work when the partitions do not become free. With `is_retried` the step is
    tried N_RETRIES times more after a TransientError. One that `writes_earlier` partitions beside its own is the only
    writer of the whole asset.
    """

    def decorate(compute: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(compute)
        def step(context: dg.AssetExecutionContext, **resources: Any) -> Any:
            holder = f"run {context.run.run_id[:8]} on {socket.gethostname()}"
            asset = context.asset_key.path[-1]
            with resources["stores"].sole_writer(
                asset, context.partition_keys, holder=holder, is_whole_asset=writes_earlier
            ):
                return compute(context, **resources)

        return retried(step) if is_retried else step

    return decorate
