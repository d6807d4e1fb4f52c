"""Logins at an issuer: device authorization, storage, refresh, and what never leaks."""

from __future__ import annotations

import json
import socket
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from tests.client.issuer import SECRET, Issuer, id_token, refused, serving, tokens

from kfadapter_grpc.client import Client, CredentialsError, UnauthenticatedError, oauth
from kfadapter_grpc.client.login import Login

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.client.fake_adapter import FakeAdapter


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were made, at once."""
    pauses: list[float] = []
    monkeypatch.setattr(oauth, "_sleep", pauses.append)
    return pauses


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slept: list[float]) -> Path:
    """An empty folder for logins."""
    del slept
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config" / "kfadapter"


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    """A running issuer."""
    with serving(Issuer()) as running:
        yield running


def _login(issuer: Issuer, **more: str) -> Login:
    return Login(issuer.url, "cli", **more)


def _stored(home: Path) -> dict[str, Any]:
    (file,) = (home / "logins").glob("*.json")
    found: dict[str, Any] = json.loads(file.read_bytes())
    return found


def _age(home: Path, seconds: float) -> None:
    """Makes the stored token older."""
    (file,) = (home / "logins").glob("*.json")
    output = json.loads(file.read_bytes())
    file.write_text(json.dumps(output | {name: output[name] - seconds for name in ("refresh_at", "expires_at")}))


def test_a_login(issuer: Issuer, home: Path, slept: list[float], target: str, fake: FakeAdapter) -> None:
    """Pending and slow_down are waited for; the ID token is stored for its owner only, and sent with every call."""
    issuer.responses = [refused("authorization_pending"), refused("slow_down"), (503, b"busy"), tokens()]
    shown: list[oauth.Device] = []
    login = _login(issuer)
    got = login.log_in(shown.append)
    assert got.user == "alice@example.com"
    assert [(one.uri, one.user_code) for one in shown] == [(f"{issuer.url}/device", "WDJB-MJHT")]
    assert slept == [3, 3, 8, 16]
    assert issuer.forms("/device_authorization_endpoint")[0]["scope"] == "openid offline_access"
    for path, mode in ((home, 0o700), (home / "logins", 0o700), *((one, 0o600) for one in (home / "logins").iterdir())):
        assert stat.S_IMODE(path.stat().st_mode) == mode, path
    fake.add("train")
    with Client(target, token=login) as client:
        client.pipelines.get("train")
        assert SECRET not in repr(client.__dict__) + repr(login) + repr(got) + repr(shown)
    assert fake.call_metadata["authorization"] == f"Bearer {got.token}"
    assert issuer.forms("/token_endpoint")[-1]["device_code"] == f"{SECRET}-device"


@pytest.mark.parametrize(
    ("responses", "code", "words"),
    [
        ([refused("access_denied")], "access_denied", "returned 400 (access_denied)"),
        ([refused("expired_token")], "expired_token", "returned 400 (expired_token)"),
        ([refused("authorization_pending")], "expired_token", "the code has expired"),
        ([refused("invalid_client", error_description="no such client")], "invalid_client", "no such client"),
        ([refused("x", error_description=f"code {SECRET}-device")], "x", "returned 400 (x)"),
        ([refused("<b>\x1b[2J")], "", "returned 400"),
        ([(200, b"<html>")], "", "is not a JSON object"),
        ([(200, b"[" * 100_000)], "", "is not a JSON object"),
        ([(200, b" " * (oauth.MAX_BYTES + 1))], "", "larger than 1 MiB"),
        ([(200, {"access_token": 5})], "", "has no bearer token"),
        ([(200, {"access_token": "a", "token_type": "mac"})], "", "has no bearer token"),
        ([(302, b"")], "", "returned 302"),
    ],
)
def test_a_login_that_fails(  # noqa: PLR0917
    issuer: Issuer, home: Path, monkeypatch: pytest.MonkeyPatch, responses: list[Any], code: str, words: str
) -> None:
    """Refusals, the end of the code and malformed responses are errors without secrets; nothing is stored."""
    issuer.responses = responses
    clock = iter(range(0, 100_000, 200))
    monkeypatch.setattr(oauth, "_clock", lambda: next(clock))
    with pytest.raises(oauth.OAuthError) as caught:
        _login(issuer).log_in(lambda _: None)
    assert (caught.value.code, words in str(caught.value)) == (code, True), caught.value
    assert SECRET not in str(caught.value)
    assert not home.exists()
    assert "/elsewhere" not in [path for path, _ in issuer.requests]


@pytest.mark.parametrize(
    ("metadata", "device", "words"),
    [
        ({"issuer": "https://other.example"}, {}, "is of the issuer 'https://other.example'"),
        ({"token_endpoint": "http://far.example/token"}, {}, "must be https"),
        ({"token_endpoint": None}, {}, "names no token_endpoint"),
        ({"device_authorization_endpoint": ""}, {}, "has no device authorization"),
        ({"device_authorization_endpoint": "file:///etc/passwd"}, {}, "is not a URL of https"),
        ({}, {"verification_uri": "javascript:alert(1)"}, "is not a URL of https"),
        ({}, {"user_code": 5}, "has no user_code"),
    ],
)
def test_malformed_metadata(issuer: Issuer, metadata: dict[str, Any], device: dict[str, Any], words: str) -> None:
    """Metadata of another issuer, endpoints without TLS and malformed addresses are refused before anything is sent."""
    issuer.metadata, issuer.device = metadata, device
    with pytest.raises(oauth.OAuthError, match=words):
        _login(issuer).log_in(lambda _: None)
    assert not issuer.forms("/token_endpoint")


def test_bounds_of_a_device(issuer: Issuer, slept: list[float]) -> None:
    """Whatever the issuer says, it is asked every 1 to 60 s, for 30 minutes at most."""
    for interval, wanted in ((0, 5), (0.001, 1), (1e9, 60), ("x", 5), (True, 5)):
        issuer.device = {"interval": interval, "expires_in": 1e9}
        slept.clear()
        shown: list[oauth.Device] = []
        _login(issuer).log_in(shown.append)
        assert (slept, shown[0].seconds) == ([wanted], oauth.MAX_SECONDS)


def test_an_unreachable_issuer(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is not there, and one that never responses, are errors after a bounded time."""
    monkeypatch.setattr(oauth, "SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(oauth.OAuthError, match=r"did not respond within|timed out") as caught:
            oauth.discover(url)
        assert caught.value.transient
    with pytest.raises(oauth.OAuthError, match="is unreachable: Connection refused"):
        oauth.discover(url)


@pytest.mark.parametrize("url", ["http://issuer.example", "ftp://127.0.0.1", "https://u:p@i.example", "https://", "x"])
def test_an_issuer_without_tls(url: str) -> None:
    """An issuer on another machine needs https."""
    with pytest.raises(CredentialsError) as caught:
        Login(url, "cli")
    assert "u:p" not in str(caught.value)


def test_refresh(issuer: Issuer, home: Path) -> None:
    """A token is refreshed before it expires by this machine's clock; the refresh token is replaced with it."""
    login = _login(issuer)
    issuer.responses = [tokens(1, id_token=id_token(1, 300, ahead=10_000)), tokens(2), tokens(3)]
    first = login.log_in(lambda _: None).token
    assert login() == first
    _age(home, 250)
    second = login()
    assert second == login() != first
    assert issuer.forms("/token_endpoint")[-1]["refresh_token"] == f"{SECRET}-refresh-1"
    assert _stored(home)["refresh_token"] == f"{SECRET}-refresh-2"


@pytest.mark.parametrize(
    "response", [refused("invalid_grant"), (503, b""), (200, b"{"), tokens(4, id_token=None)], ids=str
)
def test_a_refresh_that_fails(issuer: Issuer, home: Path, response: tuple[int, Any]) -> None:
    """The old token is used while it is valid, and the issuer not asked with every call; then it is an error."""
    login = _login(issuer)
    first = login.log_in(lambda _: None).token
    issuer.responses = [response]
    _age(home, 3580)
    assert [login(), login(), login()] == [first] * 3
    assert len(issuer.forms("/token_endpoint")) == 2
    _age(home, 100)
    with pytest.raises(UnauthenticatedError) as caught:
        login()
    assert f"the login at {issuer.url} has expired" in caught.value.message
    assert SECRET not in caught.value.message + caught.value.metadata["cause"]


def test_no_refresh_token(issuer: Issuer, home: Path) -> None:
    """Without one, the token is used until it expires; one without a known end is used indefinitely."""
    login = _login(issuer, scope="adapter")
    issuer.responses = [(200, {"access_token": "opaque", "expires_in": 100})]
    assert login.log_in(lambda _: None).user == ""
    assert login() == "opaque"
    _age(home, 101)
    with pytest.raises(UnauthenticatedError) as caught:
        login()
    assert caught.value.metadata["cause"] == "the issuer gave no refresh token"
    issuer.responses = [(200, {"access_token": "endless"})]
    login.log_in(lambda _: None)
    assert login() == "endless"


@pytest.mark.slow
def test_one_refresh_at_a_time(issuer: Issuer, home: Path) -> None:
    """Threads and processes that need a new token at once refresh it once, and all get the same."""
    login = _login(issuer)
    login.log_in(lambda _: None)
    issuer.responses = [tokens(number) for number in range(2, 20)]
    _age(home, 4000)
    code = "import sys; from kfadapter_grpc.client.login import Login; print(Login(*sys.argv[1:])())"
    other = subprocess.Popen([sys.executable, "-c", code, issuer.url, "cli"], stdout=subprocess.PIPE)
    with ThreadPoolExecutor(8) as pool:
        got = {*pool.map(lambda _: login(), range(8))}
    got.add(other.communicate(timeout=30)[0].decode().strip())
    assert got == {_stored(home)["token"]}
    assert len(issuer.forms("/token_endpoint")) == 2


def test_malformed_files(issuer: Issuer, home: Path) -> None:
    """A file that is no login is none; a folder that cannot be written is an error that names it."""
    login = _login(issuer)
    login.log_in(lambda _: None)
    (file,) = (home / "logins").glob("*.json")
    for content in (b"", b"[]", b'{"token": "a"}', b"\xff"):
        file.write_bytes(content)
        with pytest.raises(UnauthenticatedError, match="not logged in at"):
            login()
    file.unlink()
    file.with_suffix(".lock").unlink()
    (home / "logins").rmdir()
    (home / "logins").write_text("")
    with pytest.raises(OSError, match="logins"):
        login.log_in(lambda _: None)


def test_log_out(issuer: Issuer, home: Path) -> None:
    """The tokens are deleted, and the refresh token is revoked; the second time there is none."""
    login = _login(issuer)
    login.log_in(lambda _: None)
    assert (login.log_out(), login.log_out()) == (True, False)
    assert issuer.forms("/revocation_endpoint")[0]["token"] == f"{SECRET}-refresh-0"
    assert not [*(home / "logins").glob("*.json")]
    with pytest.raises(oauth.OAuthError, match="kfadapter logout"):  # while another process was about to refresh
        login._refreshed(oauth.Tokens("a", "b", 0, 0))
    assert not [*(home / "logins").glob("*.json")]
    with pytest.raises(UnauthenticatedError):
        login()


def test_a_token_that_cannot_be_sent(issuer: Issuer, target: str) -> None:
    """Is an error of the call, which does not quote it."""
    issuer.responses = [(200, {"access_token": f"{SECRET}\n", "expires_in": time.time()})]
    login = _login(issuer)
    login.log_in(lambda _: None)
    with Client(target, token=login) as client, pytest.raises(UnauthenticatedError) as caught:
        client.pipelines.get("train")
    assert SECRET not in str(caught.value)
