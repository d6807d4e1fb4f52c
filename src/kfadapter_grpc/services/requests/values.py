"""Reads protobuf's own messages: JSON values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.json_format import MessageToDict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.protobuf.struct_pb2 import Struct

    from kfadapter_grpc.domain.spec import Json
    from kfadapter_grpc.services.requests.checks import Checks


def json_object(checks: Checks, name: str, struct: Struct) -> Mapping[str, Json]:
    """Reads a JSON object; whole numbers are floats, as the wire has them."""
    try:
        return MessageToDict(struct)
    except ValueError as error:  # NaN or infinite, which JSON does not have
        checks.add(name, f"is not JSON: {error}")
        return {}
