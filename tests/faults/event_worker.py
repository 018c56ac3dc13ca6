"""A worker that takes events in until it is told to stop, whatever is away meanwhile; it is made to be killed.

Run as `python -m tests.faults.event_worker FILE`: it ends when the file is there. What is foreseen to pass is waited
for; anything else ends it with an error.
"""

import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from bandicoot_core.errors import PartitionHeldError, TransientError
from bandicoot_core.pipeline.event_sources import consume_subscription
from bandicoot_core.settings import load_settings
from bandicoot_core.stores.installation import Installation


def work(stop: Path) -> None:
    """Consume until the file is there."""
    stores = Installation(load_settings())
    while not stop.exists():
        try:
            subscription = stores.event_subscription()
            assert subscription is not None
            with subscription:
                consume_subscription(
                    stores,
                    subscription,
                    clock=lambda: datetime.now(UTC),
                    seconds=5,
                    holder="worker",
                )
        except (TransientError, PartitionHeldError) as error:
            print(f"waits: {error}", file=sys.stderr, flush=True)
            time.sleep(0.2)


if __name__ == "__main__":
    work(Path(sys.argv[1]))
