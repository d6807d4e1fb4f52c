"""Credentials for KFP: each kind over a real connection, to a KFP that records what it receives."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import structlog
from tests.connecting import connect
from tests.scripted_kfp import Behaviour, Connection, Received, ScriptedKfp, answers

from kfadapter_grpc.contract.call import Authorization, Call
from kfadapter_grpc.contract.errors import KfpRejectedCredentialsError, UnauthenticatedError
from kfadapter_grpc.kfp.credentials import Credentials, ForwardedCredentials, TokenFile
from kfadapter_grpc.kfp.transport import Request, Transport, TransportSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

OK = answers(200, {"fine": True})
REFUSED = answers(401, {"code": 16, "message": "who are you?"})


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    """A file with a token."""
    path = tmp_path / "token"
    path.write_text("canary-1\n")
    return path


@pytest.fixture
def transport(kfp: ScriptedKfp, token_file: Path) -> Iterator[Transport]:
    """A transport that sends the token of the file."""
    with closing(Transport(TransportSettings(kfp.url, credentials=TokenFile(token_file)))) as made:
        yield made


def call(authorization: str | None = None) -> Call:
    """A call, optionally with the caller's own credentials."""
    return Call("r", 20, None if authorization is None else Authorization(authorization))


def shown(kfp: ScriptedKfp) -> list[str | None]:
    """The authorization that KFP received, request by request."""
    return [request.headers.get("authorization") for request in kfp.requests]


def accepts(token: str) -> Behaviour:
    """Accepts requests with this token; rejects all others."""

    def behaviour(connection: Connection, received: Received) -> bool:
        known = received.headers.get("authorization") == f"Bearer {token}"
        return (OK if known else REFUSED)(connection, received)

    return behaviour


def after_changing(path: Path, token: str, behaviour: Behaviour) -> Behaviour:
    """Writes another token into the file during a request, without a change of the file's times."""

    def changed(connection: Connection, received: Received) -> bool:
        before = path.stat()
        path.write_text(f"{token}\n")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        return behaviour(connection, received)

    return changed


def test_no_user_is_sent_by_default(kfp: ScriptedKfp) -> None:
    """Without credentials there is no header, whatever the call has."""
    kfp.on("GET", "/x", OK)
    with closing(Transport(TransportSettings(kfp.url, credentials=Credentials()))) as transport:
        transport.send(Request("GET", "/x"), call("Bearer canary"))
    assert shown(kfp) == [None]


def test_a_changed_file_is_read_again(kfp: ScriptedKfp, transport: Transport, token_file: Path) -> None:
    """Each request sends the token of the file; a new token is used from the next request on."""
    kfp.on("GET", "/x", OK)
    transport.send(Request("GET", "/x"), call())
    token_file.write_text("second-token")
    transport.send(Request("GET", "/x"), call())
    assert shown(kfp) == ["Bearer canary-1", "Bearer second-token"]


def test_a_file_as_kubernetes_exchanges_it(kfp: ScriptedKfp, tmp_path: Path) -> None:
    """A projected token is a link through a folder that is replaced as a whole."""
    kfp.on("GET", "/x", OK)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "token").write_text(name)
    (tmp_path / "..data").symlink_to("one")
    (tmp_path / "token").symlink_to(Path("..data") / "token")
    credentials = TokenFile(tmp_path / "token")
    with closing(Transport(TransportSettings(kfp.url, credentials=credentials))) as transport:
        transport.send(Request("GET", "/x"), call())
        (tmp_path / "..new").symlink_to("two")
        (tmp_path / "..new").replace(tmp_path / "..data")
        transport.send(Request("GET", "/x"), call())
    assert shown(kfp) == ["Bearer one", "Bearer two"]


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE"])
def test_a_token_that_expired_on_the_way(kfp: ScriptedKfp, transport: Transport, token_file: Path, method: str) -> None:
    """After a 401 the file is read again, changed or not; with another token, reads and writes are retried."""
    kfp.on(method, "/x", after_changing(token_file, "canary-2", accepts("canary-2")), accepts("canary-2"))
    body = [b"first ", b"second"] if method == "POST" else None
    request = Request(method, "/x", body=body, content_length=12)
    assert transport.send(request, call()).status == 200
    assert shown(kfp) == ["Bearer canary-1", "Bearer canary-2"]
    assert {one.body for one in kfp.requests} == {b"first second" if body else b""}


def test_a_log_with_a_token_that_expired_on_the_way(kfp: ScriptedKfp, transport: Transport, token_file: Path) -> None:
    """A streamed response is retried in the same way."""
    kfp.on("GET", "/x", after_changing(token_file, "canary-2", accepts("canary-2")), accepts("canary-2"))
    with transport.open(Request("GET", "/x"), call()) as answer:
        assert (answer.status, b"".join(answer.chunks)) == (200, b'{"fine": true}')


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_same_token_is_not_shown_twice(kfp: ScriptedKfp, transport: Transport, method: str) -> None:
    """Without another token, a 401 is the response: nothing is retried."""
    kfp.on(method, "/x", REFUSED)
    assert transport.send(Request(method, "/x"), call()).status == 401
    assert len(kfp.requests) == 1


