"""Wrong addresses of KFP: each kind has a message of its own, with what to check."""

from __future__ import annotations

import ssl
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
import trustme
from tests.broken_kfp import hanging_up, without_tls
from tests.connecting import connect
from tests.repository.conftest import call
from tests.scripted_kfp import Behaviour, ScriptedKfp, answers, resets, sends

from kfadapter_grpc.contract.errors import AdapterError, KfpError, KfpUnavailableError
from kfadapter_grpc.contract.listing import PageRequest, View
from kfadapter_grpc.contract.runs import RunFilter
from kfadapter_grpc.kfp.connections import TlsFiles
from kfadapter_grpc.kfp.probes import Stage, reach
from kfadapter_grpc.kfp.transport import TransportSettings

if TYPE_CHECKING:
    from pathlib import Path

_NGINX = b"<html><head><title>400 The plain HTTP request was sent to HTTPS port</title></head></html>"
_PAGE = b"<!DOCTYPE html><html><head><title>\n Welcome to nginx! </title></head></html>"
_CUT = sends(b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"runs": [', then_close=True)
_SPEAKS_TLS = "expects TLS: use https:, not http:"
ANSWERS: dict[str, tuple[Behaviour, type[AdapterError], str]] = {
    "an alert of TLS": (sends(b"\x15\x03\x01\x00\x02\x02\x46", then_close=True), KfpUnavailableError, _SPEAKS_TLS),
    "a Go server with TLS": (
        answers(400, b"Client sent an HTTP request to an HTTPS server.\n", content_type="text/plain"),
        KfpUnavailableError,
        _SPEAKS_TLS,
    ),
    "an nginx with TLS": (answers(400, _NGINX, content_type="text/html"), KfpUnavailableError, _SPEAKS_TLS),
    "a reset": (resets(), KfpUnavailableError, "closed before the response"),
    "a cut answer": (_CUT, KfpUnavailableError, "broke before the response was complete"),
    "SSH": (sends(b"SSH-2.0-OpenSSH\r\n", then_close=True), KfpUnavailableError, "does not speak HTTP/1.1"),
    "a page": (answers(200, _PAGE, content_type="text/html"), KfpError, "a web page titled 'Welcome to nginx!'"),
    "a page that calls itself JSON": (answers(200, _PAGE), KfpError, "a web page titled 'Welcome to nginx!'"),
    "a page of a proxy, 404": (answers(404, _PAGE, content_type="text/html"), KfpError, "(HTTP 404)"),
    "a page of a proxy, 500": (answers(500, _PAGE, content_type="text/html"), KfpError, "(HTTP 500)"),
    "a page of a proxy, 502": (answers(502, _PAGE, content_type="text/html"), KfpUnavailableError, "(HTTP 502)"),
    "a redirect": (answers(302, b"", headers={"Location": "/elsewhere"}), KfpError, "a redirect"),
    "no JSON": (answers(200, b"hello"), KfpError, "list runs: Expecting value: line 1 column 1"),
    "other JSON": (answers(200, ["hello"]), KfpError, "list runs: $ is not an object"),
}
"""What answers a plain request: how, what error that is, and words of its message."""


def _refusal(url: str, ca: Path | None = None) -> AdapterError:
    with closing(connect(url, tls=TlsFiles(ca=ca))) as backend, pytest.raises(AdapterError) as caught:
        backend.runs.list(RunFilter(), PageRequest(), call(5))
    return caught.value


@pytest.mark.parametrize("what", ANSWERS)
def test_what_answers_in_plain_text(scripted: ScriptedKfp, what: str) -> None:
    """The class of the error and its message identify the cause."""
    behaviour, error, words = ANSWERS[what]
    scripted.on("GET", "", behaviour)
    found = _refusal(scripted.url)
    assert type(found) is error
    assert words in found.message


def test_every_message_is_its_own() -> None:
    """No two causes have the same message, except the ways to report that TLS is expected."""
    words = [words for _, _, words in ANSWERS.values() if words != _SPEAKS_TLS and "Welcome" not in words]
    assert len(set(words)) == len(words)


def test_a_page_is_no_run_that_is_missing(scripted: ScriptedKfp) -> None:
    """A proxy's 404 does not mean that the run is missing."""
    scripted.on("GET", "", answers(404, _PAGE, content_type="text/html"))
    with closing(connect(scripted.url)) as backend, pytest.raises(KfpError, match="perhaps by a proxy"):
        backend.runs.get("11111111-1111-4111-8111-111111111111", View.BASIC, call(5))


def test_https_to_a_plain_port() -> None:
    """The error says that http: is expected; the doctor reports it, too."""
    with without_tls() as url:
        found = _refusal(url)
        reached = reach(TransportSettings(url))
    assert "does not speak TLS: use http:, not https:" in found.message
    assert (reached.stopped_at, reached.found) == (Stage.TLS, "the server does not speak TLS")


@pytest.mark.parametrize("read", [1, 65536])
def test_https_to_a_port_that_hangs_up(read: int) -> None:
    """A port that closes the connection during the handshake may be a plain one."""
    with hanging_up(read) as url:
        found = _refusal(url)
    assert "closed while TLS was set up" in found.message
    assert "should begin with http:" in found.message


def test_http_to_a_tls_port(tmp_path: Path) -> None:
    """For a port that closes plain connections the error says that TLS may be expected; with https: it is found."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    with ScriptedKfp(tls=context) as kfp:
        kfp.on("GET", "", answers(200, ["hello"]))
        found = _refusal(kfp.url.replace("https:", "http:"))
        assert "KFADAPTER_KFP_URL should begin with https:" in found.message
        assert "$ is not an object" in _refusal(kfp.url, tmp_path / "ca.pem").message


@pytest.mark.parametrize("what", ["an alert of TLS", "a Go server with TLS", "an nginx with TLS"])
def test_the_doctor_sees_tls(scripted: ScriptedKfp, what: str) -> None:
    """The doctor stops at TLS, and says what to write."""
    scripted.on("GET", "", ANSWERS[what][0])
    reached = reach(TransportSettings(scripted.url))
    assert (reached.stopped_at, reached.found) == (Stage.TLS, "the server expects TLS")
    assert "https: instead of http:" in reached.advice
