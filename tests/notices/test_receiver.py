"""What is posted, even to a misbehaving receiver, and what its responses mean."""

from __future__ import annotations

import re
import ssl
import threading
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import pytest
from tests.certificates import CertificateAuthority
from tests.notices.receiving import TRAINING_FAILED, Receiving, Reply, raw_server, receiving

from kfadapter_grpc.client.credentials import Token
from kfadapter_grpc.contract.runs import RunState
from kfadapter_oran.notices.database import Notice, NoticeStatus
from kfadapter_oran.notices.messages import cloud_event
from kfadapter_oran.notices.outbox import DELETED
from kfadapter_oran.notices.receiver import (
    MAX_BODY_BYTES,
    Attempt,
    Outcome,
    Receiver,
    ReceiverOptions,
    ReceiverResponse,
    Url,
    UrlError,
    outcome_of,
)

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator
    from pathlib import Path

AT = datetime(2026, 1, 2, tzinfo=timezone.utc)
SECRET = "s3cr3t-of-the-receiver"  # noqa: S105 - for tests
SHORT_SECONDS = 0.5


def notice(state: str = "SUCCEEDED") -> Notice:
    """Returns a notice of job 기지국."""
    return Notice(7, "run-1", "기지국", state, NoticeStatus.PENDING, AT, 1, 0, AT, None, "")


@pytest.fixture
def receiver() -> Iterator[Receiving]:
    """A receiver that responds as the training manager does."""
    with receiving() as running:
        yield running


def posted(url: str, state: str = "SUCCEEDED", **options: object) -> Attempt:
    """Posts a notice."""
    return Receiver(ReceiverOptions(Url.parse(url), **options)).post(notice(state))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("state", "status", "body", "outcome"),
    [
        ("SUCCEEDED", 200, b"", Outcome.DELIVERED),
        ("FAILED", 202, b"", Outcome.DELIVERED),
        ("FAILED", 500, TRAINING_FAILED, Outcome.DELIVERED),
        ("CANCELED", 500, b'{"Error":"Training Failed","more":1}', Outcome.DELIVERED),
        ("DELETED", 500, TRAINING_FAILED, Outcome.DELIVERED),
        ("SUCCEEDED", 500, TRAINING_FAILED, Outcome.REFUSED),
        ("FAILED", 500, b'{"Error": "database is locked"}', Outcome.REFUSED),
        ("FAILED", 500, b'["Training Failed"]', Outcome.REFUSED),
        ("FAILED", 500, b"<html>Training Failed", Outcome.REFUSED),
        ("FAILED", 500, b"[" * 4096, Outcome.REFUSED),
        ("FAILED", 501, TRAINING_FAILED, Outcome.REFUSED),
        *(("FAILED", status, TRAINING_FAILED, Outcome.AWAY) for status in (408, 429, 502, 503, 504)),
        *(("SUCCEEDED", status, b"", Outcome.REFUSED) for status in (301, 302, 304, 400, 401, 403, 404, 410, 500)),
    ],
)
def test_the_meaning_of_responses(state: str, status: int, body: bytes, outcome: Outcome) -> None:
    """2xx and the training manager's own response to a failed run mean delivered; any other response does not."""
    assert outcome_of(state, ReceiverResponse(status, body)) is outcome


def test_what_is_posted(receiver: Receiving) -> None:
    """The training manager gets the three fields it reads, as JSON; the idempotency key identifies duplicates."""
    attempt = posted(receiver.url, headers={"X-Team": "a"})
    assert attempt == Attempt(Outcome.DELIVERED, "200 {}")
    (one,) = receiver.received
    assert one.path == "/trainingjob/pipelineNotification"
    assert one.body == {"trainingjob_id": "기지국", "run_id": "run-1", "run_status": "SUCCEEDED"}
    assert one.headers["content-type"] == "application/json"
    assert one.headers["idempotency-key"] == "run-1:SUCCEEDED"
    assert one.headers["x-team"] == "a"
    assert "authorization" not in one.headers


def test_metrics_are_posted(receiver: Receiving) -> None:
    """The metrics of a run are posted as a fourth field."""
    reported = replace(notice(), metrics={"정확도": 0.9})
    Receiver(ReceiverOptions(Url.parse(receiver.url))).post(reported)
    assert receiver.received[0].body["run_metrics"] == {"정확도": 0.9}


def test_the_reason_is_posted(receiver: Receiving) -> None:
    """The reason of a failure is posted as another field, which the training manager shows in its log."""
    reported = replace(notice("FAILED"), about={"error": "메모리 부족", "display_name": "r"})
    Receiver(ReceiverOptions(Url.parse(receiver.url))).post(reported)
    assert receiver.received[0].body["run_error"] == "메모리 부족"


