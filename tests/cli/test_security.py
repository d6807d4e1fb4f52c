"""The credential options of the client, the creation of tokens, and the errors of rejected calls."""

from __future__ import annotations

import json
import stat
from datetime import timedelta
from typing import TYPE_CHECKING, get_args, get_type_hints

import grpc
import pytest
from tests.certificates import CertificateAuthority
from tests.cli.conftest import Kfadapter
from tests.cli.test_completion import offered
from tests.cli.test_process import run
from tests.client.fake_adapter import FakeAdapter, serving
from typer.main import get_command

from kfadapter_grpc.auth.tokens import parse_tokens, today
from kfadapter_grpc.cli.app import app
from kfadapter_grpc.cli.errors import ExitCode
from kfadapter_grpc.cli.invocation import Invocation, other
from kfadapter_grpc.cli.options import ClientOptions
from kfadapter_grpc.cli.serve import token
from kfadapter_grpc.contract import errors
from kfadapter_grpc.contract.call import Role

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def secure(fake: FakeAdapter, tmp_path: Path) -> Iterator[str]:
    """The address of a fake adapter with TLS, whose CA is in ca.pem."""
    ca = CertificateAuthority()
    ca.write(tmp_path)
    CertificateAuthority().write(tmp_path, "other")
    own = ca.issue("localhost", "127.0.0.1")
    with serving(fake, grpc.ssl_server_credentials([(own.key, own.certificate)])) as target:
        yield target


def test_options_before_and_behind_the_command(secure: str, fake: FakeAdapter, tmp_path: Path) -> None:
    """The CA and token options may precede or follow a command, also one in a group."""
    fake.add("train")
    token = tmp_path / "token"
    token.write_text("kfa_x\n")
    options = ["--ca", str(tmp_path / "ca.pem"), "--token-file", str(token)]
    kfadapter = Kfadapter(secure)
    for arguments in ([*options, "get", "train"], ["get", "train", *options], [*options[:2], "list", *options[2:]]):
        fake.call_metadata = {}
        ended = kfadapter(*arguments, "-o", "name")
        assert (ended.code, ended.out) == (ExitCode.OK, "train\n"), ended.err
        assert fake.call_metadata["authorization"] == "Bearer kfa_x"
    assert kfadapter("runs", "list", "--ca", str(tmp_path / "none")).err.startswith(
        f"error: {tmp_path / 'none'} cannot"
    )


@pytest.mark.slow
def test_a_client_certificate(fake: FakeAdapter, tmp_path: Path) -> None:
    """A client certificate is sent to an adapter that requires it; without the options the error names them."""
    ca = CertificateAuthority()
    own, (certificate, key) = ca.issue("127.0.0.1"), ca.issue("me").write(tmp_path, "me")
    known = ["--ca", str(ca.write(tmp_path))]
    credentials = grpc.ssl_server_credentials([(own.key, own.certificate)], ca.certificate, require_client_auth=True)
    fake.add("train")
    with serving(fake, credentials) as target:
        kfadapter = Kfadapter(target)
        shown = kfadapter(*known, "--client-certificate", str(certificate), "--client-key", str(key), "list")
        hidden = kfadapter(*known, "list")
    assert (shown.code, hidden.code) == (ExitCode.OK, ExitCode.CANNOT_CONNECT)
    assert "with --client-certificate and --client-key if it requires them" in hidden.err


@pytest.mark.slow
def test_completion_uses_the_credentials(secure: str, fake: FakeAdapter, tmp_path: Path) -> None:
    """Completion works over TLS, with the CA option."""
    fake.add("train")
    assert offered(secure, "fish", "--ca", str(tmp_path / "ca.pem"), "get", "tr") == ["train"]
    assert offered(secure, "fish", "get", "tr") == []


def test_servers_keep_their_own_options() -> None:
    """`serve` has its own --token-file, which is not the client's."""
    serve = get_command(app).commands["serve"]  # type: ignore[attr-defined]
    assert [one.hidden for one in serve.params if one.name == "token_file"] == [False]


