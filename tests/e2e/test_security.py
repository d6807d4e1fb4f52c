"""An adapter with authentication, from outside: its process, the command line, grpcurl, changed files, its log."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from tests.certificates import CertificateAuthority
from tests.cli.conftest import Ended, Kfadapter
from tests.e2e.conftest import PROGRAM, ROOT, SECONDS, dev, spawned
from typer.testing import CliRunner

from kfadapter_grpc.cli.app import app

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(frozen=True)
class Guarded:
    """A `kfadapter serve` with TLS and tokens.

    Attributes:
        address: The address it listens on.
        health: The address of its health service without TLS.
        folder: Its files: ca.pem, server.pem, server.key, tokens; and NAME.token of each bearer.
        process: Its process.
        token: The tokens by the names of their callers.
    """

    address: str
    health: str
    folder: Path
    process: subprocess.Popen[str]
    token: dict[str, str]

    def run(self, *arguments: str, target: str | None = None) -> Ended:
        """Runs the command line against it."""
        return Kfadapter(target or self.address)(*arguments)

    def call(self, bearer: str, *arguments: str) -> Ended:
        """Runs a command over TLS with a token."""
        token_file = str(self.folder / f"{bearer}.token")
        return self.run("--ca", str(self.folder / "ca.pem"), "--token-file", token_file, *arguments)

    def eventually(self, bearer: str, code: int) -> None:
        """Waits until a caller's calls end with an exit code."""
        end = time.monotonic() + SECONDS
        while self.call(bearer, "list").code != code:
            assert time.monotonic() < end


def here(*arguments: str) -> Ended:
    """Runs a command without an address."""
    result = CliRunner(env={"GRPC_VERBOSITY": None}).invoke(app, [*arguments], catch_exceptions=False)
    return Ended(result.exit_code, result.stdout, result.stderr)


def make_token(folder: Path, name: str, role: str) -> str:
    """Creates a token with the command line, as an operator does."""
    words = [PROGRAM, "token", name, "--role", role, "--add-to", str(folder / "tokens")]
    made = subprocess.run(words, capture_output=True, text=True, timeout=SECONDS, check=True).stdout
    (folder / f"{name}.token").write_text(made)
    return made.strip()


@pytest.fixture
def guarded(embedded_url: str, tmp_path: Path) -> Iterator[Guarded]:
    """Runs one on free ports of all interfaces, which needs no flag since it has TLS."""
    ca = CertificateAuthority()
    ca.write(tmp_path)
    ca.issue("localhost", "127.0.0.1").write(tmp_path, "server")
    tokens = {role: make_token(tmp_path, role, role) for role in ("reader", "writer")}
    options = {
        "--listen": "0.0.0.0:0",
        "--health-listen": "127.0.0.1:0",
        "--metrics-listen": "off",
        "--kfp-url": embedded_url,
        "--tls-certificate": str(tmp_path / "server.pem"),
        "--tls-key": str(tmp_path / "server.key"),
        "--token-file": str(tmp_path / "tokens"),
        "--log-format": "json",
    }
    with spawned("serve", *(word for option in options.items() for word in option)) as process:
        assert process.stderr is not None
        line = next(line for line in map(json.loads, process.stderr) if line["event"] == "serving")
        assert (line["tls"], line["tokens"]) == ("on", True)
        port = line["address"].rpartition(":")[2]
        yield Guarded(f"127.0.0.1:{port}", line["health_address"], tmp_path, process, tokens)


