"""How the daemon and the webserver, which never load the definitions, come to log as the setting says.

`dagster.yaml` names classes, and Dagster makes them in every process that opens an instance. How a process logs belongs
to logs.
"""

from collections.abc import Mapping
from typing import Any

from dagster._core.scheduler.scheduler import DagsterDaemonScheduler, Scheduler
from dagster._serdes import ConfigurableClass, ConfigurableClassData

from bandicoot_dagster.logs import set_up_logs


class LogsOfServers(Scheduler, ConfigurableClass):
    """The `scheduler` of `dagster.yaml`: Dagster's own, made after this process was set up to log.

    Of what an instance is made of only the storage and the scheduler are made at once. Never an instance of this class,
    only what `from_config_value` returns.
    """

    @classmethod
    def config_type(cls) -> Mapping[str, Any]:
        """Nothing: the setting `log_format` decides."""
        return {}

    @classmethod
    def from_config_value(  # type: ignore[override]  # it makes none of its own
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> DagsterDaemonScheduler:
        """Dagster's scheduler as it is by default."""
        set_up_logs()
        return DagsterDaemonScheduler(inst_data=inst_data)
