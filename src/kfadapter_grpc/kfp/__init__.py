"""The only code that knows the API of Kubeflow Pipelines (KFP)."""

from __future__ import annotations

from kfadapter_grpc.kfp.backend import KfpBackend
from kfadapter_grpc.kfp.connections import TlsFiles
from kfadapter_grpc.kfp.credentials import Credentials, ForwardedCredentials, TokenFile
from kfadapter_grpc.kfp.mlmd.store import StoreSettings
from kfadapter_grpc.kfp.pod_logs import kubernetes_api
from kfadapter_grpc.kfp.transport import TransportSettings
from kfadapter_grpc.spool import SpoolPlace

__all__ = [
    "Credentials",
    "ForwardedCredentials",
    "KfpBackend",
    "StoreSettings",
    "TlsFiles",
    "TokenFile",
    "TransportSettings",
    "connect",
    "kubernetes_api",
]


def connect(
    url: str,
    *,
    pool_size: int = 96,
    place: SpoolPlace | None = None,
    credentials: Credentials | None = None,
    tls: TlsFiles | None = None,
    kubernetes: TransportSettings | None = None,
    mlmd: StoreSettings | None = None,
) -> KfpBackend:
    """Makes a backend for the KFP at `url`; sends nothing yet.

    Args:
        url: The base URL.
        pool_size: How many idle connections are kept open.
        place: Where downloads are spooled.
        credentials: Sent with every request; defaults to none.
        tls: CAs and client certificate.
        kubernetes: How to reach the Kubernetes API for pod logs; if unset, it is not called.
        mlmd: The address of ML Metadata, which has the outputs of runs of KFP 2.5 to 2.17; if unset, it is not called.
    """
    settings = TransportSettings(url, pool_size, credentials=credentials or Credentials(), tls=tls or TlsFiles())
    return KfpBackend(settings, place or SpoolPlace(), kubernetes, mlmd=mlmd)
