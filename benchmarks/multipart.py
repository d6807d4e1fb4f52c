"""The body of a direct upload: a file as multipart, streamed."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator

_BOUNDARY = "benchmark-f3b1c6d2"
_HEAD = (
    f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="uploadfile"; filename="pipeline.yaml"\r\n'
    "Content-Type: application/octet-stream\r\n\r\n"
).encode()
_END = f"\r\n--{_BOUNDARY}--\r\n".encode()
_CHUNK_BYTES = 256 * 1024


class Multipart:
    """An iterable of the body's bytes, and its headers."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        """Sends `size` bytes of `stream`."""
        self._stream = stream
        self.headers = {
            "Content-Type": f"multipart/form-data; boundary={_BOUNDARY}",
            "Content-Length": str(len(_HEAD) + size + len(_END)),
        }

    def __iter__(self) -> Iterator[bytes]:
        yield _HEAD
        while chunk := self._stream.read(_CHUNK_BYTES):
            yield chunk
        yield _END
