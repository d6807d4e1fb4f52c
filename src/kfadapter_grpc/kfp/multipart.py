"""The request of an upload: its query, and the file as a multipart body."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from kfadapter_grpc.kfp.rest import V2, non_empty
from kfadapter_grpc.kfp.transport import Request
from kfadapter_grpc.kfp.versions import HEAD_BYTES
from kfadapter_grpc.spool import disk_faults

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from kfadapter_grpc.contract.pipelines import PipelineFile

_CHUNK_BYTES = 256 * 1024


def multipart(operation: str, query: Mapping[str, str], tags: Mapping[str, str], file: PipelineFile) -> Request:
    boundary = secrets.token_hex(16)
    head = (
        f"--{boundary}\r\n"
        f'Content-Disposition: form-data; name="uploadfile"; filename="{file.kind.value}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    ).encode()
    end = f"\r\n--{boundary}--\r\n".encode()
    return Request(
        "POST",
        f"{V2}/pipelines/{operation}",
        list(non_empty({**query, "tags": json.dumps(dict(tags), ensure_ascii=False) if tags else ""}).items()),
        body=_Stream(head, file.stream, end),
        content_type=f"multipart/form-data; boundary={boundary}",
        content_length=len(head) + file.size + len(end),
        keep=HEAD_BYTES,
    )


@dataclass(frozen=True, slots=True)
class _Stream:
    """A file as a multipart body; starts from the beginning each time it is sent."""

    head: bytes
    file: BinaryIO
    end: bytes

    def __iter__(self) -> Iterator[bytes]:
        with disk_faults():
            self.file.seek(0)
        yield self.head
        while chunk := self._read():
            yield chunk
        yield self.end

    def _read(self) -> bytes:
        with disk_faults():  # else it would be taken for a failure of the connection to KFP
            return self.file.read(_CHUNK_BYTES)
