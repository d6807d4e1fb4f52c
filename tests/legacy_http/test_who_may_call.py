"""Who may call over HTTP: the same tokens, roles and certificates as over gRPC."""

from __future__ import annotations

import socket
import ssl
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from tests.certificates import CertificateAuthority
from tests.contract.running import eventually
from tests.contract.tokens import TOKENS, token_file, token_lines
from tests.legacy_http.calling import FORM, JSON, Caller, adapter, form
from tests.legacy_http.test_routes import NOBODY
from tests.scripted_kfp import ScriptedKfp, answers

from kfadapter_grpc.auth.certificates import server_certificate
from kfadapter_grpc.auth.reloaded import Reloaded
from kfadapter_grpc.server import ServerStartError
from kfadapter_grpc.server.http_tls import HttpTls
from kfadapter_grpc.settings import Settings, SettingsError
from kfadapter_oran.legacy_http import limits
from kfadapter_oran.legacy_http.routes import ROUTES, Route

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.certificates import Pair
    from tests.legacy_http.calling import Reply

CALLING = [route for route in ROUTES if route.handler is not None]
WORKING = [route for route in CALLING if route.method != "GET"]
READING = [route for route in CALLING if route.method == "GET"]
PIPELINE = {"pipeline_id": NOBODY, "display_name": "x"}
VERSION = {"pipeline_id": NOBODY, "pipeline_version_id": NOBODY, "display_name": "x", "pipeline_spec": {}}


def said(route: Route) -> str:
    """A route as a test's id."""
    return f"{route.method} {route.path}"


def ask(caller: Caller, route: Route) -> Reply:
    """Makes a request of a route for which the adapter asks KFP."""
    path = route.path.replace("{name}", NOBODY)
    if route.takes == "form":
        return caller.say(route.method, path, form(("file", b"pipelineInfo: {name: x}\n")), content_type=FORM)
    if route.takes == "json":
        body = b'{"pipeline_name": "x", "experiment_name": "x", "arguments": {}}'
        return caller.say(route.method, path, body, content_type=JSON)
    return caller.say(route.method, path)


@pytest.fixture
def kfp() -> Iterator[ScriptedKfp]:
    """A KFP that knows a pipeline, and answers nothing else."""
    with ScriptedKfp() as server:
        server.on("GET", "/pipelines/names/", answers(200, PIPELINE))
        server.on("GET", "/v1beta1/pipeline_versions", answers(200, {"versions": [{"id": NOBODY, "name": "x"}]}))
        server.on("GET", f"/versions/{NOBODY}", answers(200, VERSION))
        server.on("GET", "/versions", answers(200, {"pipeline_versions": [VERSION], "total_size": 1}))
        server.on("GET", "/pipelines[?]", answers(200, {"pipelines": [PIPELINE], "total_size": 1}))
        yield server


@pytest.mark.parametrize("route", CALLING, ids=said)
def test_nobody_calls_without_a_valid_token(tmp_path: Path, kfp: ScriptedKfp, route: Route) -> None:
    """Every route answers 401 to who has no token, one that is none of the adapter's, or one that has expired."""
    tokens = token_file(tmp_path, token_lines("reader", "writer", "expired"))
    with adapter(kfp.url, token_file=tokens) as server:
        for token in ("", TOKENS["unknown"], TOKENS["expired"]):
            reply = ask(Caller(server.legacy_http_address, token=token), route)
            reply.refusal(401, "UNAUTHENTICATED")
            assert reply.headers["www-authenticate"] == "Bearer"
            assert not kfp.requests


@pytest.mark.parametrize("route", WORKING, ids=said)
def test_readers_change_nothing(tmp_path: Path, kfp: ScriptedKfp, route: Route) -> None:
    """Every route that changes something answers 403 to a reader."""
    tokens = token_file(tmp_path, token_lines("reader", "writer"))
    with adapter(kfp.url, token_file=tokens) as server:
        ask(Caller(server.legacy_http_address, token=TOKENS["reader"]), route).refusal(403, "PERMISSION_DENIED")
        assert all(request.method == "GET" for request in kfp.requests)


