"""Authentication of client and adapter: TLS, client certificates, tokens."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

from kfadapter_grpc.addresses import is_loopback
from kfadapter_grpc.contract.errors import UnauthenticatedError

if TYPE_CHECKING:
    from typing_extensions import Self

AUTHORIZATION_KEY = "authorization"
TOKEN_VARIABLE = "KFADAPTER_TOKEN"  # noqa: S105 - a name
TOKEN_FILE_VARIABLE = "KFADAPTER_CLIENT_TOKEN_FILE"  # noqa: S105
INSECURE_TOKEN_VARIABLE = "KFADAPTER_INSECURE_TOKEN"  # noqa: S105
TLS_VARIABLE = "KFADAPTER_TLS"
CA_VARIABLE = "KFADAPTER_CA"
CERTIFICATE_VARIABLE = "KFADAPTER_CLIENT_CERTIFICATE"
KEY_VARIABLE = "KFADAPTER_CLIENT_KEY"
SERVER_NAME_VARIABLE = "KFADAPTER_SERVER_NAME"
_OFF = ("", "0", "false", "no", "off")
_SENDABLE = re.compile(r"[\x21-\x7e]+")
_MAX_TOKEN_BYTES = 8 * 1024


class CredentialsError(ValueError):
    """How the adapter is verified, if not in plain text, the caller's token, and whether it may be sent without TLS."""


@dataclass(frozen=True, slots=True)
class Tls:
    """How to verify the adapter, and which client certificate to present.

    Files are read at the first call.

    Attributes:
        ca: PEM file with the CAs trusted for the adapter's certificate; None for gRPC's own.
        certificate: PEM file with the client's own certificate, for adapters that require one.
        key: PEM file with its private key.
        server_name: The name expected in the adapter's certificate, if it differs from the address.
    """

    ca: str | os.PathLike[str] | None = None
    certificate: str | os.PathLike[str] | None = None
    key: str | os.PathLike[str] | None = None
    server_name: str = ""

    @classmethod
    def try_from_environment(cls, environment: Mapping[str, str]) -> Self | None:
        """Reads the environment; None if it does not configure TLS."""
        tls = cls(
            environment.get(CA_VARIABLE) or None,
            environment.get(CERTIFICATE_VARIABLE) or None,
            environment.get(KEY_VARIABLE) or None,
            environment.get(SERVER_NAME_VARIABLE, ""),
        )
        return tls if tls != cls() or _is_on(environment.get(TLS_VARIABLE, "")) else None

    def credentials(self) -> grpc.ChannelCredentials:
        if (self.certificate is None) != (self.key is None):
            raise CredentialsError("set a client certificate and its key, or neither")
        ca = None if self.ca is None else _read(self.ca)
        if ca is not None:
            _check_ca(self.ca, ca)
        if self.certificate is None or self.key is None:
            return grpc.ssl_channel_credentials(ca)
        chain, key = _read(self.certificate), _read(self.key)
        _check_pair(self.certificate, self.key)
        return grpc.ssl_channel_credentials(ca, key, chain)


