"""Connects to KFP as the settings say."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from kfadapter_grpc.kfp import (
    ForwardedCredentials,
    KfpBackend,
    NoCredentials,
    TlsFiles,
    TokenFile,
    TransportSettings,
    kubernetes_api,
)
from kfadapter_grpc.kfp_access import KUBERNETES_SERVICE_ACCOUNT, token_path
from kfadapter_grpc.server.grpc_server import SPARE_THREADS

if TYPE_CHECKING:
    from kfadapter_grpc.kfp import Credentials
    from kfadapter_grpc.kfp.exchange import KfpObserver
    from kfadapter_grpc.settings import Settings
    from kfadapter_grpc.spool import SpoolPlace


def connect_as_set(settings: Settings, place: SpoolPlace, observer: KfpObserver | None = None) -> KfpBackend:
    """Makes the backend; nothing is sent yet, and no file is read.

    Args:
        settings: Where KFP is, and as whom it is asked.
        place: Where downloads are kept on their way.
        observer: Is told of every request when it is over.
    """
    return KfpBackend(transport_settings(settings, observer), place, pod_log_settings(settings))


def transport_settings(settings: Settings, observer: KfpObserver | None = None) -> TransportSettings:
    """Tells where KFP is, how it is reached, and as whom it is asked; `observer` is told of every request."""
    return TransportSettings(
        settings.kfp_url,
        pool_size=settings.max_unary_calls + settings.max_uploads + SPARE_THREADS,
        credentials=credentials(settings),
        tls=TlsFiles(settings.kfp_ca_file, settings.kfp_client_certificate, settings.kfp_client_key),
        observer=observer,
    )


def pod_log_settings(settings: Settings) -> TransportSettings | None:
    """Returns how to reach the Kubernetes API for logs of pods; None if switched off, or outside a pod."""
    return kubernetes_api(os.environ, KUBERNETES_SERVICE_ACCOUNT) if settings.pod_logs == "auto" else None


def credentials(settings: Settings) -> Credentials:
    """Tells as whom KFP is asked."""
    if settings.kfp_credentials == "forward":
        return ForwardedCredentials()
    path = token_path(settings.kfp_credentials, settings.kfp_token_file)
    return NoCredentials() if path is None else TokenFile(path)
