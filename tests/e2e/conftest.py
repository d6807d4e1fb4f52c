"""A running adapter as users start it, and the command line that calls it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import grpc
import pytest
from tests.cli.conftest import Kfadapter

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PROGRAM = str(Path(sys.executable).parent / "kfadapter")
LACKS = b"note: this Kubeflow Pipelines "
"""Begins what is reported of a KFP that cannot do something; 2.5 keeps no tags, for example."""
SECONDS = 60
"""How long anything may take; what is waited for usually takes one second."""


@dataclass(frozen=True)
class Adapter:
    """A running adapter.

    Attributes:
        target: Its address.
        process: Its process.
        output: What it printed when it was ready.
    """

    target: str
    process: subprocess.Popen[str]
    output: tuple[str, ...] = ()

    def run(self, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Runs the command line: in this process, which takes a tenth of the time, unless it reads stdin."""
        if stdin:
            words = [PROGRAM, "--target", self.target, *arguments]
            return subprocess.run(words, input=stdin, capture_output=True, cwd=ROOT, timeout=SECONDS, check=False)
        ended = Kfadapter(self.target)(*arguments)
        return subprocess.CompletedProcess(arguments, ended.code, ended.out.encode(), ended.err.encode())

    def printed(self, *arguments: str, stdin: bytes = b"") -> str:
        """Runs a command that must succeed, and returns its stdout; stderr may have notes about what the KFP lacks."""
        done = self.run(*arguments, stdin=stdin)
        output = [line for line in done.stderr.splitlines() if not line.startswith(LACKS)]
        assert (done.returncode, output) == (0, [])
        return done.stdout.decode()


@contextmanager
def dev(data: Path, *more: str) -> Iterator[Adapter]:
    """Runs `kfadapter dev` on free ports, without a page unless `--page-port` is among `more`."""
    words = ("dev", "--port", "0", "--kfp-port", "0", "--data", str(data), *more)
    with spawned(*words, *([] if "--page-port" in more else ["--no-page"])) as process:
        lines = tuple(_until(process.stdout, "stop "))
        assert lines, process.communicate()[1]
        adapter = next(line for line in lines if line.startswith("adapter "))
        yield Adapter(adapter.split()[1], process, lines)


@contextmanager
def serve(kfp_url: str, *more: str) -> Iterator[Adapter]:
    """Runs `kfadapter serve` in front of an existing KFP, with further options."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        target = f"127.0.0.1:{probe.getsockname()[1]}"
    with (
        spawned(
            "serve",
            "--listen",
            target,
            "--metrics-listen",
            "off",
            "--kfp-url",
            kfp_url,
            "--log-level",
            "warning",
            *more,
        ) as process,
        grpc.insecure_channel(target) as channel,
    ):
        grpc.channel_ready_future(channel).result(SECONDS)
        yield Adapter(target, process)


@pytest.fixture(scope="session")
def adapter(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Adapter]:
    """An adapter in front of an embedded KFP, or of the one of `--kfp-url`."""
    kfp_url = str(request.config.getoption("--kfp-url", default=""))
    with serve(kfp_url) if kfp_url else dev(tmp_path_factory.mktemp("dev")) as running:
        yield running


@pytest.fixture(scope="session")
def executing(embedded_url: str) -> Iterator[Adapter]:
    """An adapter in front of an embedded KFP that executes runs, even if `--kfp-url` names another KFP."""
    with serve(embedded_url) as running:
        yield running


@pytest.fixture(scope="session")
def grpcurl() -> str:
    """The pinned grpcurl; if it cannot be installed, tests that need it are skipped, in CI they fail."""
    found = subprocess.run([ROOT / "scripts" / "grpcurl"], capture_output=True, text=True, check=False)
    if found.returncode != 0 and not os.environ.get("CI"):
        pytest.skip(f"grpcurl: {found.stderr.strip()}")
    assert found.returncode == 0, found.stderr
    return found.stdout.strip()


@pytest.fixture
def name(adapter: Adapter) -> Iterator[str]:
    """A unique name; a pipeline of that name is deleted after the test."""
    unique = f"e2e-{uuid.uuid4().hex[:12]}"
    yield unique
    assert adapter.run("delete", unique, "--force", "--allow-missing").returncode == 0


@contextmanager
def spawned(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Runs the command line in a process of its own, which is killed at the end."""
    with subprocess.Popen(
        [PROGRAM, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _until(stream: IO[str] | None, last: str) -> Iterator[str]:
    """Yields lines up to the one that begins with `last`, or to the end."""
    for line in stream or ():
        yield line.rstrip("\n")
        if line.startswith(last):
            return
