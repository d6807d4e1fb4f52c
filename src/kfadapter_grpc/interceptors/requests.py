"""What can go wrong while a caller's messages are read: bytes that are no message, and a caller who goes away."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, TypeVar, cast

from google.protobuf.message import DecodeError

from kfadapter_grpc.contract.errors import AdapterError, CallCancelledError, InvalidFieldError, KfpTimeoutError
from kfadapter_grpc.interceptors.nesting import MAX_LEVELS, too_deep
from kfadapter_grpc.interceptors.request_id import caller_seconds

if TYPE_CHECKING:
    from collections.abc import Callable

    import grpc
    from google.protobuf.descriptor import Descriptor
    from google.protobuf.message import Message

    from kfadapter_grpc.contract.call import Call

TRequest = TypeVar("TRequest")
_MAX_PATH = 200


@dataclass(frozen=True, slots=True)
class _Garbled:
    """Stands for a message whose bytes could not be parsed; `path` is what is nested too deeply in it."""

    path: str


def lenient(parse: Callable[[bytes], TRequest] | None) -> Callable[[bytes], TRequest] | None:
    """Makes a deserializer whose failure `checked_request` tells, where gRPC would answer INTERNAL without a reason."""
    if parse is None:
        return None

    def parse_or_mark(data: bytes) -> TRequest:
        try:
            return parse(data)
        except DecodeError:
            return cast(
                "TRequest", _Garbled(too_deep(data, cast("Descriptor", cast("Message", parse(b"")).DESCRIPTOR)))
            )

    return parse_or_mark


def checked_request(request: TRequest) -> TRequest:
    """Returns the request.

    Raises:
        InvalidFieldError: Its bytes could not be parsed.
    """
    if isinstance(request, _Garbled):
        if request.path:
            field = request.path if len(request.path) <= _MAX_PATH else f"{request.path[:_MAX_PATH]}…"
            raise InvalidFieldError.of(field, f"is nested deeper than the {MAX_LEVELS} levels that protobuf reads")
        raise InvalidFieldError(
            "the request's bytes are not a message of this RPC: check the proto files in use, and that nothing is "
            f"nested deeper than {MAX_LEVELS} levels"
        )
    return request


def checked_requests(requests: Iterator[TRequest], call: Call, context: grpc.ServicerContext) -> Iterator[TRequest]:
    """Yields the requests of a stream, and raises if the client cancelled before it had sent everything.

    gRPC raises an exception without a message then. In a tenth of the cases it first ends the iteration as if the
    client had sent everything, and reports the cancellation a moment later: that is for the reader of the stream to
    find out, by what was announced or by waiting.

    Raises:
        CallCancelledError: The client cancelled.
        KfpTimeoutError: The caller set no deadline, and the default one has passed.
        InvalidFieldError: A message's bytes could not be parsed.
    """
    try:
        for request in requests if caller_seconds(context) is not None else _Pump(requests, call):
            yield checked_request(request)
    except AdapterError:
        raise
    except Exception as error:
        raise CallCancelledError("the caller went away") from error
    if call.cancelled or not context.is_active():
        raise CallCancelledError("the client cancelled the call")


class _Pump(Iterator[TRequest]):
    """Reads a stream on a thread of its own, so that waiting for the next request can end.

    gRPC waits for a request for as long as the connection lives. Nothing but the caller's own deadline would end that,
    and this is for callers who set none. The thread ends with the call.
    """

    def __init__(self, requests: Iterator[TRequest], call: Call) -> None:
        self._requests = requests
        self._call = call
        self._wanted = threading.Semaphore(0)
        self._arrived: SimpleQueue[tuple[TRequest | None, BaseException | None]] = SimpleQueue()
        self._over = False
        threading.Thread(target=self._read, name="requests", daemon=True).start()
        call.on_cancel(self._stop)  # which gRPC makes happen at the end of every call, however it ends

    def __next__(self) -> TRequest:
        self._wanted.release()
        while True:
            try:
                request, end = self._arrived.get(timeout=max(0.0, self._call.remaining()))
            except Empty:
                if self._call.remaining() > 0:
                    continue  # the deadline was extended
                raise KfpTimeoutError("the upload did not arrive in time; set a longer deadline") from None
            if end is not None:
                raise end
            return cast("TRequest", request)

    def _stop(self) -> None:
        self._over = True
        self._wanted.release()

    def _read(self) -> None:
        """Reads one request whenever one is wanted, so that no more than one is held."""
        try:
            while self._wanted.acquire():
                if self._over:
                    raise CallCancelledError("the caller went away")
                self._arrived.put((next(self._requests), None))
        except BaseException as end:  # noqa: BLE001 - StopIteration, too, belongs to the one who iterates
            self._arrived.put((None, end))
