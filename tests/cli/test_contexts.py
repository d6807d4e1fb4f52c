"""Named contexts: commands, order, and that nothing meant for one adapter is sent to another one."""

from __future__ import annotations

import json
import pwd
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest
from tests.certificates import CertificateAuthority
from tests.cli.conftest import Ended
from tests.cli.test_completion import offered
from tests.client.fake_adapter import FakeAdapter, serving
from typer.testing import CliRunner

from kfadapter_embedded.dev import banner
from kfadapter_grpc.cli.app import app
from kfadapter_grpc.cli.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Iterator


def cli(*arguments: str) -> Ended:
    """Runs a command without a target."""
    result = CliRunner(env={"GRPC_VERBOSITY": None}).invoke(app, [*arguments], catch_exceptions=False)
    return Ended(result.exit_code, result.stdout, result.stderr)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for the file."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "config" / "kfadapter"


@pytest.fixture
def secure(fake: FakeAdapter, tmp_path: Path) -> Iterator[str]:
    """The address of a fake adapter with TLS, whose CA is in ca.pem, with a token in the file `token`."""
    ca = CertificateAuthority()
    ca.write(tmp_path)
    (tmp_path / "token").write_text("kfa_x\n")
    own = ca.issue("127.0.0.1")
    with serving(fake, grpc.ssl_server_credentials([(own.key, own.certificate)])) as target:
        yield target


def test_a_context_has_all_that_an_adapter_needs(secure: str, fake: FakeAdapter, home: Path) -> None:
    """It is used once by its name, then as the current one; the file has paths only, and only its owner reads it."""
    fake.add("train")
    made = cli(
        "config", "set", "서울", "-t", secure, "--ca", "ca.pem", "--token-file", "token", "--namespace", "team-a"
    )
    assert (made.code, made.out) == (0, f"context 서울 is set: {secure}\n")
    assert "kfadapter config use 서울" in made.err
    file = home / "contexts.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "kfa_x" not in file.read_text("utf-8")
    assert cli("list", "--context", "서울", "-o", "name").out == "train\n"
    assert fake.call_metadata["authorization"] == "Bearer kfa_x"
    assert cli("config", "use", "서울").out == f"context 서울 is the current one: {secure}\n"
    assert cli("get", "train", "-o", "name").out == "train\n"
    assert [one.namespace for one in fake.requests] == ["team-a", "team-a"]  # type: ignore[attr-defined]
    assert cli("get", "train", "-n", "other", "-o", "name").code == 0
    assert fake.requests[-1].namespace == "other"  # type: ignore[attr-defined]
    assert cli("doctor", "-o", "json").out.startswith('[\n  {\n    "status": "ok",\n    "check": "context",')


def test_payload_is_in_its_namespace(tmp_path: Path) -> None:
    """`payload`, which calls no adapter, takes the namespace of the context, unless one is given."""
    (tmp_path / "p.zip").write_bytes(b"PK")
    cli("config", "set", "a", "-t", "a:1", "--namespace", "team-a")
    cli("config", "use", "a")
    for more, wanted in (((), "team-a"), (("-n", "b"), "b")):
        first = json.loads(cli("payload", "p.zip", *more).out.splitlines()[0])
        assert first["metadata"]["namespace"] == wanted


def test_errors_name_the_context_and_repeat_it(secure: str, fake: FakeAdapter) -> None:
    """Errors name the context in use, and their commands have --context if it was given."""
    cli("config", "set", "prod", "-t", secure, "--ca", "ca.pem")
    given = cli("get", "none", "--context", "prod")
    assert (given.code, ", context prod\n" in given.err) == (ExitCode.NOT_FOUND, True)
    assert "\nnext:  kfadapter --context prod list\n" in given.err
    cli("config", "use", "prod")
    current = cli("get", "none")
    assert (", context prod\n" in current.err, "\nnext:  kfadapter list\n" in current.err) == (True, True)
    (lost := cli("config", "set", "prod", "--token-file", "gone"), fake.add("x"))
    failed = cli("list")
    assert (lost.code, failed.code) == (0, ExitCode.USAGE)
    assert "gone cannot be read" in failed.err
    assert "kfadapter config show prod" in failed.err


def test_the_order(secure: str, fake: FakeAdapter, monkeypatch: pytest.MonkeyPatch) -> None:
    """An option precedes the environment, and that a context; --context is an option."""
    fake.add("here")
    cli("config", "set", "tls", "-t", secure, "--ca", "ca.pem", "--token-file", "token")
    with serving(other := FakeAdapter()) as plain:
        other.add("there")
        cli("config", "set", "plain", "-t", plain)
        cli("config", "use", "tls")
        assert cli("list", "-o", "name").out == "here\n"
        monkeypatch.setenv("KFADAPTER_CONTEXT", "plain")
        assert cli("list", "-o", "name").out == "there\n"
        assert cli("config", "current").out == "plain\n"
        assert cli("list", "-o", "name", "--context", "tls").out == "here\n"
        monkeypatch.setenv("KFADAPTER_TARGET", plain)
        monkeypatch.setenv("KFADAPTER_CONTEXT", "tls")
        assert cli("list", "-o", "name").out == "there\n"
        assert "authorization" not in other.call_metadata
        assert cli("list", "-o", "name", "--context", "tls").out == "here\n"
        monkeypatch.delenv("KFADAPTER_TARGET")
        monkeypatch.setenv("KFADAPTER_TOKEN", "of-environment")
        assert cli("list", "-o", "name").out == "here\n"
        assert fake.call_metadata["authorization"] == "Bearer of-environment"
        assert cli("list", "-o", "name", "--context", "tls").out == "here\n"
        assert fake.call_metadata["authorization"] == "Bearer kfa_x"