@pytest.mark.parametrize("route", CALLING, ids=said)
def test_who_may_call_is_let_in(tmp_path: Path, kfp: ScriptedKfp, route: Route) -> None:
    """A writer calls every route, a reader those that change nothing: KFP is asked for them."""
    tokens = token_file(tmp_path, token_lines("reader", "writer"))
    with adapter(kfp.url, token_file=tokens) as server:
        for role in ("reader", "writer") if route in READING else ("writer",):
            kfp.requests.clear()
            assert ask(Caller(server.legacy_http_address, token=TOKENS[role]), route).status not in {401, 403}
            assert kfp.requests


def test_liveness_is_for_everybody(tmp_path: Path, kfp: ScriptedKfp) -> None:
    """Probes bring no token."""
    with adapter(kfp.url, token_file=token_file(tmp_path, token_lines("writer"))) as server:
        assert Caller(server.legacy_http_address).get("/liveness").status == 200


def test_two_tokens_are_none(tmp_path: Path, kfp: ScriptedKfp) -> None:
    """A request with two tokens is refused, as a call over gRPC is."""
    with adapter(kfp.url, token_file=token_file(tmp_path, token_lines("writer"))) as server:
        line = f"Authorization: Bearer {TOKENS['writer']}\r\n"
        request = f"GET /runs HTTP/1.1\r\nHost: x\r\n{line}{line}\r\n"
        assert Caller(server.legacy_http_address).raw(request.encode()).startswith(b"HTTP/1.1 401 ")


def test_callers_own_credentials_go_to_kfp(kfp: ScriptedKfp) -> None:
    """Where KFP is asked as the callers, it is asked as who calls over HTTP."""
    with adapter(kfp.url, kfp_credentials="forward") as server:
        ask(Caller(server.legacy_http_address, token="of-alice"), READING[0])  # noqa: S106 - a token that is none
        assert {request.headers["authorization"] for request in kfp.requests} == {"Bearer of-alice"}
        ask(Caller(server.legacy_http_address), READING[0]).refusal(401, "UNAUTHENTICATED")


def test_pages_in_browsers_may_not_call(kfp: ScriptedKfp) -> None:
    """A request that a page made is refused: any page could otherwise call an adapter on its reader's machine."""
    with adapter(kfp.url) as server:
        caller = Caller(server.legacy_http_address)
        caller.say("GET", "/pipelines", Origin="http://example.org").refusal(403, "FORBIDDEN")
        assert not kfp.requests


