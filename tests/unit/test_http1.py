from __future__ import annotations

import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest

from kfadapter_grpc.kfp.connections import IncompleteResponseError
from kfadapter_grpc.kfp.exchange import MAX_HEAD_BYTES, ResponseReader, request_head, send

if TYPE_CHECKING:
    from collections.abc import Iterator

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Name: caf\xe9\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n"


@contextmanager
def answering(*pieces: bytes, close: bool = True) -> Iterator[socket.socket]:
    """Has the other side of a connection send pieces, one by one."""
    ours, theirs = socket.socketpair()

    def speak() -> None:
        with suppress(OSError):  # the reader hangs up when it has enough
            for piece in pieces:
                theirs.sendall(piece)
            if close:
                theirs.shutdown(socket.SHUT_WR)

    speaker = threading.Thread(target=speak)
    with ours, theirs:
        ours.settimeout(30)
        speaker.start()
        yield ours
        ours.close()
        speaker.join(30)


def read(*pieces: bytes, close: bool = True) -> tuple[ResponseReader, bytes]:
    """Reads what the other side sends."""
    reader = ResponseReader()
    with answering(*pieces, close=close) as sock:
        return reader, b"".join(reader.chunks(sock))


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_a_response_in_pieces(size: int) -> None:
    """A response has the same status, headers and body however it is split, and the connection can be reused."""
    pieces = [OK[start : start + size] for start in range(0, len(OK), size)]
    reader, body = read(*pieces, close=False)
    assert (reader.status, reader.headers["x-name"], body, reader.reusable) == (200, "café", b"hello", True)


@pytest.mark.parametrize(
    ("answer", "body", "reusable"),
    [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n", b"abcde", True),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", b"until the end", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na", b"a", False),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\na", b"a", False),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", b"", True),
        (b"HTTP/1.1 100 Continue\r\nX: y\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na", b"a", True),
        (OK + b"HTTP/1.1 200 OK\r\n", b"hello", False),
        (OK + b"what is this", b"hello", False),
    ],
    ids=["chunked", "no length", "1.0", "close", "204", "empty", "interim", "two answers", "surplus"],
)
def test_the_ways_to_end_a_response(answer: bytes, body: bytes, reusable: bool) -> None:
    """Every form of HTTP/1.1 is read to its end; a connection with data left, or that ends, is not reused."""
    reader, got = read(answer)
    assert (got, reader.reusable) == (body, reusable)
    assert "x" not in reader.headers


def test_a_second_response_changes_nothing() -> None:
    """A second response after the first, however complete, does not change status, headers and body."""
    reader, body = read(OK + b"HTTP/1.1 500 X\r\nX-Name: evil\r\nX: y\r\nContent-Length: 3\r\n\r\nabc")
    assert (reader.status, reader.headers["x-name"], body, reader.reusable) == (200, "café", b"hello", False)
    assert "x" not in reader.headers


def test_trailers_are_no_headers() -> None:
    """Trailers after a chunked body are skipped; they change none of the headers."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    reader, body = read(head + b"1\r\na\r\n0\r\nContent-Type: b\r\nX: y\r\n\r\n")
    assert (reader.status, reader.headers["content-type"], body, reader.reusable) == (200, "a", b"a", True)
    assert "x" not in reader.headers


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 2 * MAX_HEAD_BYTES,
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * MAX_HEAD_BYTES,
        b"HTTP/1.1 100 Continue\r\n\r\n" * MAX_HEAD_BYTES,
        CHUNKED + b"0\r\n" + b"X: y\r\n" * MAX_HEAD_BYTES,
        CHUNKED + b"0\r\nX: " + b"y" * 4 * MAX_HEAD_BYTES,
        CHUNKED + b"1;" + b"y" * 4 * MAX_HEAD_BYTES,
    ],
    ids=["nothing", "half a head", "no body", "interim only", "half a body", "half in chunks", "two lengths", "upgrade",
         "not HTTP", "long header", "many headers", "interim flood", "many trailers", "long trailer", "long extension"],
)  # fmt: skip
def test_invalid_responses(answer: bytes) -> None:
    """A truncated response, or one that is not HTTP, is an error."""
    with pytest.raises(IncompleteResponseError):
        read(answer)


def test_a_response_before_the_end_of_the_request() -> None:
    """The response of a server that rejects the request and hangs up before all is sent is read."""
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            theirs.sendall(OK)
        send(ours, b"POST / HTTP/1.1\r\n\r\n", [b"x" * 1_000_000] * 3)
        reader = ResponseReader()
        assert list(reader.chunks(ours)) == [b"hello"]
    assert reader.status == 200


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "a\0b", "\x7f", "이름"])
def test_a_header_cannot_add_another(value: str) -> None:
    """Control characters, and characters not allowed in a header, are never sent."""
    with pytest.raises(ValueError, match=r"control character|latin-1"):
        request_head("GET", "/", {"X": value})
