"""What became of requests to KFP, for those who count them: the call that they were sent for, and metrics."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from kfadapter_grpc.contract.errors import AdapterError

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from kfadapter_grpc.contract.call import Call


@dataclass(frozen=True, slots=True)
class KfpRequest:
    """A request to KFP that is over.

    Attributes:
        operation: What was asked, as `Operation` names it (`get run`).
        status: The HTTP status of the answer; 0 if there was none.
        reason: Why there was none, as errors name it (`KFP_TIMEOUT`); empty if there was one.
        seconds: How long it took: until the answer was read, or until it began where it is read as it comes.
    """

    operation: str
    status: int
    reason: str
    seconds: float


KfpObserver: TypeAlias = Callable[[KfpRequest], None]
"""Is told of every request, on the thread that sent it. It must be quick, and must not raise."""


class Observation:
    """Enter it around a request; what becomes of it is told once, at the latest on leaving."""

    def __init__(self, operation: str, call: Call, observer: KfpObserver | None) -> None:
        self._operation = operation
        self._call = call
        self._observer = observer
        self._told = False
        self._began = time.perf_counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, AdapterError):
            self._tell(0, error.reason)

    def answered(self, status: int) -> None:
        """Notes the status of the answer."""
        self._tell(status, "")

    def _tell(self, status: int, reason: str) -> None:
        if self._told:
            return
        self._told = True
        seconds = time.perf_counter() - self._began
        self._call.usage.add_kfp(seconds)
        if self._observer is not None:
            self._observer(KfpRequest(self._operation, status, reason, seconds))