def test_a_second_refusal_counts(kfp: ScriptedKfp, transport: Transport, token_file: Path) -> None:
    """However often the token changes, a request is sent at most twice."""
    kfp.on(
        "POST",
        "/x",
        *(after_changing(token_file, f"canary-{number}", REFUSED) for number in range(2, 9)),
    )
    assert transport.send(Request("POST", "/x"), call()).status == 401
    assert shown(kfp) == ["Bearer canary-1", "Bearer canary-2"]


def test_the_last_token_is_kept(kfp: ScriptedKfp, transport: Transport, token_file: Path) -> None:
    """While the file is missing or empty, its last token is still sent; the log has each cause once."""
    kfp.on("GET", "/x", OK)
    transport.send(Request("GET", "/x"), call())
    with structlog.testing.capture_logs() as lines:
        for _ in range(3):
            token_file.write_text("")
            transport.send(Request("GET", "/x"), call())
        token_file.unlink()
        transport.send(Request("GET", "/x"), call())
    assert set(shown(kfp)) == {"Bearer canary-1"}
    assert [line["event"] for line in lines] == ["the token for KFP cannot be read"] * 2
    assert "canary" not in repr(lines)


@pytest.mark.parametrize(
    "content",
    [None, b"", b" \n", b"canary one", b"canary\r\nX-Evil: 1", "카나리아".encode(), b"\x00canary", b"c" * 70_000],
)
def test_a_file_without_a_token(kfp: ScriptedKfp, tmp_path: Path, content: bytes | None) -> None:
    """Without a token KFP is not called, and the error is the operator's; contents of the file are never shown."""
    path = tmp_path / "other"
    if content is not None:
        path.write_bytes(content)
    with (
        closing(Transport(TransportSettings(kfp.url, credentials=TokenFile(path)))) as transport,
        structlog.testing.capture_logs() as lines,
        pytest.raises(KfpRejectedCredentialsError, match="operator") as caught,
    ):
        transport.send(Request("GET", "/x"), call())
    assert kfp.requests == []
    assert str(path) in repr(lines)
    assert "canary" not in repr(lines) + caught.value.message


def test_each_call_is_made_as_its_caller(kfp: ScriptedKfp) -> None:
    """The caller's credentials are forwarded unchanged, over any connection, and not retried after a 401."""
    kfp.on("GET", "/x", OK).on("GET", "/y", REFUSED)
    with closing(Transport(TransportSettings(kfp.url, credentials=ForwardedCredentials()))) as transport:
        for who in ("Bearer alice", "Basic Ym9i", "Bearer alice"):
            transport.send(Request("GET", "/x"), call(who))
        assert transport.send(Request("GET", "/y"), call("Bearer carol")).status == 401
        with pytest.raises(UnauthenticatedError):
            transport.send(Request("GET", "/x"), call())
    assert shown(kfp) == ["Bearer alice", "Basic Ym9i", "Bearer alice", "Bearer carol"]


@pytest.mark.parametrize(
    ("behaviour", "alive"),
    [
        (OK, True),
        (REFUSED, True),
        (answers(403, b"RBAC: access denied", content_type="text/plain"), True),
        (answers(302, headers={"Location": "https://dex.example.org/auth"}), True),
        (answers(503), False),
        (answers(200, b"<html>hello</html>", content_type="text/html"), False),
    ],
    ids=["well", "401", "403", "login", "503", "another page"],
)
def test_probes_where_only_callers_have_credentials(kfp: ScriptedKfp, behaviour: Behaviour, alive: bool) -> None:
    """A probe sends no credentials; a KFP that requires some counts as alive."""
    kfp.on("GET", "/healthz", behaviour)
    with closing(connect(kfp.url, credentials=ForwardedCredentials())) as backend:
        assert backend.is_alive() is alive
    assert set(shown(kfp)) == {None}


def test_probes_with_credentials_of_our_own(kfp: ScriptedKfp, token_file: Path) -> None:
    """A probe sends the adapter's own credentials; a KFP that rejects them is distinguished from an unreachable one."""
    kfp.on("GET", "/healthz", accepts("canary-1"))
    with closing(connect(kfp.url, credentials=TokenFile(token_file))) as backend:
        assert backend.is_alive()
        token_file.write_text("wrong")
        with pytest.raises(KfpRejectedCredentialsError):
            backend.is_alive()


def test_secrets_are_not_shown(token_file: Path) -> None:
    """The repr of credentials, calls and the objects that hold them shows no secret."""
    own = TokenFile(token_file)
    assert own.header(call()) == "Bearer canary-1"
    a_call = call("Bearer canary-2")
    settings = TransportSettings("http://kfp", credentials=own)
    assert "canary" not in repr([own, a_call, a_call.authorization, settings, a_call.detached(1).authorization])
