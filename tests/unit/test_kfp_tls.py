"""TLS with a KFP that has its own authority, and requires a client certificate or not."""

from __future__ import annotations

import ssl
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import pytest
import trustme
from tests.scripted_kfp import ScriptedKfp, answers

from kfadapter_grpc.contract.call import Call
from kfadapter_grpc.contract.errors import KfpUnavailableError
from kfadapter_grpc.kfp.connections import TlsFiles
from kfadapter_grpc.kfp.transport import NotSentError, Request, Transport, TransportSettings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(frozen=True)
class Authority:
    """An authority, and the file of its certificate."""

    ca: trustme.CA
    file: Path

    def context(self, name: str = "127.0.0.1", year: int | None = None) -> ssl.SSLContext:
        """The TLS context of a server of that name; its certificate is valid for the given year, or for long."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        begin, end = (datetime(each, 1, 1, tzinfo=timezone.utc) for each in ((year or 2020), (year or 2119) + 1))
        self.ca.issue_cert(name, not_before=begin, not_after=end).configure_cert(context)
        return context

    def client(self, folder: Path) -> TlsFiles:
        """Files for a client of servers of this authority, with a certificate of its own."""
        made = self.ca.issue_cert("adapter@example.org")
        made.private_key_pem.write_to_path(folder / "key.pem")
        for number, blob in enumerate(made.cert_chain_pems):
            blob.write_to_path(folder / "cert.pem", append=bool(number))
        return TlsFiles(self.file, folder / "cert.pem", folder / "key.pem")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """The authority that issues KFP's certificate."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    return Authority(ca, tmp_path / "ca.pem")


@pytest.fixture
def kfp(authority: Authority) -> Iterator[ScriptedKfp]:
    """A KFP with TLS."""
    with ScriptedKfp(tls=authority.context()) as server:
        yield server.on("GET", "/x", answers(200)).on("POST", "/x", answers(200))


def status(kfp: ScriptedKfp, tls: TlsFiles, method: str = "GET") -> int:
    """Makes a request to KFP over a new connection."""
    with closing(Transport(TransportSettings(kfp.url, tls=tls))) as transport:
        return transport.send(Request(method, "/x"), Call("r", 20)).status


def refusal(kfp: ScriptedKfp, tls: TlsFiles) -> KfpUnavailableError:
    """The error of a request that must fail before it is sent."""
    with pytest.raises(KfpUnavailableError) as caught:
        status(kfp, tls, "POST")
    assert kfp.requests == []
    assert "KFADAPTER_KFP_CA_FILE" in caught.value.message
    return caught.value


def test_an_authority_of_its_own(kfp: ScriptedKfp, authority: Authority) -> None:
    """With `kfp_ca_file`, a KFP with a certificate of that authority is trusted."""
    assert status(kfp, TlsFiles(authority.file)) == 200


def test_an_authority_that_was_not_named(kfp: ScriptedKfp) -> None:
    """Without it, that KFP is not trusted; nothing is sent, and the cause is reported."""
    error = refusal(kfp, TlsFiles())
    assert isinstance(error, NotSentError)
    assert "local issuer certificate" in error.message


def test_another_name(kfp: ScriptedKfp, authority: Authority) -> None:
    """A certificate for another name is rejected."""
    kfp.tls = authority.context("kfp.example.org")
    assert "not valid for '127.0.0.1'" in refusal(kfp, TlsFiles(authority.file)).message


def test_an_expired_certificate(kfp: ScriptedKfp, authority: Authority) -> None:
    """An expired certificate is rejected."""
    kfp.tls = authority.context(year=2020)
    assert "expired" in refusal(kfp, TlsFiles(authority.file)).message


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_certificate(kfp: ScriptedKfp, authority: Authority, tmp_path: Path, newest: ssl.TLSVersion) -> None:
    """A KFP that requires a client certificate gets ours; without one, the error is about TLS."""
    assert kfp.tls is not None
    kfp.tls.verify_mode = ssl.CERT_REQUIRED
    kfp.tls.maximum_version = newest
    authority.ca.configure_trust(kfp.tls)
    refusal(kfp, TlsFiles(authority.file))
    assert status(kfp, authority.client(tmp_path), "POST") == 200


def test_changed_files_need_no_restart(kfp: ScriptedKfp, authority: Authority) -> None:
    """Files are read for each new connection, so the authority of KFP's certificate may change."""
    with closing(Transport(TransportSettings(kfp.url, tls=TlsFiles(authority.file)))) as transport:
        assert transport.send(Request("POST", "/x"), Call("r", 20)).status == 200
        other = trustme.CA()
        kfp.tls = Authority(other, authority.file).context()
        with pytest.raises(NotSentError):
            transport.send(Request("POST", "/x"), Call("r", 20))
        other.cert_pem.write_to_path(authority.file)
        assert transport.send(Request("POST", "/x"), Call("r", 20)).status == 200
