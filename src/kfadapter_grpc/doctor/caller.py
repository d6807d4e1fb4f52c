"""Checks from the client's side: whether the adapter is reachable, healthy, and accepts the caller."""

from __future__ import annotations

import subprocess
import sys
import time
import uuid
from contextlib import closing
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from grpc import StatusCode

from kfadapter_grpc.cli.errors import ExitCode
from kfadapter_grpc.cli.failures import exit_code, next_step, reason_and_cause
from kfadapter_grpc.cli.invocation import other
from kfadapter_grpc.client import CallFailedError, HealthStatus
from kfadapter_grpc.contract.errors import AdapterError
from kfadapter_grpc.doctor.verdict import Status, Verdict, certificate, clock, failed, ok, skipped, warning
from kfadapter_grpc.methods import SERVICES
from kfadapter_grpc.version import DISTRIBUTION, installed_version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kfadapter_grpc.client import Client

_KFP = "kfp"
_ENGINE = "container engine"
_ENGINE_SECONDS = 120  # at most nine sockets, 10 s each
_LOOPBACK = ("127.", "localhost:", "[::1]:", "unix:")


@dataclass(frozen=True, slots=True)
class Check:
    """One check of an adapter, which `needs` another one not to have failed; an error of its call becomes a failure."""

    name: str
    run: Callable[[Client], Verdict]
    needs: str = "adapter"


def examine(client: Client) -> Iterator[Verdict]:
    """Yields the result of each check as soon as it is known."""
    bad: set[str] = set()
    for check in CHECKS:
        if check.needs in bad:
            verdict = skipped(check.name, f"the check '{check.needs}' failed")
        else:
            verdict = _run(check, client)
        if verdict.status in (Status.FAILED, Status.SKIPPED):
            bad.add(check.name)
        yield verdict


def container_engine(client: Client) -> Iterator[Verdict]:
    """Yields the container engine of `kfadapter dev`, if the adapter may be local and the extra is installed."""
    if not client.target.startswith(_LOOPBACK) or find_spec("docker") is None:
        return
    command = [sys.executable, "-m", "kfadapter_embedded.runner.containers"]
    process = subprocess.run(command, capture_output=True, text=True, timeout=_ENGINE_SECONDS, check=False)  # noqa: S603
    if process.returncode == 0:
        yield ok(_ENGINE, f"kfadapter dev runs steps in containers by {process.stdout.strip()}")
        return
    yield warning(
        _ENGINE,
        process.stderr.strip(),
        why="kfadapter dev refuses pipelines with container components, unless --steps process is set",
        next_step="install and start Docker or Podman, or name another engine in DOCKER_HOST",
    )


def _run(check: Check, client: Client) -> Verdict:
    try:
        return check.run(client)
    except AdapterError as error:
        return failed(
            check.name,
            error.message,
            why=reason_and_cause(error),
            next_step=next_step(error),
            exit_code=exit_code(error),
        )


def _adapter(client: Client) -> Verdict:
    start = time.perf_counter()
    client.health()
    return ok("adapter", f"{client.target} responded in {_since(start)}")


def _health(client: Client) -> Verdict:
    if client.health() is HealthStatus.SERVING:
        return ok("health", "SERVING")
    return failed(
        "health",
        "NOT_SERVING",
        why="it is shutting down, or needs Kubeflow Pipelines, which is unreachable (--ready-needs-kfp)",
        next_step=other("health", _KFP, text="shows whether KFP is reachable"),
    )


def _encryption(client: Client) -> Verdict:
    if client.uses_tls:
        try:
            ends = client.certificate_end()
        except (OSError, ValueError):  # an address such as unix:, or a name with several addresses
            return ok("encryption", "TLS; the expiry of the adapter's certificate cannot be read for this address")
        return certificate("encryption", "TLS; the adapter's certificate", ends)
    if client.target.startswith(_LOOPBACK):
        return ok("encryption", "none, and the connection stays on this machine")
    return warning(
        "encryption",
        f"the connection to {client.target} is not encrypted",
        why="others on the network can read and change what is sent",
        next_step="use --tls or --ca FILE, if the adapter has TLS; otherwise request it from its operator",
    )


def _services(client: Client) -> Verdict:
    missing, down = [], []
    for service in SERVICES:
        try:
            if client.health(service) is not HealthStatus.SERVING:
                down.append(service)
        except CallFailedError as error:
            if error.status is not StatusCode.NOT_FOUND:
                raise
            missing.append(service)
    if missing:
        return warning(
            "services",
            f"not served: {', '.join(missing)}",
            why="their commands fail with UNIMPLEMENTED",
            next_step=f"update the adapter, which is older than this client: pip install -U {DISTRIBUTION}",
        )
    if down:
        step = other("health", _KFP, text="shows whether KFP is reachable")
        return failed(
            "services", f"NOT_SERVING: {', '.join(down)}", why="a probe would report the same", next_step=step
        )
    return ok("services", f"all {len(SERVICES)} are SERVING, as a Kubernetes probe would see it")


def _kfp(client: Client) -> Verdict:
    if client.health(_KFP) is HealthStatus.SERVING:
        return ok("kfp", "Kubeflow Pipelines responds to the adapter")
    return failed(
        "kfp",
        "the adapter cannot reach Kubeflow Pipelines",
        why="NOT_SERVING: the adapter checks it every few seconds; calls fail with KFP_UNAVAILABLE until it responds",
        next_step="where the adapter runs: kfadapter doctor --server shows which step fails",
        exit_code=ExitCode.CANNOT_CONNECT,
    )


def _read(client: Client) -> Verdict:
    start = time.perf_counter()
    client.adapter_version()
    return ok("read", f"the caller is authorized: listing a pipeline took {_since(start)}")


def _version(client: Client) -> Verdict:
    there, here = client.adapter_version(), installed_version()
    if there == here:
        return ok("version", f"adapter and client are {here}")
    adapter = there or "too old to report its version"
    return warning(
        "version",
        f"the adapter is {adapter}, the client {here}",
        why="features that only one of them supports are refused or not shown",
        next_step=f"pip install {DISTRIBUTION}=={there}" if there else "update the adapter",
    )


def _clock(client: Client) -> Verdict:
    """Requests a run that cannot exist: the NOT_FOUND response has the adapter's time."""
    before = time.time()
    with closing(client.runs.watch(str(uuid.uuid4()))) as events:
        observed = next(events).observed_at.timestamp()
    after = time.time()
    return clock("clock", "the adapter's", min(observed - before, 0.0) + max(observed - after, 0.0))


def _since(start: float) -> str:
    return f"{1000 * (time.perf_counter() - start):.0f} ms"


CHECKS: tuple[Check, ...] = (
    Check("adapter", _adapter, needs=""),
    Check("encryption", _encryption),
    Check("health", _health),
    Check("services", _services),
    Check("kfp", _kfp),
    Check("read", _read),
    Check("version", _version, needs="read"),
    Check("clock", _clock, needs="read"),
    Check(
        "reflection",
        lambda client: ok(
            "reflection",
            "on: grpcurl needs no .proto files"
            if client.reflects()
            else "off: grpcurl needs the .proto files (-import-path protos)",
        ),
    ),
)
