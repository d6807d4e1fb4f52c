"""Reads artifacts as a call does."""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING

from kfadapter_grpc.contract.artifacts import ArtifactContent, ReadArtifactRequest
from kfadapter_grpc.contract.call import Call
from kfadapter_grpc.contract.run_outputs import RunArtifact
from kfadapter_grpc.kfp.artifact_bytes import CHUNK_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from kfadapter_grpc.kfp.artifact_bytes import ArtifactBytes


def read(
    source: ArtifactBytes,
    uri: str,
    *,
    kind: str = "system.Artifact",
    path: str = "",
    offset: int = 0,
    length: int = 0,
    session: str = "",
    call: Call | None = None,
    meanwhile: Callable[[], object] | None = None,
) -> tuple[ArtifactContent, bytes]:
    """Reads an artifact or a part of it; runs a callback after the first bytes."""
    artifact = RunArtifact(kind, uri, artifact_id="7", name="model", run_id="r1")
    request = ReadArtifactRequest("r1", "7", path, offset, length)
    with source.read(artifact, request, call or Call("test", 30), session=session) as parts:
        content = next(parts)
        assert isinstance(content, ArtifactContent)
        data = bytearray()
        for part in parts:
            assert isinstance(part, bytes)
            assert 0 < len(part) <= CHUNK_BYTES
            data += part
            if meanwhile is not None:
                meanwhile()
                meanwhile = None
    return content, bytes(data)


def unpacked(archive: bytes) -> dict[str, bytes]:
    """Reads a tar archive."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {one.name: file.read() for one in tar if (file := tar.extractfile(one))}
