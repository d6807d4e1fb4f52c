"""One channel to an adapter, made when it is first needed, and calls on it that always have a deadline."""

from __future__ import annotations

import json
import threading
import time
import uuid
from typing import TYPE_CHECKING, TypeVar, cast

import grpc

from kfadapter.v1 import pipeline_pb2, pipeline_pb2_grpc
from kfadapter_grpc.client.credentials import AUTHORIZATION_KEY, is_this_machine
from kfadapter_grpc.client.errors import REQUEST_ID_KEY, error_from_rpc
from kfadapter_grpc.methods import METHOD_OF_REQUEST, METHODS

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from google.protobuf.message import Message

    from kfadapter_grpc.client.credentials import Credentials, Tls
    from kfadapter_grpc.methods import RpcMethod

Request = TypeVar("Request", bound="Message")
Reply = TypeVar("Reply")
Stub = TypeVar("Stub")

MARGIN_SECONDS = 2.0
"""What the client waits longer than the adapter, so that the adapter's own, exact error arrives."""
MAX_REPLY_BYTES = 64 * 2**20
"""The largest message that is taken: a page of 1000 versions with their specs is well below."""
_SERVICE = pipeline_pb2.DESCRIPTOR.services_by_name["PipelineService"].full_name


def service_config() -> str:
    """Tells gRPC how calls find an adapter, and which it may repeat by itself.

    Of several adapters behind one name each gets its turn, but none that says NOT_SERVING: an adapter that is about to
    stop says so before it refuses calls. Repeated are calls without side effects, when the server is away. Watches
    come back in a way of their own.
    """
    repeated = (rpc for rpc in METHODS.values() if rpc.read_only and not rpc.endless)
    reads = [{"service": rpc.service, "method": rpc.name} for rpc in repeated]
    policy = {
        "maxAttempts": 5,
        "initialBackoff": "0.1s",
        "maxBackoff": "1s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    return json.dumps(
        {
            "loadBalancingConfig": [{"round_robin": {}}],
            "healthCheckConfig": {"serviceName": ""},
            "methodConfig": [{"name": reads, "retryPolicy": policy}],
        }
    )


def rpc_method(name: str) -> RpcMethod:
    """Tells what the contract says of a method of PipelineService."""
    return METHODS[f"/{_SERVICE}/{name}"]


def channel_options(target: str) -> list[tuple[str, str | int]]:
    """Tells how a channel to `target` behaves."""
    return [
        ("grpc.service_config", service_config()),
        ("grpc.max_receive_message_length", MAX_REPLY_BYTES),
        # gRPC's own two minutes would go on failing calls long after the adapter is back.
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.min_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 2000),
        # A watch has no deadline: a connection that has died without a word must show.
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.http2.ping_timeout_ms", 20_000),  # which gRPC looks at instead, and would take for a minute
        # A proxy cannot reach this machine's own loopback.
        ("grpc.enable_http_proxy", int(not is_this_machine(target))),
    ]


