"""KFP's endpoints for runs."""

from __future__ import annotations

from kfadapter_grpc.kfp_backend.api.asking import ApiArea


class RunApi(ApiArea):
    """The endpoints. Safe to use from many threads."""
