"""The gRPC server, as its own process (`run`) or inside another (`AdapterServer`)."""

from __future__ import annotations

from kfadapter_grpc.daemon.listening import ServerStartError
from kfadapter_grpc.server.grpc_server import AdapterServer
from kfadapter_grpc.server.process import run

__all__ = ["AdapterServer", "ServerStartError", "run"]
