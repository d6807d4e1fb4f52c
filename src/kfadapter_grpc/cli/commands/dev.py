"""What dev does: an embedded KFP, an adapter in front of it, and a banner that says how to use both."""

from __future__ import annotations

import functools
import os
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from kfadapter_grpc.cli.commands.serve import load_settings, serve_until_stopped
from kfadapter_grpc.cli.errors import CommandError
from kfadapter_grpc.cli.extras import require
from kfadapter_grpc.client import DEFAULT_TARGET
from kfadapter_grpc.client.connection import rpc_method
from kfadapter_grpc.embedded.process import EmbeddedKfp, EmbeddedKfpError, start

if TYPE_CHECKING:
    from collections.abc import Mapping

HOST = "127.0.0.1"
"""Where both listen: this machine only."""
GRACE_SECONDS = 5.0
"""What running calls get when the server is stopped; its user is waiting."""


def dev(port: int, kfp_port: int, data: Path | None, log_level: str) -> None:
    """Serves until SIGTERM or Ctrl-C.

    Raises:
        CommandError: A port is taken, the folder cannot be used, packages are missing, or the embedded KFP ended.
    """
    require("server", "embedded")
    check_port(port, "--port")
    check_port(kfp_port, "--kfp-port")
    folder = default_data(os.environ) if data is None else data
    check_folder(folder)
    with _embedded_kfp(folder, kfp_port) as kfp:
        settings = load_settings(
            None, listen=f"{HOST}:{port}", kfp_url=kfp.url, log_level=log_level, grace_seconds=GRACE_SECONDS
        )
        watch = KfpWatch(kfp, folder)
        try:
            serve_until_stopped(settings, functools.partial(_ready, kfp_url=kfp.url, folder=folder, watch=watch))
        finally:
            watch.end()
        watch.check()


class KfpWatch:
    """Ends the adapter when the embedded KFP behind it has ended."""

    def __init__(self, kfp: EmbeddedKfp, folder: Path) -> None:
        self._kfp = kfp
        self._folder = folder
        self._lock = threading.Lock()
        self._code: int | None = None
        self._over = False

    def start(self) -> None:
        """Begins to watch; the adapter must be able to take a SIGTERM."""
        threading.Thread(target=self._watch, name="kfp-watch", daemon=True).start()

    def end(self) -> None:
        """Ends the watch; from now on the embedded KFP may end."""
        with self._lock:
            self._over = True

    def check(self) -> None:
        """Sees whether the embedded KFP outlived the watch.

        Raises:
            CommandError: It did not.
        """
        if self._code is not None:
            how = f"signal {-self._code}" if self._code < 0 else f"exit code {self._code}"
            raise CommandError(
                f"the embedded KFP ended unexpectedly ({how})",
                next_step=f"start again: the data in {self._folder} are kept",
            )

    def _watch(self) -> None:
        code = self._kfp.wait()
        with self._lock:
            if not self._over:
                self._code = code
                os.kill(os.getpid(), signal.SIGTERM)


def default_data(environment: Mapping[str, str]) -> Path:
    """Tells where data are kept, as the XDG base directory specification says."""
    state = Path(environment.get("XDG_STATE_HOME", ""))
    if not state.is_absolute():
        state = Path.home() / ".local" / "state"
    return state / "kfadapter"


def check_folder(folder: Path) -> None:
    """Sees whether no file is where the data folder, or one above it, is to be.

    Raises:
        CommandError: One is.
    """
    for path in (folder, *folder.parents):
        if os.path.lexists(path) and not path.is_dir():
            raise CommandError(
                f"{path} is a file, not a folder" if path.exists() else f"{path} is a link to nothing",
                next_step="the same command with another --data",
            )


def check_port(port: int, flag: str) -> None:
    """Sees whether a port is free; 0, any free one, always is.

    Raises:
        CommandError: It is taken, or may not be used.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise CommandError(
                f"port {port} cannot be used: {(error.strerror or str(error)).lower()}",
                next_step=f"the same command with another {flag}; {flag} 0 takes a free one",
            ) from None


def banner(address: str, kfp_url: str, folder: Path) -> str:
    """Says in six lines what runs where and what to type next."""
    target = "" if address == DEFAULT_TARGET else f" --target {address}"
    lines = {
        "adapter": f"{address} (gRPC)",
        "KFP": f"{kfp_url} (REST, embedded)",
        "data": str(folder),
        "try": f"kfadapter{target} list",
        "grpcurl": f"grpcurl -plaintext -d '{{}}' {address} {rpc_method('List').path.lstrip('/')}",
        "stop": "Ctrl-C",
    }
    return "".join(f"{name:<8} {value}\n" for name, value in lines.items())


def _embedded_kfp(folder: Path, port: int) -> EmbeddedKfp:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return start(folder, port)
    except (EmbeddedKfpError, OSError) as error:
        raise CommandError(
            "the embedded Kubeflow Pipelines cannot start", why=str(error), next_step=_way_out(str(error))
        ) from None


def _way_out(cause: str) -> str:
    if "is in use by process" in cause:
        return "stop the other kfadapter dev, or the same command with another --data"
    return "the same command with another --data, or see to what is told above"


def _ready(address: str, *, kfp_url: str, folder: Path, watch: KfpWatch) -> None:
    sys.stdout.write(banner(address, kfp_url, folder))
    sys.stdout.flush()
    watch.start()
