"""`kfadapter login`, `kfadapter logout`, and contexts whose token comes from an issuer or a plugin."""

from __future__ import annotations

import json
import shlex
import stat
from typing import TYPE_CHECKING

import pytest
from tests.cli.test_contexts import cli
from tests.client.issuer import SECRET, Issuer, refused, serving, tokens

from kfadapter_grpc.cli.errors import ExitCode
from kfadapter_grpc.client import oauth

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.client.fake_adapter import FakeAdapter


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for contexts and logins; nothing is waited for."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(oauth, "_sleep", lambda _: None)
    return tmp_path / "config" / "kfadapter"


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    """A running issuer."""
    with serving(Issuer()) as running:
        yield running


def test_a_story(issuer: Issuer, target: str, fake: FakeAdapter, home: Path) -> None:
    """A context with an issuer: log in, call, log out; the next command is printed, and no token is ever printed."""
    fake.add("train")
    made = cli("config", "set", "prod", "-t", target, "--issuer", issuer.url, "--client-id", "cli")
    cli("config", "use", "prod")
    assert "log in: kfadapter --context prod login\n" in made.err
    before = cli("list")
    assert (before.code, before.out) == (ExitCode.NOT_ALLOWED, "")
    assert f"error: not logged in at {issuer.url}\n" in before.err
    assert "next:  kfadapter login\n" in before.err
    issuer.device = {"verification_uri_complete": f"{issuer.url}/device?code=WDJB-MJHT"}
    login = cli("login")
    assert (login.code, login.out) == (0, f"logged in at {issuer.url} as alice@example.com, for context prod\n")
    assert login.err.splitlines()[:2] == [f"open   {issuer.url}/device?code=WDJB-MJHT", "check  WDJB-MJHT"]
    assert cli("list", "-o", "name").out == "train\n"
    assert str(fake.call_metadata["authorization"]).startswith("Bearer ey")
    shown = cli("config", "show", "-o", "json")
    assert json.loads(shown.out)["issuer"] == issuer.url
    assert f"login: {issuer.url}" in cli("config", "list").out
    out = cli("logout")
    assert (out.code, out.out) == (0, f"logged out at {issuer.url}\n")
    assert cli("logout").out == f"was not logged in at {issuer.url}\n"
    for ended in (made, before, login, shown, out):
        assert SECRET not in ended.out + ended.err
    assert SECRET not in (home / "contexts.json").read_text()


def test_the_issuer_is_kept(issuer: Issuer, target: str, tmp_path: Path) -> None:
    """An issuer given to login is kept in the context once it succeeds, and replaces the token file."""
    (tmp_path / "token").write_text("kfa_x")
    cli("config", "set", "a", "-t", target, "--token-file", "token")
    given = ("--context", "a", "login", "--issuer", issuer.url, "--client-id", "cli", "--scope", "openid")
    issuer.responses = [refused("access_denied"), tokens(refresh_token=None)]
    denied = cli(*given)
    assert (denied.code, "error: the login was denied\n" in denied.err) == (ExitCode.NOT_ALLOWED, True)
    assert "token_file" in json.loads(cli("config", "show", "a", "-o", "json").out)
    ended = cli(*given)
    assert (ended.code, "so log in again then" in ended.err) == (0, True)
    shown = json.loads(cli("config", "show", "a", "-o", "json").out)
    assert {"issuer": issuer.url, "client_id": "cli", "scope": "openid"}.items() <= shown.items()
    assert "token_file" not in shown
    cli("config", "set", "a", "--token-file", "token")
    assert "issuer" not in json.loads(cli("config", "show", "a", "-o", "json").out)


@pytest.mark.parametrize(
    ("answers", "code", "words"),
    [
        ([refused("expired_token")], ExitCode.TIMED_OUT, "the code was not entered in time"),
        ([refused("invalid_client")], ExitCode.REFUSED, "cannot log in at http"),
        ([(200, b"\xff")], ExitCode.REFUSED, "is not a JSON object"),
    ],
)
def test_a_login_that_fails(
    issuer: Issuer, target: str, answers: list[tuple[int, object]], code: int, words: str
) -> None:
    """It has an exit code of the table and the next step."""
    issuer.responses = answers
    cli("config", "set", "a", "-t", target, "--issuer", issuer.url, "--client-id", "cli")
    ended = cli("--context", "a", "login")
    assert (ended.code, words in ended.err, "\nnext:  " in ended.err) == (code, True, True), ended.err


def test_an_unreachable_issuer(target: str) -> None:
    """It is exit code 3."""
    cli("config", "set", "a", "-t", target, "--issuer", "http://127.0.0.1:9", "--client-id", "cli")
    ended = cli("--context", "a", "login")
    assert ended.code == ExitCode.CANNOT_CONNECT
    assert "error: cannot connect to the issuer http://127.0.0.1:9\n" in ended.err


