"""One log line for each call, when it ends."""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog
from grpc import StatusCode

from kfadapter_grpc.contract.errors import CallCancelledError, InternalError, OverloadedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from structlog.typing import FilteringBoundLogger

    from kfadapter_grpc.contract.errors import AdapterError
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
