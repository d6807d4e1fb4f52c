from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, cast

import grpc
import pytest
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from structlog.testing import capture_logs
from tests.contract.running import WAIT_SECONDS, Running, Scripted, eventually

from kfadapter_grpc.contract.errors import AdapterError, KfpRejectedCredentialsError, KfpUnavailableError
from kfadapter_grpc.health import DESCRIPTOR, Health, HealthMonitor, HealthServicer
from kfadapter_grpc.methods import SERVICES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.message import Message
    from tests.contract.conftest import Serve

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
OWN_NAMES = ("", *SERVICES)


class Kfp:
    """A KFP that is reachable or not, as the test chooses."""

    def __init__(self, *, answers: bool) -> None:
        self.answers = answers
        self.asked = threading.Event()

    def probe(self) -> bool:
        """Returns whether it is reachable."""
        self.asked.set()
        return self.answers


def status(running: Running, name: str) -> int:
    """Requests the health of a name."""
    request = health_pb2.HealthCheckRequest(service=name)
    answer = health_pb2_grpc.HealthStub(running.channel).Check(request, timeout=WAIT_SECONDS)
    return int(answer.status)


def watch(running: Running, name: str) -> Iterator[health_pb2.HealthCheckResponse]:
    """Watches the health of a name."""
    request = health_pb2.HealthCheckRequest(service=name)
    stream: Iterator[health_pb2.HealthCheckResponse] = health_pb2_grpc.HealthStub(running.channel).Watch(
        request, timeout=WAIT_SECONDS
    )
    return stream


@pytest.mark.parametrize("name", OWN_NAMES)
def test_serving_without_kfp(serve: Serve, name: str) -> None:
    """The server and its services are SERVING even if KFP is unreachable."""
    kfp = Kfp(answers=False)
    running = serve(Scripted(), kfp.probe)
    assert kfp.asked.wait(WAIT_SECONDS)
    assert status(running, name) == SERVING
    assert status(running, "kfp") == NOT_SERVING


def test_kfp_by_name(serve: Serve) -> None:
    """The name kfp is SERVING if KFP responds."""
    running = serve(Scripted(), Kfp(answers=True).probe)
    eventually(lambda: status(running, "kfp") == SERVING)


@pytest.mark.parametrize("name", OWN_NAMES)
def test_ready_needs_kfp(serve: Serve, name: str) -> None:
    """With ready_needs_kfp the others follow KFP."""
    away = serve(Scripted(), Kfp(answers=False).probe, ready_needs_kfp=True)
    there = serve(Scripted(), Kfp(answers=True).probe, ready_needs_kfp=True)
    eventually(lambda: status(there, name) == SERVING)
    assert status(away, name) == NOT_SERVING


def test_unknown_name(serve: Serve) -> None:
    """A check of an unknown name is NOT_FOUND, and a watch of it SERVICE_UNKNOWN."""
    running = serve(Scripted())
    with pytest.raises(grpc.RpcError) as caught:
        status(running, "nobody")
    assert isinstance(caught.value, grpc.Call)
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    assert next(watch(running, "nobody")).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


def test_list(serve: Serve) -> None:
    """List returns the status of every name that Check knows."""
    running = serve(Scripted(), Kfp(answers=False).probe)
    message = {name: GetMessageClass(one) for name, one in DESCRIPTOR.message_types_by_name.items()}
    ask: grpc.UnaryUnaryMultiCallable[Message, Any] = running.channel.unary_unary(
        "/grpc.health.v1.Health/List",
        message["HealthListRequest"].SerializeToString,
        message["HealthListResponse"].FromString,
    )
    answer = ask(message["HealthListRequest"](), timeout=WAIT_SECONDS)
    found = {name: one.status for name, one in answer.statuses.items()}
    assert found == {**dict.fromkeys(OWN_NAMES, SERVING), "kfp": NOT_SERVING}


def test_drain_is_seen(serve: Serve) -> None:
    """A watch reports SERVING, and NOT_SERVING when the drain begins."""
    running = serve(Scripted())
    stream = watch(running, "")
    assert next(stream).status == SERVING
    running.server.drain()
    assert next(stream).status == NOT_SERVING
    assert status(running, "") == NOT_SERVING


def test_watches_hold_no_thread(serve: Serve) -> None:
    """More watches than the server has threads all get their response, and so does a check."""
    running = serve(Scripted(), max_unary_calls=1, max_uploads=1, max_streams=1)
    streams = [watch(running, "") for _ in range(50)]
    assert {next(stream).status for stream in streams} == {SERVING}
    assert status(running, "") == SERVING


def test_watches_are_forgotten(serve: Serve) -> None:
    """A watch that ends leaves nothing behind."""
    running = serve(Scripted())
    streams = [watch(running, "") for _ in range(5)]
    for stream in streams:
        next(stream)
        stream.cancel()  # type: ignore[attr-defined]
    eventually(lambda: not running.server.health.servicer._watches)


