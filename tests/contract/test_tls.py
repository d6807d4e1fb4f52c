"""TLS and mTLS with certificates of a CA that the test creates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from structlog.testing import capture_logs
from tests.certificates import CertificateAuthority
from tests.contract.running import WAIT_SECONDS, Scripted, eventually, failure
from tests.contract.tokens import TOKENS, bearer, token_file, token_lines

from kfadapter.v1 import pipeline_pb2
from kfadapter.v1.pipeline_pb2_grpc import PipelineServiceStub
from kfadapter_grpc.server import AdapterServer, ServerStartError
from kfadapter_grpc.setting_sources import SettingsError
from kfadapter_grpc.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.certificates import Pair
    from tests.contract.conftest import Serve
    from tests.contract.running import Running

GET = pipeline_pb2.GetPipelineRequest(name="hello")
DELETE = pipeline_pb2.DeletePipelineRequest(name="hello")
OWN = (("grpc.use_local_subchannel_pool", 1),)


class Connect(Protocol):
    """Connects to a server over TLS."""

    def __call__(self, running: Running, ca: CertificateAuthority, pair: Pair | None = None) -> PipelineServiceStub:
        """Trusts a CA, and presents a certificate if there is one."""
        ...


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Opens new connections, and closes them at the end."""
    channels: list[grpc.Channel] = []

    def connected(running: Running, ca: CertificateAuthority, pair: Pair | None = None) -> PipelineServiceStub:
        shown = (pair.key, pair.certificate) if pair else (None, None)
        credentials = grpc.ssl_channel_credentials(ca.certificate, *shown)
        channels.append(grpc.secure_channel(running.server.address, credentials, OWN))
        return PipelineServiceStub(channels[-1])

    yield connected
    for channel in channels:
        channel.close()


@dataclass
class Certified:
    """A server's files: a certificate of a CA, its key, and the CA of its clients."""

    folder: Path
    ca: CertificateAuthority

    def issue(self, ca: CertificateAuthority) -> None:
        """Replaces the certificate by a new one of a CA."""
        ca.issue("localhost", "127.0.0.1").write(self.folder, "server")

    def tls(self) -> dict[str, Any]:
        """Settings for TLS."""
        self.issue(self.ca)
        return {"tls_certificate": self.folder / "server.pem", "tls_key": self.folder / "server.key"}

    def mtls(self, **more: object) -> dict[str, Any]:
        """Settings for mTLS."""
        return {**self.tls(), "tls_client_ca": self.ca.write(self.folder), **more}


@pytest.fixture
def certified(tmp_path: Path) -> Certified:
    """The files and their CA."""
    return Certified(tmp_path, CertificateAuthority())


def works(call: Callable[[], object]) -> bool:
    """Returns whether a call succeeds; a TLS failure shows as a failed connection."""
    try:
        call()
    except grpc.RpcError as error:
        if isinstance(error, grpc.Call) and error.code() is grpc.StatusCode.UNAVAILABLE:
            return False
        raise
    return True


def test_tls(serve: Serve, certified: Certified, connect: Connect) -> None:
    """With a certificate the server accepts TLS connections only."""
    running = serve(Scripted(), **certified.tls())
    stub = connect(running, certified.ca)
    assert stub.Get(GET, timeout=WAIT_SECONDS).name == "hello"
    assert not works(lambda: running.stub.Get(GET, timeout=WAIT_SECONDS))
    assert not works(lambda: connect(running, CertificateAuthority()).Get(GET, timeout=WAIT_SECONDS))


def test_the_certificate_of_another_host(serve: Serve, certified: Certified, connect: Connect) -> None:
    """A client connects only to a server whose certificate names the host that it has connected to."""
    settings = certified.tls()
    certified.ca.issue("elsewhere").write(certified.folder, "server")
    running = serve(Scripted(), **settings)
    assert not works(lambda: connect(running, certified.ca).Get(GET, timeout=WAIT_SECONDS))


def test_mtls(serve: Serve, certified: Certified, connect: Connect) -> None:
    """A client without a certificate, or with one of another CA or an expired one, gets no connection."""
    running = serve(Scripted(), **certified.mtls(tls_client_names="manager"))
    ca, other = certified.ca, CertificateAuthority()
    assert works(lambda: connect(running, ca, ca.issue("manager")).Get(GET, timeout=WAIT_SECONDS))
    for pair in (None, other.issue("manager"), ca.issue("manager", days=(-2, -1))):
        stub = connect(running, ca, pair)
        assert not works(lambda stub=stub: stub.Get(GET, timeout=WAIT_SECONDS))  # type: ignore[misc]


