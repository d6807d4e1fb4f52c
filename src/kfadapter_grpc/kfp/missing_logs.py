"""What a caller is told where there is no log: why, and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kfadapter_grpc.contract.errors import AdapterError, RunNotFoundError, TaskNotFoundError, UnsupportedByKfpError
from kfadapter_grpc.contract.runs import RunState
from kfadapter_grpc.kfp.error_table.runs import NO_SUCH_RUN
from kfadapter_grpc.kfp.log_sources import KFP, KUBERNETES, MAIN_LOGS
from kfadapter_grpc.kfp.pod_logs import CONTAINER, PodLogError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kfadapter_grpc.contract.runs import RunTask
    from kfadapter_grpc.kfp.log_errors import NoLogError
    from kfadapter_grpc.kfp.log_sources import PodOfRun

_SWITCH_ON = (
    "for later runs have Argo archive logs: `archiveLogs: true` under `artifactRepository` in the ConfigMap "
    "workflow-controller-configmap"
)
_POD_LOGS = "or let the adapter read the logs of pods (deploy/components/pod-logs)"
_DID_NOT_RUN = frozenset({RunState.SKIPPED, RunState.OMITTED})
_WITHOUT_POD = _DID_NOT_RUN | {RunState.PENDING}
_GONE = ("not found", "NotFound")
_WAITS = "waiting to start"


def missing_log(task: RunTask, of: PodOfRun, refusals: Mapping[str, NoLogError]) -> AdapterError:
    """The error for a log that no source has; `refusals` holds what each of them said."""
    told = refusals[KFP].why if KFP in refusals else ""
    if f"Run {of.run_id} not found" in told:
        text = NO_SUCH_RUN.format(subject=f"with id {of.run_id}")
        return RunNotFoundError(text, metadata={"run_id": of.run_id}, resource_name=of.run_id)
    pod = refusals.get(KUBERNETES)
    if waiting := next((one.why for one in refusals.values() if _WAITS in one.why), ""):
        return not_begun(of.run_id, task, waiting)
    if "empty runtime workflow manifest" in told or task.state in _WITHOUT_POD:
        return not_begun(of.run_id, task)
    metadata = {"run_id": of.run_id, "task": task.name, "pod_name": of.pod.name, "namespace": of.namespace}
    text = f"there is no log of task '{task.name}' of run {of.run_id}: {_why(of, told, pod)}"
    known = {key: value for key, value in metadata.items() if value}
    return UnsupportedByKfpError(text, metadata=known, resource_name=task.name)


def not_begun(run_id: str, task: RunTask, why: str = "") -> TaskNotFoundError:
    """The error for a task of which there is no pod, or one whose container has not started."""
    name = f"task '{task.name}' of run {run_id}"
    if task.kind.is_group:
        text = f"{name} is a group of tasks, which has no log of its own; name one of its tasks"
    elif task.cached:
        text = f"{name} was not executed, as its result came from the cache; it has no log"
    elif task.state in _DID_NOT_RUN:
        text = f"{name} did not run, so it has no log"
    elif task.state.is_over:
        text = f"{name} had no pod, so it has no log; its state is {task.state.value}"
    else:
        reason = why or "; ".join(task.warnings) or task.error
        text = f"{name} has not begun{f' ({reason})' if reason else ''}; try again when it has"
    metadata = {"run_id": run_id, "task": task.name}
    return TaskNotFoundError(text, metadata=metadata, resource_name=task.name)


def _why(of: PodOfRun, told: str, pod: NoLogError | None) -> str:
    kubectl = f"`kubectl logs -n {of.namespace or 'NAMESPACE'} {of.pod.name} -c {CONTAINER}`"
    pod_is_gone = isinstance(pod, PodLogError) and any(word in pod.why for word in _GONE)
    if told.startswith("HTTP ") or not told:
        return f"Kubeflow Pipelines does not serve logs at this address ({told or 'no answer'}); use {kubectl}"
    if not of.pod.is_over:
        return (
            "the task runs, and Kubeflow Pipelines serves its log only when it has been archived; follow it to get it "
            f"then, use {kubectl}, {_POD_LOGS}"
        )
    if MAIN_LOGS in of.pod.artifacts:
        return f"it was archived, but cannot be read from the object store; while its pod exists, use {kubectl}"
    if pod_is_gone:
        return f"its pod is gone, and it was not archived; {_SWITCH_ON}"
    return f"it was not archived; while its pod exists, use {kubectl}, {_POD_LOGS}; {_SWITCH_ON}"
