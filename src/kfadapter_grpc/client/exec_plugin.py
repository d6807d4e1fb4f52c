"""Exec plugins: programs that print a token, as kubectl has them (client.authentication.k8s.io/v1)."""

from __future__ import annotations

import json
import os
import re
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from kfadapter_grpc.client.credentials import CredentialsError
from kfadapter_grpc.contract.errors import UnauthenticatedError

API_VERSION = "client.authentication.k8s.io/v1"
"""The protocol between kubectl and a plugin."""
SECONDS = 60.0
INTERACTIVE_SECONDS = 300.0
MAX_BYTES = 2**20
UNKNOWN_END_SECONDS = 60.0
_KIND = "ExecCredential"


@dataclass(frozen=True, slots=True)
class _Credential:
    token: str
    ends_at: float


@dataclass(frozen=True, slots=True)
class ExecPlugin:
    """A program that prints a token; called, it returns one that has not expired. Safe in threads."""

    command: str
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False, compare=False)
    _cached: list[_Credential] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.command:
            raise CredentialsError("an exec plugin needs a command")

    def __call__(self) -> str:
        """Returns the token to send; runs the program if none is known or it has expired. Or UnauthenticatedError."""
        with self._lock:
            if not self._cached or self._cached[0].ends_at <= time.time():
                self._cached[:] = [self._run()]
            return self._cached[0].token

    def _run(self) -> _Credential:
        interactive = _is_terminal()
        info = {"apiVersion": API_VERSION, "kind": _KIND, "spec": {"interactive": interactive}}
        environment = {**os.environ, **self.env, "KUBERNETES_EXEC_INFO": json.dumps(info)}
        try:
            process = subprocess.Popen(  # noqa: S603 - what the user configured
                [self.command, *self.args],
                stdin=None if interactive else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                env=environment,
                start_new_session=not interactive,  # its children end with it; Ctrl-C still reaches one with a terminal
            )
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            raise self._failed(f"cannot be started: {why}") from None
        with process:
            try:
                text = self._output(process, INTERACTIVE_SECONDS if interactive else SECONDS)
            except BaseException:
                with suppress(ProcessLookupError):
                    if interactive:
                        process.kill()
                    else:
                        os.killpg(process.pid, signal.SIGKILL)
                raise
        if process.returncode:
            raise self._failed(f"failed with exit code {process.returncode}; its own message, if any, is on stderr")
        try:
            return _parsed(text)
        except (ValueError, RecursionError) as error:
            raise self._failed(f"did not print a credential: {error}") from None

    def _output(self, process: subprocess.Popen[bytes], seconds: float) -> bytes:
        """Reads stdout to its end and waits for the program."""
        ends, text = time.monotonic() + seconds, b""
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while selector.select(max(0.0, ends - time.monotonic())):
                part = os.read(process.stdout.fileno(), 2**16)
                text += part
                if len(text) > MAX_BYTES:
                    raise self._failed(f"printed more than {MAX_BYTES >> 20} MiB")
                if not part:
                    with suppress(subprocess.TimeoutExpired):
                        process.wait(max(0.0, ends - time.monotonic()))
                        return text
                    break
        raise self._failed(f"did not end within {seconds:g} s, and was stopped")

    def _failed(self, why: str) -> UnauthenticatedError:
        return UnauthenticatedError(f"no token from the exec plugin '{self.command}': it {why}")


def _is_terminal() -> bool:
    try:
        return sys.stdin.isatty()
    except (AttributeError, ValueError):  # None, or closed
        return False


def _parsed(text: bytes) -> _Credential:
    """Reads an ExecCredential; what is wrong with one never quotes it."""
    try:
        credential = json.loads(text)
    except ValueError:
        raise ValueError("its output is not JSON") from None
    if not isinstance(credential, dict) or credential.get("kind") != _KIND:
        raise ValueError(f"its output is not an {_KIND}")
    if credential.get("apiVersion") != API_VERSION:
        raise ValueError(f"its apiVersion is not {API_VERSION}")
    status: Any = credential.get("status")
    token = status.get("token") if isinstance(status, dict) else None
    if not isinstance(token, str) or not token:
        certificate = isinstance(status, dict) and status.get("clientCertificateData")
        raise ValueError("it has a client certificate and no token" if certificate else "it has no status.token")
    ends = status.get("expirationTimestamp")
    if ends is None:
        return _Credential(token, time.time() + UNKNOWN_END_SECONDS)
    try:
        moment = datetime.fromisoformat(re.sub(r"\.\d+", "", str(ends)).replace("Z", "+00:00"))
    except ValueError:
        raise ValueError("its status.expirationTimestamp is not a time") from None
    return _Credential(token, (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp())
