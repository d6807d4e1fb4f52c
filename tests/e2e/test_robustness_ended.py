"""The robustness scenarios, interrupted or killed half-way, leave no process running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parent.parent.parent
START_SECONDS = 60
END_SECONDS = 60


@pytest.fixture
def proofs(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The robustness tests at work; their adapter has started."""
    command = [sys.executable, "-m", "tests.system", "--short", "stream-overload"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL) as process:
        try:
            _await(lambda: any("serve" in _command(pid) for pid in _started_by(process.pid)))
            yield process
        finally:
            process.terminate()


def _await(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + START_SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def _started_by(pid: int) -> list[int]:
    """All descendants of a process."""
    try:
        text = " ".join(one.read_text("ascii") for one in Path(f"/proc/{pid}/task").glob("*/children"))
    except OSError:
        return []
    children = [int(one) for one in text.split()]
    return children + [one for child in children for one in _started_by(child)]


def _command(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text("utf-8").split("\0")
    except OSError:
        return []


def _running(commands: dict[int, list[str]]) -> list[list[str]]:
    """The processes that are still running; the id of an ended one may have been reused."""
    return [command for pid, command in commands.items() if command and _command(pid) == command]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_robustness_tests_that_are_stopped(
    proofs: subprocess.Popen[bytes], tmp_path: Path, number: signal.Signals
) -> None:
    """After SIGINT or SIGTERM, the robustness tests end all processes they have started, and remove their files."""
    commands = {pid: _command(pid) for pid in _started_by(proofs.pid)}
    proofs.send_signal(number)
    assert proofs.wait(END_SECONDS) == 128 + number
    assert _running(commands) == []
    assert list(tmp_path.iterdir()) == []


def test_proofs_that_are_killed(proofs: subprocess.Popen[bytes], tmp_path: Path) -> None:
    """If the process that runs the robustness tests is killed, it leaves nothing behind either."""
    commands = {pid: _command(pid) for pid in _started_by(proofs.pid)}
    (worker,) = [pid for pid, command in commands.items() if "tests.system" in command]
    os.kill(worker, signal.SIGKILL)
    assert proofs.wait(END_SECONDS) == 128 + signal.SIGKILL
    assert _running(commands) == []
    assert list(tmp_path.iterdir()) == []