class Connection:
    """A channel to one adapter. Safe to use from several threads.

    Attributes:
        target: The adapter's address.
    """

    def __init__(self, target: str, timeout: float | None, credentials: Credentials) -> None:
        """Remembers where to connect to and as whom.

        Args:
            target: The address.
            timeout: How many seconds a call may take; None means the contract's default.
            credentials: Who calls, and how to know the adapter.
        """
        self.target = target
        self._credentials = credentials
        self._timeout = timeout
        self._lock = threading.Lock()
        self._closed = False
        self._channel: grpc.Channel | None = None
        self._stubs: dict[object, object] = {}

    @property
    def tls(self) -> Tls | None:
        """How the adapter is known; None: plain text."""
        return self._credentials.tls

    @property
    def pipelines(self) -> pipeline_pb2_grpc.PipelineServiceStub:
        """The stub of PipelineService; connects when it is first used.

        Raises:
            RuntimeError: The connection was closed.
        """
        return self.stub(pipeline_pb2_grpc.PipelineServiceStub)

    def stub(self, kind: Callable[[grpc.Channel], Stub]) -> Stub:
        """The stub of a service, by its class; connects when a stub is first used.

        Raises:
            RuntimeError: The connection was closed.
        """
        with self._lock:
            channel = self._open()
            made = self._stubs.get(kind)
            if made is None:
                made = self._stubs[kind] = kind(channel)
            return cast("Stub", made)

    def channel_to_any(self) -> grpc.Channel:
        """Makes a channel of its own, to an adapter that may say that it does not serve."""
        return self._new_channel(("grpc.inhibit_health_checking", 1))

    def close(self) -> None:
        """Closes the channel and ends its calls. Harmless when repeated."""
        with self._lock:
            self._closed = True
            channel, self._channel, self._stubs = self._channel, None, {}
        if channel is not None:
            channel.close()

    def on_behalf(self, request_id: str, authorization: Sequence[str], seconds: float | None) -> Connection:
        """Returns a connection over the same channel for one request of another caller.

        Args:
            request_id: Sent with every call.
            authorization: The caller's `authorization`; if empty, this connection's own token is sent.
            seconds: How long all calls may take together; None: each as on this connection.

        Raises:
            CredentialsError: The authorization would go to another machine without TLS.
        """
        if authorization:
            self._credentials.check(self.target)
        with self._lock:
            channel = self._open()
        who = [(AUTHORIZATION_KEY, value) for value in authorization] or self._credentials.token.metadata()
        return _RequestConnection(
            self.target,
            self._timeout,
            self._credentials,
            channel=channel,
            metadata=((REQUEST_ID_KEY, request_id), *who),
            seconds=seconds,
        )

    def unary(self, rpc: grpc.UnaryUnaryMultiCallable[Request, Reply], request: Request) -> Reply:
        """Makes a call with one request and one answer; it may take what the contract says of the request's RPC.

        Raises:
            AdapterError: The call failed.
        """
        return self.call(rpc, request, METHOD_OF_REQUEST[request.DESCRIPTOR.full_name].default_seconds + MARGIN_SECONDS)

    def call(self, rpc: grpc.UnaryUnaryMultiCallable[Request, Reply], request: Request, seconds: float) -> Reply:
        """Makes a call that is not the contract's, within `seconds` unless a timeout was set.

        Raises:
            AdapterError: The call failed.
        """
        reply, _ = self._answered(rpc, request, seconds)
        return reply

    def trailers(
        self, rpc: grpc.UnaryUnaryMultiCallable[Request, Reply], request: Request, seconds: float
    ) -> dict[str, str | bytes]:
        """Makes a call as `call` does, and returns what the adapter says beside its answer.

        Raises:
            AdapterError: The call failed.
        """
        _, call = self._answered(rpc, request, seconds)
        return dict(call.trailing_metadata() or ())

    def server_stream(
        self, rpc: grpc.UnaryStreamMultiCallable[Request, Reply], request: Request, seconds: float | None
    ) -> Generator[Reply, None, None]:
        """Makes a call with one request and a stream of answers.

        The call ends when the iterator is closed.

        Args:
            rpc: The method.
            request: The request.
            seconds: How long it may take unless a timeout was set; None: as long as it likes, whatever was set.

        Raises:
            AdapterError: The call failed.
        """
        return self.endless_stream(rpc, request, None if seconds is None else self._within(seconds + MARGIN_SECONDS))

    def endless_stream(
        self,
        rpc: grpc.UnaryStreamMultiCallable[Request, Reply],
        request: Request,
        seconds: float | None,
        was_open: Callable[[], None] = lambda: None,
    ) -> Generator[Reply, None, None]:
        """Makes a call with one request and a stream of answers that no timeout ends but `seconds`, if there are any.

        The call ends when the iterator is closed.

        Args:
            rpc: The method.
            request: The request.
            seconds: How long it may take.
            was_open: Called before the call fails, if the adapter had begun to answer, though perhaps with nothing yet.

        Raises:
            AdapterError: The call failed.
        """
        request_id = new_request_id()
        answers = rpc(request, timeout=seconds, metadata=self.metadata(request_id))
        try:
            yield from answers
        except grpc.RpcError as error:
            if REQUEST_ID_KEY in dict(answers.initial_metadata() or ()):
                was_open()
            raise error_from_rpc(error, target=self.target, request_id=request_id) from None
        finally:
            answers.cancel()

    def client_stream(
        self, rpc: grpc.StreamUnaryMultiCallable[Request, Reply], requests: Iterator[Request], seconds: float
    ) -> Reply:
        """Makes a call with a stream of requests and one answer, within `seconds` unless a timeout was set.

        Raises:
            AdapterError: The call failed.
        """
        request_id = new_request_id()
        try:
            return rpc(requests, timeout=self._within(seconds + MARGIN_SECONDS), metadata=self.metadata(request_id))
        except grpc.RpcError as error:
            raise error_from_rpc(error, target=self.target, request_id=request_id) from None

    def _open(self) -> grpc.Channel:
        """The lock must be held."""
        if self._closed:
            message = "the client is closed"
            raise RuntimeError(message)
        if self._channel is None:
            self._channel = self._new_channel()
        return self._channel

    def _answered(
        self, rpc: grpc.UnaryUnaryMultiCallable[Request, Reply], request: Request, seconds: float
    ) -> tuple[Reply, grpc.Call]:
        request_id = new_request_id()
        try:
            return rpc.with_call(request, timeout=self._within(seconds), metadata=self.metadata(request_id))
        except grpc.RpcError as error:
            raise error_from_rpc(error, target=self.target, request_id=request_id) from None

    def _new_channel(self, *more: tuple[str, str | int]) -> grpc.Channel:
        return self._credentials.channel(self.target, [*channel_options(self.target), *more])

    def metadata(self, request_id: str) -> tuple[tuple[str, str], ...]:
        """Makes what every call carries: its id, and who calls."""
        return ((REQUEST_ID_KEY, request_id), *self._credentials.token.metadata())

    def _within(self, default: float) -> float | None:
        """How many seconds a call may take that takes `default` unless a timeout was set; None: no limit of its own."""
        return default if self._timeout is None else self._timeout


class _RequestConnection(Connection):
    """Calls that one request of another caller causes, over a channel that stays open behind it."""

    def __init__(
        self,
        target: str,
        timeout: float | None,
        credentials: Credentials,
        *,
        channel: grpc.Channel,
        metadata: tuple[tuple[str, str], ...],
        seconds: float | None,
    ) -> None:
        super().__init__(target, timeout, credentials)
        self._channel = channel
        self._metadata = metadata
        self._ends = None if seconds is None else time.monotonic() + seconds

    def metadata(self, request_id: str) -> tuple[tuple[str, str], ...]:
        """What every call carries: the request's own id, and its caller."""
        del request_id
        return self._metadata

    def close(self) -> None:
        """Leaves the channel open."""

    def _within(self, default: float) -> float | None:
        allowed = super()._within(default)
        return allowed if self._ends is None else max(0.001, min(default, self._ends - time.monotonic()))


def new_request_id() -> str:
    """Makes an id that no other call has."""
    return str(uuid.uuid4())