def test_watches_that_end_while_a_status_is_sent(serve: Serve) -> None:
    """However often the status changes while watches start and end, the server continues."""
    running = serve(Scripted())
    over = threading.Event()

    def change() -> None:
        answers = False
        while not over.wait(0.0001):
            running.server.health.report_kfp(answers)
            answers = not answers

    changing = threading.Thread(target=change)
    changing.start()
    for _ in range(30):
        streams = [watch(running, "kfp") for _ in range(5)]
        for stream in streams:
            next(stream)
            stream.cancel()  # type: ignore[attr-defined]
        assert status(running, "") == SERVING
    over.set()
    changing.join(WAIT_SECONDS)
    eventually(lambda: not running.server.health.servicer._watches)


def test_broken_watch_silences_no_other() -> None:
    """A watch whose stream breaks is removed; the others are notified."""
    servicer = HealthServicer()
    reported = threading.Event()

    def break_off(_: health_pb2.HealthCheckResponse) -> None:
        raise RuntimeError("a broken stream")

    servicer.Watch(health_pb2.HealthCheckRequest(), cast("grpc.ServicerContext", Watcher()), break_off)
    servicer.Watch(health_pb2.HealthCheckRequest(), cast("grpc.ServicerContext", Watcher()), lambda _: reported.set())
    assert reported.wait(WAIT_SECONDS)
    assert len(servicer._watches) == 1
    servicer.close()


def test_watchers_that_do_not_read_silence_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """If more watchers stall than there are sender threads, each of them is cancelled, and the others are notified."""
    monkeypatch.setattr("kfadapter_grpc.health.STALLED_SECONDS", 0.2)
    servicer = HealthServicer()
    reported = threading.Event()
    stalled = [Watcher() for _ in range(6)]
    for watcher in stalled:
        context = cast("grpc.ServicerContext", watcher)
        servicer.Watch(health_pb2.HealthCheckRequest(), context, lambda _, w=watcher: w.cancelled.wait(WAIT_SECONDS))  # type: ignore[misc]
    servicer.Watch(health_pb2.HealthCheckRequest(), cast("grpc.ServicerContext", Watcher()), lambda _: reported.set())
    assert reported.wait(WAIT_SECONDS / 2)
    eventually(lambda: all(watcher.cancelled.is_set() for watcher in stalled))
    servicer.close()


class Watcher:
    """As much of a context as a watch needs."""

    def __init__(self) -> None:
        self.cancelled = threading.Event()

    def cancel(self) -> None:
        """Ends pending sends."""
        self.cancelled.set()

    def add_callback(self, callback: object) -> bool:
        """Accepts every callback."""
        return callback is not None


def test_nothing_serves_before_the_start() -> None:
    """Before the server serves, health reports NOT_SERVING."""
    health = Health(SERVICES, follow_kfp=False)
    health.report_kfp(responds=True)
    assert set(health.servicer._statuses.values()) == {NOT_SERVING}


def test_monitor_follows_kfp() -> None:
    """The monitor reports every change, and logs it once."""
    kfp = Kfp(answers=False)
    reports: list[bool] = []
    with capture_logs() as lines:
        monitor = HealthMonitor(kfp.probe, reports.append, seconds=0.001)
        monitor.start()
        eventually(lambda: reports.count(False) > 2)
        kfp.answers = True
        eventually(lambda: reports.count(True) > 2)
        monitor.stop()
    assert [line["log_level"] for line in lines] == ["warning", "info"]


def test_monitor_outlives_a_probe_that_fails() -> None:
    """A probe that raises counts as failed, and is repeated."""
    reports: list[bool] = []

    def probe() -> bool:
        if len(reports) < 2:
            raise RuntimeError("a fault")
        return True

    monitor = HealthMonitor(probe, reports.append, seconds=0.001)
    monitor.start()
    eventually(lambda: len(reports) > 2)
    monitor.stop()
    assert reports[:3] == [False, False, True]


def test_monitor_distinguishes_refused_credentials_from_absence() -> None:
    """The log reports the fault once each time it changes; health reports NOT_SERVING for both faults."""
    faults: list[AdapterError | None] = [KfpUnavailableError("away"), KfpRejectedCredentialsError("401"), None]
    reports: list[bool] = []

    def probe() -> bool:
        fault = faults[min(len(reports) // 2, 2)]
        if fault is not None:
            raise fault
        return True

    with capture_logs() as lines:
        monitor = HealthMonitor(probe, reports.append, seconds=0.001)
        monitor.start()
        eventually(lambda: len(reports) > 5)
        monitor.stop()
    events = [line["event"] for line in lines]
    assert ["KFP_UNAVAILABLE" in events[0], "KFP_REJECTED_CREDENTIALS" in events[1], *events[2:]] == [
        True,
        True,
        "KFP is reachable",
    ]
    assert reports[:4] == [False] * 4


def test_monitor_stops_while_a_probe_hangs() -> None:
    """A probe that hangs does not keep the server from stopping."""
    release, asked = threading.Event(), threading.Event()

    def probe() -> bool:
        asked.set()
        return release.wait(WAIT_SECONDS)

    monitor = HealthMonitor(probe, lambda _: None)
    monitor.start()
    assert asked.wait(WAIT_SECONDS)
    monitor.stop(seconds=0.01)
    assert monitor._thread.is_alive()
    release.set()
    monitor._thread.join(WAIT_SECONDS)
    assert not monitor._thread.is_alive()
