"""One channel to an adapter, created when first needed; its calls always have a deadline.

Calls are coroutines, so that each is written once for `Client` and `AsyncClient`. Those of a `Connection` block instead
of waiting for an event loop, so a single step runs all of one.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any, ClassVar, TypeVar

import grpc
from google.protobuf.message import Message

from kfadapter_grpc.client.credentials import AUTHORIZATION_KEY, Credentials, Tls, is_this_machine
from kfadapter_grpc.client.errors import REQUEST_ID_KEY, CannotConnectError, error_from_rpc
from kfadapter_grpc.codec import to_message
from kfadapter_grpc.contract.errors import CallCancelledError, DrainingError, KfpUnavailableError
from kfadapter_grpc.contract.listing import Page
from kfadapter_grpc.methods import MESSAGES, METHOD_OF_REQUEST, METHODS, RpcMethod

R = TypeVar("R")
MARGIN_SECONDS = 2.0
"""The client's deadline is later than the adapter's, so that the adapter's own error arrives."""
MAX_REPLY_BYTES = 64 * 2**20
"""The largest message: a page of 1000 versions with their specs is well below."""
OUTCOME_UNKNOWN = (CannotConnectError, DrainingError, KfpUnavailableError)
"""The errors after which a write may have succeeded."""
RETRIES = 2
MAX_PAUSE_SECONDS = 2.0
_MAX_TRACE = 512


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


class Pages(Iterator[R]):
    """A listing: yields all items, requesting pages as they are needed."""

    def __init__(self, items: Iterator[R], read: Callable[[str], Page[R]]) -> None:
        self._items = items
        self._read = read

    def __next__(self) -> R:
        return next(self._items)

    def page(self, token: str = "") -> Page[R]:
        """Requests one page: the first, or that of the previous page's `next_token`."""
        return self._read(token)


class BaseConnection(ABC):
    """A channel to one adapter, opened when first needed, and its calls."""

    library: ClassVar[ModuleType]
    pages: ClassVar[type[Pages[Any]]]

    def __init__(self, target: str, timeout: float | None, credentials: Credentials) -> None:
        """Connects at the first call; `timeout` is the deadline of a call in seconds, by default the contract's."""
        self.target = target
        self._credentials = credentials
        self._timeout = timeout
        self._lock = threading.Lock()
        self._closed = False
        self._channel: Any = None
        self._rpcs: dict[str, Any] = {}
        self._streams: set[Any] = set()

    @property
    def tls(self) -> Tls | None:
        """How the adapter is verified; None for plain text."""
        return self._credentials.tls

    @property
    def has_token(self) -> bool:
        """Whether calls carry a token of this connection's own."""
        return bool(self._credentials.token)

    @abstractmethod
    def run(self, call: Coroutine[Any, Any, R]) -> R:
        """Returns the result of a coroutine, or the coroutine, for the caller to await."""

    @abstractmethod
    def each(self, items: AsyncGenerator[R, None]) -> Generator[R, None, None]:
        """Returns an iterator for the caller, synchronous or not."""

    @abstractmethod
    async def result(self, returned: Any) -> Any:  # noqa: ANN401 - whatever gRPC returns
        """Returns the result of a call of gRPC's library."""

    @abstractmethod
    def responses(self, call: Any) -> AsyncGenerator[Any, None]:  # noqa: ANN401 - a call of the library
        """Yields the messages of a response stream."""

    @abstractmethod
    async def sleep(self, seconds: float) -> None:
        """Pauses."""

    @abstractmethod
    async def in_thread(self, work: Callable[..., R], *arguments: object) -> R:
        """Does blocking work; an async generator among the arguments becomes an iterator for it."""

    def channel_to_any(self) -> Any:  # noqa: ANN401 - a channel of the library
        """Creates a separate channel, also to an adapter that reports NOT_SERVING."""
        return self._new_channel(("grpc.inhibit_health_checking", 1))

    def metadata(self, request_id: str) -> tuple[tuple[str, str], ...]:
        """Returns the metadata of a call: its id, the caller's token, and the context of a current span."""
        return ((REQUEST_ID_KEY, request_id), *self._credentials.token.metadata(), *_span_context())

    async def close(self) -> None:
        """Closes the channel and cancels its calls. Idempotent."""
        with self._lock:
            self._closed = True
            channel, self._channel, self._rpcs = self._channel, None, {}
        if channel is not None:
            await self.result(channel.close())

    def rpc_of(self, rpc: RpcMethod) -> Any:  # noqa: ANN401 - one of four shapes
        """Returns the callable of an RPC; connects on first use. RuntimeError if the connection was closed."""
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

    def timeout_for(self, default: float) -> float | None:
        """The deadline in seconds: `default` unless a timeout was set; None for none."""
        return default if self._timeout is None else self._timeout

    async def unary(self, request: object, seconds: float | None = None) -> Any:  # noqa: ANN401 - the message of the RPC
        """Makes the call for a request, a record, and returns the response message.

        The deadline is `seconds` unless a timeout was set; by default that of the RPC in the contract.
        """
        rpc, message = request_message(request)
        seconds = rpc.default_seconds + MARGIN_SECONDS if seconds is None else seconds
        return await self.call(self.rpc_of(rpc), message, seconds)

    async def call(self, rpc: Any, sending: Message | Iterator[Message], seconds: float) -> Any:  # noqa: ANN401
        """Makes any call with one response; the deadline is `seconds` unless a timeout was set."""
        request_id = new_request_id()
        metadata = await self._metadata(request_id)
        try:
            return await self.result(rpc(sending, timeout=self.timeout_for(seconds), metadata=metadata))
        except (grpc.RpcError, asyncio.CancelledError) as error:
            raise self._failure(error, request_id) from None

    async def send(self, rpc: RpcMethod, messages: Iterator[Message], seconds: float) -> Any:  # noqa: ANN401
        """Makes the call for a request stream; the deadline is `seconds` unless a timeout was set."""
        return await self.call(self.rpc_of(rpc), messages, seconds)

    async def stream(
        self, request: object, seconds: float | None, was_open: Callable[[], None] = lambda: None
    ) -> AsyncGenerator[Any, None]:
        """Makes the call for a request with a response stream, cancelled when the iterator is closed.

        Before the call fails, `was_open` is called if the response had begun, even without messages.
        """
        request_id = new_request_id()
        rpc, message = request_message(request)
        begin, metadata = self.rpc_of(rpc), await self._metadata(request_id)
        with self._lock:
            self._open()
            try:
                call = begin(message, timeout=seconds, metadata=metadata)
            except ValueError:  # how gRPC reports a closed channel, here by the client that shares it
                raise CallCancelledError("the client was closed") from None
            self._streams.add(call)
        try:
            async for response in self.responses(call):
                yield response
        except (grpc.RpcError, asyncio.CancelledError) as error:
            if REQUEST_ID_KEY in [key for key, _ in await self.result(call.initial_metadata()) or ()]:
                was_open()
            raise self._failure(error, request_id) from None
        finally:
            call.cancel()
            with self._lock:
                self._streams.discard(call)

    async def _metadata(self, request_id: str) -> tuple[tuple[str, str], ...]:
        """Returns the metadata of a call; a token may have to be read or fetched, which must not block a loop."""
        return await self.in_thread(self.metadata, request_id) if self.has_token else self.metadata(request_id)

    def _failure(self, error: BaseException, request_id: str) -> BaseException:
        if isinstance(error, grpc.RpcError):
            return error_from_rpc(error, target=self.target, request_id=request_id)
        return CallCancelledError("the client was closed") if self._closed else error  # else the task was cancelled


