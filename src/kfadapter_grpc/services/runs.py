"""The RunService."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from kfadapter.v1 import run_pb2 as pb
from kfadapter.v1.run_pb2_grpc import RunServiceServicer
from kfadapter_grpc.codec import read_request
from kfadapter_grpc.contract import runs as contract
from kfadapter_grpc.contract import watches
from kfadapter_grpc.interceptors.calls import REQUEST_ID_KEY, caller_seconds, current_call
from kfadapter_grpc.kfp.logs import RunLogs
from kfadapter_grpc.kfp.runs import Runs
from kfadapter_grpc.methods import FOLLOW_SECONDS, WRITE_SECONDS
from kfadapter_grpc.services.responses import deletion, listing, message, unary
from kfadapter_grpc.watch.poller import WatchPoller
from kfadapter_grpc.well_known import timestamp

if TYPE_CHECKING:
    import grpc


class RunServicer(RunServiceServicer):
    def __init__(self, runs: Runs, default_namespace: str = "", *, watches: WatchPoller, logs: RunLogs) -> None:
        self.kfp = runs
        self._logs = logs
        self._watches = watches
        self.namespace = default_namespace

    Create = unary(contract.CreateRunRequest, lambda self, request, call: self.kfp.create(request, call))
    Get = unary(contract.GetRunRequest, lambda self, request, call: self.kfp.get(request.run_id, request.view, call))
    List = listing(
        contract.ListRunsRequest, lambda self, request, page, call: self.kfp.list(request.filter, page, call)
    )
    Retry = unary(contract.RetryRunRequest, lambda self, request, call: self.kfp.retry(request.run_id, call))
    Archive = unary(contract.ArchiveRunRequest, lambda self, request, call: self.kfp.archive(request.run_id, call))
    Unarchive = unary(
        contract.UnarchiveRunRequest, lambda self, request, call: self.kfp.unarchive(request.run_id, call)
    )
    Delete = deletion(
        contract.DeleteRunRequest,
        lambda self, request, call: self.kfp.delete(request.run_id, call, allow_missing=request.allow_missing),
    )

    def Terminate(self, request: pb.TerminateRunRequest, context: grpc.ServicerContext) -> pb.Run:
        parsed = read_request(request, contract.TerminateRunRequest)
        call, wait_seconds = current_call(context), parsed.wait.total_seconds() if parsed.wait else 0.0
        if wait_seconds and caller_seconds(context) is None:
            call.extend(WRITE_SECONDS + wait_seconds)
        return message(self.kfp.terminate(parsed.run_id, wait_seconds, call, self._watches.update), pb.Run)

    def Watch(self, request: pb.WatchRunsRequest, context: grpc.ServicerContext) -> Iterator[pb.RunEvent]:
        parsed = read_request(request, watches.WatchRunsRequest, self.namespace)
        call = current_call(context)
        with self._watches.open(parsed, call) as events:
            context.send_initial_metadata(((REQUEST_ID_KEY, call.request_id),))  # the first event may take long
            for event in events:
                yield _event(event, tasks=parsed.tasks)

    def ReadLogs(self, request: pb.ReadLogsRequest, context: grpc.ServicerContext) -> Iterator[pb.ReadLogsResponse]:
        parsed = read_request(request, contract.ReadLogsRequest)
        call = current_call(context)
        with self._logs.read(parsed, call) as chunks:
            if parsed.follow and caller_seconds(context) is None:
                call.extend(FOLLOW_SECONDS)
            for chunk in chunks:
                if isinstance(chunk, bytes):
                    call.usage.add_sent(len(chunk))
                    yield pb.ReadLogsResponse(chunk=chunk)
                else:
                    yield pb.ReadLogsResponse(note=chunk.text)


def _event(event: watches.RunEvent, *, tasks: bool) -> pb.RunEvent:
    at = timestamp(event.observed_at)
    match event:
        case watches.RunChanged():
            item = event.run if tasks else replace(event.run, tasks=(), metrics=(), sources=None)
            return pb.RunEvent(changed=pb.RunChanged(run=message(item, pb.Run)), observed_at=at)
        case watches.RunGone():
            return pb.RunEvent(gone=pb.RunGone(run_id=event.run_id), observed_at=at)
    return pb.RunEvent(heartbeat=pb.Heartbeat(kfp_reachable=event.kfp_reachable), observed_at=at)
