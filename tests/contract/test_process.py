from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack, closing, suppress
from typing import TYPE_CHECKING, Protocol

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from tests.contract.running import WAIT_SECONDS, Reported, Scripted, eventually, failure, reported

from kfadapter.v1 import pipeline_pb2 as pb
from kfadapter.v1.pipeline_pb2_grpc import PipelineServiceStub
from kfadapter_grpc.server import AdapterServer, ServerStartError
from kfadapter_grpc.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

RUN = """
from kfadapter_grpc.server import run
from kfadapter_grpc.settings import Settings
raise SystemExit(run(Settings.load()))
"""
COLLECTED = """
import gc, json, os, signal, sys
from kfadapter_grpc.server import run
from kfadapter_grpc.settings import Settings
def tell(_):
    json.dump({"walked": len(gc.get_objects()), "passed_over": gc.get_freeze_count()}, sys.stdout)
    os.kill(os.getpid(), signal.SIGTERM)
raise SystemExit(run(Settings.load(), tell))
"""
STUCK = """
import threading
from kfadapter_grpc.services.pipelines import PipelineServicer
PipelineServicer.Get = lambda *_: print(flush=True) or threading.Event().wait()
"""
GET = pb.GetPipelineRequest(name="hello")


class Process:
    """An adapter in a process of its own, and its client."""

    def __init__(self, before: str = "", **settings: object) -> None:
        variables = {f"KFADAPTER_{name.upper()}": str(value) for name, value in settings.items()}
        free = {"KFADAPTER_LISTEN": "127.0.0.1:0", "KFADAPTER_METRICS_LISTEN": "127.0.0.1:0"}
        environment = {**os.environ, **free, **variables}
        command, pipe = [sys.executable, "-c", before + RUN], subprocess.PIPE
        self._process = subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True)
        serving = self.line("serving")
        self.address = str(serving["address"])
        self.metrics = str(serving["metrics"])
        self.kfp_url = serving["kfp_url"]
        self.channel = grpc.insecure_channel(self.address, (("grpc.use_local_subchannel_pool", 1),))
        self.stub = PipelineServiceStub(self.channel)

    def line(self, event: str) -> dict[str, object]:
        """Reads log lines up to the next one with this event."""
        assert self._process.stderr is not None
        for text in self._process.stderr:
            line: dict[str, object] = json.loads(text)
            if line["event"] == event:
                return line
        raise AssertionError(f"the process ended without '{event}'")

    def await_output(self) -> None:
        """Waits for a line on stdout."""
        assert self._process.stdout is not None
        assert self._process.stdout.readline()

    def send(self, number: signal.Signals) -> None:
        """Sends a signal."""
        self._process.send_signal(number)

    def exit_code(self) -> int:
        """Waits until the process has exited; returns its exit code."""
        self._process.communicate(timeout=WAIT_SECONDS)
        return self._process.returncode

    def close(self) -> None:
        """Ends the process if it is still running."""
        self.channel.close()
        self._process.kill()
        self._process.communicate()


class Start(Protocol):
    """Starts an adapter with settings."""

    def __call__(self, before: str = ..., **settings: object) -> Process:
        """Returns it once it serves; `before` is code that it runs first."""
        ...


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts adapters in processes of their own."""
    with ExitStack() as stack:

        def started(before: str = "", **settings: object) -> Process:
            process = Process(before, **settings)
            stack.callback(process.close)
            return process

        yield started


class SilentKfp:
    """A KFP that accepts connections and requests, and never responds.

    Attributes:
        asked: Set when a pipeline was requested.
    """

    def __init__(self) -> None:
        self.asked = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._connections: list[socket.socket] = []
        threading.Thread(target=self._take, daemon=True).start()

    def _take(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._connections.append(connection)
                if b"/pipelines" in connection.recv(1000):
                    self.asked.set()

    def close(self) -> None:
        """Drops all connections."""
        for open_socket in (self._listener, *self._connections):
            open_socket.close()


@pytest.fixture
def silent_kfp() -> Iterator[SilentKfp]:
    """A KFP that never responds."""
    with closing(SilentKfp()) as kfp:
        yield kfp


@pytest.fixture
def missing_kfp() -> str:
    """The URL of a missing KFP: a port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.slow
