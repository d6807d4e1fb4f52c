"""Reads runs from ML Metadata's store over gRPC, and completes their tasks; a failing store changes nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TypeVar

import grpc

from kfadapter_grpc.contract.call import Call
from kfadapter_grpc.contract.runs import RunSource, RunSources, RunSourceState
from kfadapter_grpc.kfp.mlmd import metadata_store_pb2 as pb
from kfadapter_grpc.kfp.mlmd.metadata_store_pb2_grpc import MetadataStoreServiceStub
from kfadapter_grpc.kfp.mlmd.outputs import with_outputs
from kfadapter_grpc.kfp.mlmd.records import RecordedRun, artifact, execution
from kfadapter_grpc.kfp.run_nodes import RunNodes
from kfadapter_grpc.telemetry.spans import rpc_attributes, sent_span

PAGE_SIZE = 100
"""Executions per page; for more the store returns 101, without indicating that there are more."""
IDS_AT_ONCE = 500
MAX_MESSAGE_BYTES = 100 * 1024 * 1024
"""As in KFP's own clients of the store."""
_MIN_SECONDS = 0.001
_SERVICE = pb.DESCRIPTOR.services_by_name["MetadataStoreService"].full_name
_MAX_BACKOFF_MS = 5_000
_Request = TypeVar("_Request")
_Response = TypeVar("_Response")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """How to connect to the store; `ca` has the CAs for its certificate, in PEM form, None means gRPC's own."""

    address: str
    tls: bool = False
    ca: Path | None = None


class StoreError(Exception):
    """The store could not be read; the message has the reason, in a sentence."""


class StoreUnreachableError(StoreError):
    """It is unreachable or timed out."""


class MetadataStore:
    """A store. Safe to use from many threads; constructing it makes no network call."""

    def __init__(self, settings: StoreSettings) -> None:
        self._settings = settings
        self._ca = settings.ca.read_bytes() if settings.ca else None
        self._channel = self._connected()
        self._stub = MetadataStoreServiceStub(self._channel)
        self._types: dict[int, str] = {}

    def close(self) -> None:
        self._channel.close()

    def run(self, run_id: str, call: Call) -> RecordedRun | None:
        """Reads everything that is recorded of a run; None if there is no record. Raises StoreError."""
        self._follow_ca()
        name = pb.GetContextByTypeAndNameRequest(type_name="system.PipelineRun", context_name=run_id)
        context = self._ask(self._stub.GetContextByTypeAndName, name, call).context
        if context.name != run_id:  # some databases ignore letter case
            return None
        executions = {one.id: execution(one) for one in self._executions(context.id, call)}
        events = tuple(
            one
            for ids in _chunks(sorted(executions))
            for one in self._ask(
                self._stub.GetEventsByExecutionIDs, pb.GetEventsByExecutionIDsRequest(execution_ids=ids), call
            ).events
        )
        artifacts = [
            one
            for ids in _chunks(sorted({one.artifact_id for one in events}))
            for one in self._ask(
                self._stub.GetArtifactsByID, pb.GetArtifactsByIDRequest(artifact_ids=ids), call
            ).artifacts
        ]
        types = self._types_of(artifacts, call)
        properties = context.custom_properties
        return RecordedRun(
            namespace=properties["namespace"].string_value,
            pipeline_root=properties["pipeline_root"].string_value,
            executions=tuple(executions.values()),
            events=events,
            artifacts={one.id: artifact(one, one.type or types.get(one.type_id, "")) for one in artifacts},
        )

    def check(self, call: Call) -> None:
        """Requests a run that does not exist. Raises StoreError if it cannot be read."""
        request = pb.GetContextByTypeAndNameRequest(type_name="system.PipelineRun", context_name="-")
        self._ask(self._stub.GetContextByTypeAndName, request, call)

    def _executions(self, context_id: int, call: Call) -> Iterator[pb.Execution]:
        token: str | None = None
        while True:
            options = pb.ListOperationOptions(max_result_size=PAGE_SIZE, next_page_token=token)
            request = pb.GetExecutionsByContextRequest(context_id=context_id, options=options)
            page = self._ask(self._stub.GetExecutionsByContext, request, call)
            yield from page.executions
            token = page.next_page_token
            if not token:
                return

    def _types_of(self, artifacts: Sequence[pb.Artifact], call: Call) -> dict[int, str]:
        """The names of types by id, for servers that do not name them (before 1.6)."""
        if any(not item.type and item.type_id not in self._types for item in artifacts):
            types = self._ask(self._stub.GetArtifactTypes, pb.GetArtifactTypesRequest(), call).artifact_types
            self._types = {item.id: item.name for item in types}
        return self._types

    def _ask(
        self, method: grpc.UnaryUnaryMultiCallable[_Request, _Response], request: _Request, call: Call
    ) -> _Response:
        """Sends a request, within the remaining time of the call, and ends it when the client cancels the call."""
        started_at, name = time.monotonic(), f"{_SERVICE}/{type(request).__name__.removesuffix('Request')}"
        span = sent_span(call, name, rpc_attributes(name))
        metadata = tuple(span.headers.items()) if span else None
        future = method.future(request, timeout=max(call.remaining(), _MIN_SECONDS), metadata=metadata)
        forget = call.on_cancel(future.cancel)
        try:
            response: _Response = future.result()
        except grpc.FutureCancelledError as error:
            raise StoreError("the call was cancelled") from error
        except grpc.RpcError as error:
            raise self._failure(error) from error
        finally:
            forget()
            call.usage.add_kfp(time.monotonic() - started_at)
            if span is not None:
                code = future.code().name
                span.answered("rpc.response.status_code", code, is_error=code != "OK")
                span.end()
        return response

    def _follow_ca(self) -> None:
        with suppress(OSError):
            ca = self._settings.ca.read_bytes() if self._settings.ca else None
            if ca != self._ca:
                old, self._ca = self._channel, ca
                self._channel = self._connected()
                self._stub = MetadataStoreServiceStub(self._channel)
                old.close()

    def _connected(self) -> grpc.Channel:
        settings = self._settings
        options = [
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_reconnect_backoff_ms", _MAX_BACKOFF_MS),
            ("grpc.enable_http_proxy", 0),
        ]
        if not settings.tls:
            return grpc.insecure_channel(settings.address, options)
        return grpc.secure_channel(settings.address, grpc.ssl_channel_credentials(self._ca), options)

    def _failure(self, error: grpc.RpcError) -> StoreError:
        """What a failure means, and what to check; gRPC's own message may contain addresses, and is not passed on."""
        code, details = error.code(), error.details() or ""
        store = f"ML Metadata at {self._settings.address}"
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return StoreUnreachableError(f"{store} did not respond in time; try again later")
        if code is grpc.StatusCode.UNAVAILABLE:
            why = "is unreachable; try again later"
            if not self._settings.tls and "Socket closed" in details:
                why = "closed the connection; if it expects TLS, set mlmd_tls"
            why = next((meaning for text, meaning in _MEANINGS if text in details), why)
            return StoreUnreachableError(f"{store} {why}")
        if code is grpc.StatusCode.UNIMPLEMENTED:
            return StoreUnreachableError(
                f"the server at {self._settings.address} is not ML Metadata; mlmd_address must be the address of KFP's "
                "metadata-grpc-service, with its port 8080"
            )
        if code in {grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED}:
            return StoreUnreachableError(f"{store} refuses the adapter ({code.name}); check the policies of the mesh")
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in details:
            return StoreError(f"{store} returns more than {MAX_MESSAGE_BYTES // 2**20} MiB at once")
        return StoreError(f"{store} failed ({code.name}); try again later")


