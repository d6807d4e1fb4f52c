"""Calls that this process makes of its own servicers, through the same layers as those that come over gRPC.

Whoever takes calls in another way than gRPC, as HTTP, is answered by the same code: the layers and servicers see a call
like any other, whose peer is the one at the other end of that other way.
"""

from __future__ import annotations

import threading
import time
from contextvars import Context
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias, cast

import grpc

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from kfadapter_grpc.interceptors.chain import Behavior, CallInterceptor

Metadata: TypeAlias = "tuple[tuple[str, str | bytes], ...]"
_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end of the way that a call came.

    Attributes:
        address: What the log calls them; who shows neither token nor certificate is told from others by it.
        names: The names in their certificate, which was verified, by gRPC's keys for them.
    """

    address: str
    names: Mapping[str, Sequence[bytes]] = field(default_factory=dict)


class InProcessCallError(grpc.RpcError, grpc.Call):
    """How a call failed, as a stub raises it."""

    def __init__(self, code: grpc.StatusCode, details: str, trailers: Metadata) -> None:
        super().__init__(details)
        self._code, self._details, self._trailers = code, details, trailers

    def code(self) -> grpc.StatusCode:
        """The status code."""
        return self._code

    def details(self) -> str:
        """What is wrong, in words."""
        return self._details

    def trailing_metadata(self) -> Metadata:  # type: ignore[override]  # types-grpcio names them otherwise
        """What came beside the status."""
        return self._trailers

    def initial_metadata(self) -> Metadata:
        """Nothing."""
        return ()

    def is_active(self) -> bool:
        """Never: it is over."""
        return False

    def time_remaining(self) -> float:
        """Nothing remains."""
        return 0.0

    def cancel(self) -> bool:
        """Has no effect."""
        return False

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """Takes none any more."""
        del callback
        return False


class InProcess:
    """Makes calls of servicers, through the layers around every call."""

    def __init__(self, layers: CallInterceptor) -> None:
        """Calls what is added to it, through `layers`."""
        self._layers = layers
        self._handlers: dict[str, _Handler] = {}
        self._lock = threading.Lock()
        self._running: set[InProcessContext] = set()

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        """Takes nothing: servicers register the same methods by their names, too."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, _Handler]) -> None:
        """Takes the methods of a service, as a server does."""
        self._handlers |= {f"/{service}/{name}": handler for name, handler in handlers.items()}

    def channel(self, peer: Peer) -> grpc.Channel:
        """Makes a channel for calls in the name of `peer`; costs nothing, and needs no close."""
        return cast("grpc.Channel", _Channel(self, peer))

    def cancel(self) -> None:
        """Ends all calls that are running, as the end of a connection does."""
        with self._lock:
            running = list(self._running)
        for context in running:
            context.cancel()

    def run(self, path: str, request: object, context: InProcessContext) -> object:
        """Makes a call on this thread, in a context of its own as gRPC does.

        Raises:
            InProcessCallError: It failed.
        """
        with self._lock:
            self._running.add(context)
        try:
            return Context().run(self._answer, path, request, context)
        except Exception as error:
            raise context.failure() from error
        finally:
            with self._lock:
                self._running.discard(context)
            context.cancel()

    def _answer(self, path: str, request: object, context: InProcessContext) -> object:
        details = cast("grpc.HandlerCallDetails", _Details(path, context.invocation_metadata()))
        handler = self._layers.intercept_service(lambda _: self._handlers.get(path), details)
        behavior = cast("Behavior | None", handler and (handler.unary_unary or handler.stream_unary))
        if behavior is None:
            raise TypeError(path)
        return behavior(request, context)


