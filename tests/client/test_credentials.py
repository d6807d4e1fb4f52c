from __future__ import annotations

import io
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from tests.certificates import CertificateAuthority
from tests.client.fake_adapter import FakeAdapter, serving

from kfadapter_grpc.client import (
    CannotConnectError,
    Client,
    CredentialsError,
    PermissionDeniedError,
    Tls,
    UnauthenticatedError,
)
from kfadapter_grpc.client.credentials import Token, is_this_machine
from kfadapter_grpc.contract import errors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CANARY = "kfa_canary-4711"
FAR = "adapter.example:50051"


@dataclass(frozen=True)
class Secure:
    """A fake adapter behind mTLS, and its files."""

    target: str
    folder: Path
    ca: CertificateAuthority

    def tls(self, **more: Any) -> Tls:  # noqa: ANN401
        """What a client of it needs."""
        folder = self.folder
        return replace(Tls(folder / "ca.pem", folder / "me.pem", folder / "me.key", "adapter.example"), **more)


@pytest.fixture
def secure(fake: FakeAdapter, tmp_path: Path) -> Iterator[Secure]:
    """An adapter that requires a client certificate, and whose own is for `adapter.example`."""
    ca = CertificateAuthority()
    ca.write(tmp_path)
    ca.issue("me").write(tmp_path, "me")
    CertificateAuthority().write(tmp_path, "other")
    own = ca.issue("adapter.example")
    credentials = grpc.ssl_server_credentials([(own.key, own.certificate)], ca.certificate, require_client_auth=True)
    with serving(fake, credentials) as target:
        yield Secure(target, tmp_path, ca)


def test_every_call_carries_the_token(target: str, fake: FakeAdapter) -> None:
    """Calls of every shape carry the token as `authorization: Bearer TOKEN`."""
    fake.add("train")
    with Client(target, token=CANARY) as client:
        for call in (
            lambda: client.pipelines.get("train"),
            lambda: list(client.pipelines.list()),
            lambda: client.pipelines.upload(io.BytesIO(b"a: 1\n"), name="x"),
            lambda: client.pipelines.download("train", to=io.BytesIO()),
        ):
            fake.call_metadata = {}
            call()
            assert fake.call_metadata["authorization"] == f"Bearer {CANARY}"


def test_without_a_token_nothing_is_sent(target: str, fake: FakeAdapter) -> None:
    """A client without a token sends none."""
    fake.add("train")
    with Client(target) as client:
        client.pipelines.get("train")
    assert "authorization" not in fake.call_metadata


def test_a_token_file_is_read_again(target: str, fake: FakeAdapter, tmp_path: Path) -> None:
    """A token replaced in its file is used by the next call; if the file is missing or empty, the old one is used."""
    fake.add("train")
    file = tmp_path / "token"
    file.write_text("kfa_old\n")
    sent = []
    with Client(target, token_file=file) as client:
        for change in (lambda: None, lambda: file.write_text("kfa_new"), lambda: file.write_text(""), file.unlink):
            change()
            client.pipelines.get("train")
            sent.append(fake.call_metadata["authorization"])
    assert sent == ["Bearer kfa_old", "Bearer kfa_new", "Bearer kfa_new", "Bearer kfa_new"]


