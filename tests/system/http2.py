"""HTTP/2 frames, written by hand: for connections that no client library would make."""

from __future__ import annotations

import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_HEADERS = 4
CANCEL = struct.pack(">I", 8)


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """A frame."""
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def call_headers(path: str, authority: str) -> bytes:
    """The header block of a gRPC call, without compression."""
    fields = ((0x04, path.encode()), (0x01, authority.encode()))  # HPACK: POST, http, and four literals
    block = b"\x83\x86" + b"".join(bytes([kind, len(text)]) + text for kind, text in fields)
    for name, value in ((b"content-type", b"application/grpc"), (b"te", b"trailers")):
        block += bytes([0, len(name)]) + name + bytes([len(value)]) + value
    return block