class Connection(BaseConnection):
    """A channel to one adapter whose calls block. Safe to use from several threads."""

    library: ClassVar[ModuleType] = grpc
    pages: ClassVar[type[Pages[Any]]] = Pages

    def run(self, call: Coroutine[Any, Any, R]) -> R:
        """Runs a coroutine, which awaits only what blocks."""
        try:
            call.send(None)
        except StopIteration as end:
            result: R = end.value
            return result
        raise RuntimeError(call)

    def each(self, items: AsyncGenerator[R, None]) -> Generator[R, None, None]:
        try:
            while True:
                yield self.run(items.__anext__())
        except StopAsyncIteration:
            return
        finally:
            self.run(items.aclose())

    async def result(self, returned: Any) -> Any:  # noqa: ANN401 - whatever gRPC returns
        return returned

    async def responses(self, call: Any) -> AsyncGenerator[Any, None]:  # noqa: ANN401 - a call of the library
        for answer in call:
            yield answer

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    async def in_thread(self, work: Callable[..., R], *arguments: object) -> R:
        return work(
            *(self.each(argument) if isinstance(argument, AsyncGenerator) else argument for argument in arguments)
        )

    def on_behalf(
        self, request_id: str, authorization: Sequence[str], seconds: float | None, trace: Mapping[str, str]
    ) -> Connection:
        """Returns a connection over the same channel for one request of another caller, or of this one if not named.

        `seconds` is the deadline of all calls together; None for this connection's own. `trace` may have the headers of
        a trace.
        """
        if authorization:
            self._credentials.check(self.target)
        with self._lock:
            channel = self._open()
        credentials = [(AUTHORIZATION_KEY, value) for value in authorization] or self._credentials.token.metadata()
        connection = _RequestConnection(self.target, self._timeout, self._credentials)
        connection.share(channel, ((REQUEST_ID_KEY, request_id), *credentials, *_trace_context(trace)), seconds)
        return connection


class _RequestConnection(Connection):
    """Calls on behalf of one request of another caller, over a shared channel that stays open."""

    def share(self, channel: grpc.Channel, metadata: tuple[tuple[str, str], ...], seconds: float | None) -> None:
        """Uses the channel, with the request's own id and its caller's token in every call."""
        self._channel = channel
        self._sent = metadata
        self._deadline = None if seconds is None else time.monotonic() + seconds

    def metadata(self, request_id: str) -> tuple[tuple[str, str], ...]:
        """Returns the same for every call."""
        del request_id
        return self._sent

    async def close(self) -> None:
        """Cancels its response streams, also those that other threads read; leaves the channel open."""
        with self._lock:
            self._closed = True
            streams = list(self._streams)
        for stream in streams:
            stream.cancel()

    def timeout_for(self, default: float) -> float | None:
        allowed = super().timeout_for(default)
        return allowed if self._deadline is None else max(0.001, min(default, self._deadline - time.monotonic()))


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


def request_message(request: object) -> tuple[RpcMethod, Message]:
    rpc = METHOD_OF_REQUEST[type(request).__name__]
    return rpc, to_message(request, MESSAGES[rpc.path][0])


def new_request_id() -> str:
    return str(uuid.uuid4())
