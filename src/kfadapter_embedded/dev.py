"""`kfadapter dev`: an embedded KFP, an adapter and a page in front of it, and a banner with their commands."""

import contextlib
import dataclasses
import errno
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from kfadapter_embedded import page_process
from kfadapter_embedded.execution import Steps
from kfadapter_embedded.process import EmbeddedKfp, EmbeddedKfpError, launch
from kfadapter_grpc.cli.errors import SERVER, CommandError, UsageError, require
from kfadapter_grpc.cli.invocation import Step, again
from kfadapter_grpc.daemon import LogLevel
from kfadapter_grpc.folders import state_folder
from kfadapter_grpc.settings import Settings

HOST = "127.0.0.1"
LAST_LINES = 10
GRACE_SECONDS = 5.0
"""The grace period of calls in flight when the server is stopped; its user is waiting."""


def dev(
    *,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="The adapter's port; 0 for a free one.")
    ] = 50051,
    kfp_port: Annotated[int, typer.Option("--kfp-port", min=0, max=65535, help="Port of the embedded KFP.")] = 8888,
    page_port: Annotated[
        int | None,
        typer.Option(
            "--page-port",
            min=0,
            max=65535,
            help=f"Port of the web page [{page_process.PORT}, or a free one if it is in use].",
        ),
    ] = None,
    no_page: Annotated[bool, typer.Option("--no-page", help="Serve no web page.")] = False,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DIR", help="Data folder [$XDG_STATE_HOME/kfadapter].")
    ] = None,
    steps: Annotated[
        Steps,
        typer.Option(help="Run steps as processes, in containers, or only Python components as processes (auto)."),
    ] = Steps.AUTO,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail a task where it would be warned of, as on a cluster.")
    ] = False,
    log_level: Annotated[LogLevel, typer.Option(help="Log level.")] = "warning",
) -> None:
    """Start an embedded KFP, an adapter and a web page on this machine."""
    require(server=SERVER, embedded=("starlette", "uvicorn", "python_multipart"))
    check_ports(port, kfp_port, page_port)
    folder = state_folder() if data is None else data
    check_folder(folder)
    listener = None if no_page or not page_process.is_installed() else page_process.listen(page_port)
    with (
        contextlib.ExitStack() as children,
        _launched(folder, kfp_port, ["--steps", steps.value, *(["--strict"] if strict else [])]) as kfp,
    ):
        # The adapter is loaded while the embedded KFP starts: both take about equally long.
        from kfadapter_grpc.server import run  # noqa: PLC0415

        url = _answering(kfp)
        settings = _settings(port, url, folder, log_level)

        def ready(address: str) -> None:
            sys.stdout.write(banner(address, url, folder, "" if no_page else _page_line(listener, page_port)))
            sys.stdout.flush()
            if listener:
                children.enter_context(page_process.served(listener, address, settings.max_upload_bytes))
            watch()

        with _watched(kfp, folder) as watch:
            run(settings, ready)


def _settings(port: int, url: str, folder: Path, log_level: LogLevel) -> Settings:
    """Returns the settings of an adapter on loopback: plain text, no authentication, whatever the environment."""
    settings = Settings.load(
        listen=f"{HOST}:{port}",
        metrics_listen="off",  # a local trial is not scraped, and one port less can collide
        kfp_url=url,
        artifact_folder=folder / "runs",
        log_level=log_level,
        grace_seconds=GRACE_SECONDS,
    )
    return dataclasses.replace(settings, tls_certificate=None, tls_key=None, tls_client_ca=None, token_file=None)


@contextlib.contextmanager
def _watched(kfp: EmbeddedKfp, folder: Path) -> "Iterator[Callable[[], None]]":
    """Stops the adapter if the embedded KFP ends before the block does.

    Yields a function that starts watching, once the adapter handles SIGTERM; raises CommandError if the KFP has ended.
    """
    lock, codes, ending = threading.Lock(), [], threading.Event()

    def watch() -> None:
        code = kfp.wait()
        with lock:
            if ending.is_set():
                codes.append(code)
                os.kill(os.getpid(), signal.SIGTERM)

    ending.set()
    try:
        yield threading.Thread(target=watch, name="kfp-watch", daemon=True).start
    finally:
        with lock:
            ending.clear()
    for code in codes:
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        raise CommandError(
            f"the embedded Kubeflow Pipelines ended unexpectedly ({how})",
            why=_last_lines(kfp.last_words()),
            next_step=again(text=f"the data is in {folder}"),
        )