def test_options_win_over_the_environment(
    secure: str, fake: FakeAdapter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An option takes precedence over its environment variable; other variables still apply."""
    fake.add("train")
    monkeypatch.setenv("KFADAPTER_CA", str(tmp_path / "other.pem"))
    monkeypatch.setenv("KFADAPTER_TOKEN", "kfa_variable")
    assert Kfadapter(secure)("get", "train", "--ca", str(tmp_path / "ca.pem")).code == ExitCode.OK
    assert fake.call_metadata["authorization"] == "Bearer kfa_variable"


def test_a_next_step_keeps_the_credentials() -> None:
    """A next step that is a command names the same CA and token file, quoted where needed."""
    given = {"ca": "my ca.pem", "token_file": "t", "insecure_token": True, "port": 1}
    invocation = Invocation(options=ClientOptions("h:1").override(given))
    assert invocation.format(other("list")) == (
        "kfadapter --ca 'my ca.pem' --token-file t --insecure-token --target h:1 list"
    )


def test_refused_calls_end_with_4(kfadapter: Kfadapter, fake: FakeAdapter) -> None:
    """Unauthenticated and unauthorized calls end with exit code 4 and a next step."""
    fake.failures = [errors.UnauthenticatedError("no token"), errors.PermissionDeniedError("'ci' is a reader")]
    unknown, denied = kfadapter("get", "x"), kfadapter("delete", "x", "--yes")
    assert (unknown.code, denied.code) == (ExitCode.NOT_ALLOWED, ExitCode.NOT_ALLOWED)
    assert "next:  send a valid token: kfadapter --token-file FILE ..., or KFADAPTER_TOKEN" in unknown.err
    assert "next:  request access from the adapter's operator" in denied.err


def test_a_token_that_would_be_readable(tmp_path: Path) -> None:
    """Sending a token to another machine without TLS is a usage error that names the flag."""
    token = tmp_path / "token"
    token.write_text("kfa_canary")
    ended = Kfadapter("adapter.example:50051")("--token-file", str(token), "list")
    assert (ended.code, ended.out) == (ExitCode.USAGE, "")
    assert "without TLS" in ended.err
    assert "--insecure-token" in ended.err
    assert "canary" not in ended.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "step"),
    [
        (["--ca", "other.pem"], "kfadapter --ca FILE ... with the certificate of the CA"),
        (["--ca", "ca.pem", "--server-name", "elsewhere"], "kfadapter --server-name NAME ... with the name in"),
        ([], "if it uses TLS: kfadapter --ca FILE"),
    ],
)
def test_failed_handshakes_are_reported(secure: str, tmp_path: Path, arguments: list[str], step: str) -> None:
    """A failed TLS handshake is an error in three parts with the remedy; gRPC adds no lines."""
    words = [str(tmp_path / word) if word.endswith(".pem") else word for word in arguments]
    done = run(secure, *words, "list")
    assert done.returncode == ExitCode.CANNOT_CONNECT
    lines = done.stderr.decode().splitlines()
    assert [line.partition(":")[0] for line in lines] == ["error", "why", "next"], lines
    assert step in lines[2]


@pytest.mark.slow
def test_tls_towards_plain_text(target: str, tmp_path: Path) -> None:
    """If the server does not speak TLS, the next step says to omit the TLS options."""
    CertificateAuthority().write(tmp_path)
    done = run(target, "--ca", str(tmp_path / "ca.pem"), "list")
    assert done.returncode == ExitCode.CANNOT_CONNECT
    assert b"next:  omit --tls, --ca and their variables: the server does not use TLS\n" in done.stderr


def test_a_new_token(kfadapter: Kfadapter) -> None:
    """Only the token is on stdout; its line for the token file is on stderr, and does not contain the token."""
    tomorrow = today() + timedelta(days=1)
    ended = kfadapter("token", "학습-관리자", "--role", "writer", "--expires", tomorrow.isoformat())
    assert ended.code == ExitCode.OK
    token = ended.out.removesuffix("\n")
    assert token.startswith("kfa_")
    assert "\n" not in token
    assert token not in ended.err
    entry = parse_tokens(ended.err.splitlines()[-1].encode()).try_find(token)
    assert entry is not None
    assert (entry.name, entry.role, entry.last_day) == ("학습-관리자", Role.WRITER, tomorrow)


def test_a_token_is_added_to_a_file(kfadapter: Kfadapter, tmp_path: Path) -> None:
    """Lines are appended to a file that only its owner can read, also after a line without a line break."""
    file = tmp_path / "tokens"
    made = [kfadapter("token", name, "--role", "reader", "--add-to", str(file)).out.strip() for name in ("a", "b")]
    file.write_text(file.read_text().rstrip("\n"))
    made.append(kfadapter("token", "c", "--role", "writer", "--add-to", str(file)).out.strip())
    known = parse_tokens(file.read_bytes())
    found = [entry.name for entry in map(known.try_find, made) if entry]
    assert (found, len(known)) == (["a", "b", "c"], 3)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "arguments",
    [
        ["two words", "--role", "reader"],
        ["x#y", "--role", "reader"],
        ["x"],
        ["x", "--role", "admin"],
        ["x", "--role", "reader", "--expires", "2020-01-01"],
        ["x", "--role", "reader", "--expires", "tomorrow"],
    ],
)
def test_tokens_that_cannot_be_made(kfadapter: Kfadapter, arguments: list[str]) -> None:
    """An invalid name, a missing or unknown role, and an invalid or past date are usage errors."""
    ended = kfadapter("token", *arguments)
    assert (ended.code, ended.out) == (ExitCode.USAGE, "")


def test_roles_are_those_of_the_adapter() -> None:
    """The command offers exactly the roles of token files: admins are for access rules."""
    roles = [role.value for role in Role if role is not Role.ADMIN]
    assert list(get_args(get_type_hints(token)["role"])) == roles


def test_authentication_settings_are_reported_at_once(kfadapter: Kfadapter, tmp_path: Path) -> None:
    """`serve` reports every mistake in the certificate and token settings at once, with exit code 2."""
    none = str(tmp_path / "none")
    ended = kfadapter("serve", "--listen", "0.0.0.0:0", "--tls-key", none, "--token-file", none)
    assert (ended.code, ended.out) == (ExitCode.USAGE, "")
    output = json.dumps(ended.err)
    assert all(name in output for name in ("tls_key (KFADAPTER_TLS_KEY)", "token_file (KFADAPTER_TOKEN_FILE)"))
    assert "insecure_listen" in output