def test_what_is_posted_as_an_event(receiver: Receiving) -> None:
    """A CloudEvent in structured mode, with the id of the run and its state; 500 is never a delivery."""
    about = {"display_name": "학습 1", "pipeline_name": "train", "error": "task x: exit code 1"}
    reported = replace(notice("FAILED"), job="", about=about, metrics={"정확도": 0.9}, ended_at=AT)
    options = ReceiverOptions(Url.parse(receiver.url), event_source="https://kfp.example.com")
    receiver.answer = lambda _: Reply(500, TRAINING_FAILED)
    assert Receiver(options).post(reported).outcome is Outcome.REFUSED
    (one,) = receiver.received
    assert one.headers["content-type"] == "application/cloudevents+json"
    assert one.headers["idempotency-key"] == "run-1:FAILED"
    assert one.body == {
        "specversion": "1.0",
        "id": "run-1:FAILED",
        "source": "https://kfp.example.com",
        "type": "io.kfadapter.run.failed",
        "subject": "run-1",
        "time": "2026-01-02T00:00:00Z",
        "datacontenttype": "application/json",
        "data": {"run_id": "run-1", "state": "FAILED", **about, "metrics": {"정확도": 0.9}},
    }
    assert cloud_event(notice(), "/x")["data"]["trainingjob_id"] == "기지국"  # type: ignore[call-overload, index]


@pytest.mark.parametrize("state", [*(one.value for one in RunState if one.is_over), DELETED])
def test_events_follow_the_specification(state: str) -> None:
    """Every event has the attributes and types that CloudEvents 1.0 and its JSON format require, and no others."""
    event = cloud_event(notice(state), "/kfadapter")
    for name, value in event.items():
        assert re.fullmatch("[a-z0-9]{1,20}", name), name
        assert name == "data" or (isinstance(value, str) and value and value.isprintable()), name
    assert {"specversion", "id", "source", "type"} <= event.keys()
    assert event["type"] == f"io.kfadapter.run.{state.lower()}"
    assert datetime.fromisoformat(str(event["time"]).replace("Z", "+00:00")).tzinfo
    assert isinstance(event["data"], dict)


def test_a_failure_acknowledged_with_500_is_delivered(receiver: Receiving) -> None:
    """The training manager's error response to a failed run means delivered."""
    assert posted(receiver.url, "FAILED").outcome is Outcome.DELIVERED


def test_a_token_is_read_anew_each_time_and_never_shown(receiver: Receiving, tmp_path: Path) -> None:
    """A changed token file is reread; a token repeated by the receiver is masked in the log."""
    file = tmp_path / "token"
    file.write_text(f"{SECRET}\n")
    receiver.answer = lambda one: Reply(403, one.headers["authorization"].encode())
    options = ReceiverOptions(Url.parse(receiver.url), {"X-Key": SECRET + "-2"}, Token(file=file))
    reported = Receiver(options)
    assert reported.post(notice()) == Attempt(Outcome.REFUSED, "403 Bearer ***")
    assert SECRET not in repr(options)
    file.write_text("another-token")
    reported.post(notice())
    file.unlink()
    reported.post(notice())
    assert [one.headers["authorization"] for one in receiver.received] == [
        f"Bearer {SECRET}",
        *["Bearer another-token"] * 2,
    ]


def test_redirects_are_not_followed(receiver: Receiving) -> None:
    """Redirects are not followed, not even with GET."""
    receiver.answer = lambda _: Reply(302, headers={"Location": receiver.url})
    assert posted(receiver.url).outcome is Outcome.REFUSED
    assert len(receiver.received) == 1


def test_a_response_without_end(receiver: Receiving) -> None:
    """Only the beginning of a response's body is read."""
    receiver.answer = lambda _: Reply(200, b"x" * 50_000_000)
    assert len(posted(receiver.url).body) <= 204
    receiver.answer = lambda _: Reply(500, TRAINING_FAILED.ljust(MAX_BODY_BYTES + 1))
    assert posted(receiver.url, "FAILED").outcome is Outcome.DELIVERED


@contextmanager
def misbehaving(how: str) -> Iterator[str]:
    """Runs a receiver that violates HTTP; yields its URL."""
    done = threading.Event()

    def serve(connection: socket.socket) -> None:
        if how == "hangs up":
            return
        if how == "says nothing":
            done.wait(30)
        elif how == "is no HTTP":
            connection.recv(65536)
            connection.sendall(b"220 smtp ready\r\n")
        elif how == "never ends its headers":
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n")
        else:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nX: " if how == "drips headers" else b"HTTP/1.1 2")
            while not done.wait(0.05):
                connection.sendall(b"0")

    with raw_server(serve) as url:
        try:
            yield url
        finally:
            done.set()


