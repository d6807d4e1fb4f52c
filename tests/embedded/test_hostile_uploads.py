from __future__ import annotations

import contextlib
import re
import socket
import tarfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.embedded.conftest import HELLO, Caller, unique
from tests.hostile_files import HOSTILE, MIB, tar_of, zip_of

from kfadapter_embedded.process import start

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kfadapter_embedded.process import EmbeddedKfp

UNREADABLE = "Failed to read a pipeline spec file"
NO_FILE = "Failed to read pipeline from file"
TOO_MANY = "more than 1000000 values in a document"
YAML = "failed to parse pipeline spec YAML: yaml: "


BOMBS: dict[str, tuple[str, str]] = {
    "33 MiB": ("p.yaml", UNREADABLE),
    "a zip that unpacks to 200 MiB": ("p.zip", UNREADABLE),
    "a gzip that unpacks to 200 MiB": ("p.tar.gz", UNREADABLE),
    "a tar member of 200 MiB": ("p.tar.gz", UNREADABLE),
    "a zip with half a million members": ("p.zip", UNREADABLE),
    "a tar with 20,000 members": ("p.tar.gz", UNREADABLE),
    "a tar header that lies": ("p.tar.gz", UNREADABLE),
    "a tar link out of the archive": ("p.tar.gz", UNREADABLE),
    "a zip cut short": ("p.zip", UNREADABLE),
    "a zip with a wrong checksum": ("p.zip", UNREADABLE),
    "billion laughs": ("p.yaml", YAML + "document contains excessive aliasing"),
    "a million aliases": ("p.yaml", YAML + TOO_MANY),
    "a large text, 900 times": ("p.yaml", YAML + "document contains excessive aliasing"),
    "an alias of what it is in": ("p.yaml", YAML + "anchor 'a' value contains itself"),
    "an alias of nothing": ("p.yaml", YAML + "unknown anchor 'b' referenced"),
    "10,000 lists in each other": ("p.yaml", YAML + "exceeded max depth of 100"),
    "30 MiB of lists in each other": ("p.yaml", YAML + "exceeded max depth of 100"),
    "lists in each other by aliases": ("p.yaml", YAML + "exceeded max depth of 100"),
    "five million values": ("p.yaml", YAML + TOO_MANY),
}


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKfp]:
    """A server whose memory only these tests use."""
    with start(tmp_path_factory.mktemp("victim")) as running:
        yield running


def _peak_memory(pid: int) -> int:
    """The peak memory of a process, in MiB."""
    match = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(encoding="utf-8"))
    assert match
    return int(match[1]) >> 10


@pytest.mark.slow
@pytest.mark.parametrize("name", BOMBS)
def test_bombs(victim: EmbeddedKfp, name: str) -> None:
    """A malicious file is rejected in KFP's words, within bounded memory, and the server continues."""
    filename, words = BOMBS[name]
    caller = Caller(victim.url)
    reply = caller.upload(HOSTILE[name](), filename=filename)
    assert (reply.status, reply["error_message"]) == (400, words)
    assert _peak_memory(victim.pid) < 400
    assert caller.get("/healthz").status == 200


@pytest.mark.parametrize("name", ["../../etc/evil.yaml", "/etc/evil.yaml", "a/../b.yaml"])
def test_member_names(victim: EmbeddedKfp, name: str) -> None:
    """A member's name only decides whether it is YAML: it is never a path."""
    hello = HELLO.read_bytes()
    caller = Caller(victim.url)
    assert caller.upload(zip_of((name, hello)), filename="p.zip").status == 200
    assert caller.upload(tar_of((tarfile.TarInfo(name), hello)), filename="p.tar.gz").status == 200
    assert not Path("/etc/evil.yaml").exists()


def test_health_while_a_large_file_is_read(victim: EmbeddedKfp) -> None:
    """The server answers other calls while it reads a file that takes seconds."""
    slow = HELLO.read_bytes() + b"\n---\nplatforms: {kubernetes: {a: [" + b"x," * 300_000 + b"]}}"
    caller = Caller(victim.url)
    upload = threading.Thread(target=caller.upload, args=(slow,))
    upload.start()
    answered = 0
    while upload.is_alive():
        assert caller.get("/healthz").status == 200
        answered += 1
    assert answered > 10


def _raw(running: EmbeddedKfp, request: bytes, *, then_close: bool = False) -> bytes:
    """Sends bytes unchanged; returns the whole answer, after which the server closes."""
    host, port = running.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(request)
        answer = b""
        while not then_close and (piece := connection.recv(1 << 16)):
            answer += piece
        return answer


def _request_of(body: bytes, *, length: int | None = None, boundary: str = "b") -> bytes:
    head = (
        f"POST /apis/v2beta1/pipelines/upload?name={unique('raw')} HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Type: multipart/form-data; boundary={boundary}\r\n"
        f"Connection: close\r\nContent-Length: {len(body) if length is None else length}\r\n\r\n"
    )
    return head.encode() + body


def _part(header: bytes, content: bytes, *, end: bytes = b"\r\n--b--\r\n") -> bytes:
    return b"--b\r\nContent-Disposition: form-data; " + header + b"\r\n\r\n" + content + end


FIELD = b'name="uploadfile"; filename="p.yaml"'
BODIES = {
    "no boundary in it": b"hello",
    "nothing": b"",
    "a header of 1 MiB": _part(FIELD + b"\r\nX: " + b"x" * MIB, b""),
    "twenty thousand headers": _part(FIELD + b"\r\nX: y" * 20_000, b""),
    "a thousand parts": _part(b'name="a"', b"", end=b"") + _part(b'\r\nname="a"', b"", end=b"\r\n") * 1000,
    "no end": _part(FIELD, b"hello", end=b""),
    "a field that is no file": _part(b'name="uploadfile"', b"hello"),
}


@pytest.mark.parametrize("name", BODIES)
def test_bodies(victim: EmbeddedKfp, name: str) -> None:
    """A malformed body is rejected, and the server continues."""
    reply = _raw(victim, _request_of(BODIES[name]))
    assert reply.startswith(b"HTTP/1.1 400 ")
    assert NO_FILE.encode() in reply
    assert Caller(victim.url).upload().status == 200


def test_length_that_is_too_small(victim: EmbeddedKfp) -> None:
    """A body that is longer than its announced length is rejected as truncated."""
    body = _part(FIELD, HELLO.read_bytes())
    assert _raw(victim, _request_of(body, length=len(body) - 100)).startswith(b"HTTP/1.1 400 ")
    assert Caller(victim.url).upload().status == 200


def test_caller_that_goes_away(victim: EmbeddedKfp) -> None:
    """A client that disconnects in the middle leaves no pipeline and no file."""
    body = _part(FIELD, HELLO.read_bytes())
    before = Caller(victim.url).get("/pipelines").json["total_size"]
    _raw(victim, _request_of(body, length=len(body) + 5 * MIB), then_close=True)
    assert Caller(victim.url).get("/pipelines").json["total_size"] == before


def test_long_request_lines(victim: EmbeddedKfp) -> None:
    """A request line of 450 kB is accepted as by KFP; a far longer one is rejected, and the server continues."""
    end = b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert _raw(victim, b"GET /apis/v2beta1/healthz?a=" + b"a" * 450_000 + end).startswith(b"HTTP/1.1 200 ")
    with contextlib.suppress(ConnectionError):  # the server does not wait for the rest of it
        assert not _raw(victim, b"GET /apis/v2beta1/healthz?a=" + b"a" * (3 * MIB) + end).startswith(b"HTTP/1.1 200 ")
    assert Caller(victim.url).get("/healthz").status == 200
