"""Authentication and authorization over HTTP: the same tokens, roles and certificates as over gRPC."""

from __future__ import annotations

import socket
import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from tests.certificates import CertificateAuthority
from tests.contract.tokens import TOKENS, token_file, token_lines
from tests.legacy_http.calling import FORM, JSON, Caller, adapter, form, gateway, serving
from tests.legacy_http.test_routes import NOBODY
from tests.scripted_kfp import ScriptedKfp, answers

from kfadapter_grpc.auth.reloaded_files import Reloaded
from kfadapter_grpc.client import Client
from kfadapter_grpc.server import ServerStartError
from kfadapter_oran.legacy_http import limits, process
from kfadapter_oran.legacy_http.app import LegacyHttp
from kfadapter_oran.legacy_http.routes import ROUTES, LegacyRoute

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.certificates import Pair
    from tests.legacy_http.calling import Reply

    from kfadapter_grpc.auth.reloaded_files import Reloaded

CALLING = [route for route in ROUTES if route.handler is not None]
WORKING = [route for route in CALLING if route.method != "GET"]
READING = [route for route in CALLING if route.method == "GET"]
PIPELINE = {"pipeline_id": NOBODY, "display_name": "x"}
VERSION = {"pipeline_id": NOBODY, "pipeline_version_id": NOBODY, "display_name": "x", "pipeline_spec": {}}


def route_id(route: LegacyRoute) -> str:
    """Returns a route as a pytest id."""
    return f"{route.method} {route.path}"


def ask(caller: Caller, route: LegacyRoute) -> Reply:
    """Sends a request to a route for which the adapter calls KFP."""
    path = route.path.replace("{name}", NOBODY)
    if route.body_type == "form":
        return caller.say(route.method, path, form(("file", b"pipelineInfo: {name: x}\n")), content_type=FORM)
    if route.body_type == "json":
        body = b'{"pipeline_name": "x", "experiment_name": "x", "arguments": {}}'
        return caller.say(route.method, path, body, content_type=JSON)
    return caller.say(route.method, path)


@contextmanager
def kfp_with_a_pipeline() -> Iterator[ScriptedKfp]:
    """Runs a KFP that has one pipeline, and answers nothing else."""
    with ScriptedKfp() as server:
        server.on("GET", "/pipelines/names/", answers(200, PIPELINE))
        server.on("GET", "/v1beta1/pipeline_versions", answers(200, {"versions": [{"id": NOBODY, "name": "x"}]}))
        server.on("GET", f"/versions/{NOBODY}", answers(200, VERSION))
        server.on("GET", "/versions", answers(200, {"pipeline_versions": [VERSION], "total_size": 1}))
        server.on("GET", "/pipelines[?]", answers(200, {"pipelines": [PIPELINE], "total_size": 1}))
        yield server


@pytest.fixture
def kfp() -> Iterator[ScriptedKfp]:
    """A KFP with one pipeline."""
    with kfp_with_a_pipeline() as server:
        yield server


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ScriptedKfp, str]]:
    """Such a KFP, and the address of a gateway whose adapter requires tokens."""
    tokens = token_file(tmp_path_factory.mktemp("tokens"), token_lines("reader", "writer", "expired"))
    with kfp_with_a_pipeline() as kfp, adapter(kfp.url, token_file=tokens) as server:
        yield kfp, server.address


@pytest.mark.parametrize("route", CALLING, ids=route_id)
def test_callers_without_a_valid_token_are_refused(guarded: tuple[ScriptedKfp, str], route: LegacyRoute) -> None:
    """Every route returns 401 without a token, and for an unknown or expired one."""
    kfp, address = guarded
    kfp.requests.clear()
    for token in ("", TOKENS["unknown"], TOKENS["expired"]):
        reply = ask(Caller(address, token=token), route)
        reply.refusal(401, "UNAUTHENTICATED")
        assert reply.headers["www-authenticate"] == "Bearer"
    assert not kfp.requests


@pytest.mark.parametrize("route", WORKING, ids=route_id)
def test_readers_change_nothing(guarded: tuple[ScriptedKfp, str], route: LegacyRoute) -> None:
    """Every route that changes something returns 403 for a reader."""
    kfp, address = guarded
    kfp.requests.clear()
    ask(Caller(address, token=TOKENS["reader"]), route).refusal(403, "PERMISSION_DENIED")
    assert all(request.method == "GET" for request in kfp.requests)


