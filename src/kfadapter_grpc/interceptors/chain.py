"""Wraps the RPCs of the contract in layers, for all four call shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar, cast

import grpc

from kfadapter_grpc.contract.call import Call
from kfadapter_grpc.contract.errors import AdapterError
from kfadapter_grpc.interceptors.calls import end_stalled, start_call
from kfadapter_grpc.interceptors.errors import report_errors
from kfadapter_grpc.interceptors.log import CallLog
from kfadapter_grpc.interceptors.requests import checked_request, checked_requests, tolerant
from kfadapter_grpc.methods import METHODS, RpcMethod

TRequest = TypeVar("TRequest")
TResponse = TypeVar("TResponse")
Behavior: TypeAlias = Callable[[Any, grpc.ServicerContext], Any]
"""A servicer's method: takes a request or an iterator of requests, returns a response or an iterator of responses."""


@dataclass(eq=False, slots=True)
class Rpc:
    """One call on its way through the layers.

    Attributes:
        peer: The client's address, as gRPC names it.
        call: The call's budget; the authentication layer sets its caller.
        request: The request; of a stream the first message. None until it has arrived.
        failure: The error for the caller, once the call has failed; the error layer sets it, the log reads it.
    """

    method: RpcMethod
    context: grpc.ServicerContext
    peer: str
    call: Call
    request: object | None = None
    response: object | None = None
    trace_id: str = ""
    failure: AdapterError | None = None


Layer: TypeAlias = Callable[[Rpc], AbstractContextManager[None]]
"""Runs around a call. It may raise on entering, and must not swallow exceptions raised inside."""


def layers(
    authentication: Layer,
    admission: Layer,
    identity: Sequence[Layer] = (),
    *,
    outer: Sequence[Layer] = (),
    observers: Sequence[Layer] = (),
) -> tuple[Layer, ...]:
    """Returns the layers around every call, outermost first.

    The log and other observers are outside the errors, to see the outcome of the call; authentication and admission
    are inside them, to reject a call with an error like any other. Unauthorized callers take no slot. `identity` sets
    the identity that KFP sees, if not the adapter's; `outer` are around the log's lines.
    """
    return (*outer, CallLog(), *observers, report_errors, authentication, *identity, admission, end_stalled)


class CallInterceptor(grpc.ServerInterceptor):
    """Enters the layers, outermost first, around every RPC of the contract.

    They are entered on the thread that serves the call and stay entered until the last response of a stream is sent.
    Methods outside the contract (health, reflection) are not wrapped.
    """

    def __init__(self, layers: Sequence[Layer], methods: Mapping[str, RpcMethod] = METHODS) -> None:
        self._layers = tuple(layers)
        self._methods = methods
        self._wrapped: dict[str, tuple[grpc.RpcMethodHandler[Any, Any], grpc.RpcMethodHandler[Any, Any]]] = {}

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler[TRequest, TResponse] | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[TRequest, TResponse] | None:
        """Wraps the handler. Does no work of the call itself: this is the only thread that accepts calls."""
        handler = continuation(handler_call_details)
        method = self._methods.get(handler_call_details.method)
        if handler is None or method is None:
            return handler
        known = self._wrapped.get(method.path)
        if known is None or known[0] is not handler:
            known = self._wrapped[method.path] = handler, self._wrap(handler, method)
        return known[1]

    def _wrap(
        self, handler: grpc.RpcMethodHandler[TRequest, TResponse], method: RpcMethod
    ) -> grpc.RpcMethodHandler[TRequest, TResponse]:
        wrap = self._streaming if handler.response_streaming else self._unary
        behaviors = (handler.unary_unary, handler.unary_stream, handler.stream_unary, handler.stream_stream)
        behavior = cast("Behavior", next(filter(None, behaviors)))
        make = _FACTORIES[handler.request_streaming, handler.response_streaming]
        return make(
            wrap(behavior, method),
            request_deserializer=tolerant(handler.request_deserializer),
            response_serializer=handler.response_serializer,
        )

    def _unary(self, behavior: Behavior, method: RpcMethod) -> Behavior:
        def respond(request: object, context: grpc.ServicerContext) -> object:
            with ExitStack() as stack:
                rpc = self._enter(stack, method, context, request)
                rpc.response = behavior(_checked(request, rpc), context)
                return rpc.response

        return respond

    def _streaming(self, behavior: Behavior, method: RpcMethod) -> Behavior:
        def respond(request: object, context: grpc.ServicerContext) -> Iterator[object]:
            with ExitStack() as stack:
                rpc = self._enter(stack, method, context, request)
                yield from behavior(_checked(request, rpc), context)

        return respond

    def _enter(self, stack: ExitStack, method: RpcMethod, context: grpc.ServicerContext, request: object) -> Rpc:
        call = start_call(context, method.default_seconds)
        rpc = Rpc(method, context, context.peer(), call, request=None if method.client_streaming else request)
        for layer in self._layers:
            stack.enter_context(layer(rpc))
        return rpc


_FACTORIES = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


def _checked(request: object, rpc: Rpc) -> object:
    if rpc.method.client_streaming:
        return _keeping_first(checked_requests(cast("Iterator[object]", request), rpc.call, rpc.context), rpc)
    return checked_request(request)


def _keeping_first(requests: Iterator[object], rpc: Rpc) -> Iterator[object]:
    for rpc.request in requests:
        yield rpc.request
        yield from requests
