"""TLS for HTTP: the certificate that gRPC shows, and the CAs that it asks callers for."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import structlog

from kfadapter_grpc.settings import SettingsError

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from kfadapter_grpc.auth.certificates import ServerCertificate
    from kfadapter_grpc.auth.reloaded import Reloaded
    from kfadapter_grpc.settings import Settings


class HttpTls:
    """Has the context for new connections; a new one when the certificate has changed."""

    def __init__(self, settings: Settings, certificate: Reloaded[ServerCertificate]) -> None:
        """Follows a certificate whose files the settings name.

        Raises:
            SettingsError: OpenSSL does not take the files.
        """
        self._settings = settings
        self._certificate = certificate
        self._log: FilteringBoundLogger = structlog.get_logger()
        self._given = certificate.value
        try:
            self._context = _context(settings)
        except (OSError, ValueError) as error:
            raise SettingsError(f"the certificate cannot be used for HTTP: {error}") from error

    def context(self) -> ssl.SSLContext:
        """What a new connection is shown."""
        return self._context

    def refresh(self) -> None:
        """Makes a new context if the certificate has changed; files that changed again meanwhile are tried later."""
        now = self._certificate.value
        if now is self._given:
            return
        try:
            self._context = _context(self._settings)
        except (OSError, ValueError) as error:
            self._log.error("the certificate was not taken up for HTTP; it is tried again", why=str(error))
            return
        self._given = now


def _context(settings: Settings) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(str(settings.tls_certificate), str(settings.tls_key))
    # A session that is taken up again would not be asked for its certificate anew.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    if settings.tls_client_ca is not None:
        context.load_verify_locations(cafile=str(settings.tls_client_ca))
        context.verify_mode = ssl.CERT_REQUIRED
    return context
