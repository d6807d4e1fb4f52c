"""The IdentityService."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from kfadapter.v1 import identity_pb2 as pb
from kfadapter.v1.identity_pb2_grpc import IdentityServiceServicer
from kfadapter_grpc.codec import to_message
from kfadapter_grpc.contract.call import ANYTHING
from kfadapter_grpc.contract.identity import WhoAmI
from kfadapter_grpc.interceptors.calls import current_call

if TYPE_CHECKING:
    import grpc


class IdentityServicer(IdentityServiceServicer):
    def __init__(self, kfp_version: Callable[[], str]) -> None:
        self._kfp_version = kfp_version

    def WhoAmI(self, request: pb.WhoAmIRequest, context: grpc.ServicerContext) -> pb.WhoAmIResponse:
        call = current_call(context)
        if call.caller is None:
            return to_message(WhoAmI(grants=ANYTHING, kfp_version=self._kfp_version()), pb.WhoAmIResponse)
        identity = call.caller.identity
        response = WhoAmI(
            identity.name,
            identity.way,
            identity.issuer,
            identity.subject,
            identity.groups,
            call.caller.grants,
            call.authorization.user if call.authorization else "",
            identity.certificate_names,
            self._kfp_version() if call.caller.grants else "",
        )
        return to_message(response, pb.WhoAmIResponse)
