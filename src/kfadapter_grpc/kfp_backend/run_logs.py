"""Logs of tasks, from KFP's own address for them."""

from __future__ import annotations

from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING

from kfadapter_grpc.domain.errors import TaskNotFoundError, UnsupportedByKfpError
from kfadapter_grpc.domain.runs import RunState
from kfadapter_grpc.kfp_backend.api import KfpFailureError, NotAnApiError
from kfadapter_grpc.kfp_backend.error_table import Context
from kfadapter_grpc.kfp_backend.gateway import explained
from kfadapter_grpc.kfp_backend.run_tasks import tasks_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kfadapter_grpc.domain.call import Call
    from kfadapter_grpc.domain.runs import RunTask
    from kfadapter_grpc.kfp_backend.api import RunApi

_WITHOUT_LOG = frozenset(
    {
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.NOT_FOUND,
        HTTPStatus.METHOD_NOT_ALLOWED,
        HTTPStatus.INTERNAL_SERVER_ERROR,
        HTTPStatus.NOT_IMPLEMENTED,
    }
)
"""What KFP answers where it serves no logs, or the pod is gone and no archive has its log."""


class KfpRunLogs:
    """The `RunLogs` before KFP. Safe to use from many threads."""

    def __init__(self, api: RunApi) -> None:
        self._api = api

    @contextmanager
    def read(self, run_id: str, task: str, call: Call, *, follow: bool) -> Iterator[Iterator[bytes]]:
        """Reads the log of a task, in pieces as they come, for as long as the block lasts."""
        found = self._task(run_id, task, call)
        node_id = found.pod_name or found.task_id
        with explained(Context(subject=f"with id {run_id}", resource=run_id, values={"run_id": run_id})):
            try:
                with self._api.read_log(run_id, node_id, call, follow=follow) as pieces:
                    yield pieces
            except KfpFailureError as error:
                if error.failure.status not in _WITHOUT_LOG:
                    raise
                raise _without_log(run_id, found) from error
            except NotAnApiError as error:
                raise _without_log(run_id, found) from error

    def _task(self, run_id: str, task: str, call: Call) -> RunTask:
        """Finds a task that has begun, by its name or its id; of several of one name, the first."""
        with explained(Context(subject=f"with id {run_id}", resource=run_id, values={"run_id": run_id})):
            tasks = tasks_of(self._api.get(run_id, call))
        named = [one for one in tasks if one.name == task] or [one for one in tasks if task and one.task_id == task]
        begun = [one for one in named if one.state is not RunState.PENDING]
        if begun:
            return begun[0]
        if named:
            text = f"the task '{task}' of run {run_id} has not begun; try again when it has"
        else:
            names = ", ".join(dict.fromkeys(one.name for one in tasks)) or "none yet"
            text = f"run {run_id} has no task '{task}'; its tasks are: {names}"
        raise TaskNotFoundError(text, metadata={"run_id": run_id, "task": task}, resource_name=task)


def _without_log(run_id: str, task: RunTask) -> UnsupportedByKfpError:
    pod = f"`kubectl logs {task.pod_name}`" if task.pod_name else "kubectl, by the pod's name"
    return UnsupportedByKfpError(
        f"Kubeflow Pipelines does not serve the log of task '{task.name}' of run {run_id}, or no longer has it; "
        f"read it with {pod}",
        metadata={"run_id": run_id, "task": task.name, "pod_name": task.pod_name},
        resource_name=task.name,
    )
