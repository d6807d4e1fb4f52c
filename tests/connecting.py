"""Connects to a KFP without settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kfadapter_grpc.kfp.backend import KfpBackend
from kfadapter_grpc.kfp.connections import TlsFiles
from kfadapter_grpc.kfp.credentials import Credentials
from kfadapter_grpc.kfp.transport import TransportSettings
from kfadapter_grpc.spool import SpoolPlace

if TYPE_CHECKING:
    from kfadapter_grpc.kfp.mlmd.store import StoreSettings


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
    """Makes a backend for the KFP at `url`; sends nothing yet."""
    settings = TransportSettings(url, pool_size, credentials=credentials or Credentials(), tls=tls or TlsFiles())
    return KfpBackend(settings, place or SpoolPlace(), kubernetes, mlmd=mlmd)