def test_credentials_from_the_environment(
    target: str, fake: FakeAdapter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment sets a token or a file; what the program sets takes precedence."""
    fake.add("train")
    file = tmp_path / "token"
    file.write_text("kfa_file")
    for variable, value, given, wanted in (
        ("KFADAPTER_TOKEN", "kfa_variable", None, "Bearer kfa_variable"),
        ("KFADAPTER_CLIENT_TOKEN_FILE", str(file), None, "Bearer kfa_file"),
        ("KFADAPTER_TOKEN", "kfa_variable", "kfa_given", "Bearer kfa_given"),
    ):
        with monkeypatch.context() as patch:
            patch.setenv(variable, value)
            with Client(target, token=given) as client:
                client.pipelines.get("train")
        assert fake.call_metadata["authorization"] == wanted


def test_a_servers_file_is_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """KFADAPTER_TOKEN_FILE is the server's: in its container, `kfadapter health` does not use it as its own token."""
    monkeypatch.setenv("KFADAPTER_TOKEN_FILE", "/nonexistent")
    with Client(FAR):
        pass


@pytest.mark.parametrize(
    ("target", "here"),
    [
        ("127.0.0.1:50051", True),
        ("127.8.8.8:1", True),
        ("localhost:50051", True),
        ("[::1]:50051", True),
        ("dns:///localhost:1", True),
        ("dns:127.0.0.1:1", True),
        ("ipv4:127.0.0.1:1", True),
        ("ipv6:[::1]:1", True),
        ("unix:/run/adapter", True),
        ("127.0.0.1.evil.example:50051", False),
        ("127.evil.example:50051", False),
        ("localhost.example:50051", False),
        ("0.0.0.0:50051", False),
        ("10.0.0.1:50051", False),
        ("adapter:50051", False),
        ("dns://10.0.0.1/localhost:1", False),
        ("ipv4:127.0.0.1:1,10.0.0.1:1", False),
        ("xds:///localhost:1", False),
        ("[2001:db8::1]:50051", False),
    ],
)
def test_what_is_this_machine(target: str, here: bool) -> None:
    """Only an address that cannot belong to another machine counts as this one."""
    assert is_this_machine(target) is here


def test_a_token_goes_nowhere_in_plain_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """A token for another machine requires TLS, or a flag that accepts the risk; the error does not show the token."""
    for tls in (None, False):
        with pytest.raises(CredentialsError) as caught:
            Client(FAR, token=CANARY, tls=tls)
        assert f"a token would go to {FAR} without TLS" in str(caught.value)
        assert "--insecure-token" in str(caught.value)
        assert CANARY not in str(caught.value)
    Client(FAR, token=CANARY, tls=True).close()
    Client(FAR, token=CANARY, insecure_token=True).close()
    monkeypatch.setenv("KFADAPTER_TOKEN", CANARY)
    with pytest.raises(CredentialsError):
        Client(FAR)
    monkeypatch.setenv("KFADAPTER_INSECURE_TOKEN", "0")
    with pytest.raises(CredentialsError):
        Client(FAR)
    monkeypatch.setenv("KFADAPTER_INSECURE_TOKEN", "1")
    Client(FAR).close()


@pytest.mark.parametrize("token", ["", "two words", "line\nend", "토큰", "x" * 9000])
def test_what_is_no_token(token: str, tmp_path: Path) -> None:
    """A value that cannot be sent as a token is rejected before any call, and not shown."""
    file = tmp_path / "token"
    file.write_text(token)
    for arguments in ({"token": token}, {"token_file": file}):
        with pytest.raises(CredentialsError) as caught:
            Client("127.0.0.1:1", **arguments)
        assert "is no token" in str(caught.value)
        assert not token or token not in str(caught.value)


def test_token_files_that_cannot_be_used(tmp_path: Path) -> None:
    """A missing file is reported with its path; a token and a file at once are rejected."""
    with pytest.raises(CredentialsError, match=r"none cannot be read: No such file or directory"):
        Client("127.0.0.1:1", token_file=tmp_path / "none")
    with pytest.raises(CredentialsError, match="not both"):
        Client("127.0.0.1:1", token="x", token_file=tmp_path)  # noqa: S106


def test_the_token_is_shown_nowhere(target: str, fake: FakeAdapter) -> None:
    """Neither the repr of an object that holds the token nor the error of a call contains it."""
    fake.failures = [errors.UnauthenticatedError("who are you?")]
    with Client(target, token=CANARY) as client:
        with pytest.raises(UnauthenticatedError) as caught:
            client.pipelines.get("x")
        shown = [repr(client), repr(vars(client)), repr(client._connection._credentials), repr(Token(CANARY))]
    shown += [repr(caught.value), str(caught.value), repr(vars(caught.value))]
    assert not any(CANARY in one for one in shown)
    assert repr(Token(CANARY)) == "Token(hidden)"


def test_refusals_are_classes(client: Client, fake: FakeAdapter) -> None:
    """UNAUTHENTICATED and PERMISSION_DENIED have a class each."""
    fake.failures = [errors.UnauthenticatedError("who?"), errors.PermissionDeniedError("no")]
    with pytest.raises(UnauthenticatedError, match="who"):
        client.pipelines.get("x")
    with pytest.raises(PermissionDeniedError, match="no"):
        client.pipelines.get("x")


def test_mtls(secure: Secure, fake: FakeAdapter) -> None:
    """With the CA, a certificate, its key and the name in the adapter's certificate, calls succeed."""
    fake.add("train")
    with Client(secure.target, tls=secure.tls(), token=CANARY) as client:
        assert client.pipelines.get("train").name == "train"
    assert fake.call_metadata["authorization"] == f"Bearer {CANARY}"


def test_tls_from_the_environment(secure: Secure, fake: FakeAdapter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables set everything that TLS needs, and enable it; False disables it."""
    fake.add("train")
    for name, value in {
        "CA": secure.folder / "ca.pem",
        "CLIENT_CERTIFICATE": secure.folder / "me.pem",
        "CLIENT_KEY": secure.folder / "me.key",
        "SERVER_NAME": "adapter.example",
    }.items():
        monkeypatch.setenv(f"KFADAPTER_{name}", str(value))
    for tls in (None, True):
        with Client(secure.target, tls=tls) as client:
            assert client.pipelines.get("train").name == "train"
    with Client(secure.target, tls=False, timeout=5) as client, pytest.raises(CannotConnectError):
        client.pipelines.get("train")


@pytest.mark.slow
def test_an_adapter_that_cannot_be_known(secure: Secure, fake: FakeAdapter) -> None:
    """If the adapter's certificate is of another CA or for another name, the call fails before anything is sent."""
    wrong = {
        "Tls handshake failed": secure.tls(ca=secure.folder / "other.pem"),
        "Hostname Verification": secure.tls(server_name="elsewhere.example"),
    }
    for cause, tls in wrong.items():
        with Client(secure.target, tls=tls, token=CANARY) as client, pytest.raises(CannotConnectError) as caught:
            client.pipelines.get("train")
        assert cause in caught.value.metadata["cause"]
    assert fake.calls == []


@pytest.mark.parametrize(
    ("given", "output"),
    [
        ({"ca": "none.pem"}, "none.pem cannot be read: No such file or directory"),
        ({"ca": "me.key"}, "me.key has no certificate in PEM form"),
        ({"key": "none.key"}, "none.key cannot be read: No such file or directory"),
        ({"key": "wrong.key"}, "wrong.key is not the key of"),
        ({"key": "encrypted.key"}, "encrypted.key cannot be used, without a password, with"),
        ({"certificate": "ca.key"}, "ca.key cannot be read"),
        ({"key": None}, "set a client certificate and its key, or neither"),
    ],
)
def test_files_that_cannot_be_used(secure: Secure, given: dict[str, str | None], output: str) -> None:
    """An invalid TLS file is reported at the first call, with the file's name."""
    pair = secure.ca.issue("x")
    (secure.folder / "wrong.key").write_bytes(pair.key)
    (secure.folder / "encrypted.key").write_bytes(pair.encrypted_key)
    paths = {name: secure.folder / file if file else None for name, file in given.items()}
    with Client(secure.target, tls=secure.tls(**paths)) as client, pytest.raises(CredentialsError) as caught:
        client.pipelines.get("train")
    assert output in str(caught.value)
