from __future__ import annotations

import os
import select
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.embedded.conftest import HELLO, Caller

from kfadapter_embedded.process import EmbeddedKfpError, start
from kfadapter_embedded.server import AddressError, bind

if TYPE_CHECKING:
    from kfadapter_embedded.process import EmbeddedKfp


def _command(data: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "kfadapter_embedded", "--data", str(data), "--port", "0", *more]


def _refused(data: Path, *more: str) -> str:
    """Starts a server that must fail to start; returns its only output."""
    done = subprocess.run(_command(data, *more), capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    return done.stderr


def _is_running(pid: int) -> bool:
    try:
        return _stat(pid)[0] != "Z"
    except FileNotFoundError:
        return False


def _stat(pid: int) -> list[str]:
    """The kernel's statistics of a process, from its state on."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal(tmp_path: Path, number: signal.Signals) -> None:
    """It prints one ready line, and a signal ends it soon, with exit code 0."""
    with subprocess.Popen(_command(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline().startswith("ready http://127.0.0.1:")
        child.send_signal(number)
        rest, errors = child.communicate(timeout=10)
    assert (child.returncode, rest, errors) == (0, "", "")


@pytest.mark.slow
def test_signal_during_an_upload(tmp_path: Path) -> None:
    """A file that takes long to read does not delay the end of a server."""
    slow = HELLO.read_bytes() + b"\n---\nplatforms: {kubernetes: {a: [" + b"x," * 900_000 + b"]}}"
    head = (
        f"POST /apis/v2beta1/pipelines/upload?name=x HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Length: {len(slow) + 95}\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
        '--b\r\nContent-Disposition: form-data; name="uploadfile"; filename="p.yaml"\r\n\r\n'
    )
    with start(tmp_path) as running, socket.create_connection(_address(running)) as connection:
        connection.sendall(head.encode() + slow + b"\r\n--b--\r\n" + b" " * 20)
        _wait_until_busy(running.pid)
        os.kill(running.pid, signal.SIGTERM)
        _wait_for_end(running.pid)


def _address(running: EmbeddedKfp) -> tuple[str, int]:
    host, port = running.url.removeprefix("http://").split(":")
    return host, int(port)


def _wait_until_busy(pid: int) -> None:
    """Waits until a process has used a quarter of a second of processor time from now on."""
    ticks = _cpu_ticks(pid)
    deadline = time.monotonic() + 20
    while _cpu_ticks(pid) - ticks < os.sysconf("SC_CLK_TCK") // 4:
        assert time.monotonic() < deadline
        select.select([], [], [], 0.01)


def _cpu_ticks(pid: int) -> int:
    return int(_stat(pid)[11])


def _wait_for_end(pid: int) -> None:
    deadline = time.monotonic() + 20
    while _is_running(pid):
        assert time.monotonic() < deadline
        select.select([], [], [], 0.01)


def test_second_process_on_a_folder(tmp_path: Path) -> None:
    """A second process on the same folder is rejected with a line that names the folder and the first process."""
    with start(tmp_path) as running:
        words = _refused(tmp_path)
        assert str(tmp_path) in words
        assert f"process {running.pid}" in words
        assert Caller(running.url).get("/healthz").status == 200


def test_taken_port(tmp_path: Path) -> None:
    """A port in use is rejected with a line that names it, and the folder is unlocked again."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert f"port {port} " in _refused(tmp_path, "--port", str(port))
    with start(tmp_path) as running:
        assert Caller(running.url).get("/healthz").status == 200


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """A folder that cannot be created is rejected with a line that names it."""
    (tmp_path / "file").touch()
    assert str(tmp_path / "file" / "data") in _refused(tmp_path / "file" / "data")


def test_data_of_a_newer_program(tmp_path: Path) -> None:
    """Data of a newer program are rejected, and not changed."""
    with sqlite3.connect(tmp_path / "kfp.sqlite") as database:
        database.execute("PRAGMA user_version = 99")
    assert "newer version" in _refused(tmp_path)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "example.org", "::"])  # noqa: S104  # refused, that is the point
def test_other_addresses(tmp_path: Path, host: str) -> None:
    """It listens on loopback addresses only."""
    words = _refused(tmp_path, "--host", host)
    assert host in words
    assert "loopback" in words


def test_start_reports_the_reason(tmp_path: Path) -> None:
    """The caller of start gets the reason why the server did not start."""
    with start(tmp_path), pytest.raises(EmbeddedKfpError, match="in use by process"):
        start(tmp_path)


def test_start_in_time(tmp_path: Path) -> None:
    """A server that is not ready in time is stopped, and its folder unlocked."""
    with pytest.raises(EmbeddedKfpError, match=r"not ready within 0\.01 s"):
        start(tmp_path, timeout=0.01)
    start(tmp_path).stop()


def test_stop_twice(tmp_path: Path) -> None:
    """Stopping ends the process, and stopping again does nothing."""
    running = start(tmp_path)
    running.stop()
    running.stop()
    assert not _is_running(running.pid)


def test_end_with_the_parent(tmp_path: Path) -> None:
    """A server that was started from Python ends if that process is killed."""
    program = (
        "import sys, pathlib; from kfadapter_embedded.process import start;"
        "running = start(pathlib.Path(sys.argv[1])); print(running.pid, flush=True); sys.stdin.read()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    _wait_for_end(pid)


def test_light_imports() -> None:
    """Starting a server requires neither its libraries nor kfp, and the server does not require kfp."""
    program = """
import sys
import kfadapter_embedded.process
assert not {"starlette", "uvicorn", "yaml", "sqlite3", "google.protobuf"} & sys.modules.keys(), "process"
import io, kfadapter_embedded.server, kfadapter_embedded.pipeline_file as pipeline_file
pipeline_file.read_spec(open(sys.argv[1], "rb"))
assert "kfp" not in sys.modules, "server"
"""
    done = subprocess.run([sys.executable, "-c", program, str(HELLO)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_listening_socket() -> None:
    """The socket is explicitly TCP, without which asyncio leaves Nagle's algorithm on (40 ms per answer)."""
    with bind("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP


def test_port_out_of_range() -> None:
    """An invalid port number is rejected like a port in use."""
    with pytest.raises(AddressError, match="port 65536 "):
        bind("127.0.0.1", 65536)
