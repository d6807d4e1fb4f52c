from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from tests.cli.conftest import Kfadapter
from typing_extensions import override

from kfadapter_grpc.cli.errors import ExitCode
from kfadapter_grpc.client import CallFailedError, Client, HealthStatus
from kfadapter_grpc.health import Health
from kfadapter_grpc.methods import SERVICES

if TYPE_CHECKING:
    from collections.abc import Iterator


class SilentServicer(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """Answers no check until it is released."""

    def __init__(self) -> None:
        self.released = threading.Event()

    @override
    def Check(
        self, request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext
    ) -> health_pb2.HealthCheckResponse:
        """Waits longer than any client's timeout."""
        self.released.wait(60)
        return health_pb2.HealthCheckResponse()


@contextmanager
def serving(servicer: health_pb2_grpc.HealthServicer) -> Iterator[str]:
    """Serves health checks on a free loopback port; yields the address."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        server = grpc.server(pool, options=[("grpc.so_reuseport", 0)])
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.stop(None).wait(10)


@pytest.fixture
def health() -> Iterator[Health]:
    """The health of an adapter that serves and whose KFP is unreachable."""
    made = Health(SERVICES, follow_kfp=False)
    made.serve()
    yield made
    made.servicer.close()


@pytest.fixture
def target(health: Health) -> Iterator[str]:
    """The address that reports this health."""
    with serving(health.servicer) as address:
        yield address


@pytest.mark.parametrize("service", ["", *SERVICES])
def test_serving(service: str, kfadapter: Kfadapter) -> None:
    """For a serving adapter, and each of its services, the command prints one word, with exit code 0."""
    ended = kfadapter("health", service)
    assert (ended.code, ended.out, ended.err) == (ExitCode.OK, "SERVING\n", "")


def test_without_a_name_the_adapter_is_checked(kfadapter: Kfadapter) -> None:
    """Without a service name the adapter itself is checked."""
    assert kfadapter("health").out == "SERVING\n"


def test_not_serving(kfadapter: Kfadapter, health: Health) -> None:
    """For a draining adapter the status is on stdout, an error in three parts on stderr, and the exit code is 8."""
    health.drain()
    ended = kfadapter("health")
    assert (ended.code, ended.out) == (ExitCode.REFUSED, "NOT_SERVING\n")
    what, why, step, words = ended.err.splitlines()
    assert what == f"error: {kfadapter.target} does not serve"
    assert why.startswith("why:   NOT_SERVING: ")
    assert step == f"next:  kfadapter --target {kfadapter.target} health kfp"
    assert words.endswith("shows whether KFP is reachable; then the same command again")
    assert kfadapter("health", SERVICES[0]).err.startswith(f"error: {SERVICES[0]} does not serve\n")


def test_kfp_by_name(kfadapter: Kfadapter, health: Health) -> None:
    """The service `kfp` reports whether KFP is reachable from the adapter."""
    ended = kfadapter("health", "kfp")
    assert (ended.code, ended.out) == (ExitCode.REFUSED, "NOT_SERVING\n")
    assert ended.err.startswith(f"error: Kubeflow Pipelines is unreachable from {kfadapter.target}\n")
    assert "kfadapter doctor --server" in ended.err
    health.report_kfp(responds=True)
    assert kfadapter("health", "kfp").out == "SERVING\n"


def test_an_unknown_service(kfadapter: Kfadapter) -> None:
    """An unknown service is not found, and the error names the known ones."""
    ended = kfadapter("health", "서비스")
    assert (ended.code, ended.out) == (ExitCode.NOT_FOUND, "")
    assert f"{kfadapter.target} has no service '서비스'" in ended.err
    assert f"next:  kfadapter --target {kfadapter.target} health\n" in ended.err
    assert "kfp" in ended.err


def test_unreachable_adapter() -> None:
    """If the adapter is unreachable, the exit code shows it."""
    ended = Kfadapter("127.0.0.1:1")("health")
    assert (ended.code, ended.out) == (ExitCode.CANNOT_CONNECT, "")
    assert "cannot connect to 127.0.0.1:1" in ended.err


def test_an_adapter_that_does_not_respond() -> None:
    """A stalled adapter is a timeout, with its own exit code."""
    servicer = SilentServicer()
    with serving(servicer) as address:
        ended = Kfadapter(address)("health", "--timeout", "0.2")
        servicer.released.set()
    assert (ended.code, ended.out) == (ExitCode.TIMED_OUT, "")
    assert f"no response from {address} in time" in ended.err


def test_a_server_without_health_checks() -> None:
    """A server without health checks is not an adapter; the next step says to check --target."""
    with serving(health_pb2_grpc.HealthServicer()) as address:
        ended = Kfadapter(address)("health")
    assert (ended.code, ended.out) == (ExitCode.REFUSED, "")
    assert "UNIMPLEMENTED" in ended.err
    assert "check that --target is a kfadapter" in ended.err


def test_the_client_reports_health_as_a_value(target: str, health: Health) -> None:
    """The library returns health as a value, also if it is not serving; only an unknown service is an error."""
    with Client(target) as client:
        assert client.health() is HealthStatus.SERVING
        assert client.health("kfp") is HealthStatus.NOT_SERVING
        health.drain()
        assert client.health() is HealthStatus.NOT_SERVING
        with pytest.raises(CallFailedError) as caught:
            client.health("nobody")
        assert caught.value.status is grpc.StatusCode.NOT_FOUND