@pytest.mark.parametrize("how", ["hangs up", "says nothing", "is no HTTP", "never ends its headers", "drips"])
def test_invalid_responses(how: str) -> None:
    """A receiver that stalls, drips, hangs up or uses another protocol is unreachable, without an exception."""
    with misbehaving(how) as url:
        attempt = posted(url, seconds=SHORT_SECONDS)
    assert attempt.outcome is Outcome.AWAY
    assert attempt.body.startswith("no response: ")
    if how in {"says nothing", "drips"}:
        assert attempt.body == "no response: not in time"


def test_headers_that_drip() -> None:
    """A receiver that has sent status 200 has the notice, even if its headers never end; the timeout still applies."""
    with misbehaving("drips headers") as url:
        assert posted(url, seconds=SHORT_SECONDS).outcome is Outcome.DELIVERED


def test_unreachable_adapter() -> None:
    """A port without a listener and an unresolvable name count as unreachable."""
    assert posted("http://127.0.0.1:1/") == Attempt(Outcome.AWAY, "no response: Connection refused")
    assert posted("http://nowhere.invalid/").outcome is Outcome.AWAY


@pytest.mark.parametrize("rest", [b"Content-Length: 9\r\n\r\nhalf", b"Transfer-Encoding: chunked\r\n\r\n9\r\nhalf"])
def test_a_status_counts_though_its_body_breaks_off(rest: bytes) -> None:
    """A status counts even if the body breaks off."""

    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + rest)

    with raw_server(serve) as url:
        assert posted(url).outcome is Outcome.DELIVERED


def test_a_status_that_drips_over_tls(tmp_path: Path) -> None:
    """The timeout also applies over TLS, to a response that never completes."""
    authority, done = CertificateAuthority(), threading.Event()
    pair = authority.issue("127.0.0.1").write(tmp_path, "receiver")
    ca = tmp_path / "ca.pem"
    ca.write_bytes(authority.certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*pair)

    def serve(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            secured.recv(65536)
            secured.sendall(b"HTTP/1.1 2")
            while not done.wait(0.05):
                secured.sendall(b"0")

    with raw_server(serve) as url:
        attempt = posted(url.replace("http:", "https:"), ca=ca, seconds=SHORT_SECONDS)
        done.set()
    assert attempt == Attempt(Outcome.AWAY, "no response: not in time")


def test_https(tmp_path: Path) -> None:
    """Over TLS the receiver's certificate must be issued by a trusted CA, or nothing is posted."""
    authority = CertificateAuthority()
    pair = authority.issue("127.0.0.1").write(tmp_path, "receiver")
    other = tmp_path / "other.pem"
    other.write_bytes(CertificateAuthority().certificate)
    ca = tmp_path / "ca.pem"
    ca.write_bytes(authority.certificate)
    with receiving(pair) as running:
        assert posted(running.url, ca=ca).outcome is Outcome.DELIVERED
        for wrong in (other, None):
            attempt = posted(running.url, ca=wrong)
            assert attempt.outcome is Outcome.AWAY
            assert "certificate verify failed" in attempt.body.lower().replace("_", " ")
        assert len(running.received) == 1


def test_a_tls_that_hangs() -> None:
    """The timeout also applies to a TLS handshake that stalls."""
    with misbehaving("says nothing") as url:
        assert posted(url.replace("http:", "https:"), seconds=SHORT_SECONDS).body == "no response: not in time"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "training-manager:32002",
        "ftp://x/",
        "http://",
        "http://x:port/",
        "http://u:p@x/",
        "http://x/#y",
        "http://x/글",
    ],
)
def test_what_is_no_url(text: str) -> None:
    """An invalid URL is rejected before anything is posted."""
    with pytest.raises(UrlError):
        Url.parse(text)


def test_urls() -> None:
    """Scheme, host, port and path are kept as given; the query, which may contain a secret, is not shown."""
    assert Url.parse("https://x") == Url("https", "x", 443, "/")
    assert Url.parse("http://[::1]:8/a?key=1") == Url("http", "::1", 8, "/a?key=1")
    assert str(Url.parse("http://[::1]:8/a?key=1")) == "http://[::1]:8/a"


def test_a_query_is_sent(receiver: Receiving) -> None:
    """The path is requested with the query of the URL."""
    posted(f"{receiver.url}?a=1")
    assert [one.path for one in receiver.received] == ["/trainingjob/pipelineNotification?a=1"]