def test_options_and_environment_precede(
    issuer: Issuer, target: str, fake: FakeAdapter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token file on the command line precedes the login, and so does the environment for the current context."""
    fake.add("train")
    (tmp_path / "token").write_text("kfa_x")
    cli("config", "set", "a", "-t", target, "--issuer", issuer.url, "--client-id", "cli")
    cli("config", "use", "a")
    assert cli("list", "--token-file", "token").code == 0
    assert fake.call_metadata["authorization"] == "Bearer kfa_x"
    monkeypatch.setenv("KFADAPTER_TOKEN", "kfa_y")
    assert cli("list").code == 0
    assert fake.call_metadata["authorization"] == "Bearer kfa_y"
    assert "KFADAPTER_TOKEN is set and takes precedence" in cli("login").err


def test_an_exec_plugin(target: str, fake: FakeAdapter, home: Path, tmp_path: Path) -> None:
    """--exec is a command with arguments; its variables are shown without values; its failure names it."""
    fake.add("train")
    credential = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": "of-plugin"},
    }
    script = tmp_path / "plugin"
    script.write_text(f'#!/bin/sh\ntest "$PASSWORD" = {SECRET} || exit 1\necho {shlex.quote(json.dumps(credential))}\n')
    script.chmod(0o700)
    arguments = ("--exec", "./plugin --for 'a b'", "--exec-env", f"PASSWORD={SECRET}")
    assert cli("config", "set", "서울", "-t", target, *arguments).code == 0
    assert cli("--context", "서울", "list", "-o", "name").out == "train\n"
    assert fake.call_metadata["authorization"] == "Bearer of-plugin"
    kept = json.loads((home / "contexts.json").read_text())["contexts"]["서울"]["exec"]
    assert kept == {"command": str(script), "args": ["--for", "a b"], "env": {"PASSWORD": SECRET}}
    assert stat.S_IMODE((home / "contexts.json").stat().st_mode) == 0o600
    for shown in (cli("config", "show", "서울"), cli("config", "show", "서울", "-o", "yaml"), cli("config", "list")):
        assert (str(script) in shown.out, SECRET in shown.out) == (True, False)
    cli("config", "set", "서울", "--exec-env", "PASSWORD=wrong")
    failed = cli("--context", "서울", "list")
    assert failed.code == ExitCode.NOT_ALLOWED
    assert f"no token from the exec plugin '{script}': it failed with exit code 1" in failed.err
    assert f"next:  try what makes the token by itself: {script} --for 'a b'\n" in failed.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["login"], "logins are stored in a context, and none is in use"),
        (["--context", "a", "login"], "context a names no issuer to log in at"),
        (["--context", "a", "logout"], "context a has no issuer to log out from"),
        (["--context", "a", "login", "--issuer", "http://far.example", "--client-id", "x"], "must be https"),
        (["config", "set", "a", "--issuer", "https://i.example"], "--issuer URL and --client-id ID go together"),
        (["config", "set", "a", "--issuer", "http://i.example", "--client-id", "x"], "must be https"),
        (["config", "set", "a", "--exec", "x", "--client-id", "x"], "one of --issuer and --exec gives the token"),
        (["config", "set", "a", "--exec", "x", "--token-file", "x"], "one of --token-file, --issuer and --exec"),
        (["config", "set", "a", "--exec", "'x"], "--exec cannot be split into words"),
        (["config", "set", "a", "--exec", " "], "--exec is a command with its arguments"),
        (["config", "set", "a", "--exec", "x", "--exec-env", "=y"], "--exec-env is NAME=VALUE"),
    ],
)
def test_mistakes(arguments: list[str], words: str) -> None:
    """They are usage errors, and change nothing."""
    cli("config", "set", "a", "-t", "a:1")
    ended = cli(*arguments)
    assert (ended.code, ended.out, words in ended.err) == (ExitCode.USAGE, "", True), ended.err
    assert (
        cli("config", "show", "a", "-o", "json").out == '{\n  "name": "a",\n  "current": false,\n  "target": "a:1"\n}\n'
    )


@pytest.mark.parametrize(
    "context",
    [
        {"issuer": "https://i.example"},
        {"issuer": "http://i.example", "client_id": "x"},
        {"issuer": 5, "client_id": "x"},
        {"issuer": "https://i.example", "client_id": "x", "exec": {"command": "x"}},
        {"exec": 5},
        {"exec": {"command": 5}},
        {"exec": {"args": []}},
        {"exec": {"command": "x", "args": "a", "env": []}},
        {"exec": {"command": "x", "argv": []}},
        {"exec": {"command": "x"}, "token_file": "x"},
    ],
)
def test_a_malformed_file(home: Path, context: dict[str, object]) -> None:
    """It is an error that names the file and the context."""
    home.mkdir(parents=True)
    (home / "contexts.json").write_text(json.dumps({"contexts": {"a": {"target": "a:1", **context}}}))
    ended = cli("config", "list")
    assert (ended.code, ended.out) == (ExitCode.USAGE, "")
    assert f"{home / 'contexts.json'} does not hold contexts" in ended.err
    assert "context 'a'" in ended.err
