"""`kfadapter console` and `kfadapter runs report`."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, ClassVar

import typer

from kfadapter_grpc.addresses import is_loopback, split_address
from kfadapter_grpc.cli import output as out
from kfadapter_grpc.cli.errors import require
from kfadapter_grpc.cli.options import ClientOptions, RunName
from kfadapter_grpc.cli.text import STDIN
from kfadapter_grpc.setting_sources import SettingsError, unknown_variables

_CONSOLE = ("jinja2", "markdown_it", "python_multipart", "starlette", "uvicorn")
"""The modules of the extra `console`."""


@dataclass(frozen=True, slots=True)
class ConsoleOptions:
    """The options of the page; each can also be set by its environment variable."""

    VARIABLES: ClassVar[str] = "KFADAPTER_CONSOLE_"

    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Address to listen on.")] = "127.0.0.1:8080"
    insecure_listen: Annotated[
        bool, typer.Option("--insecure-listen", help="Allow an address that others can reach without TLS.")
    ] = False
    host: Annotated[
        str, typer.Option(metavar="NAME", help="Name in the page's URL, if it is not the listen address.")
    ] = ""
    tls_certificate: Annotated[Path | None, typer.Option(metavar="FILE", help="The page's certificate: HTTPS.")] = None
    tls_key: Annotated[Path | None, typer.Option(metavar="FILE", help="Private key of the certificate.")] = None
    read_only: Annotated[bool, typer.Option("--read-only", help="Show everything, change nothing.")] = False
    max_upload_bytes: Annotated[int, typer.Option(metavar="N", min=1, help="Maximum size of a file.")] = (
        32 * 1024 * 1024
    )

    def check(self) -> None:
        """Returns if the options are consistent.

        Raises:
            SettingsError: They are not, or a variable is unknown.
        """
        if unknown := [*unknown_variables(self.VARIABLES, {field.name for field in fields(self)})]:
            raise SettingsError(*unknown)
        try:
            host = split_address(self.listen)[0]
        except ValueError as error:
            raise SettingsError(str(error)) from None
        if bool(self.tls_certificate) != bool(self.tls_key):
            raise SettingsError("--tls-certificate and --tls-key go together")
        if not (self.tls_certificate or self.insecure_listen or is_loopback(host)):
            raise SettingsError(
                f"others can reach {self.listen}, and without TLS tokens and pages can be read and changed on their"
                " way; set --tls-certificate and --tls-key, listen on 127.0.0.1, or accept the risk with"
                " --insecure-listen"
            )


def console(*, options: ClientOptions, how: ConsoleOptions) -> None:
    """Serve a web page in front of an adapter.

    The page is an ordinary client: it uses the token of this command, or asks each user for one if the adapter requires
    it.
    """
    require(console=_CONSOLE)
    how.check()
    from kfadapter_console.process import run  # noqa: PLC0415  of the extra `console`

    client = options.client()
    if client.has_token and not (how.insecure_listen or is_loopback(split_address(how.listen)[0])):
        raise SettingsError(
            f"others can reach {how.listen}, and would act with the token of this command; leave it out, so that each"
            " user logs in, listen on 127.0.0.1, or accept the risk with --insecure-listen"
        )
    run(client, how)


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
    from kfadapter_grpc.cli.output import stdout  # noqa: PLC0415
    from kfadapter_grpc.cli.references import run_id  # noqa: PLC0415
    from kfadapter_grpc.client.download import atomic_write  # noqa: PLC0415

    with options.client() as client:
        text = report_of(client, run_id(client, run))
    with stdout() if output == STDIN else atomic_write(output) as target:
        target.write(text.encode())
    if output != STDIN:
        out.note(f"wrote {output}")
