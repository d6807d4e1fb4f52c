"""Converts exceptions to the errors on the wire. The only module that aborts calls."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import quote

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

from kfadapter_grpc.contract.errors import AdapterError, InternalError, KfpUnavailableError
from kfadapter_grpc.interceptors.calls import REQUEST_ID_KEY

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from kfadapter_grpc.interceptors.chain import Rpc

ERROR_DOMAIN = "kfadapter"
"""The domain of every ErrorInfo."""
DETAILS_KEY = "grpc-status-details-bin"
"""The trailer that holds the serialized google.rpc.Status."""
RETRY_PUSHBACK_KEY = "grpc-retry-pushback-ms"
"""The trailer with which a server controls when gRPC's retry policy repeats a call; negative: never."""
MAX_STATUS_BYTES = 7 * 1024
"""The size limit of a status on the wire: from 8 KiB of trailers on, common clients reject them."""

_TRUNCATIONS = ((1000, 50), (500, 50), (250, 25), (120, 15), (60, 10), (30, 5))
"""How many characters of a text and how many items of a list are sent; the first pair that fits is used."""


@contextmanager
def report_errors(rpc: Rpc) -> Iterator[None]:
    """The layer that ends a failed call with code, reason and details.

    An exception other than an `AdapterError` is a fault of the adapter: the caller receives only the request id, the
    log has the details.
    """
    try:
        yield
    except AdapterError as error:
        _abort(rpc, error)
    except (Exception, SystemExit) as fault:  # noqa: BLE001 - nothing may leave a call unanswered
        failure = InternalError.of(rpc.call.request_id)
        failure.__cause__ = fault
        _abort(rpc, failure)


@dataclass(frozen=True)
class WireStatus(grpc.Status):
    """A status as grpc sends it."""

    code: grpc.StatusCode
    details: str
    trailing_metadata: tuple[tuple[str, str | bytes], ...]


def wire_status(error: AdapterError, request_id: str) -> WireStatus:
    for length, count in _TRUNCATIONS:
        status = _status(error, request_id, length, count)
        data = status.SerializeToString()
        # The message is sent percent-encoded, the details in base64.
        if len(quote(status.message, safe=" ")) + len(data) * 4 // 3 <= MAX_STATUS_BYTES:
            break
    trailers: list[tuple[str, str | bytes]] = [(REQUEST_ID_KEY, request_id), (DETAILS_KEY, data)]
    if isinstance(error, KfpUnavailableError):
        # Reads to KFP have been retried; a client's own retry policy would multiply that.
        trailers.append((RETRY_PUSHBACK_KEY, "-1"))
    return WireStatus(error.code, status.message, tuple(trailers))


def _abort(rpc: Rpc, failure: AdapterError) -> NoReturn:
    rpc.failure = failure
    rpc.context.abort_with_status(wire_status(failure, rpc.call.request_id))


def _status(error: AdapterError, request_id: str, length: int, count: int) -> status_pb2.Status:
    number: int = error.code.value[0]
    status = status_pb2.Status(code=number, message=_truncate(error.message, length))
    for detail in _details(error, length, count):
        status.details.add().Pack(detail)
    status.details.add().Pack(error_details_pb2.RequestInfo(request_id=request_id))
    return status


def _details(error: AdapterError, length: int, count: int) -> Iterator[Message]:
    items = list(error.metadata.items())[:count]
    metadata = {_truncate(key, length): _truncate(value, length) for key, value in items}
    yield error_details_pb2.ErrorInfo(domain=ERROR_DOMAIN, reason=error.reason, metadata=metadata)
    if error.violations:
        bad_request = error_details_pb2.BadRequest()
        for violation in error.violations[:count]:
            bad_request.field_violations.add(
                field=_truncate(violation.field, length), description=_truncate(violation.description, length)
            )
        yield bad_request
    if error.resource_type:
        name = _truncate(error.resource_name, length)
        yield error_details_pb2.ResourceInfo(resource_type=error.resource_type, resource_name=name)
    if error.retry_after is not None:
        delay = Duration()
        delay.FromNanoseconds(round(error.retry_after * 1_000_000_000))
        yield error_details_pb2.RetryInfo(retry_delay=delay)


def _truncate(text: str, length: int) -> str:
    """Truncates a text, and replaces what UTF-8 cannot encode."""
    encodable = text.encode("utf-8", "replace").decode("utf-8")
    return encodable if len(encodable) <= length else encodable[: length - 1] + "…"
