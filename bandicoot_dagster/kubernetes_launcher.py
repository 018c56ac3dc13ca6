"""Starting runs as Kubernetes Jobs in pods of a size that a tag of the run names.

Dagster's K8sRunLauncher does the starting, watching and ending; added is only which CPU, memory, nodes and tolerations
a run gets. The sizes are configuration (deploy/helm/dagster-values.yaml): they belong to a cluster, not to code.
"""

import copy
from collections.abc import Mapping
from typing import Any

import dagster as dg
from dagster_k8s import K8sRunLauncher
from dagster_k8s.container_context import K8sContainerContext
from dagster_k8s.job import UserDefinedDagsterK8sConfig

from bandicoot_core.errors import InvalidSettingError
from bandicoot_dagster.run_sizes import SIZE_TAG

_PARTS = ("container_config", "pod_spec_config", "pod_template_spec_metadata", "job_spec_config")


class SizedK8sRunLauncher(K8sRunLauncher):
    """Dagster's launcher, whose pods are as large as the run's tag says, else its job's size, else the default."""

    def __init__(
        self,
        sizes: Mapping[str, Mapping[str, Any]],
        default_size: str,
        job_sizes: Mapping[str, str] | None = None,
        **launcher: Any,
    ) -> None:
        self._sizes = sizes
        self._default_size = default_size
        self._job_sizes = job_sizes or {}
        for what, size in {"default_size": default_size, **self._job_sizes}.items():
            if size not in sizes:
                raise InvalidSettingError(
                    f"dagster.yaml, run_launcher: {what} is {size!r}, which is none of sizes ({', '.join(sizes)}); "
                    "add that size, or name one of these"
                )
        super().__init__(**launcher)

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """That of Dagster's launcher, with the sizes."""
        size = {part: dg.Field(dict, is_required=False) for part in _PARTS}
        return {
            **super().config_type(),
            "sizes": dg.Field({str: size}, description="What a pod of each size has over run_k8s_config, in its terms"),
            "default_size": dg.Field(str, description="Size of a run that has no tag and whose job is not listed"),
            "job_sizes": dg.Field(
                {str: str}, is_required=False, default_value={}, description="Size of a job's runs, by its name"
            ),
        }

    def size_of(self, run: dg.DagsterRun) -> str:
        """The size of a run's pod; InvalidSettingError, with which the run fails, when there is no such size."""
        size = run.tags.get(SIZE_TAG) or self._job_sizes.get(run.job_name, self._default_size)
        if size not in self._sizes:
            raise InvalidSettingError(
                f"tag {SIZE_TAG} of run {run.run_id} is {size!r}; the sizes are {', '.join(self._sizes)}: start it "
                "again with one of these"
            )
        return size

    def get_container_context_for_run(self, dagster_run: dg.DagsterRun) -> K8sContainerContext:
        """What Dagster's launcher would use, with the size over the launcher's own and under the run's."""
        sized = copy.copy(self)
        common, size = (
            K8sContainerContext(run_k8s_config=UserDefinedDagsterK8sConfig.from_dict(part))
            for part in (self._run_k8s_config, self._sizes[self.size_of(dagster_run)])
        )
        sized._run_k8s_config = common.merge(size).run_k8s_config.to_dict()
        return K8sContainerContext.create_for_run(dagster_run, sized, include_run_tags=True)
