"""Logins at an OpenID Connect issuer: tokens in files of their owner only, refreshed before they expire."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from kfadapter_grpc.client import oauth
from kfadapter_grpc.client.credentials import CredentialsError
from kfadapter_grpc.contract.errors import UnauthenticatedError
from kfadapter_grpc.folders import config_folder

DEFAULT_SCOPE = "openid offline_access"
"""Requests an ID token and a refresh token."""
LOCK_SECONDS = 30.0
"""The maximum time to wait for another process that refreshes the login."""
_AGAIN_SECONDS = 10.0
_POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Login:
    """A login as `kfadapter login` makes it; called, it returns a valid token. Safe in threads and processes.

    Attributes:
        issuer: The issuer's URL, as in its tokens.
        client_id: The client ID at the issuer, of a public client without a secret.
        scope: The scopes to request. With `openid` the ID token is sent, otherwise the access token.
    """

    issuer: str
    client_id: str
    scope: str = DEFAULT_SCOPE

    def __post_init__(self) -> None:
        try:
            oauth.check_url(self.issuer)
        except ValueError as error:
            raise CredentialsError(f"the issuer {error}") from None
        if not self.client_id:
            raise CredentialsError(f"the issuer {self.issuer} needs a client ID")

    def __call__(self) -> str:
        """Returns the token to send, refreshed if it is about to expire; UnauthenticatedError without a valid login."""
        stored = self.stored()
        if stored is None:
            raise UnauthenticatedError(f"not logged in at {self.issuer}")
        if stored.refresh_at is None or time.time() < stored.refresh_at:
            return stored.token
        try:
            return self._refreshed(stored).token
        except (oauth.OAuthError, OSError) as error:
            why = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)
            raise UnauthenticatedError(
                f"the login at {self.issuer} has expired and cannot be refreshed", metadata={"cause": why}
            ) from None

    def log_in(self, show: Callable[[oauth.Device], None]) -> oauth.Tokens:
        """Logs in: calls `show` with what the user must do, and waits until that is done, refused or too late."""
        endpoints = oauth.discover(self.issuer)
        device = oauth.authorize(endpoints, self.client_id, self.scope)
        show(device)
        tokens = oauth.wait_for_user(endpoints, self.client_id, device)
        with self._locked(LOCK_SECONDS):
            self._write(tokens)
        return tokens

    def log_out(self) -> bool:
        """Deletes the tokens, also if the issuer then refuses to forget them; returns whether there were any."""
        if self.stored() is None:
            return False
        with self._locked(LOCK_SECONDS):
            stored = self.stored()
            self._path().unlink(missing_ok=True)
        if stored is not None and stored.refresh_token:
            oauth.revoke(oauth.discover(self.issuer), self.client_id, stored)
        return True

    def stored(self) -> oauth.Tokens | None:
        """Reads the tokens; None if there are none."""
        try:
            return oauth.Tokens(**json.loads(self._path().read_bytes()))
        except (OSError, ValueError, TypeError, RuntimeError, RecursionError):
            return None

    def _refreshed(self, stored: oauth.Tokens) -> oauth.Tokens:
        """Refreshes the tokens, unless another process is about to or has."""
        valid = stored.expires_at is not None and time.time() < stored.expires_at
        try:
            with self._locked(0.0 if valid else LOCK_SECONDS):
                now = self.stored()
                if now is None:
                    raise oauth.OAuthError("it was ended by kfadapter logout")
                if now != stored:
                    return now
                try:
                    if not stored.refresh_token:
                        raise oauth.OAuthError("the issuer gave no refresh token")
                    new = oauth.refresh(oauth.discover(self.issuer), self.client_id, self.scope, stored)
                except oauth.OAuthError:
                    if valid:  # not with every call
                        self._write(replace(stored, refresh_at=time.time() + _AGAIN_SECONDS))
                    raise
                self._write(new)
                return new
        except (oauth.OAuthError, OSError):
            if valid:
                return stored
            raise

    def _path(self) -> Path:
        name = hashlib.sha256(f"{self.issuer}\n{self.client_id}\n{self.scope}".encode()).hexdigest()[:32]
        return config_folder() / "logins" / f"{name}.json"

    @contextmanager
    def _locked(self, seconds: float) -> Iterator[None]:
        """Keeps others from refreshing this login; the system releases the lock with the process."""
        path, ends = self._path(), time.monotonic() + seconds
        for folder in (path.parent.parent, path.parent):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= ends:
                        raise oauth.OAuthError("another process is refreshing it", transient=True) from None
                    time.sleep(_POLL_SECONDS)
            yield
        finally:
            os.close(handle)

    def _write(self, tokens: oauth.Tokens) -> None:
        """Replaces the file at once; it is readable to its owner only, and so is its folder."""
        path = self._path()
        path.parent.chmod(0o700)
        handle, beside = tempfile.mkstemp(prefix=".", dir=path.parent)  # with mode 600
        try:
            with open(handle, "wb") as file:  # noqa: PTH123 - a descriptor has no path
                file.write(json.dumps(asdict(tokens)).encode())
            Path(beside).replace(path)
        except BaseException:
            with suppress(OSError):
                Path(beside).unlink()
            raise
