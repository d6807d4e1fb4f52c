"""Authorization: every RPC of the contract, with every kind of credentials."""

from __future__ import annotations

from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import grpc
import pytest
from tests.certificates import CertificateAuthority
from tests.connecting import connect
from tests.contract.running import WAIT_SECONDS, Reported, eventually, failure
from tests.contract.secrets import every_call
from tests.contract.tokens import TOKENS, bearer, token_lines
from tests.scripted_kfp import ScriptedKfp

from kfadapter_grpc.contract.call import Role
from kfadapter_grpc.methods import METHOD_OF_REQUEST, METHODS, CallKind, RpcMethod
from kfadapter_grpc.server import AdapterServer
from kfadapter_grpc.server.process import servicers
from kfadapter_grpc.settings import Settings
from kfadapter_grpc.upload.limits import UploadLimits
from kfadapter_grpc.watch.poller import WatchPoller

if TYPE_CHECKING:
    from collections.abc import Iterator

    Metadata: TypeAlias = tuple[tuple[str, str | bytes], ...]


@dataclass(frozen=True)
class Guarded:
    """An adapter that authenticates callers, and the KFP in front of which it runs."""

    kfp: ScriptedKfp
    server: AdapterServer


@contextmanager
def guarded(**settings: object) -> Iterator[Guarded]:
    """Runs an adapter, built as the process builds it."""
    with ExitStack() as stack:
        kfp = stack.enter_context(ScriptedKfp())
        backend = stack.enter_context(closing(connect(kfp.url)))
        watches = stack.enter_context(closing(WatchPoller(backend.runs)))
        loaded = Settings.load(config=None, listen="127.0.0.1:0", **settings)
        served = servicers(backend, watches, UploadLimits(), "")
        server = stack.enter_context(AdapterServer(loaded, served, lambda: True, watches.drain))
        yield Guarded(kfp, server)


@dataclass(frozen=True)
class Ways:
    """The channels to an adapter: one for each certificate, or the same one for all tokens."""

    adapter: Guarded
    channels: dict[str, grpc.Channel]


def by_token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ways]:
    """An adapter that requires tokens."""
    file = tmp_path_factory.mktemp("tokens") / "tokens"
    file.write_text(token_lines("reader", "writer", "expired"))
    with guarded(token_file=file) as adapter, grpc.insecure_channel(adapter.server.address, OWN) as channel:
        yield Ways(adapter, dict.fromkeys(("none", "unknown", "expired", "reader", "writer"), channel))


def by_certificate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ways]:
    """An adapter that requires certificates."""
    folder = tmp_path_factory.mktemp("certificates")
    ca = CertificateAuthority()
    certificate, key = ca.issue("localhost", "127.0.0.1").write(folder, "server")
    listed = {"tls_client_names": "writer, spiffe://cluster/ns/ml/sa/manager", "tls_client_readers": "reader"}
    with ExitStack() as stack:
        adapter = stack.enter_context(
            guarded(tls_certificate=certificate, tls_key=key, tls_client_ca=ca.write(folder), **listed)
        )
        names = {
            "reader": "reader",
            "writer": "writer",
            "unlisted": "other",
            "uri": "spiffe://cluster/ns/ml/sa/manager",
        }
        channels = {}
        for who, name in names.items():
            pair = ca.issue(name)
            credentials = grpc.ssl_channel_credentials(ca.certificate, pair.key, pair.certificate)
            channels[who] = stack.enter_context(grpc.secure_channel(adapter.server.address, credentials, OWN))
        yield Ways(adapter, channels)


OWN = (("grpc.use_local_subchannel_pool", 1),)
# Rejected and allowed calls get adapters of their own: a request still on its way to KFP for an allowed call would
# look as if it came from a rejected one.
refusing_tokens = pytest.fixture(scope="module", name="refusing_tokens")(by_token)
allowing_tokens = pytest.fixture(scope="module", name="allowing_tokens")(by_token)
refusing_certificates = pytest.fixture(scope="module", name="refusing_certificates")(by_certificate)
allowing_certificates = pytest.fixture(scope="module", name="allowing_certificates")(by_certificate)


REQUESTS = {METHOD_OF_REQUEST[sent[0].DESCRIPTOR.name].path: sent for sent in every_call()}
"""A request of each RPC for which the adapter asks KFP."""


def messages(method: RpcMethod) -> list[bytes]:
    """The messages of a request to a method."""
    return [one.SerializeToString() for one in REQUESTS[method.path]]


