"""KFP's endpoints for recurring runs."""

from __future__ import annotations

from kfadapter_grpc.kfp_backend.api.asking import ApiArea


class RecurringRunApi(ApiArea):
    """The endpoints. Safe to use from many threads."""
