"""One channel to an adapter, created when first needed; its calls always have a deadline."""

from __future__ import annotations

import json
import sys
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any, ClassVar

import grpc

from kfadapter_grpc.client.credentials import AUTHORIZATION_KEY, is_this_machine
from kfadapter_grpc.client.errors import REQUEST_ID_KEY, CannotConnectError, error_from_rpc
from kfadapter_grpc.codec import to_message
from kfadapter_grpc.contract.errors import CallCancelledError, DrainingError, KfpUnavailableError
from kfadapter_grpc.methods import MESSAGES, METHOD_OF_REQUEST, METHODS

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
    from types import ModuleType

    from google.protobuf.message import Message

    from kfadapter_grpc.client.credentials import Credentials, Tls
    from kfadapter_grpc.methods import RpcMethod


MARGIN_SECONDS = 2.0
"""What the client waits longer than the adapter, so that the adapter's own, exact error arrives."""
MAX_REPLY_BYTES = 64 * 2**20
"""The largest message that is taken: a page of 1000 versions with their specs is well below."""
OUTCOME_UNKNOWN = (CannotConnectError, DrainingError, KfpUnavailableError)
"""After these, a write may have had its effect."""
REPEATS = 2
"""How often an idempotent call is retried."""
MAX_PAUSE_SECONDS = 2.0
_MAX_TRACE = 512
"""The longest header with the context of a trace that is sent on."""


def service_config() -> str:
    """Returns gRPC's service config: load balancing, health checks and retries.

    Round-robin over the adapters behind one name, except those that report NOT_SERVING: an adapter that is about to
    stop reports this before it rejects calls. Calls without side effects are retried if the server is unreachable;
    watches have their own reconnect logic.
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


def channel_options(target: str) -> list[tuple[str, str | int]]:
    """Returns the channel options for `target`."""
    return [
        ("grpc.service_config", service_config()),
        ("grpc.max_receive_message_length", MAX_REPLY_BYTES),
        # gRPC's own two minutes would keep failing calls long after the adapter is back.
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.min_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 2000),
        # A watch has no deadline: a dead connection must be detected.
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.http2.ping_timeout_ms", 20_000),  # which gRPC reads instead, and would take for a minute
        # A proxy cannot reach this machine's loopback.
        ("grpc.enable_http_proxy", int(not is_this_machine(target))),
    ]


class BaseConnection:
    """A channel to one adapter, opened when first needed, and what its calls send along.

    Attributes:
        target: The adapter's address.
    """

    library: ClassVar[ModuleType] = grpc
    """The module of gRPC whose channel it has."""

    def __init__(self, target: str, timeout: float | None, credentials: Credentials) -> None:
        """Connects at the first call.

        Args:
            target: The address.
            timeout: Deadline of a call in seconds; None means the contract's default.
            credentials: The caller's credentials, and how to verify the adapter.
        """
        self.target = target
        self._credentials = credentials
        self._timeout = timeout
        self._lock = threading.Lock()
        self._closed = False
        self._channel: Any = None
        self._rpcs: dict[str, Any] = {}
        self._streams: set[grpc.Call] = set()

    @property
    def tls(self) -> Tls | None:
        """How the adapter is verified; None for plain text."""
        return self._credentials.tls

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    @property
    def has_token(self) -> bool:
        """Whether calls carry a token of this connection's own."""
        return bool(self._credentials.token)

    def channel_to_any(self) -> Any:  # noqa: ANN401 - likewise
        """Creates a separate channel, also to an adapter that reports NOT_SERVING."""
        return self._new_channel(("grpc.inhibit_health_checking", 1))

    def metadata(self, request_id: str) -> tuple[tuple[str, str], ...]:
        """Returns the metadata of a call: its id, the caller's token, and the context of a current span."""
        return ((REQUEST_ID_KEY, request_id), *self._credentials.token.metadata(), *_span_context())

    def _detach(self) -> Any:  # noqa: ANN401 - a channel of the library
        """Returns the channel for the last time, None if there is none; calls raise from then on."""
        with self._lock:
            self._closed = True
            channel, self._channel, self._rpcs = self._channel, None, {}
        return channel

    def rpc_of(self, rpc: RpcMethod) -> Any:  # noqa: ANN401 - one of four shapes
        """Returns the callable of an RPC; connects on first use.

        Raises:
            RuntimeError: The connection was closed.
        """
        with self._lock:
            channel = self._open()
            if rpc.path not in self._rpcs:
                shape = (
                    f"{'stream' if rpc.client_streaming else 'unary'}_{'stream' if rpc.server_streaming else 'unary'}"
                )
                request, reply = MESSAGES[rpc.path]
                self._rpcs[rpc.path] = getattr(channel, shape)(rpc.path, request.SerializeToString, reply.FromString)
            return self._rpcs[rpc.path]

    def _open(self) -> Any:  # noqa: ANN401 - a channel of the library
        """The lock must be held."""
        if self._closed:
            message = "the client is closed"
            raise RuntimeError(message)
        if self._channel is None:
            self._channel = self._new_channel()
        return self._channel

    def _new_channel(self, *more: tuple[str, str | int]) -> Any:  # noqa: ANN401 - likewise
        options = [*channel_options(self.target), *more]
        return self._credentials.channel(self.target, options, self.library)

    def within(self, default: float) -> float | None:
        """The deadline in seconds: `default` unless a timeout was set; None for none."""
        return default if self._timeout is None else self._timeout