def check_folder(folder: Path) -> None:
    """Raises CommandError if the data folder, or a parent of it, is a file."""
    for path in (folder, *folder.parents):
        if os.path.lexists(path) and not path.is_dir():
            raise CommandError(
                f"{path} is a file, not a folder" if path.exists() else f"{path} is a link to nothing",
                why=f"the data folder would be {folder}",
                next_step="the same command with another folder for --data",
            )


def check_ports(port: int, kfp_port: int, page_port: int | None = None) -> None:
    """Raises CommandError if a port is in use or not permitted, or two are the same; 0 (any free port) never is."""
    ports = [("--port", "the adapter", port), ("--kfp-port", "the embedded KFP", kfp_port)]
    if page_port is not None:
        ports.append(("--page-port", "the page", page_port))
    for flag, user, number in ports:
        for other_flag, other_user, other in ports[: ports.index((flag, user, number))]:
            if number and number == other:
                raise UsageError(
                    f"port {number} cannot be {other_user}'s and {user}'s",
                    why=f"{other_flag} and {flag} are the same",
                    next_step=again(flag, "0", text="takes a free one"),
                )
    for flag, user, number in ports:
        _check_port(number, flag, user)


def _check_port(port: int, flag: str, user: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            raise CommandError(
                f"port {port}, which {user} would listen on, " + ("is in use" if taken else "cannot be used"),
                why=error.strerror or str(error),
                next_step=again(flag, "0", text="takes a free one"),
            ) from None


def banner(address: str, kfp_url: str, folder: Path, page_line: str = "") -> str:
    """Returns what runs where and what to type next, a line each."""
    from kfadapter_grpc.cli.contexts import default_target  # noqa: PLC0415  loads gRPC, as the adapter does meanwhile
    from kfadapter_grpc.methods import METHOD_OF_REQUEST  # noqa: PLC0415

    target = "" if address == default_target() else f" --target {address}"
    listing = METHOD_OF_REQUEST["ListPipelinesRequest"].path.lstrip("/")
    lines = {
        **({"page": page_line} if page_line else {}),
        "adapter": f"{address} (gRPC)",
        "KFP": f"{kfp_url} (REST, embedded)",
        "data": str(folder),
        "try": f"kfadapter{target} list",
        "grpcurl": f"grpcurl -plaintext -d '{{}}' {address} {listing}",
        "stop": "Ctrl-C",
    }
    return "".join(f"{name:<8} {value}\n" for name, value in lines.items())


def _launched(folder: Path, port: int, options: "Sequence[str]") -> EmbeddedKfp:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return launch(folder, port, options)
    except OSError as error:
        raise _cannot_start(str(error)) from None


def _answering(kfp: EmbeddedKfp) -> str:
    try:
        return kfp.wait_ready()
    except EmbeddedKfpError as error:
        raise _cannot_start(str(error)) from None


def _cannot_start(cause: str) -> CommandError:
    return CommandError(
        "the embedded Kubeflow Pipelines cannot start", why=_last_lines(cause), next_step=_remedy(cause)
    )


def _last_lines(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return "\n".join(lines[-LAST_LINES:]) or "it wrote no message"


def _remedy(cause: str) -> str | Step:
    if "is in use by process" in cause:
        return "stop the other kfadapter dev, or name another folder with --data"
    return again(text="once that is fixed, or with another folder for --data")


def _page_line(listener: socket.socket | None, requested: int | None) -> str:
    if listener is None:
        return "pip install 'kfadapter-grpc[console]' adds a web page"
    port = listener.getsockname()[1]
    return f"http://{HOST}:{port}" + (
        f" ({page_process.PORT} is in use)" if requested is None and port != page_process.PORT else ""
    )