@pytest.mark.slow
def test_dev_asks_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`kfadapter dev` serves loopback without authentication, even if the environment configures servers."""
    make_token(tmp_path, "reader", "reader")
    monkeypatch.setenv("KFADAPTER_TOKEN_FILE", str(tmp_path / "tokens"))
    with dev(tmp_path / "data") as adapter:
        assert adapter.printed("list", "-o", "name") == ""


@pytest.mark.slow
def test_from_token_to_refusal(guarded: Guarded) -> None:
    """Tokens created by the command line permit what their roles do; one removed from the file permits nothing."""
    assert guarded.call("reader", "list").code == 0
    assert guarded.call("writer", "experiments", "create", "e2e-security").code == 0
    denied = guarded.call("reader", "experiments", "create", "e2e-security-2")
    assert (denied.code, denied.out) == (4, "")
    assert denied.err.startswith("error: 'reader' calls as a reader, and kfadapter.v1.ExperimentService/Create")
    unknown = guarded.run("--ca", str(guarded.folder / "ca.pem"), "list")
    assert unknown.code == 4
    assert "why:   UNAUTHENTICATED, request " in unknown.err
    file = guarded.folder / "tokens"
    file.write_text("".join(line for line in file.read_text().splitlines(True) if not line.startswith("reader ")))
    guarded.eventually("reader", 4)
    assert guarded.call("writer", "list").code == 0


@pytest.mark.slow
def test_a_day_in_a_context(guarded: Guarded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a context, everyday commands need neither address nor CA nor token; another role is another context."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(guarded.folder)
    port = guarded.address.rpartition(":")[2]
    for role in ("writer", "reader"):
        given = ("--target", f"127.0.0.2:{port}", "--server-name", "localhost", "--ca", "ca.pem")
        assert here("config", "set", role, *given, "--token-file", f"{role}.token").code == 0
    assert here("config", "use", "writer").code == 0
    example = str(ROOT / "examples" / "train.yaml")
    assert here("upload", example, "--name", "day").code == 0
    assert here("run", "day", "-p", "dataset_seed=1", "--watch").code == 0
    for command in ("update day --tag a=b", "get day", "runs", "logs @latest report", "runs show @latest", "doctor"):
        assert here(*command.split()).code == 0, command
    denied = here("--context", "reader", "delete", "day", "--yes")
    assert (denied.code, ", context reader" in denied.err) == (4, True)
    assert here("delete", "day", "--yes").out == "deleted day with 1 version\n"


@pytest.mark.slow
def test_health_needs_no_token(guarded: Guarded) -> None:
    """Health is served over TLS without a token, and without TLS on its own address, which serves nothing else."""
    over_tls = guarded.run("--ca", str(guarded.folder / "ca.pem"), "health")
    plain = guarded.run("health", target=guarded.health)
    assert (over_tls.out, plain.out) == ("SERVING\n", "SERVING\n")
    assert guarded.run("list", target=guarded.health).code == 8


def test_a_replaced_certificate(guarded: Guarded) -> None:
    """A certificate of a new CA is presented without a restart."""
    ca = CertificateAuthority()
    ca.issue("localhost", "127.0.0.1").write(guarded.folder, "server")
    ca.write(guarded.folder)
    guarded.eventually("writer", 0)


def test_grpcurl(guarded: Guarded, grpcurl: str) -> None:
    """With the CA and the header, grpcurl calls succeed; reflection needs no token."""
    ca = ["-cacert", str(guarded.folder / "ca.pem")]

    def curl(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([grpcurl, *ca, *words], capture_output=True, text=True, timeout=SECONDS, check=False)

    assert "kfadapter.v1.PipelineService" in curl(guarded.address, "list").stdout
    method = "kfadapter.v1.PipelineService/List"
    refused = curl("-d", "{}", guarded.address, method)
    assert "Code: Unauthenticated" in refused.stderr
    assert '"reason": "UNAUTHENTICATED"' in refused.stderr
    header = f"authorization: Bearer {guarded.token['reader']}"
    assert curl("-H", header, "-d", "{}", guarded.address, method).returncode == 0


@pytest.mark.slow
def test_the_log_is_whole_and_holds_no_secret(guarded: Guarded) -> None:
    """Every line is JSON, even if handshakes fail; callers are named, and their tokens are not included."""
    host, _, port = guarded.address.rpartition(":")
    for _ in range(3):
        with socket.create_connection((host, int(port))) as stranger:
            stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
            stranger.recv(100)
    guarded.call("reader", "list")
    guarded.run("--ca", str(guarded.folder / "ca.pem"), "list")
    guarded.process.send_signal(signal.SIGTERM)
    assert guarded.process.wait(SECONDS) == 0
    assert guarded.process.stderr is not None
    output = guarded.process.stderr.read()
    calls = [line for line in map(json.loads, output.splitlines()) if line["event"] == "call"]
    reported = dict.fromkeys(
        (line.get("caller"), line.get("reason")) for line in calls
    )  # a list may take several calls
    assert list(reported) == [
        ("reader", None),
        (None, "UNAUTHENTICATED"),
    ]
    secrets = [*guarded.token.values(), (guarded.folder / "server.key").read_text().splitlines()[1]]
    assert not any(secret in output for secret in secrets)
