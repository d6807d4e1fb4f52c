"""Binds an address, or explains exactly why not."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

from kfadapter_grpc.addresses import split_address

if TYPE_CHECKING:
    import grpc


class ServerStartError(Exception):
    """The server cannot start; the message says why and what to do."""

    def __init__(self, why: str, listen: str, option: str) -> None:
        super().__init__(f"{why}; choose another with {option}")
        self.why = why
        self.listen = listen
        self.option = option


def bind(server: grpc.Server, listen: str, credentials: grpc.ServerCredentials | None, option: str = "--listen") -> int:
    """Makes a server listen, in plain text without credentials; returns the bound port.

    Raises ServerStartError if the address cannot be bound; `option` sets it.
    """
    try:
        if split_address(listen)[1]:
            try_address(listen)  # gRPC would not report the cause, but write its own line to stderr
    except OSError as error:
        raise cannot_listen(listen, option, error) from error
    try:
        return server.add_secure_port(listen, credentials) if credentials else server.add_insecure_port(listen)
    except RuntimeError as error:
        raise ServerStartError(f"cannot listen on {listen}", listen, option) from error


def bound_socket(listen: str, option: str) -> socket.socket:
    """Listens without gRPC. Raises ServerStartError if the address, which `option` sets, cannot be bound."""
    host, port = split_address(listen)
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise cannot_listen(listen, option, error) from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
    except OSError as error:
        listener.close()
        raise cannot_listen(listen, option, error) from error
    return listener


def bound_address(listen: str, listener: socket.socket) -> str:
    """Returns an address, HOST:PORT, with the port that was bound."""
    return f"{listen.rpartition(':')[0]}:{listener.getsockname()[1]}"


def try_address(listen: str) -> None:
    """Binds an address, HOST:PORT, and releases it again. Raises OSError if the system rejects it."""
    host, port = split_address(listen)
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)


def cannot_listen(listen: str, option: str, error: OSError) -> ServerStartError:
    """Returns the error for an address that the system rejects."""
    why = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
    return ServerStartError(f"{listen} {why}", listen, option)
