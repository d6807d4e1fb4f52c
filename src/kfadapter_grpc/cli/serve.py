"""`kfadapter serve`: the server until a signal ends it."""

from pathlib import Path
from typing import Annotated

import typer

from kfadapter_grpc.cli import output as out
from kfadapter_grpc.cli.errors import SERVER, require
from kfadapter_grpc.cli.options import Flags
from kfadapter_grpc.cli.streams import native_path
from kfadapter_grpc.settings import Settings


def serve(
    *,
    given: Annotated[Flags, Settings],
    config: Annotated[Path | None, typer.Option(metavar="FILE", parser=native_path, help="Settings in TOML.")] = None,
    legacy_http: Annotated[
        int | None,
        typer.Option(metavar="PORT", hidden=True, help="Refused: the routes have their own command, legacy-http."),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Check the settings: print them, or all mistakes.")] = False,
) -> None:
    """Start the server in front of a Kubeflow Pipelines.

    Settings come from options, a TOML file and the environment; options win, then the file.
    """
    require(server=SERVER)
    settings, effective = Settings.load_traced(config=config, legacy_http=legacy_http, **given)
    if check:
        rows = [(one.name, one.value, one.origin) for one in effective]
        out.print_table(("SETTING", "VALUE", "FROM"), rows, steps=(out.Step("FROM", 20), out.Step("VALUE", 20)))
        out.note("settings are fine")
    else:
        from kfadapter_grpc.server import run  # noqa: PLC0415  of the extra `server`

        run(settings)
