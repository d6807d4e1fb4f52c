"""The only code that knows the API of Kubeflow Pipelines (KFP)."""

from __future__ import annotations

from kfadapter_grpc.kfp_backend.backend import KfpBackend
from kfadapter_grpc.kfp_backend.transport import TransportSettings

__all__ = ["KfpBackend", "TransportSettings", "connect"]


def connect(url: str, *, pool_size: int = 96) -> KfpBackend:
    """Makes a backend for the KFP at `url`; nothing is sent yet."""
    return KfpBackend(TransportSettings(url=url, pool_size=pool_size))
