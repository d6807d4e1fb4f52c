"""The only code that knows the API of Kubeflow Pipelines (KFP)."""

from __future__ import annotations

from kfadapter_grpc.kfp.backend import KfpBackend
from kfadapter_grpc.kfp.connections import TlsFiles
from kfadapter_grpc.kfp.credentials import Credentials, ForwardedCredentials, TokenFile
from kfadapter_grpc.kfp.log_sources import kubernetes_api
from kfadapter_grpc.kfp.mlmd.store import StoreSettings
from kfadapter_grpc.kfp.transport import TransportSettings

__all__ = [
    "Credentials",
    "ForwardedCredentials",
    "KfpBackend",
    "StoreSettings",
    "TlsFiles",
    "TokenFile",
    "TransportSettings",
    "kubernetes_api",
]
