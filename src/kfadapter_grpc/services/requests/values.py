"""Reads protobuf's own messages: JSON values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kfadapter_grpc.contract.values import object_violations

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.protobuf.struct_pb2 import Struct, Value

    from kfadapter_grpc.contract.spec import Json
    from kfadapter_grpc.services.requests.checks import Checks


def json_object(checks: Checks, name: str, struct: Struct) -> Mapping[str, Json]:
    """Reads a JSON object, which must be one that can be given back; whole numbers are floats, as the wire has them."""
    found = {key: _json(item) for key, item in struct.fields.items()}
    checks.violations.extend(object_violations(found, name))
    return found


def _json(value: Value) -> Json:
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return {key: _json(item) for key, item in value.struct_value.fields.items()}
    if kind == "list_value":
        return [_json(item) for item in value.list_value.values]
    return None if kind in {None, "null_value"} else getattr(value, kind)