def test_common_name(serve: Serve, certified: Certified, connect: Connect) -> None:
    """A certificate may be identified by its common name; the log names the caller as the list of names does."""
    running = serve(Scripted(), **certified.mtls(tls_client_names="학습-관리자"))
    pair = certified.ca.issue("pod-7", common_name="학습-관리자")
    with capture_logs() as lines:
        connect(running, certified.ca, pair).Get(GET, timeout=WAIT_SECONDS)
        eventually(lambda: [line for line in lines if line["event"] == "call"])
    assert [line["caller"] for line in lines if line["event"] == "call"] == ["학습-관리자"]


def test_certificate_and_token(serve: Serve, certified: Certified, connect: Connect) -> None:
    """If both are required, they must name one caller, unless `*` allows all, and the weaker role applies."""
    names = {"tls_client_names": "*", "tls_client_readers": "writer, viewer"}
    file = token_file(certified.folder, token_lines("reader", "writer"))
    running = serve(Scripted(), **certified.mtls(**names, token_file=file))
    stubs = {name: connect(running, certified.ca, certified.ca.issue(name)) for name in ("any", "writer", "viewer")}
    outcomes = {}
    for name, stub in stubs.items():
        for token in ("reader", "writer", "unknown"):
            metadata = bearer(TOKENS[token])
            it = failure(lambda stub=stub, sent=metadata: stub.Delete(DELETE, metadata=sent))  # type: ignore[misc]
            outcomes[name, token] = it.reason, it.metadata.get("caller"), it.metadata.get("fault")
    assert outcomes == {
        ("any", "reader"): ("PERMISSION_DENIED", "reader", None),
        ("any", "writer"): ("UNSUPPORTED_BY_KFP", None, None),  # the response of the servicer behind these checks
        ("any", "unknown"): ("UNAUTHENTICATED", None, None),
        ("writer", "reader"): ("UNAUTHENTICATED", None, "TWO_IDENTITIES"),
        ("writer", "writer"): ("PERMISSION_DENIED", "writer", None),
        ("writer", "unknown"): ("UNAUTHENTICATED", None, None),
        ("viewer", "reader"): ("UNAUTHENTICATED", None, "TWO_IDENTITIES"),
        ("viewer", "writer"): ("UNAUTHENTICATED", None, "TWO_IDENTITIES"),
        ("viewer", "unknown"): ("UNAUTHENTICATED", None, None),
    }
    assert works(lambda: stubs["writer"].Get(GET, metadata=bearer(TOKENS["writer"])))
    named = serve(Scripted(), **certified.mtls(tls_client_names="manager", token_file=file))
    unlisted = connect(named, certified.ca, certified.ca.issue("other"))
    it = failure(lambda: unlisted.Get(GET, metadata=bearer(TOKENS["writer"])))
    assert it.reason == "PERMISSION_DENIED"


def test_rotation(serve: Serve, certified: Certified, connect: Connect) -> None:
    """A new certificate is presented to new connections, without a restart; existing connections continue."""
    running = serve(Scripted(), **certified.tls())
    old, new = certified.ca, CertificateAuthority()
    stub = connect(running, old)
    assert stub.Get(GET, timeout=WAIT_SECONDS).name == "hello"
    assert not works(lambda: connect(running, new).Get(GET, timeout=WAIT_SECONDS))
    certified.issue(new)
    eventually(lambda: works(lambda: connect(running, new).Get(GET, timeout=WAIT_SECONDS)))
    assert not works(lambda: connect(running, old).Get(GET, timeout=WAIT_SECONDS))
    assert stub.Get(GET, timeout=WAIT_SECONDS).name == "hello"


