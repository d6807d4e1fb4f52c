"""Reads whole runs: what v2beta1 says of them, and their tasks and reasons from where this KFP has them."""

from __future__ import annotations

import hashlib
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from kfadapter_grpc.contract import errors
from kfadapter_grpc.contract.runs import RunState
from kfadapter_grpc.kfp.error_table import Context
from kfadapter_grpc.kfp.failures import KfpFailureError
from kfadapter_grpc.kfp.rest import explained
from kfadapter_grpc.kfp.run_nodes import Pod, RunNodes
from kfadapter_grpc.kfp.run_tasks import tasks_of, why_failed
from kfadapter_grpc.kfp.workflow_tasks import read_nodes

if TYPE_CHECKING:
    from kfadapter_grpc.contract.call import Call
    from kfadapter_grpc.contract.runs import Run
    from kfadapter_grpc.kfp.api import RunApi
    from kfadapter_grpc.kfp.wire.runs import RunJson

_NO_SUCH_ROUTE = "Not Found"
"""What KFP answers where it has no such address; of a run that is not there it says more."""
_NOT_SERVED_SECONDS = 300.0


class RunReader:
    """Reads runs. Safe to use from many threads."""

    def __init__(self, api: RunApi) -> None:
        self._api = api
        self._not_served_until = 0.0

    def get(self, run_id: str, call: Call) -> RunJson:
        """Gets a run from v2beta1."""
        with explained(context_of(run_id)):
            return self._api.get(run_id, call)

    def basic(self, found: RunJson) -> Run:
        """Makes a run of what v2beta1 says: of a termination its history, of a failure mostly nothing."""
        return found.to_domain(why_failed(found))

    def whole(self, found: RunJson, nodes: RunNodes) -> Run:
        """Makes a run with its tasks, its true end, and why it failed."""
        run = self.basic(found)
        state = RunState.CANCELED if run.state is RunState.FAILED and nodes.is_terminated else run.state
        unreadable = (f"tasks are unavailable: {nodes.unreadable}",) if nodes.unreadable else ()
        return replace(
            run,
            state=state,
            error=(run.error or nodes.why_failed(run.run_id)) if state is RunState.FAILED else "",
            tasks=nodes.tasks,
            warnings=(*run.warnings, *nodes.warnings, *unreadable),
            etag=_with_warnings(run.etag, nodes.warnings),
        )

    def nodes(self, found: RunJson, call: Call) -> RunNodes:
        """Reads the nodes of a run; what cannot be read never fails the run."""
        if time.monotonic() < self._not_served_until:
            return _from_task_details(found)
        try:
            with explained(context_of(found.run_id)):
                manifest = self._manifest(found.run_id, call)
        except errors.KfpError as error:
            return RunNodes(unreadable=error.message)
        if manifest is None:
            return _from_task_details(found)
        return read_nodes(manifest, is_over=found.known_state.is_over) if manifest else RunNodes()

    def _manifest(self, run_id: str, call: Call) -> str | None:
        """Gets the manifest of a run; empty before the first report, None where this KFP serves none."""
        try:
            return self._api.get_manifest(run_id, call)
        except KfpFailureError as error:
            if error.failure.text != _NO_SUCH_ROUTE:
                raise
        self._not_served_until = time.monotonic() + _NOT_SERVED_SECONDS
        return None


def context_of(run_id: str) -> Context:
    """The context of a call about a run."""
    return Context(subject=f"with id {run_id}", resource=run_id, values={"run_id": run_id})


def _from_task_details(found: RunJson) -> RunNodes:
    """The embedded KFP has no Argo; it lists tasks, by path, with their errors."""
    tasks = tuple(tasks_of(found))
    pods = {
        task.task_id: (Pod(task.task_id, task.pod_name or task.task_id, is_over=task.state.is_over),) for task in tasks
    }
    return RunNodes(tasks, pods_by_task=pods, message=why_failed(found))


def _with_warnings(etag: str, warnings: tuple[str, ...]) -> str:
    """What waits changes nothing of what v2beta1 says, but is news to those who watch tasks."""
    if not warnings:
        return etag
    digest = hashlib.sha256("\n".join(warnings).encode("utf-8", "replace")).hexdigest()
    return f"{etag}+{digest[:8]}"
