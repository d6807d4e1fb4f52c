"""Credentials for KFP: the `authorization` header of requests.

A multi-user KFP identifies its user by that header, or by one that the service mesh in front of it sets
(`kubeflow-userid`). The latter is sent only if configured, with the authenticated name of the caller.
"""

from __future__ import annotations

import threading
from pathlib import Path

import structlog

from kfadapter_grpc.contract.call import Call
from kfadapter_grpc.contract.errors import KfpRejectedCredentialsError, UnauthenticatedError
from kfadapter_grpc.kfp.connections import file_stamp

MAX_TOKEN_BYTES = 64 * 1024
"""More than any header that a server accepts."""


class Credentials:
    """No credentials: for a KFP without authentication, or behind a mesh that authenticates by certificate. Base class.

    Safe to use from many threads. `of_callers` are those of the callers, not the adapter's own.
    """

    of_callers = False

    def header(self, call: Call) -> str | None:  # noqa: ARG002  for subclasses
        """Returns the header for a call; None: no header."""
        return None

    def renewed(self, rejected: str | None) -> str | None:  # noqa: ARG002
        """Returns another header than the one that KFP has rejected, if there is one by now."""
        return None


class ForwardedCredentials(Credentials):
    """Each caller's own credentials, forwarded from the call."""

    of_callers = True

    def header(self, call: Call) -> str:
        if call.authorization is None or not call.authorization.value:
            raise UnauthenticatedError("there are no credentials to send to Kubeflow Pipelines")
        return call.authorization.value


class TokenFile(Credentials):
    """A token in a file that another program renews, such as Kubernetes.

    The file is re-read when it has changed, which each request checks. While it cannot be read, or contains no token,
    the last token is used.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._stamp: tuple[int, ...] | None = None
        self._header: str | None = None
        self._failed = ""

    def __repr__(self) -> str:
        return f"TokenFile({str(self._path)!r})"

    def header(self, call: Call) -> str:
        del call
        header = self._read()
        if header is None:
            raise KfpRejectedCredentialsError(
                "the adapter cannot authenticate to Kubeflow Pipelines, as it cannot read its own token; "
                "its operator finds the cause in its log"
            )
        return header

    def renewed(self, rejected: str | None) -> str | None:
        """Re-reads the file, even if it is unchanged."""
        header = self._read(again=True)
        return None if header == rejected else header

    def _read(self, *, again: bool = False) -> str | None:
        with self._lock:
            try:
                stamp = file_stamp(self._path)
                if again or stamp != self._stamp:
                    self._header = f"Bearer {read_token(self._path)}"
                    self._stamp, self._failed = stamp, ""
            except (OSError, ValueError) as error:
                if str(error) != self._failed:
                    self._failed, is_kept = str(error), self._header is not None
                    structlog.get_logger().warning("the token for KFP cannot be read", why=str(error), kept=is_kept)
            return self._header


def read_token(path: Path) -> str:
    """Reads a token. Raises OSError, or ValueError whose text names the file and shows nothing of it."""
    with path.open("rb") as file:
        data = file.read(MAX_TOKEN_BYTES + 1)
    if len(data) > MAX_TOKEN_BYTES:
        raise ValueError(f"{path} is too large for a token")
    token = data.strip()
    if not token:
        raise ValueError(f"{path} is empty")
    if not token.isascii() or any(byte <= ord(" ") or byte == _DELETE for byte in token):
        raise ValueError(f"{path} holds no token: it contains characters that tokens never have")
    return token.decode("ascii")


_DELETE = 0x7F
