"""The RunService."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from kfadapter.v1 import run_pb2 as pb
from kfadapter.v1.run_pb2_grpc import RunServiceServicer
from kfadapter_grpc.codec import timestamp
from kfadapter_grpc.contract.errors import UnsupportedByKfpError
from kfadapter_grpc.contract.runs import RunChanged, RunGone
from kfadapter_grpc.interceptors import REQUEST_ID_KEY, caller_seconds, current_call
from kfadapter_grpc.methods import FOLLOW_SECONDS, WRITE_SECONDS
from kfadapter_grpc.services.messages import message, page
from kfadapter_grpc.services.requests import pages
from kfadapter_grpc.services.requests import runs as requests

if TYPE_CHECKING:
    from collections.abc import Iterator

    import grpc

    from kfadapter_grpc.contract.repository import RunLogs, RunRepository
    from kfadapter_grpc.contract.runs import LogPiece, Run, RunEvent
    from kfadapter_grpc.watch import WatchPoller


class RunServicer(RunServiceServicer):
    """Answers the calls of `kfadapter.v1.RunService`."""

    def __init__(
        self,
        runs: RunRepository,
        default_namespace: str = "",
        *,
        watches: WatchPoller | None = None,
        logs: RunLogs | None = None,
    ) -> None:
        """Answers from `runs`; without `watches` or `logs`, runs cannot be watched, or their logs not be read."""
        self._runs = runs
        self._logs = logs
        self._watches = watches
        self._namespace = default_namespace

    def Create(self, request: pb.CreateRunRequest, context: grpc.ServicerContext) -> pb.Run:
        """Starts a run."""
        wanted = requests.create(request, self._namespace)
        return message(self._runs.create(wanted, current_call(context)), pb.Run)

    def Get(self, request: pb.GetRunRequest, context: grpc.ServicerContext) -> pb.Run:
        """Gets one run."""
        run_id = requests.run_id(request)
        return message(self._runs.get(run_id, pages.view(request.view), current_call(context)), pb.Run)

    def List(self, request: pb.ListRunsRequest, context: grpc.ServicerContext) -> pb.ListRunsResponse:
        """Lists runs."""
        where = requests.run_filter(request.filter, self._namespace)
        wanted = pages.page(request, "finished_at", "display_name", "run_id")
        found = self._runs.list(where, wanted, current_call(context))
        return page(found, pb.ListRunsResponse, pages.next_page_token(found.next_token, request))

    def Terminate(self, request: pb.TerminateRunRequest, context: grpc.ServicerContext) -> pb.Run:
        """Stops a run, and waits for its end if asked to."""
        run_id, wait_seconds = requests.terminate(request)
        call = current_call(context)
        if wait_seconds and caller_seconds(context) is None:
            call.extend(WRITE_SECONDS + wait_seconds)
        return message(self._runs.terminate(run_id, wait_seconds, call, self._tell_watches), pb.Run)

    def Retry(self, request: pb.RetryRunRequest, context: grpc.ServicerContext) -> pb.Run:
        """Runs a failed run again."""
        return message(self._runs.retry(requests.run_id(request), current_call(context)), pb.Run)

    def Archive(self, request: pb.ArchiveRunRequest, context: grpc.ServicerContext) -> pb.Run:
        """Puts a run away."""
        return message(self._runs.archive(requests.run_id(request), current_call(context)), pb.Run)

    def Unarchive(self, request: pb.UnarchiveRunRequest, context: grpc.ServicerContext) -> pb.Run:
        """Takes a run back from the archive."""
        return message(self._runs.unarchive(requests.run_id(request), current_call(context)), pb.Run)

    def Delete(self, request: pb.DeleteRunRequest, context: grpc.ServicerContext) -> pb.DeleteRunResponse:
        """Deletes a run."""
        run_id = requests.run_id(request)
        deleted = self._runs.delete(run_id, current_call(context), allow_missing=request.allow_missing)
        return pb.DeleteRunResponse(run_id=run_id if deleted else "")

    def Watch(self, request: pb.WatchRunsRequest, context: grpc.ServicerContext) -> Iterator[pb.RunEvent]:
        """Follows runs."""
        wanted = requests.watch(request, self._namespace)
        if self._watches is None:
            raise UnsupportedByKfpError("this adapter does not watch runs")
        call = current_call(context)
        with self._watches.open(wanted, call) as events:
            context.send_initial_metadata(((REQUEST_ID_KEY, call.request_id),))  # it may be long before there is news
            for event in events:
                yield _event(event, tasks=wanted.tasks)

    def _tell_watches(self, run: Run) -> None:
        if self._watches is not None:
            self._watches.update(run)

    def ReadLogs(self, request: pb.ReadLogsRequest, context: grpc.ServicerContext) -> Iterator[pb.ReadLogsResponse]:
        """Reads the log of a task."""
        run_id, task, attempt, iteration_index = requests.log(request)
        if self._logs is None:
            raise UnsupportedByKfpError("this adapter does not read logs")
        call = current_call(context)
        with self._logs.read(
            run_id, task, call, follow=request.follow, attempt=attempt, iteration_index=iteration_index
        ) as pieces:
            if request.follow and caller_seconds(context) is None:
                call.extend(FOLLOW_SECONDS)
            for piece in pieces:
                if isinstance(piece, bytes):
                    call.usage.add_sent(len(piece))
                yield _log_piece(piece)


def _log_piece(piece: LogPiece) -> pb.ReadLogsResponse:
    return pb.ReadLogsResponse(chunk=piece) if isinstance(piece, bytes) else pb.ReadLogsResponse(note=piece.text)


def _event(event: RunEvent, *, tasks: bool) -> pb.RunEvent:
    """The event of a watch; the tasks of a run only where they are requested."""
    at = timestamp(event.observed_at)
    match event:
        case RunChanged():
            item = event.run if tasks else replace(event.run, tasks=())
            return pb.RunEvent(changed=pb.RunChanged(run=message(item, pb.Run)), observed_at=at)
        case RunGone():
            return pb.RunEvent(gone=pb.RunGone(run_id=event.run_id), observed_at=at)
    return pb.RunEvent(heartbeat=pb.Heartbeat(kfp_reachable=event.kfp_reachable), observed_at=at)
