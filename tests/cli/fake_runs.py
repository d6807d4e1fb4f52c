"""A run service that stores runs in memory."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from typing_extensions import override

from kfadapter.v1 import common_pb2, pipeline_pb2_grpc, run_pb2, run_pb2_grpc
from kfadapter_grpc.contract.errors import AdapterError, RunNotFoundError
from kfadapter_grpc.interceptors.errors import wire_status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.message import Message
    from tests.client.fake_adapter import FakeAdapter

SUCCEEDED = run_pb2.RUN_STATE_SUCCEEDED


class FakeRuns(run_pb2_grpc.RunServiceServicer):
    """Stores runs in memory.

    Attributes:
        runs: The runs, oldest first.
        requests: All requests received.
        endings: The states that a watched run goes through, with an error for each.
        failures: The errors of the next calls.
        refused: The errors of all calls about a run, by its id.
        logs: The log of each task, by task name.
        log_note: The note at the end of each log.
    """

    def __init__(self) -> None:
        self.runs: dict[str, run_pb2.Run] = {}
        self.requests: list[Message] = []
        self.endings: list[tuple[run_pb2.RunState.ValueType, str]] = [(SUCCEEDED, "")]
        self.failures: list[AdapterError] = []
        self.refused: dict[str, AdapterError] = {}
        self.logs: dict[str, bytes] = {}
        self.log_note = ""

    def add(self, name: str, **fields: object) -> run_pb2.Run:
        """Adds a run."""
        number = len(self.runs) + 1
        run = run_pb2.Run(
            run_id=f"22222222-0000-4000-8000-{number:012d}",
            display_name=name,
            created_at=Timestamp(seconds=1_760_000_000 + number),
            experiment_name="Default",
            **fields,  # type: ignore[arg-type]
        )
        self.runs[run.run_id] = run
        return run

    @override
    def Create(self, request: run_pb2.CreateRunRequest, context: grpc.ServicerContext) -> run_pb2.Run:
        """Adds a run, unless the request only validates."""
        self._begin(request, context)
        if request.validate_only:
            return run_pb2.Run(display_name="would be", parameters=request.parameters)
        return self.add(request.display_name or "made up", state=run_pb2.RUN_STATE_RUNNING)

    @override
    def Get(self, request: run_pb2.GetRunRequest, context: grpc.ServicerContext) -> run_pb2.Run:
        """Gets a run."""
        return self._of(request, context)

    @override
    def List(self, request: run_pb2.ListRunsRequest, context: grpc.ServicerContext) -> run_pb2.ListRunsResponse:
        """Lists runs by the filters that the command line sends, newest first; a page token is the next place."""
        self._begin(request, context)
        where, archived = request.filter, common_pb2.STORAGE_STATE_ARCHIVED
        found = [
            run
            for run in reversed(self.runs.values())
            if where.display_name_contains in run.display_name
            and (where.storage_state == archived) is (run.storage_state == archived)
            and (not where.states or run.state in where.states)
            and where.pipeline_id in {"", run.pipeline_id}
        ]
        begin = int(request.page_token or 0)
        end = begin + (request.page_size or 100)
        token = str(end) if end < len(found) else ""
        return run_pb2.ListRunsResponse(runs=found[begin:end], next_page_token=token)

    @override
    def Watch(self, request: run_pb2.WatchRunsRequest, context: grpc.ServicerContext) -> Iterator[run_pb2.RunEvent]:
        """Sends the configured states of each run, then ends."""
        self._begin(request, context)
        for run_id in request.runs.run_ids:
            run = self.runs[run_id]
            for state, error in self.endings:
                run.state, run.error = state, error
                yield run_pb2.RunEvent(changed=run_pb2.RunChanged(run=run), observed_at=run.created_at)

    @override
    def ReadLogs(
        self, request: run_pb2.ReadLogsRequest, context: grpc.ServicerContext
    ) -> Iterator[run_pb2.ReadLogsResponse]:
        """Sends a log in chunks of seven bytes."""
        self._begin(request, context)
        log = self.logs[request.task]
        for begin in range(0, len(log), 7):
            yield run_pb2.ReadLogsResponse(chunk=log[begin : begin + 7])
        if self.log_note:
            yield run_pb2.ReadLogsResponse(note=self.log_note)

    @override
    def Terminate(self, request: run_pb2.TerminateRunRequest, context: grpc.ServicerContext) -> run_pb2.Run:
        """Terminates a run, immediately if the request waits for it."""
        run = self._of(request, context)
        run.state = run_pb2.RUN_STATE_CANCELED if request.HasField("wait") else run_pb2.RUN_STATE_CANCELING
        return run

    @override
    def Retry(self, request: run_pb2.RetryRunRequest, context: grpc.ServicerContext) -> run_pb2.Run:
        """Retries a run; like the adapter's, the response has no experiment name."""
        run = self._of(request, context)
        run.state = run_pb2.RUN_STATE_RUNNING
        bare = run_pb2.Run()
        bare.CopyFrom(run)
        bare.experiment_name = ""
        return bare

    @override
    def Archive(self, request: run_pb2.ArchiveRunRequest, context: grpc.ServicerContext) -> run_pb2.Run:
        """Archives a run."""
        run = self._of(request, context)
        run.storage_state = common_pb2.STORAGE_STATE_ARCHIVED
        return run

    @override
    def Unarchive(self, request: run_pb2.UnarchiveRunRequest, context: grpc.ServicerContext) -> run_pb2.Run:
        """Unarchives a run."""
        run = self._of(request, context)
        run.storage_state = common_pb2.STORAGE_STATE_AVAILABLE
        return run

    @override
    def Delete(self, request: run_pb2.DeleteRunRequest, context: grpc.ServicerContext) -> run_pb2.DeleteRunResponse:
        """Deletes a run."""
        if request.allow_missing and request.run_id not in self.runs:
            return run_pb2.DeleteRunResponse()
        return run_pb2.DeleteRunResponse(run_id=self.runs.pop(self._of(request, context).run_id).run_id)

    def _begin(self, request: Message, context: grpc.ServicerContext) -> None:
        self.requests.append(request)
        if self.failures:
            context.abort_with_status(wire_status(self.failures.pop(0), "r-1"))

    def _of(
        self,
        request: run_pb2.GetRunRequest
        | run_pb2.TerminateRunRequest
        | run_pb2.RetryRunRequest
        | run_pb2.ArchiveRunRequest
        | run_pb2.UnarchiveRunRequest
        | run_pb2.DeleteRunRequest,
        context: grpc.ServicerContext,
    ) -> run_pb2.Run:
        self._begin(request, context)
        if request.run_id in self.refused:
            context.abort_with_status(wire_status(self.refused[request.run_id], "r-1"))
        if request.run_id not in self.runs:
            error = RunNotFoundError(f"not found: run {request.run_id}", resource_name=request.run_id)
            context.abort_with_status(wire_status(error, "r-1"))
        return self.runs[request.run_id]


@contextmanager
def serving_all(pipelines: FakeAdapter, runs: FakeRuns) -> Iterator[str]:
    """Serves pipelines and runs on a free loopback port; yields the address."""
    with ThreadPoolExecutor(max_workers=8) as pool:
        server = grpc.server(pool, options=[("grpc.so_reuseport", 0)])
        pipeline_pb2_grpc.add_PipelineServiceServicer_to_server(pipelines, server)
        run_pb2_grpc.add_RunServiceServicer_to_server(runs, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.stop(None).wait(10)