_MEANINGS = (
    ("http1.x", "is a server of HTTP/1, not of gRPC; mlmd_address must be the address of KFP's metadata-grpc-service"),
    ("CERTIFICATE_VERIFY_FAILED", "has a certificate that mlmd_ca does not vouch for"),
    ("BAD_SIGNATURE", "has a certificate that mlmd_ca does not vouch for"),
    ("ostname Verification", "has a certificate for another name; check mlmd_address and mlmd_ca"),
    ("WRONG_VERSION_NUMBER", "does not speak TLS; switch mlmd_tls off"),
    ("andshake failed", "does not accept the TLS connection; check mlmd_tls and mlmd_ca"),
    ("resol", "has a name that cannot be resolved; check mlmd_address"),
)
"""gRPC's messages for a failed connection, and what they mean."""


def _chunks(ids: Iterable[_T]) -> Iterator[list[_T]]:
    rest = iter(ids)
    while chunk := list(islice(rest, IDS_AT_ONCE)):
        yield chunk


READ_SECONDS = 2.0
PAUSE_SECONDS = 5.0
"""How long a store that did not respond is not called again."""
_AVAILABLE = RunSource(RunSourceState.AVAILABLE)
_OTHER_NAMESPACE = "ML Metadata has a run of this id in another namespace; mlmd_address may be that of another KFP"


class OutputsReader:
    """Reads the outputs of runs. Safe to use from many threads."""

    def __init__(self, settings: StoreSettings | None) -> None:
        self._store = MetadataStore(settings) if settings else None
        self._paused_until = 0.0
        self._failure_text = ""

    @property
    def has_store(self) -> bool:
        return self._store is not None

    def close(self) -> None:
        if self._store is not None:
            self._store.close()

    def read(self, run_id: str, call: Call) -> RecordedRun | None:
        """Reads the record of a run; None if there is none, or no store. Raises StoreError.

        The run must have been read from KFP for the caller before: the store itself checks no permissions.
        """
        if self._store is None:
            return None
        if time.monotonic() < self._paused_until:
            raise StoreError(self._failure_text)
        with call.within(READ_SECONDS) as part:
            try:
                return self._store.run(run_id, part)
            except StoreUnreachableError as error:
                if not call.cancelled:
                    self._failure_text, self._paused_until = str(error), time.monotonic() + PAUSE_SECONDS
                raise

    def complete(
        self, run_id: str, nodes: RunNodes, call: Call, recorded: Callable[[], RecordedRun | None] | None = None
    ) -> RunNodes:
        """Adds inputs and outputs of tasks, and in `sources` whether they could be read; no-op without a store.

        The run must have been read from KFP for the caller before; `recorded` returns the result of `read` if reading
        has already begun.
        """
        before = nodes.sources.outputs if nodes.sources else None
        if self._store is None or not nodes.steps or (before and before.state is RunSourceState.AVAILABLE):
            return nodes
        try:
            record = recorded() if recorded else self.read(run_id, call)
            if record and nodes.namespace and record.namespace and nodes.namespace != record.namespace:
                raise StoreError(_OTHER_NAMESPACE)
            return _with_source(with_outputs(run_id, nodes, record) if record else nodes, _AVAILABLE)
        except StoreError as error:
            if before and before.state is RunSourceState.NOT_SERVED:
                return nodes  # KFP was upgraded since, and no longer needs a store
            return _with_source(nodes, RunSource(RunSourceState.UNREACHABLE, str(error)))


def _with_source(nodes: RunNodes, source: RunSource) -> RunNodes:
    return replace(nodes, sources=replace(nodes.sources or RunSources(), outputs=source))
