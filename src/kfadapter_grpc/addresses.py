"""Addresses to listen on, HOST:PORT."""

from __future__ import annotations

import ipaddress

MAX_PORT = 65_535
OFF = "off"
"""Represents an address where nothing is served."""


def split_address(address: str) -> tuple[str, int]:
    """Splits `HOST:PORT`; the brackets of an IPv6 address are removed. Raises ValueError if it has another form."""
    host, colon, port = address.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or not bare or (":" in host and bare is host):
        raise ValueError(f"must be HOST:PORT, as 127.0.0.1:50051 or [::1]:50051, not '{address}'")
    if not (port.isascii() and port.isdigit()) or int(port) > MAX_PORT:
        raise ValueError(f"must end with a port from 0 to {MAX_PORT}, not '{port}'")
    return bare, int(port)


def is_loopback(host: str) -> bool:
    """Whether a host can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
