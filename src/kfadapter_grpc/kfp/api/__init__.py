"""KFP's endpoints by resource; goes as the modules of the resources take them over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kfadapter_grpc.kfp.api.runs import RunApi
from kfadapter_grpc.kfp.failures import Operation
from kfadapter_grpc.kfp.rest import V2, Rest
from kfadapter_grpc.kfp.transport import Request, Transport

if TYPE_CHECKING:
    from kfadapter_grpc.contract.call import Call

__all__ = ["KfpApi", "RunApi"]


class KfpApi:
    """All endpoints, by area. Safe to use from many threads."""

    def __init__(self, transport: Transport) -> None:
        self.rest = Rest(transport)
        self.runs = RunApi(self.rest)

    def health(self, call: Call) -> None:
        """Asks whether the server is well."""
        self.rest.ask_raw(Operation.HEALTH, Request("GET", f"{V2}/healthz", public=True), dict[str, object], call)
