"""The lines of a call in the log and in the audit log, when it ends.

A line of the audit log has who did what to which resource: names and ids, never values of parameters, contents or
credentials.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import structlog
from google.protobuf.message import Message
from grpc import StatusCode

from kfadapter_grpc.contract.errors import AdapterError, CallCancelledError, InternalError, OverloadedError
from kfadapter_grpc.methods import RpcMethod

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from kfadapter_grpc.interceptors.chain import Rpc

MAX_MESSAGE = 1000
"""How many characters of an error's message are logged."""


class CallLog:
    """The layer that writes the line: info, warning for a fault on the server's side, error for one of the adapter."""

    def __init__(self) -> None:
        self._log: FilteringBoundLogger = structlog.get_logger()

    @contextmanager
    def __call__(self, rpc: Rpc) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self._write(rpc, time.perf_counter() - started)

    def _write(self, rpc: Rpc, seconds: float) -> None:
        self._log.log(
            _level(rpc.failure),
            "call",
            request_id=rpc.call.request_id,
            method=rpc.method.path,
            code=call_code(rpc).name,
            seconds=round(seconds, 4),
            peer=rpc.peer,
            **({"caller": rpc.call.caller.name} if rpc.call.caller else {}),
            **_used(rpc),
            **_failure_fields(rpc.failure),
        )


def _used(rpc: Rpc) -> Mapping[str, object]:
    usage = rpc.call.usage
    used: dict[str, object] = {"kfp_seconds": round(usage.kfp_seconds, 4), "kfp_requests": usage.kfp_requests}
    if rpc.method.client_streaming:
        used["received_bytes"] = usage.received_bytes
    elif rpc.method.server_streaming and not rpc.method.endless:
        used["sent_bytes"] = usage.sent_bytes
    return used


def _level(failure: AdapterError | None) -> int:
    if isinstance(failure, InternalError):
        return logging.ERROR
    if failure is not None and (failure.reason.startswith("KFP_") or isinstance(failure, OverloadedError)):
        return logging.WARNING
    return logging.INFO


def call_code(rpc: Rpc) -> StatusCode:
    if rpc.failure is not None and not isinstance(rpc.failure, CallCancelledError):
        return rpc.failure.code
    if rpc.failure is None and rpc.context.is_active():
        return StatusCode.OK
    return StatusCode.CANCELLED if rpc.call.remaining() > 0 else StatusCode.DEADLINE_EXCEEDED


def _failure_fields(failure: AdapterError | None) -> Mapping[str, object]:
    if failure is None:
        return {}
    if _level(failure) == logging.INFO:
        fault = failure.metadata.get("fault")
        return {"reason": failure.reason, **({"fault": fault} if fault else {})}
    why: dict[str, object] = {"reason": failure.reason, "message": failure.message[:MAX_MESSAGE]}
    return {**why, "exc_info": failure.__cause__} if isinstance(failure, InternalError) and failure.__cause__ else why


# --- the audit log --------------------------------------------------------------------------------------------------


MAX_NAME = 256
"""The maximum length of a name or an id: in refused requests they may be longer than KFP accepts."""
_VERSION = "pipeline_version"
_PARTS = ("version", "pipeline", "metadata")
"""The fields of messages of uploads in which names and ids are."""


class AuditLog:
    """The layer that writes the line when the call has ended; outside the errors, so that it sees refusals, too."""

    def __init__(self, write: Callable[[str], object], *, reads: bool) -> None:
        """Writes lines with `write`, which must not wait; of calls that only read, if `reads`."""
        self._write = write
        self._reads = reads

    @contextmanager
    def __call__(self, rpc: Rpc) -> Iterator[None]:
        try:
            yield
        finally:
            if self._reads or not rpc.method.read_only:
                self._write(json.dumps(record(rpc), ensure_ascii=False) + "\n")


def record(rpc: Rpc) -> dict[str, object]:
    """What is recorded of a finished call; what is unknown is absent."""
    caller = rpc.call.caller.identity if rpc.call.caller else None
    fields = {
        "time": datetime.now(timezone.utc).isoformat().replace("+00:00", "Z"),
        "request_id": rpc.call.request_id,
        "trace_id": rpc.trace_id,
        "caller": caller.name if caller else "",
        "caller_way": caller.way.value if caller else "",
        "caller_issuer": caller.issuer if caller else "",
        "peer": rpc.peer,
        "method": rpc.method.path.lstrip("/"),
        **resource(rpc.method, _with_parts(rpc.response), _with_parts(rpc.request)),
        "code": call_code(rpc).name,
        "reason": rpc.failure.reason if rpc.failure else "",
    }
    return {key: _truncate(value) for key, value in fields.items() if value}


def resource(method: RpcMethod, responses: list[Message], requests: list[Message]) -> dict[str, str]:
    """The resource that a call is about: from its response, if it has one, then from its request.

    A version is named together with its pipeline, its parent. An upload is about a version.
    """
    kind, messages = resource_type(method), [*responses, *requests]
    fields = {
        "resource_type": kind,
        "resource_id": _first(messages, f"{kind}_id"),
        "resource_name": _first(messages, f"{kind}_name", "name", "display_name"),
        "namespace": _first(messages, "namespace"),
    }
    if kind == _VERSION:  # in requests, `name` is that of the pipeline
        versions = [one for one in responses if f"{kind}_id" in one.DESCRIPTOR.fields_by_name]
        fields["resource_name"] = _first(requests, "version_name") or _first(versions, "name")
        fields["parent_id"] = _first(messages, "pipeline_id")
        fields["parent_name"] = _first([*requests, *(one for one in responses if one not in versions)], "name")
    return fields


def resource_type(method: RpcMethod) -> str:
    """The kind of resource, as ids are called: `pipeline_version` of `pipeline_version_id`."""
    if method.client_streaming or "Version" in method.name:
        return _VERSION
    service = method.service.rpartition(".")[2].removesuffix("Service")
    return "".join(f"_{sign.lower()}" if sign.isupper() else sign for sign in service).lstrip("_")


def _with_parts(message: object) -> list[Message]:
    if not isinstance(message, Message):
        return []
    fields = message.DESCRIPTOR.fields_by_name
    return [*(getattr(message, part) for part in _PARTS if part in fields and message.HasField(part)), message]


def _first(messages: list[Message], *fields: str) -> str:
    values = (getattr(message, field, "") for message in messages for field in fields)
    return next((value for value in values if value and isinstance(value, str)), "")


def _truncate(value: object) -> object:
    return value if not isinstance(value, str) or len(value) <= MAX_NAME else f"{value[:MAX_NAME]}…"
