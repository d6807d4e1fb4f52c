"""Exec plugins: what they get, what they may print, and how long they may take."""

from __future__ import annotations

import json
import os
import sys
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest

from kfadapter_grpc.client import Client, CredentialsError, UnauthenticatedError, exec_plugin
from kfadapter_grpc.client.exec_plugin import API_VERSION, ExecPlugin

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.client.fake_adapter import FakeAdapter

SECRET = "canary-4711"  # noqa: S105


def _plugin(tmp_path: Path, script: str, *args: str, **env: str) -> ExecPlugin:
    """A plugin that is a shell script."""
    file = tmp_path / "plugin"
    file.write_text(f"#!/bin/sh\necho run >> {tmp_path}/runs\n{script}\n")
    file.chmod(0o700)
    return ExecPlugin(str(file), args, env)


def _runs(tmp_path: Path) -> int:
    return len((tmp_path / "runs").read_text().splitlines())


def _credential(status: Mapping[str, object], **more: object) -> str:
    output = {"apiVersion": API_VERSION, "kind": "ExecCredential", "status": status, **more}
    return f"cat <<'END'\n{json.dumps(output)}\nEND\n"


def _in(seconds: float) -> str:
    return (datetime.now(timezone.utc) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S.123456789Z")


def test_a_plugin(
    tmp_path: Path, target: str, fake: FakeAdapter, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gets arguments, variables and no stdin, its stderr is shown, and its token is kept until it expires."""
    monkeypatch.setattr(sys, "stdin", None)
    script = (
        f'echo "hello $1 $WHO" >&2; echo "$KUBERNETES_EXEC_INFO" > {tmp_path}/info; cat > {tmp_path}/stdin\n'
        + _credential({"token": SECRET, "expirationTimestamp": _in(600)})
    )
    plugin = _plugin(tmp_path, script, "a b", WHO="me")
    fake.add("train")
    with Client(target, token=plugin) as client:
        client.pipelines.get("train")
        client.pipelines.get("train")
    assert fake.call_metadata["authorization"] == f"Bearer {SECRET}"
    assert (_runs(tmp_path), capfd.readouterr().err.splitlines()[0]) == (1, "hello a b me")
    info = {"apiVersion": API_VERSION, "kind": "ExecCredential", "spec": {"interactive": False}}
    assert json.loads((tmp_path / "info").read_text()) == info
    assert (tmp_path / "stdin").read_text() == ""


def test_a_terminal_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin gets stdin if that is a terminal, and is notified."""
    master, slave = os.openpty()
    plugin = _plugin(
        tmp_path,
        f'read answer; echo "$answer $KUBERNETES_EXEC_INFO" > {tmp_path}/seen\n' + _credential({"token": "a"}),
    )
    kept = os.dup(0)
    try:
        os.dup2(slave, 0)
        with open(0, closefd=False) as terminal:
            monkeypatch.setattr(sys, "stdin", terminal)
            os.write(master, b"yes\n")
            assert plugin() == "a"
    finally:
        os.dup2(kept, 0)
        for one in (kept, master, slave):
            os.close(one)
    seen = (tmp_path / "seen").read_text()
    assert seen.startswith("yes {")
    assert '"interactive": true' in seen


@pytest.mark.parametrize(("seconds", "runs"), [(-5, 2), (600, 1), (None, 1)])
def test_how_long_a_token_is_kept(tmp_path: Path, seconds: float | None, runs: int) -> None:
    """An expired one is got anew; one without an end is kept for a minute."""
    ends = {} if seconds is None else {"expirationTimestamp": _in(seconds)}
    plugin = _plugin(tmp_path, _credential({"token": "a", **ends}))
    assert [plugin(), plugin()] == ["a", "a"]
    assert _runs(tmp_path) == runs


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (f"echo {SECRET}; exit 3", "it failed with exit code 3"),
        (f"echo {SECRET}", "its output is not JSON"),
        ("printf '\\377\\376'", "its output is not JSON"),
        (f"echo '[\"{SECRET}\"]'", "its output is not an ExecCredential"),
        (_credential({"token": SECRET}, kind="Token"), "its output is not an ExecCredential"),
        (_credential({"token": SECRET}, apiVersion="v1"), f"its apiVersion is not {API_VERSION}"),
        (_credential({"token": ""}), "it has no status.token"),
        (_credential([]), "it has no status.token"),  # type: ignore[arg-type]
        (_credential({"clientCertificateData": SECRET}), "it has a client certificate and no token"),
        (_credential({"token": SECRET, "expirationTimestamp": "soon"}), "expirationTimestamp is not a time"),
        (_credential({"token": SECRET, "expirationTimestamp": [5]}), "expirationTimestamp is not a time"),
        ("head -c 2000000 /dev/zero", "it printed more than 1 MiB"),
        ("exec sleep 60", "it did not end within 0.3 s, and was stopped"),
        ("exec >&-; exec sleep 60", "it did not end within 0.3 s, and was stopped"),
        ("sleep 60 & exit 0", "it did not end within 0.3 s, and was stopped"),
    ],
)
def test_a_plugin_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, words: str) -> None:
    """Each is an error of the call that names the plugin and not what it printed; the next call tries again."""
    monkeypatch.setattr(sys, "stdin", None)
    if "sleep" in script:
        monkeypatch.setattr(exec_plugin, "SECONDS", 0.3)
    plugin = _plugin(tmp_path, script)
    for _ in range(2):
        with pytest.raises(UnauthenticatedError) as caught:
            plugin()
        assert words in caught.value.message
        assert plugin.command in caught.value.message
        assert SECRET not in str(caught.value)
    assert _runs(tmp_path) == 2


def test_a_plugin_that_is_missing() -> None:
    """It cannot be started."""
    with pytest.raises(UnauthenticatedError, match="'/none/plugin': it cannot be started: No such file"):
        ExecPlugin("/none/plugin")()
    with pytest.raises(CredentialsError):
        ExecPlugin("")


def test_no_secret_is_shown() -> None:
    """Variables may be secrets: no repr has them."""
    assert SECRET not in repr(ExecPlugin("a", env={"PASSWORD": SECRET}))
