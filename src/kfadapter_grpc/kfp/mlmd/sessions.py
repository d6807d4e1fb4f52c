"""Where the bytes of an artifact are, by the `store_session_info` that KFP's launcher wrote: never credentials."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import msgspec

if TYPE_CHECKING:
    from kfadapter_grpc.contract.spec import Json
    from kfadapter_grpc.kfp.mlmd.records import StoredArtifact

SESSION = "store_session_info"
"""The property; a task may set metadata of this name, which take precedence."""


class _SessionJson(msgspec.Struct, rename="pascal"):
    provider: str
    params: dict[str, str] = {}


def is_session(value: Json) -> bool:
    """Whether a property is KFP's own, not a task's."""
    return _session(value) is not None


def session_of(artifact: StoredArtifact, pipeline_root: str) -> str:
    """Returns the session of an artifact, as JSON, empty if there is none.

    A root with a query (`s3://bucket/path?endpoint=...`) provides what the session of its artifacts leaves out.
    """
    found = _session(artifact.properties.get(SESSION))
    if found is None:
        return ""
    root, _, query = pipeline_root.partition("?")
    asked = parse_qs(query) if artifact.uri.startswith(root) else {}
    params = {key: values[0] for key, values in asked.items()} | found.params
    return msgspec.json.encode(_SessionJson(found.provider, params)).decode()


def _session(value: Json) -> _SessionJson | None:
    return _decoded(value) if isinstance(value, str) else None


@lru_cache(32)  # the artifacts of a run mostly have the same
def _decoded(text: str) -> _SessionJson | None:
    try:
        return msgspec.json.decode(text, type=_SessionJson)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