def begin(channel: grpc.Channel, method: RpcMethod, metadata: Metadata) -> grpc.Future:  # type: ignore[type-arg]
    """Starts a call."""
    sent = messages(method)
    if method.kind is CallKind.UPLOAD:
        return channel.stream_unary(method.path, request_serializer=bytes).future(
            iter(sent), timeout=WAIT_SECONDS, metadata=metadata
        )
    if method.kind is CallKind.STREAM:
        return channel.unary_stream(method.path, request_serializer=bytes)(  # type: ignore[return-value]
            sent[0], timeout=WAIT_SECONDS, metadata=metadata
        )
    return channel.unary_unary(method.path, request_serializer=bytes).future(
        sent[0], timeout=WAIT_SECONDS, metadata=metadata
    )


def refused(ways: Ways, who: str, method: RpcMethod) -> Reported:
    """Makes a call that must fail, without a single request to KFP."""
    call = begin(ways.channels[who], method, bearer(TOKENS[who]) if who in TOKENS else ())
    it = failure(lambda: list(call) if method.kind is CallKind.STREAM else call.result())  # type: ignore[call-overload]
    assert ways.adapter.kfp.requests == []
    return it


def allowed(ways: Ways, who: str, method: RpcMethod) -> None:
    """Makes a call that must reach KFP."""
    before = len(ways.adapter.kfp.requests)
    call = begin(ways.channels[who], method, bearer(TOKENS[who]) if who in TOKENS else ())
    eventually(lambda: len(ways.adapter.kfp.requests) > before)
    call.cancel()
    eventually(lambda: not ways.adapter.server.admission.count())


WITHOUT_KFP = {path for path, method in METHODS.items() if method.role is None}
"""The RPCs that need no role and do not call KFP (test_identity_service.py)."""
WRITES = [path for path, method in METHODS.items() if not method.read_only]
READS = [path for path, method in METHODS.items() if method.role is Role.READER]


def test_every_rpc_has_a_request() -> None:
    """Every RPC is included below, and the contract has both reads and writes."""
    assert set(REQUESTS) == set(METHODS) == {*READS, *WRITES, *WITHOUT_KFP}
    assert len(READS) > 5
    assert len(WRITES) > 5


@pytest.mark.parametrize("path", METHODS)
@pytest.mark.parametrize("who", ["none", "unknown", "expired"])
def test_without_a_valid_token(refusing_tokens: Ways, path: str, who: str) -> None:
    """Without a token, or with an unknown or expired one, every RPC is rejected before KFP is called."""
    it = refused(refusing_tokens, who, METHODS[path])
    assert (it.code, it.reason) == (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")
    words = {
        "none": "this adapter requires a token",
        "unknown": "none of this adapter's",
        "expired": "'expired' expired",
    }
    assert words[who] in it.message
    assert it.request_id
    assert not any(token in repr(it) for token in TOKENS.values())


@pytest.mark.parametrize("path", WRITES)
@pytest.mark.parametrize("way", ["tokens", "certificates"])
def test_a_reader_does_not_write(request: pytest.FixtureRequest, path: str, way: str) -> None:
    """A reader, by token or by certificate, is denied every RPC that has side effects."""
    it = refused(request.getfixturevalue(f"refusing_{way}"), "reader", METHODS[path])
    assert (it.code, it.reason) == (grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED")
    assert it.message.startswith(f"'reader' calls as a reader, and {path.lstrip('/')} needs a writer")
    assert it.metadata == {"caller": "reader", "role": "reader", "needed": "writer"}


@pytest.mark.parametrize("path", METHODS)
def test_certificate_with_an_unlisted_name(refusing_certificates: Ways, path: str) -> None:
    """A certificate of the right CA whose name is not listed is denied every RPC."""
    it = refused(refusing_certificates, "unlisted", METHODS[path])
    assert (it.code, it.reason) == (grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED")
    assert "(other, test) is allowed to call" in it.message


@pytest.mark.parametrize("path", READS)
@pytest.mark.parametrize("way", ["tokens", "certificates"])
def test_a_reader_reads(request: pytest.FixtureRequest, path: str, way: str) -> None:
    """A reader may call every RPC without side effects."""
    allowed(request.getfixturevalue(f"allowing_{way}"), "reader", METHODS[path])


@pytest.mark.parametrize("path", [*READS, *WRITES])
@pytest.mark.parametrize(("way", "who"), [("tokens", "writer"), ("certificates", "writer"), ("certificates", "uri")])
def test_a_writer_may_do_everything(request: pytest.FixtureRequest, path: str, way: str, who: str) -> None:
    """A writer may call every RPC."""
    allowed(request.getfixturevalue(f"allowing_{way}"), who, METHODS[path])