class InProcessContext(grpc.ServicerContext):
    """What layers and servicers know of a call that did not come over gRPC."""

    def __init__(self, peer: Peer, metadata: Metadata, seconds: float | None) -> None:
        """A call of `peer` that may take `seconds`."""
        self._peer = peer
        self._metadata = metadata
        self._ends = None if seconds is None else time.monotonic() + seconds
        self._lock = threading.Lock()
        self._active = True
        self._callbacks: list[Callable[[], None]] = []
        self._trailers: Metadata = ()
        self._status: tuple[grpc.StatusCode, str] | None = None

    def failure(self) -> InProcessCallError:
        """Tells how the call failed: as it was aborted, or without a status."""
        code, details = self._status or (grpc.StatusCode.UNKNOWN, "the call failed")
        return InProcessCallError(code, details, self._trailers)

    def cancel(self) -> bool:
        """Ends the call, and tells who wants to know. Harmless when repeated."""
        with self._lock:
            was_active, self._active = self._active, False
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()
        return was_active

    def is_active(self) -> bool:
        """Whether it goes on."""
        return self._active

    def time_remaining(self) -> float | None:  # type: ignore[override]  # types-grpcio leaves out the None
        """Seconds until its deadline; None if it has none."""
        return None if self._ends is None else max(0.0, self._ends - time.monotonic())

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """Has `callback` run at the end; False if that has come."""
        with self._lock:
            if self._active:
                self._callbacks.append(callback)
            return self._active

    def invocation_metadata(self) -> Metadata:
        """What it brings."""
        return self._metadata

    def peer(self) -> str:
        """Who calls."""
        return self._peer.address

    def auth_context(self) -> Mapping[str, Sequence[bytes]]:  # type: ignore[override]  # types-grpcio has it wrong
        """The names in the certificate of who calls."""
        return self._peer.names

    def peer_identities(self) -> None:
        """Nobody asks."""

    def peer_identity_key(self) -> None:
        """Nobody asks."""

    def set_trailing_metadata(self, trailing_metadata: Metadata) -> None:
        """Notes what goes beside the answer."""
        self._trailers = trailing_metadata

    def trailing_metadata(self) -> Metadata:
        """What goes beside the answer."""
        return self._trailers

    def send_initial_metadata(self, initial_metadata: Metadata) -> None:
        """Has no effect."""

    def set_compression(self, compression: grpc.Compression) -> None:
        """Has no effect."""

    def disable_next_message_compression(self) -> None:
        """Has no effect."""

    def set_code(self, code: grpc.StatusCode) -> None:
        """Nobody does."""

    def set_details(self, details: str) -> None:
        """Nobody does."""

    def abort(self, code: grpc.StatusCode, details: str) -> NoReturn:
        """Ends the call with a status."""
        self._status = code, details
        raise RuntimeError(details)

    def abort_with_status(self, status: grpc.Status) -> NoReturn:
        """Ends the call with a status and what stands beside it."""
        self._trailers = tuple(status.trailing_metadata or ())
        self._status = status.code, status.details
        raise RuntimeError(status.details)


@dataclass(frozen=True, slots=True)
class _Details:
    method: str
    invocation_metadata: Metadata


class _Channel:
    """What stubs are made with. Calls run on the thread of their caller; there are none with a stream of answers."""

    def __init__(self, calls: InProcess, peer: Peer) -> None:
        self._calls = calls
        self._peer = peer

    def unary_unary(self, path: str, *_: object, **__: object) -> _Method:
        """Makes a method with one request."""
        return _Method(self._calls, self._peer, path)

    stream_unary = unary_unary

    def unary_stream(self, path: str, *_: object, **__: object) -> _Method:
        """Makes a method that fails when it is called."""
        return _Method(self._calls, self._peer, path)

    stream_stream = unary_stream

    def close(self) -> None:
        """Has no effect."""


class _Method:
    """One method of a stub."""

    def __init__(self, calls: InProcess, peer: Peer, path: str) -> None:
        self._calls = calls
        self._peer = peer
        self._path = path

    def __call__(self, request: object, timeout: float | None = None, metadata: Metadata = ()) -> object:
        """Makes a call with one answer."""
        return self.with_call(request, timeout, metadata)[0]

    def with_call(
        self, request: object, timeout: float | None = None, metadata: Metadata = ()
    ) -> tuple[object, InProcessContext]:
        """Makes a call, and tells what came beside its answer."""
        context = InProcessContext(self._peer, metadata, timeout)
        return self._calls.run(self._path, request, context), context
