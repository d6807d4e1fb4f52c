"""Validates PEM files before gRPC reads them, which would not report what is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes


class CertificateError(ValueError):
    """A file with certificates or a key is invalid; the message has the reason, without parts of the key."""


@dataclass(frozen=True, slots=True)
class ServerCertificate:
    """The certificate that a server presents, and the CAs that it trusts, as the bytes of the files."""

    chain: bytes
    key: bytes
    client_ca: bytes | None
    expires: datetime

    def __repr__(self) -> str:
        return f"ServerCertificate(expires={self.expires.isoformat()})"


def server_certificate(chain: bytes, key: bytes, client_ca: bytes | None = None) -> ServerCertificate:
    """Checks the contents of the files, each and in combination. Raises CertificateError if a file is invalid."""
    leaf = check_certificate(chain)
    check_key(key, leaf)
    if client_ca is not None:
        check_ca(client_ca)
    return ServerCertificate(chain, key, client_ca, leaf.not_valid_after_utc)


def check_certificate(chain: bytes) -> x509.Certificate:
    """Reads a certificate, perhaps with its chain. Raises CertificateError if it is missing, or not valid now."""
    leaf = _certificates(chain)[0]
    now = datetime.now(timezone.utc)
    if now > leaf.not_valid_after_utc:
        raise CertificateError(f"the certificate expired on {leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC")
    if now < leaf.not_valid_before_utc:
        raise CertificateError(f"the certificate is not valid before {leaf.not_valid_before_utc:%Y-%m-%d %H:%M} UTC")
    return leaf


def check_key(key: bytes, certificate: x509.Certificate) -> None:
    """Checks that a private key belongs to a certificate. Raises CertificateError if it does not, or cannot be read."""
    try:
        private = load_pem_private_key(key, password=None)
    except TypeError:
        raise CertificateError("the key is encrypted; the server needs it without a password") from None
    except Exception:  # noqa: BLE001 - it names many classes for one thing, and its words may hold parts of the file
        raise CertificateError("there is no private key in PEM form in it") from None
    if _public_bytes(private.public_key()) != _public_bytes(certificate.public_key()):
        raise CertificateError("the key is not the one of the certificate")


def check_ca(bundle: bytes) -> None:
    """Checks that there is a valid CA. Raises CertificateError if there is none, or all have expired."""
    last = max(certificate.not_valid_after_utc for certificate in _certificates(bundle))
    if datetime.now(timezone.utc) > last:
        raise CertificateError(f"its certificates have expired, the last one on {last:%Y-%m-%d %H:%M} UTC")


def _certificates(data: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(data)
    except Exception:  # noqa: BLE001 - as above
        raise CertificateError("it has no certificate in PEM form") from None


def _public_bytes(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
