"""The layers around every call of the contract, in a fixed order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kfadapter_grpc.interceptors.admission import Admission, Bounds
from kfadapter_grpc.interceptors.audit import AuditLog
from kfadapter_grpc.interceptors.authentication import Authentication, Impersonation, forward_authorization
from kfadapter_grpc.interceptors.calls import REQUEST_ID_KEY, caller_seconds, current_call, end_stalled
from kfadapter_grpc.interceptors.chain import CallInterceptor, Layer, Rpc
from kfadapter_grpc.interceptors.errors import report_errors
from kfadapter_grpc.interceptors.log import CallLog

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "REQUEST_ID_KEY",
    "Admission",
    "AuditLog",
    "Authentication",
    "Bounds",
    "CallInterceptor",
    "CallLog",
    "Impersonation",
    "Layer",
    "Rpc",
    "caller_seconds",
    "current_call",
    "forward_authorization",
    "layers",
]


def layers(
    authentication: Authentication,
    admission: Admission,
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
