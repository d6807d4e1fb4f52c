"""`kfadapter serve`: the server until a signal ends it; and `kfadapter token`: tokens for its callers."""
# ruff: noqa: PLC0415  the help needs neither the client nor the views

import os
import sys
from datetime import date
from pathlib import Path
from typing import Annotated, Literal

import typer

from kfadapter_grpc.cli import output as out
from kfadapter_grpc.cli.errors import SERVER, require
from kfadapter_grpc.cli.options import Flags
from kfadapter_grpc.cli.output import note
from kfadapter_grpc.cli.text import native_path
from kfadapter_grpc.contract.call import Role
from kfadapter_grpc.settings import Settings


def serve(
    *,
    flags: Annotated[Flags, Settings],
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
    settings, effective = Settings.load_traced(config=config, legacy_http=legacy_http, **flags)
    if check:
        out.print_table(
            ("SETTING", "VALUE", "FROM"), effective, steps=(out.Shrink("FROM", 20), out.Shrink("VALUE", 20))
        )
        out.note("settings are fine")
    else:
        from kfadapter_grpc.server import run

        run(settings)


def token(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the bearer in the adapter's log.")],
    *,
    role: Annotated[Literal["reader", "writer"], typer.Option(help="Role: read only, or all RPCs.")],
    expires: Annotated[
        str | None, typer.Option(metavar="YYYY-MM-DD", help="Last day of validity (UTC); unlimited if omitted.")
    ] = None,
    add_to: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Append the line to this file instead of printing it.")
    ] = None,
) -> None:
    """Create a token: the token on stdout, the line for the adapter's --token-file on stderr."""
    from kfadapter_grpc.auth.tokens import TokenEntry, digest, is_name, new_token

    if not is_name(name):
        raise typer.BadParameter(f"{name!r} cannot name a token: up to 128 characters, no blanks and no #")
    secret = new_token()
    line = TokenEntry(name, Role(role), digest(secret), _last_day(expires)).line()
    if add_to is None:
        note("the line for the adapter's --token-file:")
        note(line)
    else:
        append_line(add_to, line)
        note(f"{name} is in {add_to}; an adapter that reads it takes the token within seconds")
    sys.stdout.write(secret + "\n")


def append_line(path: Path, line: str) -> None:
    """Appends a line to a file, created with access for the owner only if missing. Never leaves a partial line."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    with open(descriptor, "r+b") as file:  # noqa: PTH123 - a descriptor has no path
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        begun = size > 0 and file.read() != b"\n"
        file.write(("\n" if begun else "").encode() + line.encode() + b"\n")


def _last_day(expires: str | None) -> date | None:
    from kfadapter_grpc.auth.tokens import today, try_day

    if expires is None:
        return None
    day = try_day(expires)
    if day is None or day < today():
        raise typer.BadParameter(f"{expires!r} is no day to come; write it as 2027-01-31")
    return day
