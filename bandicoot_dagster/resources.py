"""The resources assets ask for by name: the installation's stores, the clock, the training options, and the bill."""

from typing import Any

from bandicoot_core.settings import Settings
from bandicoot_core.stores.installation import Installation
from bandicoot_dagster.billing import Bill
from bandicoot_dagster.clock import Clock, system_clock
from bandicoot_dagster.config import Training


def build_resources(settings: Settings, clock: Clock = system_clock) -> dict[str, Any]:
    """The resources of the project for one set of settings and one clock."""
    return {"stores": Installation(settings), "clock": clock, "training": Training(), "bill": Bill(settings)}
