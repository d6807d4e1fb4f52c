"""KFP's endpoints for experiments."""

from __future__ import annotations

from kfadapter_grpc.kfp_backend.api.asking import ApiArea


class ExperimentApi(ApiArea):
    """The endpoints. Safe to use from many threads."""