class Token:
    """A token, or a file or function that is read before every call, so that a new token takes effect."""

    def __init__(
        self, token: str | Callable[[], str] | None = None, file: str | os.PathLike[str] | None = None
    ) -> None:
        if token is not None and file is not None:
            raise CredentialsError("set a token or a file with a token, not both")
        self._file = None if file is None else Path(file)
        self._source = token if callable(token) else None
        if callable(token):
            self._token = None
            return
        source = "the token" if file is None else f"the content of {os.fspath(file)}"
        self._token = checked_token(source, token if self._file is None else _text(self._file))

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        return cls(environment.get(TOKEN_VARIABLE) or None, environment.get(TOKEN_FILE_VARIABLE) or None)

    def __bool__(self) -> bool:
        return self._token is not None or self._source is not None

    def __repr__(self) -> str:
        return f"Token({'hidden' if self else 'none'})"

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Returns the metadata of a call. While the file cannot be read, the previous token is used."""
        if self._source is not None:
            try:
                return ((AUTHORIZATION_KEY, f"Bearer {checked_token('what was returned', self._source())}"),)
            except CredentialsError as error:
                raise UnauthenticatedError(str(error)) from None
        if self._file is not None:
            with suppress(CredentialsError):
                self._token = checked_token("", _text(self._file))
        return ((AUTHORIZATION_KEY, f"Bearer {self._token}"),) if self._token else ()


@dataclass(frozen=True, slots=True)
class Credentials:
    """The credentials of a connection.

    Attributes:
        insecure_token: Whether a token may be sent to another machine without TLS.
    """

    tls: Tls | None
    token: Token
    insecure_token: bool = False

    def check(self, target: str) -> None:
        """Checks that no token is sent where others can read it, unless that was allowed."""
        if self.tls is None and not self.insecure_token and not is_this_machine(target):
            raise CredentialsError(
                f"a token would go to {target} without TLS, where others can read it on its way; use TLS, or accept "
                f"the risk with insecure_token (--insecure-token, {INSECURE_TOKEN_VARIABLE})"
            )

    def channel(self, target: str, options: Sequence[tuple[str, str | int]], library: Any = grpc) -> Any:  # noqa: ANN401
        if self.tls is None:
            return library.insecure_channel(target, options)
        name = self.tls.server_name
        more = [("grpc.ssl_target_name_override", name)] if name else []
        return library.secure_channel(target, self.tls.credentials(), [*options, *more])


def make_credentials(
    target: str,
    *,
    tls: bool | Tls | None = None,
    token: str | Callable[[], str] | None = None,
    token_file: str | os.PathLike[str] | None = None,
    insecure_token: bool | None = None,
) -> Credentials:
    """Combines the arguments with the environment, which supplies the rest."""
    environment = os.environ
    if tls is None or tls is True:
        tls = Tls.try_from_environment(environment) or (Tls() if tls else None)
    is_explicit = token is not None or token_file is not None
    if insecure_token is None:
        insecure_token = _is_on(environment.get(INSECURE_TOKEN_VARIABLE, ""))
    who = Token(token, token_file) if is_explicit else Token.from_environment(environment)
    credentials = Credentials(tls or None, who, insecure_token)
    if who:
        credentials.check(target)
    return credentials


def is_this_machine(target: str) -> bool:
    """Returns whether a gRPC address is on this machine, without resolving names."""
    if target.startswith(("unix:", "unix-abstract:")):
        return True
    address = re.sub(r"^(dns:(///)?|ipv4:|ipv6:)", "", target)
    host = address.rpartition(":")[0] if re.search(r":\d+$", address) else address
    host = host.removeprefix("[").removesuffix("]")
    return is_loopback(host)


def _is_on(text: str) -> bool:
    return text.strip().lower() not in _OFF


def _read(path: str | os.PathLike[str]) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise CredentialsError(f"{os.fspath(path)} cannot be read: {error.strerror}") from None


def _text(path: Path) -> str:
    return _read(path).decode("utf-8", "replace").strip()


def checked_token(source: str, token: str | None) -> str | None:
    """Returns a token; raises CredentialsError, which names its `source`, if it cannot be sent."""
    if token is not None and (not _SENDABLE.fullmatch(token) or len(token) > _MAX_TOKEN_BYTES):
        raise CredentialsError(f"{source} is no token: a token is one word of ASCII characters")
    return token


def _check_ca(path: str | os.PathLike[str] | None, ca: bytes) -> None:
    try:
        ssl.create_default_context(cadata=ca.decode("ascii", "ignore"))
    except (ssl.SSLError, ValueError):
        raise CredentialsError(f"{os.fspath(path or '')} has no certificate in PEM form") from None


def _check_pair(certificate: str | os.PathLike[str], key: str | os.PathLike[str]) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, key, password=lambda: "")
    except (ssl.SSLError, ValueError, OSError) as error:
        relation = "is not the key of" if "MISMATCH" in str(error) else "cannot be used, without a password, with"
        raise CredentialsError(f"{os.fspath(key)} {relation} {os.fspath(certificate)}") from None
