"""The doctor command: what is wrong with a set-up, one line for each check, and what to type next."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import typer

from kfadapter_grpc.cli import output
from kfadapter_grpc.cli.choices import Format, Report
from kfadapter_grpc.cli.column_widths import Step as Narrower
from kfadapter_grpc.cli.exit_codes import ExitCode
from kfadapter_grpc.cli.extras import SERVER, require
from kfadapter_grpc.cli.invocation import Step, current
from kfadapter_grpc.doctor import caller
from kfadapter_grpc.doctor.interruption import stopped_as_interrupted
from kfadapter_grpc.doctor.verdict import worst

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from pathlib import Path

    from kfadapter_grpc.cli.options import ClientOptions
    from kfadapter_grpc.doctor.verdict import Verdict


def examine_adapter(options: ClientOptions, style: Report) -> None:
    """Checks the adapter of `options` from here.

    Raises:
        Exit: A check failed.
    """
    with options.client() as client:
        _print(list(caller.examine(client)), style)


def examine_server(config: Path | None, flags: Mapping[str, object], style: Report, *, write: bool) -> None:
    """Checks what an adapter would be started with, on this machine.

    Raises:
        Exit: A check failed.
        CommandError: The server's packages are missing.
    """
    require(server=SERVER)
    from kfadapter_grpc.doctor import server  # noqa: PLC0415  of the extra `server`

    verdicts: Generator[Verdict, None, None] = server.examine(config, write=write, **flags)
    with stopped_as_interrupted(), closing(verdicts):
        _print(list(verdicts), style)


def _print(verdicts: list[Verdict], style: Report) -> None:
    rows = [_row(verdict) for verdict in verdicts]
    if style is Report.JSON:
        output.print_document([dict(zip(_KEYS, row, strict=True)) for row in rows], Format.JSON)
    else:
        steps = (Narrower("NEXT", 20), Narrower("WHY", 16), Narrower("WHAT", 20))
        output.print_table([key.upper() for key in _KEYS], rows, steps=steps)
    code = worst(verdicts)
    if code is not ExitCode.OK:
        raise typer.Exit(code)


_KEYS = ("status", "check", "what", "why", "next")


def _row(verdict: Verdict) -> tuple[str, ...]:
    step = verdict.next_step
    spelled = current().spell(step) if isinstance(step, Step) else step
    return verdict.status.value, verdict.check, verdict.what, verdict.why, ": ".join(spelled.splitlines())