@pytest.mark.parametrize("route", CALLING, ids=route_id)
def test_valid_callers_are_accepted(guarded: tuple[ScriptedKfp, str], route: LegacyRoute) -> None:
    """A writer can call every route, a reader those that only read: KFP is called for them."""
    kfp, address = guarded
    for role in ("reader", "writer") if route in READING else ("writer",):
        kfp.requests.clear()
        assert ask(Caller(address, token=TOKENS[role]), route).status not in {401, 403}
        assert kfp.requests


def test_liveness_is_for_everybody(tmp_path: Path, kfp: ScriptedKfp) -> None:
    """Liveness requires no token, as probes send none."""
    with adapter(kfp.url, token_file=token_file(tmp_path, token_lines("writer"))) as server:
        assert server.caller.get("/liveness").status == 200


def test_two_tokens_are_none(tmp_path: Path, kfp: ScriptedKfp) -> None:
    """A request with two tokens is rejected, as over gRPC."""
    with adapter(kfp.url, token_file=token_file(tmp_path, token_lines("writer"))) as server:
        line = f"Authorization: Bearer {TOKENS['writer']}\r\n"
        request = f"GET /runs HTTP/1.1\r\nHost: x\r\n{line}{line}\r\n"
        assert server.caller.raw(request.encode()).startswith(b"HTTP/1.1 401 ")


def test_callers_own_credentials_go_to_kfp(kfp: ScriptedKfp) -> None:
    """With forwarded credentials KFP is called with those of the HTTP client."""
    with adapter(kfp.url, kfp_credentials="forward") as server:
        ask(Caller(server.address, token="of-alice"), READING[0])  # noqa: S106 - a token that is none
        assert {request.headers["authorization"] for request in kfp.requests} == {"Bearer of-alice"}
        ask(server.caller, READING[0]).refusal(401, "UNAUTHENTICATED")


def test_pages_in_browsers_may_not_call(kfp: ScriptedKfp) -> None:
    """A request from a web page is rejected: any page could otherwise call an adapter on its reader's machine."""
    with adapter(kfp.url) as server:
        caller = server.caller
        caller.say("GET", "/pipelines", Origin="http://example.org").refusal(403, "FORBIDDEN")
        assert not kfp.requests


def test_the_gateways_own_token(tmp_path: Path, kfp: ScriptedKfp) -> None:
    """Requests without a token use the gateway's own, if set; a request's own token takes precedence."""
    tokens = token_file(tmp_path, token_lines("reader", "writer"))
    with serving(kfp.url, token_file=tokens) as adapter, gateway(adapter, token=TOKENS["reader"]) as server:
        assert ask(server.caller, READING[0]).status == 200
        ask(server.caller, WORKING[0]).refusal(403, "PERMISSION_DENIED")
        writer = Caller(server.address, token=TOKENS["writer"])
        assert ask(writer, WORKING[0]).status not in {401, 403}
        ask(Caller(server.address, token=TOKENS["unknown"]), READING[0]).refusal(401, "UNAUTHENTICATED")


def test_tokens_do_not_leave_the_machine_in_plain_text() -> None:
    """A request with a token is rejected if the adapter is on another machine and TLS is off."""
    app = LegacyHttp(Client("adapter.example.com:50051"), max_upload_bytes=1)
    with process.serving("127.0.0.1:0", app) as address:
        reported = Caller(address, token="of-alice").get("/pipelines")  # noqa: S106 - a token that is none
        assert "without TLS" in reported.refusal(403, "FORBIDDEN")["message"]


class Certified:
    """Certificate files, and TLS contexts of clients."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = CertificateAuthority()
        self.issue()

    def issue(self) -> None:
        """Writes a new certificate for the server."""
        self.ca.issue("localhost", "127.0.0.1").write(self.folder, "server")

    def tls(self, client_ca: Path | None = None) -> Reloaded[ssl.SSLContext]:
        """Returns the gateway's TLS context."""
        return process.tls_context(self.folder / "server.pem", self.folder / "server.key", client_ca)

    def context(self, pair: Pair | None = None) -> ssl.SSLContext:
        """Returns a client's TLS context, which trusts the CA."""
        context = ssl.create_default_context(cadata=self.ca.certificate.decode())
        if pair is not None:
            context.load_cert_chain(*pair.write(self.folder, "caller"))
        return context


