"""`kfadapter console` and `kfadapter runs report`."""

import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import typer

from kfadapter_grpc.addresses import split_address
from kfadapter_grpc.cli import output as out
from kfadapter_grpc.cli.errors import require
from kfadapter_grpc.cli.http_options import HttpOptions
from kfadapter_grpc.cli.options import ClientOptions, RunName
from kfadapter_grpc.cli.text import STDIN
from kfadapter_grpc.setting_sources import SettingsError

_CONSOLE = ("jinja2", "markdown_it", "python_multipart", "starlette", "uvicorn")
"""The modules of the extra `console`."""


@dataclass(frozen=True, slots=True)
class ConsoleOptions(HttpOptions):
    """The options of the page; each can also be set by its environment variable."""

    VARIABLES: ClassVar[str] = "KFADAPTER_CONSOLE_"
    RISK: ClassVar[str] = "tokens and pages can be read and changed on their way"

    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Address to listen on.")] = "127.0.0.1:8080"
    host: Annotated[
        str, typer.Option(metavar="NAME", help="Name in the page's URL, if it is not the listen address.")
    ] = ""
    read_only: Annotated[bool, typer.Option("--read-only", help="Show everything, change nothing.")] = False


def console(*, options: ClientOptions, how: ConsoleOptions) -> None:
    """Serve a web page in front of an adapter.

    The page is an ordinary client: it uses the token of this command, or asks each user for one if the adapter requires
    it.
    """
    require(console=_CONSOLE)
    from kfadapter_console.app import make_app, serving  # noqa: PLC0415  of the extra `console`
    from kfadapter_grpc.daemon.http import tls_context  # noqa: PLC0415
    from kfadapter_grpc.daemon.listening import bound_address, bound_socket  # noqa: PLC0415
    from kfadapter_grpc.daemon.signals import StopSignals  # noqa: PLC0415

    how.check()
    client = options.client()
    if client.has_token and how.is_exposed:
        raise SettingsError(
            f"others can reach {how.listen}, and would act with the token of this command; leave it out, so that each"
            " user logs in, listen on 127.0.0.1, or accept the risk with --insecure-listen"
        )
    try:
        tls = tls_context(how.tls_certificate, how.tls_key) if how.tls_certificate and how.tls_key else None
    except ValueError as error:
        raise SettingsError(str(error)) from None
    hosts = [how.host or split_address(how.listen)[0]]
    app = make_app(client, hosts=hosts, read_only=how.read_only, max_upload_bytes=how.max_upload_bytes)
    with (
        closing(client),
        closing(bound_socket(how.listen, "--listen")) as listener,
        StopSignals() as signals,
        serving(app, listener, tls),
    ):
        out.print_line(f"{'https' if tls else 'http'}://{bound_address(how.listen, listener)}")
        sys.stdout.flush()
        signals.wait()


def report(
    options: ClientOptions,
    run: RunName,
    *,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The file to write or replace; - is stdout.")
    ],
) -> None:
    """Write a run as a single HTML file: graph, tasks, parameters, metrics, failures, plots.

    The file opens without a network, runs no script, and prints well.
    """
    require(console=_CONSOLE)
    from kfadapter_console.run import report_of  # noqa: PLC0415  of the extra `console`
    from kfadapter_grpc.cli.references import run_id  # noqa: PLC0415
    from kfadapter_grpc.client.download import atomic_write  # noqa: PLC0415

    with options.client() as client:
        text = report_of(client, run_id(client, run))
    with out.stdout() if output == STDIN else atomic_write(output) as target:
        target.write(text.encode())
    if output != STDIN:
        out.note(f"wrote {output}")
