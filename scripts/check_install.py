"""Uses an installed wheel: run by the Python of its environment, which has nothing else; scripts/check-pythons does.

check_install.py EXTRAS PIPELINE    with the extras that were installed, separated by commas, and examples/train.py

KFADAPTER_TARGET names an adapter, for what calls one.
"""

from __future__ import annotations

import pkgutil
import platform
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import closing, contextmanager, suppress
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import URLError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HOST = "127.0.0.1"
START_SECONDS = 300  # compiles what it imports; machines are slow at times
KFADAPTER = str(Path(sys.executable).parent / "kfadapter")

MODULES = {
    "": (
        "kfadapter",
        *(f"kfadapter_grpc.{name}" for name in ("client", "cli", "contract", "check", "graph")),
    ),
    "server": ("kfadapter_grpc",),
    "notify": ("kfadapter_oran.notices",),
    "oran": ("kfadapter_oran",),
    "console": ("kfadapter_console",),
    "embedded": ("kfadapter_embedded",),
    "otel": (),
}
"""The packages that can be imported whole with an extra."""
TELEMETRY = "kfadapter_grpc.telemetry"
"""Within `server`, but only imported where the extra `otel` is."""
SERVERS = {
    "notify": (
        [KFADAPTER, "notify", "--url", f"http://{HOST}:9/", "--outbox", "{data}/n.db", "--metrics-listen"],
        "/metrics",
    ),
    "oran": ([KFADAPTER, "legacy-http", "--metrics-listen", "off", "--listen"], "/pipelines"),
    "console": ([KFADAPTER, "console", "--listen"], "/healthz"),
    "embedded": ([sys.executable, "-m", "kfadapter_embedded", "--data", "{data}", "--port"], "/apis/v2beta1/healthz"),
}
"""What an extra serves over HTTP: the command, to which an address is added, and a path."""


def main() -> None:
    """Imports, prints the help, and serves or calls what the extras are for."""
    extras, pipeline = sys.argv[1].split(","), sys.argv[2]
    skipped = "" if "otel" in extras else TELEMETRY
    imported = sum(_import(package, skipped) for extra in {"", *extras} for package in MODULES[extra])
    _run(KFADAPTER, "--help")
    with tempfile.TemporaryDirectory() as data:
        if len(extras) > 1:
            _develop(data, pipeline)
        elif extras == ["server"]:
            _serve()
        elif extras[0] in SERVERS:
            _answer(*SERVERS[extras[0]], data)
        else:
            _call()
    beside = ", ".join(
        f"{name} {version(name)}" for name in ("grpcio", "protobuf", *(["kfp"] if "embedded" in extras else []))
    )
    print(f"Python {platform.python_version()} [{sys.argv[1]}]: {imported} modules, {beside}", flush=True)  # noqa: T201


def _import(package: str, skipped: str) -> int:
    names = [one.name for one in pkgutil.walk_packages(import_module(package).__path__, f"{package}.", _raise)]
    named = [name for name in names if not (skipped and name.startswith(skipped)) and not name.endswith(".__main__")]
    for name in named:
        import_module(name)
    return len(named)


def _raise(name: str) -> None:
    raise ImportError(name)


def _call(*options: str) -> None:
    """Lists pipelines of the adapter that the options name, or of KFADAPTER_TARGET."""
    _eventually(lambda: _try_run(KFADAPTER, *options, "health").returncode == 0)
    _run(KFADAPTER, *options, "list", "-o", "json")


def _serve() -> None:
    """Serves gRPC in front of an unreachable KFP: the server responds, and reports it."""
    address = f"{HOST}:{_free_port()}"
    options = ("--listen", address, "--metrics-listen", "off", "--kfp-url", f"http://{HOST}:9")
    with _started(KFADAPTER, "serve", *options):
        _eventually(lambda: "KFP_UNAVAILABLE" in _try_run(KFADAPTER, "--target", address, "list").stderr)


def _develop(data: str, pipeline: str) -> None:
    """Compiles, uploads and runs a pipeline."""
    port = str(_free_port())
    with _started(KFADAPTER, "dev", "--data", data, "--port", port, "--kfp-port", "0", "--page-port", "0"):
        _call("--target", f"{HOST}:{port}")
        _run(KFADAPTER, "--target", f"{HOST}:{port}", "run", pipeline, "-p", "dataset_seed=7", "--watch")


def _answer(command: list[str], path: str, data: str) -> None:
    """Waits until a server gives a page."""
    port = _free_port()
    where = str(port) if command[-1] == "--port" else f"{HOST}:{port}"

    def answers() -> bool:
        with suppress(URLError, OSError), urllib.request.urlopen(f"http://{HOST}:{port}{path}", timeout=START_SECONDS):
            return True
        return False

    with _started(*(word.format(data=data) for word in command), where):
        _eventually(answers)


def _eventually(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + START_SECONDS
    while not holds():
        if time.monotonic() > end:
            sys.exit(f"check_install: no response within {START_SECONDS} seconds")
        time.sleep(0.1)


@contextmanager
def _started(*command: str) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603
    try:
        yield
    finally:
        process.terminate()
        process.wait(START_SECONDS)


def _run(*command: str) -> None:
    done = _try_run(*command)
    if done.returncode:
        sys.exit(f"check_install: {' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")


def _try_run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603


def _free_port() -> int:
    with closing(socket.create_server((HOST, 0))) as listening:
        return int(listening.getsockname()[1])


if __name__ == "__main__":
    main()
