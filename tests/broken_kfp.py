"""Servers that are not a working Kubeflow Pipelines, each with a URL."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from tests.certificates import CertificateAuthority
from tests.scripted_kfp import ScriptedKfp, answers, resets, sends, stalls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.scripted_kfp import Behaviour

HEALTHY: dict[str, object] = {"commit_sha": "unknown", "tag_name": "2.17.0", "multi_user": False}
"""What a single-user KFP responds to a health check."""
REFUSED: dict[str, object] = {"code": 16, "message": "not for you"}

EVERYTHING: dict[str, Behaviour] = {
    "silent": stalls(),
    "broken off": resets(),
    "a login page": answers(200, b"<html><form action='/dex/auth/login'>", content_type="text/html"),
    "a redirect to a login": answers(302, b"", headers={"Location": "https://example.org/dex/auth?client_id=x"}),
    "another web page": answers(200, b"<html>welcome to nginx", content_type="text/html"),
    "another API": answers(200, ["hello"]),
    "an empty server": answers(404, {"detail": "Not Found"}),
    "unwell": answers(500, {"message": "database is gone"}),
    "unauthenticated": answers(401, REFUSED),
    "forbidden": answers(403, REFUSED),
    "another protocol": sends(b"220 mail.example.org ESMTP\r\n", then_close=True),
}
"""What everything may be answered with."""


@contextmanager
def answering(behaviour: Behaviour) -> Iterator[str]:
    """Runs a server that gives every request the same response."""
    with ScriptedKfp() as server:
        server.on("GET", "", behaviour)
        yield server.url


@contextmanager
def healthy(listing: Behaviour, **health: object) -> Iterator[str]:
    """Runs a healthy KFP that responds to every other request with `listing`."""
    with ScriptedKfp() as server:
        server.on("GET", "/healthz", answers(200, {**HEALTHY, **health}))
        server.on("GET", "", listing)
        yield server.url


def closed_port() -> str:
    """Returns a URL without a listener."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


@contextmanager
def untrusted(folder: Path) -> Iterator[str]:
    """Runs a TLS server whose certificate was issued by a CA that only `ca.pem` in the folder contains."""
    authority = CertificateAuthority()
    authority.write(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("127.0.0.1").write(folder, "kfp"))

    def shake_hands(plain: socket.socket) -> None:
        with context.wrap_socket(plain, server_side=True) as secure:
            secure.recv(1)

    with _listening(shake_hands) as address:
        yield f"https://{address}"


@contextmanager
def without_tls() -> Iterator[str]:
    """Runs a server that speaks HTTP where HTTPS is expected."""
    with _listening(lambda plain: plain.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as address:
        yield f"https://{address}"


@contextmanager
def hanging_up(read: int) -> Iterator[str]:
    """Runs a server that reads `read` bytes of a handshake and closes; unread bytes turn the close into a reset."""
    with _listening(lambda plain: plain.recv(read)) as address:
        yield f"https://{address}"


@contextmanager
def _listening(handle: Callable[[socket.socket], object]) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_accept, args=(listener, handle), daemon=True)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def _accept(listener: socket.socket, handle: Callable[[socket.socket], object]) -> None:
    while True:
        try:
            plain, _ = listener.accept()
        except OSError:
            return
        with plain, suppress(OSError):
            handle(plain)