def test_start_without_kfp(start: Start, missing_kfp: str) -> None:
    """The server starts even if KFP is unreachable, logs that in one line, and fails calls with KFP_UNAVAILABLE."""
    process = start(kfp_url=missing_kfp)
    assert process.kfp_url == missing_kfp
    warning = process.line("KFP is unreachable; calls fail with KFP_UNAVAILABLE until it responds")
    assert warning["level"] == "warning"
    health = health_pb2_grpc.HealthStub(process.channel).Check(health_pb2.HealthCheckRequest(), timeout=WAIT_SECONDS)
    assert health.status == health_pb2.HealthCheckResponse.SERVING
    it = failure(lambda: process.stub.Get(GET, timeout=5))
    assert (it.code, it.reason) == (grpc.StatusCode.UNAVAILABLE, "KFP_UNAVAILABLE")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_the_process(start: Start, missing_kfp: str, number: signal.Signals) -> None:
    """SIGTERM and SIGINT end an idle server with exit code 0."""
    process = start(kfp_url=missing_kfp)
    process.send(number)
    assert process.line("draining")["signal"] == number.name
    assert process.exit_code() == 0


@pytest.mark.slow
def test_drain_of_a_process(start: Start, silent_kfp: SilentKfp) -> None:
    """After SIGTERM new calls get DRAINING; calls that outlive the grace period are cancelled; the exit code is 0."""
    process = start(kfp_url=silent_kfp.url, grace_seconds=1)
    held = process.stub.Get.future(GET, timeout=60)
    assert silent_kfp.asked.wait(WAIT_SECONDS)
    process.send(signal.SIGTERM)
    process.line("draining")
    it = eventually(lambda: refusal(process))
    assert it is not None
    assert (it.code, it.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
    assert process.exit_code() == 0
    assert isinstance(held.exception(WAIT_SECONDS), grpc.RpcError)


def refusal(process: Process) -> Reported | None:
    """Makes a call that the server rejects; returns None if it waits for KFP instead."""
    error = process.stub.Get.future(GET, timeout=0.2).exception(WAIT_SECONDS)
    assert isinstance(error, grpc.RpcError)
    assert isinstance(error, grpc.Call)
    return None if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED else reported(error)


@pytest.mark.slow
def test_second_interrupt(start: Start, silent_kfp: SilentKfp) -> None:
    """A second SIGINT ends the process at once with 130."""
    process = start(kfp_url=silent_kfp.url, drain_seconds=60)
    process.send(signal.SIGINT)
    process.line("draining")
    process.send(signal.SIGINT)
    assert process.exit_code() == 130


@pytest.mark.slow
def test_collections_pass_over_what_is_loaded() -> None:
    """The garbage collector, which pauses the process, traverses a small part of the loaded objects, not all."""
    free = {"KFADAPTER_LISTEN": "127.0.0.1:0", "KFADAPTER_METRICS_LISTEN": "off", "KFADAPTER_DRAIN_SECONDS": "0"}
    done = subprocess.run(
        [sys.executable, "-c", COLLECTED],
        env={**os.environ, **free},
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=True,
    )
    reported = json.loads(done.stdout)
    assert reported["walked"] < reported["passed_over"] / 5


@pytest.mark.slow
def test_call_that_never_ends(start: Start, missing_kfp: str) -> None:
    """A call that ignores both its deadline and its cancellation does not keep the process alive."""
    process = start(STUCK, kfp_url=missing_kfp, grace_seconds=0)
    stuck = process.stub.Get.future(GET, timeout=60)
    process.await_output()
    process.send(signal.SIGTERM)
    assert process.line("calls in flight do not end; exiting without them")["calls"] == 1
    assert process.exit_code() == 0
    assert isinstance(stuck.exception(WAIT_SECONDS), grpc.RpcError)


def test_port_in_use(capfd: pytest.CaptureFixture[str]) -> None:
    """A port in use is named, with the option to change; gRPC prints nothing of its own."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        server = AdapterServer(Settings.load(listen=address), [Scripted()], lambda: True)
        with pytest.raises(ServerStartError) as caught:
            server.start()
        server.stop()
    assert str(caught.value) == f"{address} is in use; choose another with --listen"
    assert capfd.readouterr().err == ""


def test_address_of_another_machine() -> None:
    """An address that this machine does not have is rejected with the reason."""
    settings = Settings.load(listen="192.0.2.1:50051", insecure_listen=True)
    server = AdapterServer(settings, [Scripted()], lambda: True)
    with pytest.raises(ServerStartError, match=r"^192\.0\.2\.1:50051 cannot be used \(.+\); choose another"):
        server.start()
    server.stop()


def test_two_servers_do_not_share_a_port() -> None:
    """The second server on a port fails, although gRPC would let both listen."""
    with AdapterServer(Settings.load(listen="127.0.0.1:0"), [Scripted()], lambda: True) as first:
        second = AdapterServer(Settings.load(listen=first.address), [Scripted()], lambda: True)
        with pytest.raises(ServerStartError):
            second.start()
        second.stop()