def test_rotation_of_the_callers_ca(serve: Serve, certified: Certified, connect: Connect) -> None:
    """After the clients' CA is replaced, certificates of the old one are rejected on new connections."""
    running = serve(Scripted(), **certified.mtls(tls_client_names="manager"))
    old, new = certified.ca, CertificateAuthority()
    assert works(lambda: connect(running, old, old.issue("manager")).Get(GET, timeout=WAIT_SECONDS))
    new.write(certified.folder)
    eventually(lambda: works(lambda: connect(running, old, new.issue("manager")).Get(GET, timeout=WAIT_SECONDS)))
    assert not works(lambda: connect(running, old, old.issue("manager")).Get(GET, timeout=WAIT_SECONDS))


@pytest.mark.parametrize("broken", ["rubbish", "another key", "half-written", "expired", "gone"])
def test_a_broken_certificate_is_not_read(serve: Serve, certified: Certified, connect: Connect, broken: str) -> None:
    """If the new files are invalid, the log reports it, and the old certificate stays in use."""
    running = serve(Scripted(), **certified.tls())
    with capture_logs() as lines:
        if broken == "gone":
            (certified.folder / "server.pem").unlink()
        elif broken == "expired":
            certified.ca.issue("localhost", days=(-3, -1)).write(certified.folder, "server")
        elif broken == "half-written":
            pair = certified.ca.issue("localhost")
            (certified.folder / "server.pem").write_bytes(pair.certificate[: len(pair.certificate) // 2])
        else:
            key = b"rubbish" if broken == "rubbish" else certified.ca.issue("x").key
            (certified.folder / "server.key").write_bytes(key)
        (line, *_) = eventually(lambda: [one for one in lines if one["log_level"] == "error"])
    assert line["event"] == "the certificate: invalid; the last valid contents are used"
    assert line["files"] == [str(certified.folder / "server.pem"), str(certified.folder / "server.key")]
    assert works(lambda: connect(running, certified.ca).Get(GET, timeout=WAIT_SECONDS))


def test_health_without_tls(serve: Serve, certified: Certified) -> None:
    """The second listener reports health without credentials, and serves nothing else."""
    running = serve(Scripted(), **certified.mtls(tls_client_names="*"), health_listen="127.0.0.1:0")
    address = str(running.server.authentication()["health_address"])
    with grpc.insecure_channel(address, OWN) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        assert check(health_pb2.HealthCheckRequest(), timeout=WAIT_SECONDS).status == SERVING
        with pytest.raises(grpc.RpcError) as caught:
            PipelineServiceStub(channel).Get(GET, timeout=WAIT_SECONDS)
        assert isinstance(caught.value, grpc.Call)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        running.server.drain()
        assert check(health_pb2.HealthCheckRequest(), timeout=WAIT_SECONDS).status != SERVING
    running.server.stop()
    with grpc.insecure_channel(address, OWN) as channel:
        assert not works(lambda: health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5))


SERVING = health_pb2.HealthCheckResponse.SERVING


def test_health_port_in_use(serve: Serve) -> None:
    """If the second address is in use, the error names it, with the option to change it."""
    taken = serve(Scripted()).server.address
    server = AdapterServer(Settings.load(listen="127.0.0.1:0", health_listen=taken), [Scripted()], lambda: True)
    with pytest.raises(ServerStartError) as caught:
        server.start()
    server.stop()
    assert str(caught.value) == f"{taken} is in use; choose another with --health-listen"


def test_files_that_changed_before_the_start(certified: Certified) -> None:
    """A file that becomes invalid between loading the settings and creating the server is a settings error."""
    settings = Settings.load(config=None, listen="127.0.0.1:0", **certified.tls())
    (certified.folder / "server.key").write_text("rubbish")
    with pytest.raises(SettingsError, match="there is no private key in PEM form in it"):
        AdapterServer(settings, [Scripted()], lambda: True)


@pytest.mark.parametrize(("more", "warned"), [({}, True), ({"tls_client_names": "*"}, False)])
def test_tls_alone_is_reported(certified: Certified, more: dict[str, Any], warned: bool) -> None:
    """If other machines can connect and callers are not authenticated, a warning reports it."""
    files = certified.mtls(**more) if more else certified.tls()
    settings = Settings.load(config=None, listen="0.0.0.0:0", **files)
    with capture_logs() as lines, AdapterServer(settings, [Scripted()], lambda: True):
        pass
    reported = [line["event"] for line in lines if line["log_level"] == "warning"]
    assert reported == (
        ["callers are not authenticated and have all rights: set token_file, issuers or tls_client_ca"] * warned
    )
