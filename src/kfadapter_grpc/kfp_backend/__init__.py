"""The only code that knows the API of Kubeflow Pipelines (KFP)."""

from __future__ import annotations

from kfadapter_grpc.kfp_backend.backend import KfpBackend
from kfadapter_grpc.kfp_backend.transport import TransportSettings
from kfadapter_grpc.spool import SpoolPlace

__all__ = ["KfpBackend", "TransportSettings", "connect"]


def connect(url: str, *, pool_size: int = 96, place: SpoolPlace | None = None) -> KfpBackend:
    """Makes a backend for the KFP at `url`; nothing is sent yet.

    Args:
        url: The base URL.
        pool_size: How many idle connections are kept.
        place: Where downloads are kept on their way.
    """
    return KfpBackend(TransportSettings(url=url, pool_size=pool_size), place or SpoolPlace())