def test_a_token_goes_to_its_own_adapter_only(secure: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With another address, by option or environment, the current context is not used at all."""
    cli("config", "set", "tls", "-t", secure, "--ca", "ca.pem", "--token-file", "token")
    cli("config", "use", "tls")
    with serving(other := FakeAdapter()) as plain:
        assert cli("--target", plain, "list").code == 0
        assert "authorization" not in other.call_metadata
        monkeypatch.setenv("KFADAPTER_TARGET", plain)
        assert cli("list").code == 0
        assert "authorization" not in other.call_metadata
    current = cli("config", "current")
    assert (current.code, current.out) == (ExitCode.NOT_FOUND, "")


def test_set_changes_only_the_set_options() -> None:
    """The other options stay; show and list show them; without a name, none is the current one."""
    cli("config", "set", "a", "--target", "a:1", "--tls")
    cli("config", "set", "a", "--namespace", "n")
    cli("config", "set", "b", "--target", "b:2")
    cli("config", "use", "a")
    shown = {"name": "a", "current": True, "target": "a:1", "namespace": "n", "tls": True}
    assert json.loads(cli("config", "show", "-o", "json").out) == shown
    listed = json.loads(cli("config", "list", "-o", "json").out)
    assert listed == [shown, {"name": "b", "current": False, "target": "b:2"}]
    table = cli("config", "list").out.splitlines()
    assert [line.split() for line in table[1:]] == [["*", "a", "a:1", "n", "yes"], ["b", "b:2"]]
    assert cli("config", "list", "-o", "name").out == "a\nb\n"
    assert "not found: context 'A'. Did you mean 'a'?" in cli("config", "use", "A").err
    assert "not found: context 'lab'\n" in (mistake := cli("config", "delete", "lab").err)
    assert mistake.endswith("next:  kfadapter config list\n")
    assert cli("config", "use").out == "no context is the current one: 127.0.0.1:50051\n"
    assert cli("config", "delete", "a").out == "deleted context a\n"
    assert cli("config", "list", "-o", "name").out == "b\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["config", "set", "a"], "a new context needs --target HOST:PORT"),
        (["config", "set", "a", "--target", "http://x"], "'http://x' is no address of an adapter"),
        (["config", "set", "a", "--target", "a:65536"], "'a:65536' is no address of an adapter"),
        (["config", "set", "a b", "--target", "a:1"], "'a b' cannot name a context"),
        (["config", "use", "none"], "not found: context 'none'"),
        (["config", "show", "none"], "not found: context 'none'"),
        (["config", "delete", "none"], "not found: context 'none'"),
        (["list", "--context", "none"], "not found: context 'none'"),
    ],
)
def test_mistakes(arguments: list[str], words: str, home: Path) -> None:
    """They are usage errors that say what is wrong, and nothing is written."""
    ended = cli(*arguments)
    assert (ended.code, ended.out) == (ExitCode.USAGE, "")
    assert words in ended.err
    assert not home.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"[]",
        b"null",
        b"[" * 100_000,
        b'{"current": "a"}',
        b'{"contexts": {"a": 5}}',
        b'{"contexts": {"a": {"tragte": "a:1"}}}',
        b'{"contexts": {"a": {"target": 1}}}',
        b'{"contexts": {"a": {"tls": "yes"}}}',
        b'{"contexts": {}, "current": "gone"}',
        b'{"contexts": {}, "current": []}',
    ],
)
def test_a_malformed_file(home: Path, content: bytes) -> None:
    """It is an error that names the file, in every command that needs it; others still work, and so does the help."""
    home.mkdir(parents=True)
    (home / "contexts.json").write_bytes(content)
    for arguments in (["list"], ["config", "list"], ["config", "set", "a", "--target", "a:1"]):
        ended = cli(*arguments)
        assert (ended.code, ended.out) == (ExitCode.USAGE, ""), arguments
        assert f"{home / 'contexts.json'} does not hold contexts" in ended.err
    assert (home / "contexts.json").read_bytes() == content
    with serving(FakeAdapter()) as target:
        assert cli("--target", target, "list").code == 0
    assert cli("--help").code == 0


def test_without_a_home_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without a home directory, as in a container, has no contexts; commands and errors work all the same."""

    def unknown(_: int) -> object:
        raise KeyError("uid not found")

    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    ended = cli("list", "--columns", "NOTHING")
    assert ended.err.startswith("error: "), ended.err
    assert cli("config", "list").code == 0
    ended = cli("config", "set", "a", "--target", "a:1")
    assert (ended.code, ended.err.splitlines()[0]) == (ExitCode.REFUSED, "error: contexts cannot be stored")


def test_dev_names_its_address_with_another_context(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `kfadapter dev` prints to type next calls it, whatever context is the current one."""

    def tried() -> str:
        return next(line for line in banner("127.0.0.1:50051", "", Path()).splitlines() if line.startswith("try"))

    assert tried().split() == ["try", "kfadapter", "list"]
    cli("config", "set", "prod", "--target", "prod:1")
    cli("config", "use", "prod")
    assert tried().split() == ["try", "kfadapter", "--target", "127.0.0.1:50051", "list"]
    monkeypatch.setenv("KFADAPTER_TARGET", "127.0.0.1:50051")
    assert tried().split() == ["try", "kfadapter", "list"]


def test_completion_offers_contexts() -> None:
    """Their names are offered where one is expected, and nothing where there are none."""
    assert offered("", "bash", "config", "use", "pr") == []
    for name in ("prod", "prod2", "서울"):
        cli("config", "set", name, "--target", "a:1")
    assert offered("", "bash", "config", "use", "pr") == ["prod", "prod2"]
    assert offered("", "bash", "--context", "서") == ["서울"]
    assert offered("", "zsh", "list", "--context", "prod2") == ['"prod2"']
