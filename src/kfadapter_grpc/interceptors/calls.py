"""The request id and the deadline of every call, and how servicers find them."""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from kfadapter_grpc.contract.call import Call
from kfadapter_grpc.methods import VERSION_KEY, WRITE_SECONDS
from kfadapter_grpc.version import installed_version

if TYPE_CHECKING:
    import grpc

    from kfadapter_grpc.interceptors.chain import Rpc

REQUEST_ID_KEY = "x-request-id"
"""The metadata key of the request id, in both directions."""
REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}", re.ASCII)
"""The format of request ids set by callers; others are replaced."""
NO_DEADLINE_SECONDS = 10 * 365 * 24 * 3600.0
"""A later deadline counts as unset: gRPC represents an unset one as a time some centuries from now."""

ANSWER_SECONDS = 0.2
"""How long before the caller's deadline work for the call ends."""

_VERSION = (VERSION_KEY, installed_version())
_current: ContextVar[Call] = ContextVar("call")


def start_call(context: grpc.ServicerContext, default_seconds: float) -> Call:
    """Sets the request id, starts the call's clock, and returns the id to the client in any case.

    A response also contains the adapter's version; an error does not, so that only authorized callers receive it.
    """
    call = _call(context, default_seconds)
    context.set_trailing_metadata(((REQUEST_ID_KEY, call.request_id), _VERSION))
    _current.set(call)  # gRPC runs every call in a contextvars.Context of its own, so there is nothing to reset
    return call


def current_call(context: grpc.ServicerContext) -> Call:
    """Returns the current call; makes one from `context` if no interceptor did (under grpcio-testing)."""
    return _current.get(None) or _call(context, WRITE_SECONDS)


def caller_seconds(context: grpc.ServicerContext) -> float | None:
    """Returns the seconds until the caller's own deadline; None if the caller set none."""
    seconds: float | None = context.time_remaining()
    return None if seconds is None or seconds > NO_DEADLINE_SECONDS else seconds


def _call(context: grpc.ServicerContext, default_seconds: float) -> Call:
    seconds = caller_seconds(context)
    if seconds is None:
        seconds = default_seconds
    else:  # leaves time for the response: after its own deadline the client would not see why the call failed
        seconds -= min(ANSWER_SECONDS, seconds / 10)
    request_id = f"{random.getrandbits(128):032x}"  # a name, not a secret; costs no system call
    for key, value in context.invocation_metadata() or ():
        if key == REQUEST_ID_KEY and isinstance(value, str) and REQUEST_ID.fullmatch(value):
            request_id = value
            break
    call = Call(request_id, seconds)
    if not context.add_callback(call.cancel):
        call.cancel()
    return call


@contextmanager
def end_stalled(rpc: Rpc) -> Iterator[None]:
    """The layer that applies the default deadline to streaming responses.

    gRPC has no timeout for sending a message: without this, a caller without deadline that does not read would hold
    a thread for as long as the connection lives. All other work checks `Call.remaining`.

    Responses that may be endless are exempt: a client that does not read them holds one of the threads for streams, and
    what is buffered for it does not grow.
    """
    if not rpc.method.server_streaming or rpc.method.endless or caller_seconds(rpc.context) is not None:
        yield
        return
    has_ended = threading.Event()

    def watch() -> None:
        while (seconds := rpc.call.remaining()) > 0:  # its deadline may have been extended
            if has_ended.wait(seconds):
                return
        rpc.context.cancel()

    threading.Thread(target=watch, name="deadline", daemon=True).start()
    try:
        yield
    finally:
        has_ended.set()
