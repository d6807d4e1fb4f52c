"""One servicer for each service: message to record, one call into kfp/, record to message. No I/O, no KFP terms."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import grpc


def add_servicer(servicer: object, server: grpc.Server) -> None:
    """Adds a servicer by the function that is generated beside its base class."""
    base = next(kind for kind in type(servicer).__mro__ if kind.__module__.endswith("_pb2_grpc"))
    getattr(sys.modules[base.__module__], f"add_{base.__name__}_to_server")(servicer, server)
