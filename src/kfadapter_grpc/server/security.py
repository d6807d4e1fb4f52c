"""Authentication of a server, by its settings and the current contents of their files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

import grpc
import structlog

from kfadapter_grpc.addresses import is_loopback, split_address
from kfadapter_grpc.auth.access import ANY, Access, ClientNames
from kfadapter_grpc.auth.access_rules import parse_rules
from kfadapter_grpc.auth.certificates import ServerCertificate, server_certificate
from kfadapter_grpc.auth.reloaded_files import Refresher, Reloaded
from kfadapter_grpc.auth.tokens import parse_tokens
from kfadapter_grpc.interceptors.authentication import Authentication
from kfadapter_grpc.setting_sources import SettingsError

if TYPE_CHECKING:
    from kfadapter_grpc.auth.bearer_tokens import SignedBearers
    from kfadapter_grpc.settings import Settings

T = TypeVar("T")


class Security:
    """Certificates, tokens and names of a server; changed files are re-read while it runs.

    Its `credentials` are None without TLS.
    """

    def __init__(self, settings: Settings) -> None:
        """Reads the files. Raises SettingsError if a file cannot be read or is invalid."""
        self._settings = settings
        try:
            tokens = _reloaded("the tokens", parse_tokens, settings.token_file)
            rules = _reloaded("the access rules", parse_rules, settings.access_rules)
            self._signed: SignedBearers | None = None
            if settings.issuers:
                from kfadapter_grpc.server.issuers import signed_bearers  # noqa: PLC0415  loads joserfc

                self._signed = signed_bearers(settings.issuers)
            tls = settings.tls_certificate, settings.tls_key, *filter(None, (settings.tls_client_ca,))
            self._certificate = certificate = _reloaded("the certificate", server_certificate, *tls)
        except (OSError, ValueError) as error:
            raise SettingsError(str(error)) from error
        listed = settings.tls_client_names, settings.tls_client_readers, settings.tls_client_proxies
        if rules and not any(listed):
            listed = (ANY, "", "")
        names = ClientNames(*listed) if settings.tls_client_ca else None
        access = Access((lambda: tokens.value) if tokens else None, names, self._signed)
        self.authentication = Authentication(access, (lambda: rules.value) if rules else None)
        self.credentials = _credentials(certificate) if certificate else None
        issuers = self._signed.file if self._signed else None
        self._reloaded = [one for one in (tokens, rules, certificate, issuers) if one]
        self._refresher = Refresher([one.refresh for one in (tokens, rules, certificate, self._signed) if one])

    def start(self) -> None:
        """Starts re-reading changed files; logs a warning if callers are not authenticated."""
        if self._signed:
            self._signed.start()
        self._refresher.start()
        kfp_authenticates = self._settings.kfp_credentials == "forward"
        open_to_all = not (_needs_token(self._settings) or self._settings.tls_client_ca or kfp_authenticates)
        if open_to_all and not is_loopback(split_address(self._settings.listen)[0]):
            structlog.get_logger().warning(
                "callers are not authenticated and have all rights: set token_file, issuers or tls_client_ca"
            )

    def summary(self) -> dict[str, object]:
        """Returns what callers need: `tls` is off, on or mutual, `tokens` whether one is required."""
        required: dict[str, object] = {"tls": "off", "tokens": _needs_token(self._settings)}
        if self._certificate:
            required["tls"] = "mutual" if self._settings.tls_client_ca else "on"
            required["certificate_expires"] = self._certificate.value.expires.isoformat()
        return required

    def stale(self) -> dict[str, bool]:
        """Returns whether each file is invalid since it has changed, by what it contains; false if there is none."""
        stale = dict.fromkeys(("tokens", "access_rules", "certificate", "issuers"), False)
        return stale | {item.what.removeprefix("the ").replace(" ", "_"): item.is_stale for item in self._reloaded}

    def stop(self) -> None:
        self._refresher.stop()
        if self._signed:
            self._signed.stop()


def _credentials(certificate: Reloaded[ServerCertificate]) -> grpc.ServerCredentials:
    """Provides gRPC with the current certificate for new connections. Never blocks: files are read elsewhere."""
    current = certificate.value

    def newer() -> grpc.ServerCertificateConfiguration | None:
        nonlocal current
        if certificate.value is current:
            return None
        current = certificate.value
        return _configuration(current)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(current),
        cast("Callable[[], grpc.ServerCertificateConfiguration]", newer),  # types-grpcio lacks None
        require_client_authentication=current.client_ca is not None,
    )


def _configuration(certificate: ServerCertificate) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(certificate.key, certificate.chain)], certificate.client_ca)


def _needs_token(settings: Settings) -> bool:
    return settings.token_file is not None or settings.issuers is not None


def _reloaded(what: str, parse: Callable[..., T], *paths: Path | None) -> Reloaded[T] | None:
    """The parsed contents of some files; None if one of them is not set."""
    known = [path for path in paths if path]
    return Reloaded(what, known, parse) if len(known) == len(paths) else None
