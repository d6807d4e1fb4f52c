"""KFP's endpoints for runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from kfadapter_grpc.kfp.failures import Operation
from kfadapter_grpc.kfp.rest import V2, ListQuery, Rest, segment
from kfadapter_grpc.kfp.transport import Request
from kfadapter_grpc.kfp.wire.runs import RunJson, RunListJson, RunManifestJson

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager

    from kfadapter_grpc.contract.call import Call

_RUNS = f"{V2}/runs"
_V1_RUNS = "/apis/v1beta1/runs"
_LOGS = "/apis/v1alpha1/runs"


class RunApi:
    """The endpoints. Safe to use from many threads."""

    def __init__(self, rest: Rest) -> None:
        self._rest = rest

    def create(self, body: Mapping[str, object], call: Call) -> RunJson:
        """Starts a run."""
        request = Request("POST", _RUNS, body=json.dumps(body).encode())
        return self._rest.ask_raw(Operation.CREATE_RUN, request, RunJson, call)

    def get(self, run_id: str, call: Call) -> RunJson:
        """Gets a run with its tasks."""
        return self._rest.ask_raw(Operation.GET_RUN, Request("GET", _run(run_id)), RunJson, call)

    def get_manifest(self, run_id: str, call: Call) -> str:
        """Gets the Argo Workflow of a run as JSON text; empty before KFP has it."""
        request = Request("GET", f"{_V1_RUNS}/{segment(run_id)}")
        return self._rest.ask_raw(Operation.GET_RUN, request, RunManifestJson, call).pipeline_runtime.workflow_manifest

    def list(self, query: ListQuery, experiment_id: str, namespace: str, call: Call) -> RunListJson:
        """Lists runs, with their tasks and inline specs: of an experiment, or else of a namespace."""
        scope = [("experiment_id", experiment_id)] if experiment_id else [("namespace", namespace)] if namespace else []
        request = Request("GET", _RUNS, [*query.pairs(), *scope])
        return self._rest.ask_raw(Operation.LIST_RUNS, request, RunListJson, call)

    def terminate(self, run_id: str, call: Call) -> None:
        """Asks a run to stop."""
        self._change(Operation.TERMINATE_RUN, run_id, "terminate", call)

    def retry(self, run_id: str, call: Call) -> None:
        """Runs a failed run again."""
        self._change(Operation.RETRY_RUN, run_id, "retry", call)

    def archive(self, run_id: str, call: Call) -> None:
        """Puts a run away."""
        self._change(Operation.ARCHIVE_RUN, run_id, "archive", call)

    def unarchive(self, run_id: str, call: Call) -> None:
        """Takes a run back."""
        self._change(Operation.UNARCHIVE_RUN, run_id, "unarchive", call)

    def delete(self, run_id: str, call: Call) -> None:
        """Deletes a run."""
        self._rest.ask_raw(Operation.DELETE_RUN, Request("DELETE", _run(run_id)), dict[str, object], call)

    def read_log(self, run_id: str, pod: str, call: Call) -> AbstractContextManager[Iterator[bytes]]:
        """Reads the log of a pod as it comes. KFP checks no rights here, and writes errors into the log."""
        path = f"{_LOGS}/{segment(run_id)}/nodes/{segment(pod)}/log"
        return self._rest.open_raw(Operation.READ_LOG, Request("GET", path), call)

    def read_artifact(
        self, run_id: str, node_id: str, name: str, call: Call
    ) -> AbstractContextManager[Iterator[bytes]]:
        """Reads an artifact that Argo stored for a node, as it comes: JSON with base64 in it."""
        path = f"{_run(run_id)}/nodes/{segment(node_id)}/artifacts/{segment(name)}:read"
        return self._rest.open_raw(Operation.READ_LOG, Request("GET", path), call)

    def _change(self, operation: Operation, run_id: str, verb: str, call: Call) -> None:
        self._rest.ask_raw(operation, Request("POST", f"{_run(run_id)}:{verb}", body=b"{}"), dict[str, object], call)


def _run(run_id: str) -> str:
    return f"{_RUNS}/{segment(run_id)}"
