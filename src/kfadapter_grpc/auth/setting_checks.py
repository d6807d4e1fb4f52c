"""What the settings of who may call must be, each and together; told before the server starts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, ValidationInfo

from kfadapter_grpc.auth.certificates import check_ca, check_certificate, check_key
from kfadapter_grpc.auth.client_names import split_names
from kfadapter_grpc.auth.reloaded import read_small
from kfadapter_grpc.auth.tokens import parse_tokens

if TYPE_CHECKING:
    from collections.abc import Callable


def _certificate(path: Path | None) -> Path | None:
    if path is not None:
        _holds(path, check_certificate)
    return path


def _key(path: Path | None, info: ValidationInfo) -> Path | None:
    if "tls_certificate" not in info.data:
        return path  # it is wrong, which is told already
    certificate: Path | None = info.data["tls_certificate"]
    if (path is None) != (certificate is None):
        raise ValueError("tls_certificate and tls_key must both be set, or neither")
    if path is not None and certificate is not None:
        leaf = check_certificate(_read(certificate))
        _holds(path, lambda data: check_key(data, leaf))
    return path


def _client_ca(path: Path | None, info: ValidationInfo) -> Path | None:
    if path is not None:
        if info.data.get("tls_certificate", path) is None:
            raise ValueError("certificates of callers need TLS: set tls_certificate and tls_key, too")
        _holds(path, check_ca)
    return path


def _client_names(readers: str, info: ValidationInfo) -> str:
    if "tls_client_ca" not in info.data:
        return readers
    named = split_names(readers) | split_names(info.data.get("tls_client_names", ""))
    if info.data["tls_client_ca"] is None and named:
        raise ValueError("names in certificates of callers need tls_client_ca, which says whose certificates count")
    if info.data["tls_client_ca"] is not None and not named:
        raise ValueError(
            "no client could call: list names in tls_client_names or tls_client_readers; * stands for every "
            "certificate of tls_client_ca"
        )
    return readers


def _token_file(path: Path | None) -> Path | None:
    if path is not None:
        _holds(path, parse_tokens)
    return path


CertificatePath = Annotated[Path | None, AfterValidator(_certificate)]
"""A file with a certificate that is valid now."""
KeyPath = Annotated[Path | None, AfterValidator(_key)]
"""A file with the private key of `tls_certificate`."""
ClientCaPath = Annotated[Path | None, AfterValidator(_client_ca)]
"""A file with certificates that those of callers must lead to."""
ReaderNames = Annotated[str, AfterValidator(_client_names)]
"""Names in certificates of callers; checked together with `tls_client_names`."""
TokenPath = Annotated[Path | None, AfterValidator(_token_file)]
"""A file with hashes of tokens."""


def _holds(path: Path, check: Callable[[bytes], object]) -> None:
    """Lets `check` see a file.

    Raises:
        ValueError: It cannot be read, or is wrong.
    """
    data = _read(path)
    try:
        check(data)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _read(path: Path) -> bytes:
    try:
        return read_small(path)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
