"""The caller's identity."""

from __future__ import annotations

from kfadapter_grpc.client.resource import Resource
from kfadapter_grpc.contract.identity import WhoAmI, WhoAmIRequest


class IdentityCalls(Resource):
    def who_am_i(self) -> WhoAmI:
        """Returns who the adapter takes this client for, and its roles."""
        return self._call(WhoAmIRequest(), WhoAmI)