@pytest.fixture
def certified(tmp_path: Path) -> Certified:
    """The certificate files."""
    return Certified(tmp_path)


@contextmanager
def over_tls(tls: Reloaded[ssl.SSLContext]) -> Iterator[str]:
    """Runs a gateway with TLS and without an adapter; yields its address."""
    app = LegacyHttp(Client("127.0.0.1:1"), max_upload_bytes=1)
    with process.serving("127.0.0.1:0", app, lambda: tls.value) as address:
        yield address


def works(caller: Caller) -> bool:
    """Whether a client gets a response; a failed handshake is none."""
    try:
        return caller.get("/liveness").status == 200
    except (ssl.SSLError, ConnectionError):
        return False


def test_tls(certified: Certified) -> None:
    """With a certificate the server speaks HTTP over TLS only."""
    with over_tls(certified.tls()) as address:
        assert works(Caller(address, certified.context()))
        assert not works(Caller(address, ssl.create_default_context()))
        assert b"HTTP" not in Caller(address).raw(b"GET /liveness HTTP/1.1\r\nHost: x\r\n\r\n")


def test_calls_over_tls(certified: Certified, kfp: ScriptedKfp) -> None:
    """Requests over TLS, including uploads, are served like others."""
    tls = certified.tls()
    with serving(kfp.url) as adapter, gateway(adapter, tls=lambda: tls.value) as server:
        caller = Caller(server.address, certified.context())
        assert ask(caller, READING[0]).status == 200
        caller.upload("x", b"pipelineInfo: [" * 100_000).refusal(400, "INVALID_PIPELINE_FILE")


def test_a_connection_ends_with_its_response(certified: Certified) -> None:
    """The connection is closed after a complete request, even if the client waits for the close."""
    with over_tls(certified.tls()) as address:
        host, _, port = address.rpartition(":")
        with (
            socket.create_connection((host, int(port)), limits.LINGER_SECONDS / 2) as plain,
            certified.context().wrap_socket(plain, server_hostname=host) as connection,
        ):
            connection.sendall(b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
            while connection.recv(65536):
                pass


def test_client_certificates(certified: Certified) -> None:
    """If client certificates are required, a connection without one issued by the CA fails."""
    with over_tls(certified.tls(certified.ca.write(certified.folder))) as address:
        assert works(Caller(address, certified.context(certified.ca.issue("writer"))))
        assert not works(Caller(address, certified.context()))
        assert not works(Caller(address, certified.context(CertificateAuthority().issue("writer"))))


def test_a_new_certificate_is_read(certified: Certified) -> None:
    """Changed certificate files, including the client CA, are reloaded while the gateway runs."""
    tls = certified.tls(certified.ca.write(certified.folder))
    with over_tls(tls) as address:
        before = certified.context(certified.ca.issue("x"))
        assert works(Caller(address, before))
        certified.ca = CertificateAuthority()
        certified.issue()
        certified.ca.write(certified.folder)
        tls.refresh()
        assert works(Caller(address, certified.context(certified.ca.issue("x"))))
        assert not works(Caller(address, before))


def test_a_wrong_certificate_is_not_read(certified: Certified) -> None:
    """Invalid certificate files leave the previous certificate in use."""
    tls = certified.tls()
    before = tls.value
    (certified.folder / "server.pem").write_text("none")
    tls.refresh()
    assert tls.value is before


def test_a_handshake_that_does_not_end(certified: Certified, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that never starts the TLS handshake is closed."""
    monkeypatch.setattr(limits, "HEAD_SECONDS", 0.2)
    with over_tls(certified.tls()) as address:
        assert Caller(address).raw(b"") == b""


def test_a_port_in_use() -> None:
    """A port in use is an error that names it, and the option."""
    app = LegacyHttp(Client("127.0.0.1:1"), max_upload_bytes=1)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(ServerStartError, match=rf"127\.0\.0\.1:{port} is in use; .* with --listen"),
            process.serving(f"127.0.0.1:{port}", app),
        ):
            pass
