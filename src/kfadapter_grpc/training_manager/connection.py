"""One client for each adapter and process, made when it is first needed."""

from __future__ import annotations

import os
import threading

from kfadapter_grpc.client import Client
from kfadapter_grpc.client.client import TARGET_VARIABLE

HOST_VARIABLE, PORT_VARIABLE = "KF_ADAPTER_IP", "KF_ADAPTER_PORT"
"""The environment variables by which the training manager knows where its adapter is."""

_lock = threading.Lock()
_clients: dict[tuple[int, str], Client] = {}


def client_of(target: str) -> Client:
    """The client for an adapter; empty means the one that the environment names.

    gRPC does not survive a fork, and the training manager's development server forks, so a child gets a client of its
    own. Nothing is connected before the first call.
    """
    address = target or _named()
    with _lock:
        key = (os.getpid(), address)
        if key not in _clients:
            _clients[key] = Client(address or None)
        return _clients[key]


def _named() -> str:
    host, port = os.environ.get(HOST_VARIABLE), os.environ.get(PORT_VARIABLE)
    return f"{host}:{port}" if host and port and not os.environ.get(TARGET_VARIABLE) else ""
