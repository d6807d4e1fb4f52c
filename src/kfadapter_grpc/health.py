"""Health (grpc.health.v1) of the server and its services, and of KFP, which is probed for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
import structlog
from google.protobuf import text_format
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse  # type: ignore[import-untyped]

from kfadapter_grpc.contract.errors import KfpRejectedCredentialsError

if TYPE_CHECKING:
    from google.protobuf.descriptor import FileDescriptor
    from google.protobuf.message import Message

HEALTH_SERVICE = "grpc.health.v1.Health"
KFP_NAME = "kfp"
"""The service name under which health shows whether KFP is reachable."""
PROBE_SECONDS = 2.0
SENDERS = 4
_UNREACHABLE = "KFP is unreachable; calls fail with KFP_UNAVAILABLE until it responds"
_REJECTED = (
    "the adapter's credentials for KFP are not accepted, or cannot be read; calls fail with KFP_REJECTED_CREDENTIALS "
    "until that changes"
)
STALLED_SECONDS = 5.0
"""The time limit for a watcher to read an update, before its watch is cancelled."""
_LIST = """
message_type { name: "HealthListRequest" }
message_type {
  name: "HealthListResponse"
  field {
    name: "statuses" number: 1 label: LABEL_REPEATED type_name: ".grpc.health.v1.HealthListResponse.StatusesEntry"
  }
  nested_type {
    name: "StatusesEntry"
    field { name: "key" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING }
    field { name: "value" number: 2 label: LABEL_OPTIONAL type_name: ".grpc.health.v1.HealthCheckResponse" }
    options { map_entry: true }
  }
}
"""


def _descriptor() -> FileDescriptor:
    """Returns health.proto with List, which grpcio-health-checking has only in its releases for protobuf 7."""
    declared: FileDescriptor = health_pb2.DESCRIPTOR
    if "HealthListRequest" in declared.message_types_by_name:
        return declared
    file = FileDescriptorProto()
    declared.CopyToProto(file)
    text_format.Merge(_LIST, file)
    package = f".{file.package}"
    file.service[0].method.add(
        name="List", input_type=f"{package}.HealthListRequest", output_type=f"{package}.HealthListResponse"
    )
    pool = DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return pool.FindFileByName(file.name)


DESCRIPTOR = _descriptor()
_HealthListRequest = GetMessageClass(DESCRIPTOR.message_types_by_name["HealthListRequest"])
_HealthListResponse = GetMessageClass(DESCRIPTOR.message_types_by_name["HealthListResponse"])


class HealthServicer(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """Serves health checks; a Watch holds no thread of the server's pool.

    The one of grpcio-health-checking sends to its watchers under the lock that gRPC's only serving thread needs when a
    watcher disconnects: at a bad moment the whole server hangs. This one sends from a few threads,
    without a lock, and cancels a watch whose peer does not read, so that it cannot delay the updates of others.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._senders = ThreadPoolExecutor(SENDERS, thread_name_prefix="health-send")
        self._statuses: dict[str, int] = {}
        self._watches: dict[_Watch, int | None] = {}
        self._sender: threading.Thread | None = None
        self._closed = False

    def set(self, statuses: dict[str, int]) -> None:
        """Sets the status of some names, and sends it to their watchers."""
        with self._changed:
            self._statuses.update(statuses)
            self._changed.notify_all()

    def close(self) -> None:
        """Ends the threads that send."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._senders.shutdown(wait=False, cancel_futures=True)

    def Check(self, request: HealthCheckRequest, context: grpc.ServicerContext) -> HealthCheckResponse:  # noqa: N802
        """Returns the status of a name; NOT_FOUND if it is unknown."""
        with self._changed:
            status = self._statuses.get(request.service)
        if status is None:
            context.set_code(grpc.StatusCode.NOT_FOUND)
            context.set_details(f"not found: service '{request.service}'")
        return HealthCheckResponse(status=status)

    def List(self, request: Message, context: grpc.ServicerContext) -> Message:  # noqa: ARG002, N802
        """Returns the status of all names."""
        response = _HealthListResponse()
        with self._changed:
            for name, status in self._statuses.items():
                response.statuses[name].status = status  # type: ignore[attr-defined] # a class made at run time
        return response

    def Watch(  # noqa: N802
        self,
        request: HealthCheckRequest,
        context: grpc.ServicerContext,
        send: Callable[[HealthCheckResponse], None],
    ) -> None:
        """Sends the status of a name now and whenever it changes."""
        watch = _Watch(request.service, send, context.cancel)
        with self._changed:
            self._watches[watch] = None
            if self._sender is None:
                self._sender = threading.Thread(target=self._send_changes, name="health-watch", daemon=True)
                self._sender.start()
            self._changed.notify_all()
        if not context.add_callback(lambda: self._forget(watch)):
            self._forget(watch)

    Watch.experimental_non_blocking = True  # type: ignore[attr-defined]

    def _forget(self, watch: _Watch) -> None:
        with self._changed:
            self._watches.pop(watch, None)

    def _send_changes(self) -> None:
        while True:
            with self._changed:
                seconds = STALLED_SECONDS if any(watch.sending_since for watch in self._watches) else None
                self._changed.wait_for(lambda: self._closed or self._due(), timeout=seconds)
                if self._closed:
                    return
                now = time.monotonic()
                stalled = [w for w in self._watches if w.sending_since and now - w.sending_since >= STALLED_SECONDS]
                due = self._due()
                self._watches.update(due)
                for watch in due:
                    watch.sending_since = now
            for watch in stalled:
                watch.cancel()
            for watch, status in due.items():
                self._senders.submit(self._send, watch, status)

    def _send(self, watch: _Watch, status: int) -> None:
        try:
            watch.send(HealthCheckResponse(status=status))
        except Exception:  # noqa: BLE001 - a broken stream must not silence the others
            self._forget(watch)
        with self._changed:
            watch.sending_since = None
            self._changed.notify_all()

    def _due(self) -> dict[_Watch, int]:
        now = {watch: self._statuses.get(watch.name, HealthCheckResponse.SERVICE_UNKNOWN) for watch in self._watches}
        ready = {watch: status for watch, status in now.items() if not watch.sending_since}
        return {watch: status for watch, status in ready.items() if self._watches[watch] != status}


def add_health(servicer: HealthServicer, server: grpc.Server) -> None:
    """Adds the health service to `server`."""
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    handler = grpc.unary_unary_rpc_method_handler(
        servicer.List, _HealthListRequest.FromString, _HealthListResponse.SerializeToString
    )
    server.add_registered_method_handlers(HEALTH_SERVICE, {"List": handler})


@dataclass(eq=False, slots=True)
class _Watch:
    """A watcher of a name; `sending_since` is set while an update is on its way."""

    name: str
    send: Callable[[HealthCheckResponse], None]
    cancel: Callable[[], object]
    sending_since: float | None = None


class Health:
    """The health of the server, of its services, and of KFP under the name `kfp`.

    Nothing is SERVING before `serve`, and nothing after `drain`. Safe to use from several threads.
    """

    def __init__(self, services: Sequence[str], *, follow_kfp: bool) -> None:
        """Keeps the health of `services` and of the whole; with `follow_kfp` they are SERVING only if KFP responds."""
        self.servicer = HealthServicer()
        self._names = ("", *services)
        self._follow_kfp = follow_kfp
        self._lock = threading.Lock()
        self._serving = False
        self.kfp_responds = False
        self._publish()

    def serve(self) -> None:
        self._publish(serving=True)

    def report_kfp(self, responds: bool) -> None:
        self._publish(kfp_responds=responds)

    def drain(self) -> None:
        self._publish(serving=False)

    def _publish(self, serving: bool | None = None, kfp_responds: bool | None = None) -> None:
        with self._lock:
            self._serving = self._serving if serving is None else serving
            self.kfp_responds = self.kfp_responds if kfp_responds is None else kfp_responds
            ready = self._serving and (self.kfp_responds or not self._follow_kfp)
            statuses = dict.fromkeys(self._names, _status(ready))
            self.servicer.set({**statuses, KFP_NAME: _status(self._serving and self.kfp_responds)})


class HealthMonitor:
    """Probes KFP every few seconds, in its own thread."""

    def __init__(
        self, probe: Callable[[], bool], report: Callable[[bool], None], seconds: float = PROBE_SECONDS
    ) -> None:
        """Calls `probe` at once and then with pauses of `seconds`; `report` receives every result.

        Any exception of `probe` counts as no response; KfpRejectedCredentialsError is reported as such.
        """
        self._probe = probe
        self._report = report
        self._seconds = seconds
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="health-monitor", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, seconds: float = 0.5) -> None:
        """Ends the thread, and waits for it at most `seconds`: a probe may hang on a silent network."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(seconds)

    def _watch(self) -> None:
        before: str | None = None
        while not self._stopped.is_set():
            trouble = self._check()
            if self._stopped.is_set():
                return
            if trouble and trouble != before:
                structlog.get_logger().warning(trouble)
            elif trouble != before:
                structlog.get_logger().info("KFP is reachable")
            before = trouble
            self._report(not trouble)
            self._stopped.wait(self._seconds)

    def _check(self) -> str:
        """The fault, as text for the log; empty if KFP responds."""
        try:
            return "" if self._probe() else _UNREACHABLE
        except KfpRejectedCredentialsError:
            return _REJECTED
        except Exception:  # noqa: BLE001 - no failure of KFP must end the watch
            return _UNREACHABLE


def _status(serving: bool) -> int:
    status: int = HealthCheckResponse.SERVING if serving else HealthCheckResponse.NOT_SERVING
    return status