class Connection(BaseConnection):
    """A channel to one adapter and its calls. Safe to use from several threads."""

    def close(self) -> None:
        """Closes the channel and cancels its calls. Idempotent."""
        channel = self._detach()
        if channel is not None:
            channel.close()

    def on_behalf(
        self, request_id: str, authorization: Sequence[str], seconds: float | None, trace: Mapping[str, str]
    ) -> Connection:
        """Returns a connection over the same channel for one request of another caller.

        Args:
            request_id: Sent with every call.
            authorization: The caller's `authorization`; if empty, this connection's own token is sent.
            seconds: Deadline of all calls together; None for this connection's own.
            trace: Headers that may have the context of a trace.

        Raises:
            CredentialsError: The authorization would be sent to another machine without TLS.
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
            metadata=((REQUEST_ID_KEY, request_id), *who, *_trace_context(trace)),
            seconds=seconds,
        )

    def unary(self, request: object, seconds: float | None = None) -> Any:  # noqa: ANN401 - the message of the RPC
        """Makes the call for a request, a record, and returns the response message.

        Args:
            request: The request, of a type named as its message.
            seconds: Deadline unless a timeout was set; defaults to that of the RPC in the contract.

        Raises:
            AdapterError: The call failed.
        """
        rpc, message = sent(request)
        return self.call(
            self.rpc_of(rpc), message, rpc.default_seconds + MARGIN_SECONDS if seconds is None else seconds
        )

    def trailers(self, request: object, seconds: float) -> dict[str, str | bytes]:
        """Makes the call for a request, and returns the trailing metadata of the response.

        Raises:
            AdapterError: The call failed.
        """
        rpc, message = sent(request)
        _, call = self._answered(self.rpc_of(rpc), message, seconds)
        return dict(call.trailing_metadata() or ())

    def call(self, rpc: grpc.UnaryUnaryMultiCallable[Any, Any], message: Message, seconds: float) -> Any:  # noqa: ANN401
        """Makes any call with a deadline of `seconds` unless a timeout was set.

        Raises:
            AdapterError: The call failed.
        """
        return self._answered(rpc, message, seconds)[0]

    def server_stream(self, request: object, seconds: float | None) -> Generator[Any, None, None]:
        """Makes the call for a request with a response stream, cancelled when the iterator is closed.

        Args:
            request: The request.
            seconds: Deadline unless a timeout was set; None for no deadline at all.

        Raises:
            AdapterError: The call failed.
        """
        return self.endless_stream(request, None if seconds is None else self.within(seconds + MARGIN_SECONDS))

    def endless_stream(
        self, request: object, seconds: float | None, was_open: Callable[[], None] = lambda: None
    ) -> Generator[Any, None, None]:
        """The same, but `seconds` is the only deadline, if set.

        Args:
            request: The request.
            seconds: Deadline in seconds.
            was_open: Called before the call fails, if the response had begun, even without messages.

        Raises:
            AdapterError: The call failed.
        """
        request_id = new_request_id()
        rpc, message = sent(request)
        call, metadata = self.rpc_of(rpc), self.metadata(request_id)
        with self._lock:
            self._open()
            try:
                answers = call(message, timeout=seconds, metadata=metadata)
            except ValueError:  # how gRPC says that the channel was closed, here by the client that shares it
                raise CallCancelledError("the client was closed") from None
            self._streams.add(answers)
        try:
            yield from answers
        except grpc.RpcError as error:
            if REQUEST_ID_KEY in dict(answers.initial_metadata() or ()):
                was_open()
            raise error_from_rpc(error, target=self.target, request_id=request_id) from None
        finally:
            answers.cancel()
            with self._lock:
                self._streams.discard(answers)

    def client_stream(self, rpc: RpcMethod, messages: Iterator[Message], seconds: float) -> Any:  # noqa: ANN401
        """Makes a call with a request stream and one response; the deadline is `seconds` unless a timeout was set.

        Raises:
            AdapterError: The call failed.
        """
        request_id, within = new_request_id(), self.within(seconds + MARGIN_SECONDS)
        try:
            return self.rpc_of(rpc)(messages, timeout=within, metadata=self.metadata(request_id))
        except grpc.RpcError as error:
            raise error_from_rpc(error, target=self.target, request_id=request_id) from None

    def _answered(
        self, rpc: grpc.UnaryUnaryMultiCallable[Any, Any], message: Message, seconds: float
    ) -> tuple[Any, grpc.Call]:
        request_id = new_request_id()
        try:
            return rpc.with_call(message, timeout=self.within(seconds), metadata=self.metadata(request_id))
        except grpc.RpcError as error:
            raise error_from_rpc(error, target=self.target, request_id=request_id) from None


class _RequestConnection(Connection):
    """Calls on behalf of one request of another caller, over a shared channel that stays open."""

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
        """The metadata of every call: the request's own id and its caller's token."""
        del request_id
        return self._metadata

    def close(self) -> None:
        """Cancels its response streams, also those that other threads read; leaves the channel open."""
        with self._lock:
            self._closed = True
            streams = list(self._streams)
        for stream in streams:
            stream.cancel()

    def within(self, default: float) -> float | None:
        allowed = super().within(default)
        return allowed if self._ends is None else max(0.001, min(default, self._ends - time.monotonic()))


def _span_context() -> tuple[tuple[str, str], ...]:
    """The context of the current span of OpenTelemetry, if the program uses it: then it is imported already."""
    if "opentelemetry.trace" not in sys.modules:
        return ()
    from opentelemetry.propagate import inject  # noqa: PLC0415  not in the base install

    headers: dict[str, str] = {}
    inject(headers)
    return tuple(headers.items())


def _trace_context(headers: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The W3C trace context in headers. The adapter checks `traceparent`; gRPC allows visible ASCII only."""
    for key in ("traceparent", "tracestate"):
        value = headers.get(key, "")
        if 0 < len(value) <= _MAX_TRACE and value.isascii() and value.isprintable():
            yield key, value


def sent(request: object) -> tuple[RpcMethod, Message]:
    """The RPC for a request, a record, and its message."""
    rpc = METHOD_OF_REQUEST[type(request).__name__]
    return rpc, to_message(request, MESSAGES[rpc.path][0])


def new_request_id() -> str:
    """Returns a unique id for a call."""
    return str(uuid.uuid4())