class Certified:
    """Files of certificates, and callers with certificates."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = CertificateAuthority()
        self.issue()

    def issue(self) -> None:
        """Writes a new certificate for the server."""
        self.ca.issue("localhost", "127.0.0.1").write(self.folder, "server")

    def tls(self) -> dict[str, Any]:
        """Settings for TLS."""
        return {"tls_certificate": self.folder / "server.pem", "tls_key": self.folder / "server.key"}

    def mtls(self, **more: object) -> dict[str, Any]:
        """Settings for mTLS."""
        return {**self.tls(), "tls_client_ca": self.ca.write(self.folder), **more}

    def context(self, pair: Pair | None = None) -> ssl.SSLContext:
        """What a caller believes and shows."""
        context = ssl.create_default_context(cadata=self.ca.certificate.decode())
        if pair is not None:
            context.load_cert_chain(*pair.write(self.folder, "caller"))
        return context


@pytest.fixture
def certified(tmp_path: Path) -> Certified:
    """The files."""
    return Certified(tmp_path)


def works(caller: Caller) -> bool:
    """Tells whether a caller gets an answer; what TLS refuses gets none."""
    try:
        return caller.get("/liveness").status == 200
    except (ssl.SSLError, ConnectionError):
        return False


def test_tls(certified: Certified, kfp: ScriptedKfp) -> None:
    """With a certificate HTTP is spoken over TLS, and in no other way."""
    with adapter(kfp.url, **certified.tls()) as server:
        address = server.legacy_http_address
        assert works(Caller(address, certified.context()))
        assert not works(Caller(address, ssl.create_default_context()))
        assert b"HTTP" not in Caller(address).raw(b"GET /liveness HTTP/1.1\r\nHost: x\r\n\r\n")


def test_a_connection_ends_with_its_answer(certified: Certified, kfp: ScriptedKfp) -> None:
    """Nothing is waited for when the request has come whole, even where its caller waits for the end."""
    with adapter(kfp.url, **certified.tls()) as server:
        host, _, port = server.legacy_http_address.rpartition(":")
        with (
            socket.create_connection((host, int(port)), limits.LINGER_SECONDS / 2) as plain,
            certified.context().wrap_socket(plain, server_hostname=host) as connection,
        ):
            connection.sendall(b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
            while connection.recv(65536):
                pass


def test_names_in_certificates(certified: Certified, kfp: ScriptedKfp) -> None:
    """Names in client certificates have the roles that they have over gRPC; without one there is no connection."""
    listed = certified.mtls(
        tls_client_names="writer, spiffe://cluster/ns/ml/sa/manager, alone", tls_client_readers="reader"
    )
    with adapter(kfp.url, **listed) as server:
        address = server.legacy_http_address

        def status(pair: Pair, route: Route) -> int:
            return ask(Caller(address, certified.context(pair)), route).status

        for pair in (
            certified.ca.issue("writer"),
            certified.ca.issue("spiffe://cluster/ns/ml/sa/manager"),
            certified.ca.issue(common_name="alone"),
        ):
            assert status(pair, READING[0]) == 200
            assert status(pair, WORKING[0]) not in {401, 403}
        assert status(certified.ca.issue("reader"), READING[0]) == 200
        assert status(certified.ca.issue("reader"), WORKING[0]) == 403
        assert status(certified.ca.issue("other"), READING[0]) == 403
        assert not works(Caller(address, certified.context()))
        assert not works(Caller(address, certified.context(CertificateAuthority().issue("writer"))))


def test_a_new_certificate_is_taken_up(certified: Certified, kfp: ScriptedKfp) -> None:
    """Files of certificates that change while the server runs are taken up, those of callers' CAs, too."""
    with adapter(kfp.url, **certified.mtls(tls_client_names="*")) as server:
        address, before = server.legacy_http_address, certified.context(certified.ca.issue("x"))
        assert works(Caller(address, before))
        certified.ca = CertificateAuthority()
        certified.issue()
        certified.ca.write(certified.folder)
        after = certified.context(certified.ca.issue("x"))
        eventually(lambda: works(Caller(address, after)))
        assert not works(Caller(address, before))


def test_a_wrong_certificate_is_not_taken_up(certified: Certified) -> None:
    """Files that have changed once more, and cannot be used, leave the certificate from before, and are tried again."""
    settings = Settings.load(listen="127.0.0.1:0", legacy_http=0, **certified.tls())
    pem, key = certified.folder / "server.pem", certified.folder / "server.key"
    reloaded = Reloaded("the certificate", [pem, key], server_certificate)
    tls = HttpTls(settings, reloaded)
    before, good = tls.context(), pem.read_bytes()
    tls.refresh()
    assert tls.context() is before, "nothing has changed"
    reloaded.value = server_certificate(good, key.read_bytes())
    pem.write_text("none")
    tls.refresh()
    assert tls.context() is before
    pem.write_bytes(good)
    tls.refresh()
    assert tls.context() is not before


def test_who_does_not_finish_a_handshake(
    certified: Certified, kfp: ScriptedKfp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection on which no TLS begins is ended."""
    monkeypatch.setattr("kfadapter_oran.legacy_http.limits.HEAD_SECONDS", 0.2)
    with adapter(kfp.url, **certified.tls()) as server:
        assert Caller(server.legacy_http_address).raw(b"") == b""


def test_addresses_that_others_reach_need_tls() -> None:
    """HTTP is answered on gRPC's own host, so that the rule for that holds for it, too."""
    with pytest.raises(SettingsError, match="without TLS calls can be read"):
        Settings.load(listen="0.0.0.0:0", legacy_http=0)
    with ExitStack() as stack:
        server = stack.enter_context(adapter("http://127.0.0.1:1"))
        assert server.legacy_http_address.startswith("127.0.0.1:")


def test_a_port_in_use(kfp: ScriptedKfp) -> None:
    """A port that is taken is an error that names it, and the option."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(ServerStartError, match=rf"127\.0\.0\.1:{port} is in use; .* with --legacy-http"),
            adapter(kfp.url, legacy_http=port),
        ):
            pass
