"""The program `kfadapter`: the commands of all areas, and what stands around them.

Typer reads the annotations when the program starts, so they stand here as they are, and what a command needs is
imported when it runs: `kfadapter --help` loads neither gRPC nor Rich.
"""
# ruff: noqa: PLC0415

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from kfadapter_grpc.cli.areas import experiments, notices, pipelines, recurring, runs, servers
from kfadapter_grpc.cli.client_options import ClientOptions
from kfadapter_grpc.cli.completion import join_bash_words
from kfadapter_grpc.cli.exit_codes import epilog
from kfadapter_grpc.cli.guard import run_program
from kfadapter_grpc.cli.option_types import Namespace, Target, Timeout
from kfadapter_grpc.cli.program import Program
from kfadapter_grpc.cli.security_options import SecurityOptions
from kfadapter_grpc.cli.streams import native_path, prepare_streams, utf8_arguments

_SERVERS = ("serve", "dev")

app = typer.Typer(
    name="kfadapter",
    cls=Program,
    help="Uploads, shows, runs and deletes pipelines of Kubeflow Pipelines through a kfadapter server.",
    epilog=epilog(),
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def main() -> None:
    """Runs the command line."""
    sys.exit(run_program(_program))


def _program() -> None:
    prepare_streams()
    join_bash_words(os.environ)
    app(utf8_arguments(sys.argv[1:]), prog_name="kfadapter")


def _print_version(wanted: bool) -> None:
    if wanted:
        from kfadapter_grpc.version import running

        sys.stdout.write("".join(f"{name} {version}\n" for name, version in running().items()))
        raise typer.Exit


@app.callback()
def _common(
    context: typer.Context,
    target: Target = None,
    timeout: Timeout = None,
    namespace: Namespace = None,
    *,
    tls: Annotated[bool, typer.Option("--tls", help="Use TLS [env KFADAPTER_TLS].")] = False,
    ca: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            parser=native_path,
            help="The CA of the adapter's certificate; means TLS [env KFADAPTER_CA].",
        ),
    ] = None,
    server_name: Annotated[
        str,
        typer.Option(metavar="NAME", help="What that certificate is for, if not HOST [env KFADAPTER_SERVER_NAME]."),
    ] = "",
    client_certificate: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            parser=native_path,
            help="Your own certificate, if asked for [env KFADAPTER_CLIENT_CERTIFICATE].",
        ),
    ] = None,
    client_key: Annotated[
        Path | None, typer.Option(metavar="FILE", parser=native_path, help="Its key [env KFADAPTER_CLIENT_KEY].")
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            parser=native_path,
            help="Holds your token [env KFADAPTER_CLIENT_TOKEN_FILE, or KFADAPTER_TOKEN with the token itself].",
        ),
    ] = None,
    insecure_token: Annotated[
        bool,
        typer.Option("--insecure-token", help="Send the token without TLS, readable for others on its way."),
    ] = False,
    _version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print what runs, and exit.")
    ] = False,
) -> None:
    # Read when gRPC is loaded, which is yet to come; it would write a line of its own whenever a handshake fails.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR" if context.invoked_subcommand in _SERVERS else "NONE")
    security = SecurityOptions(tls, ca, server_name, client_certificate, client_key, token_file, insecure_token)
    context.obj = ClientOptions(target, timeout, namespace or "", security)


app.add_typer(servers.app)
app.add_typer(notices.app)
app.add_typer(pipelines.app)
app.add_typer(runs.app)
app.add_typer(experiments.app, name="experiments")
app.add_typer(recurring.app, name="recurring")
