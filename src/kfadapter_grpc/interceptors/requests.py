"""Errors while a client's messages are read: bytes that are not a message, and a client that disconnects."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from queue import Empty as QueueEmpty
from queue import SimpleQueue
from typing import TYPE_CHECKING, TypeVar, cast

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet

from kfadapter_grpc.contract.call import Call
from kfadapter_grpc.contract.errors import AdapterError, CallCancelledError, InvalidFieldError, KfpTimeoutError
from kfadapter_grpc.interceptors.calls import caller_seconds

if TYPE_CHECKING:
    import grpc
    from google.protobuf.descriptor import Descriptor

TRequest = TypeVar("TRequest")
_MAX_PATH = 200
MAX_LEVELS = 100
"""How many levels of messages protobuf reads below the outermost one."""
_MAX_MESSAGES = 10_000
_MAX_BYTES = 256 * 1024
"""How many bytes are examined: it is a bad request, and must not cost more than a good one."""
_LENGTH_DELIMITED = 2
_VALUE_FIELDS = frozenset({"fields", "value", "struct_value", "list_value"})
"""Fields of protobuf itself, which do not appear in JSON."""


@dataclass(frozen=True, slots=True)
class _Unparsable:
    """Replaces a message whose bytes could not be parsed; `path` is the part of it that is nested too deeply."""

    path: str


def tolerant(parse: Callable[[bytes], TRequest] | None) -> Callable[[bytes], TRequest] | None:
    """Makes a deserializer whose failures `checked_request` raises; gRPC's own are INTERNAL without a reason."""
    if parse is None:
        return None

    def parse_or_mark(data: bytes) -> TRequest:
        try:
            return parse(data)
        except DecodeError:
            return cast(
                "TRequest", _Unparsable(_too_deep(data, cast("Descriptor", cast("Message", parse(b"")).DESCRIPTOR)))
            )

    return parse_or_mark


def checked_request(request: TRequest) -> TRequest:
    """Returns the request. Raises InvalidFieldError if its bytes could not be parsed."""
    if isinstance(request, _Unparsable):
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
    client had sent everything, and reports the cancellation a moment later: the reader of the stream has to
    detect that, by announced sizes or by waiting.
    """
    try:
        for request in requests if caller_seconds(context) is not None else _RequestReader(requests, call):
            yield checked_request(request)
    except AdapterError:
        raise
    except Exception as error:
        raise CallCancelledError("the client cancelled the call") from error
    if call.cancelled or not context.is_active():
        raise CallCancelledError("the client cancelled the call")


class _RequestReader(Iterator[TRequest]):
    """Reads a stream on a dedicated thread, so that waiting for the next request can end.

    gRPC waits for a request for as long as the connection lives. Only the caller's own deadline would end that,
    and this is for callers that set none. The thread ends with the call.
    """

    def __init__(self, requests: Iterator[TRequest], call: Call) -> None:
        self._requests = requests
        self._call = call
        self._requested = threading.Semaphore(0)
        self._received: SimpleQueue[tuple[TRequest | None, BaseException | None]] = SimpleQueue()
        self._is_closed = False
        threading.Thread(target=self._read, name="requests", daemon=True).start()
        call.on_cancel(self._stop)  # gRPC calls this at the end of every call, however it ends

    def __next__(self) -> TRequest:
        self._requested.release()
        while True:
            try:
                request, end = self._received.get(timeout=max(0.0, self._call.remaining()))
            except QueueEmpty:
                if self._call.remaining() > 0:
                    continue  # the deadline was extended
                raise KfpTimeoutError("the upload did not arrive in time; set a longer deadline") from None
            if end is not None:
                raise end
            return cast("TRequest", request)

    def _stop(self) -> None:
        self._is_closed = True
        self._requested.release()

    def _read(self) -> None:
        """Reads one request whenever one is requested, so that at most one is buffered."""
        try:
            while self._requested.acquire():
                if self._is_closed:
                    raise CallCancelledError("the client cancelled the call")
                self._received.put((next(self._requests), None))
        except BaseException as end:  # noqa: BLE001 - StopIteration, too, must reach the consumer
            self._received.put((None, end))


def _too_deep(data: bytes, descriptor: Descriptor) -> str:
    """The path of the first field that is nested too deeply for protobuf; empty if none is, or none is found."""
    waiting = [(data, descriptor, "", 0)] if len(data) <= _MAX_BYTES else []
    for _ in range(_MAX_MESSAGES):
        if not waiting:
            break
        part, kind, path, level = waiting.pop()
        if level > MAX_LEVELS:
            return path
        waiting += [(*inner, level + 1) for inner in _messages(part, kind, path)]
    return ""


def _messages(data: bytes, descriptor: Descriptor, path: str) -> Iterator[tuple[bytes, Descriptor, str]]:
    """The messages in a message, read without those inside them, which an empty message treats as unknown."""
    try:
        fields = UnknownFieldSet(Empty.FromString(data))
    except DecodeError:
        return
    found = [fields[index] for index in range(len(fields))]
    is_entry = descriptor.GetOptions().map_entry
    key = next((bytes(one.data).decode(errors="replace") for one in found if is_entry and one.field_number == 1), "")
    for index, one in enumerate(found):
        field = descriptor.fields_by_number.get(one.field_number)
        if field is None or field.message_type is None or one.wire_type != _LENGTH_DELIMITED:
            continue
        part = f".{key}" if is_entry else "" if field.name in _VALUE_FIELDS else f".{field.name}"
        if descriptor.full_name == "google.protobuf.ListValue":
            part = f"[{index}]"
        yield bytes(one.data), field.message_type, f"{path}{part}".removeprefix(".")
