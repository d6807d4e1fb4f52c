"""Connects to KFP according to the settings."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from kfadapter_grpc.kfp.artifact_bytes import ArtifactBytes
from kfadapter_grpc.kfp.backend import KfpBackend
from kfadapter_grpc.kfp.connections import TlsFiles
from kfadapter_grpc.kfp.credentials import Credentials, ForwardedCredentials, TokenFile
from kfadapter_grpc.kfp.exchange import KfpObserver
from kfadapter_grpc.kfp.log_sources import kubernetes_api
from kfadapter_grpc.kfp.mlmd.store import StoreSettings
from kfadapter_grpc.kfp.transport import TransportSettings
from kfadapter_grpc.server.grpc_server import SPARE_THREADS
from kfadapter_grpc.setting_checks import token_path
from kfadapter_grpc.setting_sources import SettingsError
from kfadapter_grpc.spool import SpoolPlace

if TYPE_CHECKING:
    from kfadapter_grpc.settings import Settings

KUBERNETES_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where Kubernetes puts the token of a pod's service account, its own CAs, and the pod's namespace."""


def connect_kfp(settings: Settings, place: SpoolPlace, observer: KfpObserver | None = None) -> KfpBackend:
    """Creates the backend, which calls `observer` after every request; sends nothing yet.

    Raises SettingsError if the file of artifact stores has become invalid since the settings were loaded.
    """
    return KfpBackend(
        transport_settings(settings, observer),
        place,
        pod_log_settings(settings),
        artifact_bytes(settings),
        store_settings(settings),
    )


def artifact_bytes(settings: Settings) -> ArtifactBytes:
    """Creates the reader of artifacts' bytes; obstore is imported only if there are stores."""
    if settings.artifact_stores is None:
        return ArtifactBytes(folder=settings.artifact_folder)
    from kfadapter_grpc.kfp.object_stores import ObjectStores  # noqa: PLC0415

    try:
        stores = ObjectStores(settings.artifact_stores)
    except (OSError, ValueError) as error:
        raise SettingsError(f"artifact_stores: {settings.artifact_stores}: {error}") from error
    return ArtifactBytes(stores, settings.artifact_folder)


def transport_settings(settings: Settings, observer: KfpObserver | None = None) -> TransportSettings:
    """Returns KFP's address, TLS files and credentials; `observer` is called after every request."""
    return TransportSettings(
        settings.kfp_url,
        pool_size=settings.max_unary_calls + settings.max_uploads + SPARE_THREADS,
        credentials=credentials(settings),
        tls=TlsFiles(settings.kfp_ca_file, settings.kfp_client_certificate, settings.kfp_client_key),
        observer=observer,
        user_header=settings.kfp_user_header,
    )


def store_settings(settings: Settings) -> StoreSettings | None:
    if not settings.mlmd_address:
        return None
    return StoreSettings(settings.mlmd_address, settings.mlmd_tls, settings.mlmd_ca)


def pod_log_settings(settings: Settings) -> TransportSettings | None:
    """Returns how to reach the Kubernetes API for logs of pods; None if switched off, or outside a pod."""
    return kubernetes_api(os.environ, KUBERNETES_SERVICE_ACCOUNT) if settings.pod_logs == "auto" else None


def credentials(settings: Settings) -> Credentials:
    if settings.kfp_credentials == "forward":
        return ForwardedCredentials()
    path = token_path(settings.kfp_credentials, settings.kfp_token_file)
    return Credentials() if path is None else TokenFile(path)
