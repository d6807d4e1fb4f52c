"""Around every command: errors become words and exit codes, a closed pipe is no error."""

from __future__ import annotations

import functools
import os
import sys
from typing import TYPE_CHECKING, ParamSpec, cast

import typer

from kfadapter_grpc.cli.exit_codes import ExitCode
from kfadapter_grpc.cli.invocation import Invocation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

P = ParamSpec("P")


def guarded(command: Callable[P, None]) -> Callable[P, None]:
    """Makes a command end as the table of exit codes says."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        code = _run(functools.partial(command, *args, **kwargs), kwargs)
        if code is not ExitCode.OK:
            raise typer.Exit(code)

    return run


def run_program(program: Callable[[], object]) -> ExitCode:
    """Runs all of the program, what stands around the commands included; an exit that it asks for is raised."""
    return _run(functools.partial(_flushed, program))


def _flushed(program: Callable[[], object]) -> None:
    try:
        program()
    finally:
        sys.stdout.flush()


def _run(command: Callable[[], None], arguments: Mapping[str, object] | None = None) -> ExitCode:
    try:
        command()
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, as `head`, has seen enough
        _discard_output()
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except typer.BadParameter as error:
        error.ctx = error.ctx or cast("typer.Context | None", (arguments or {}).get("context"))
        raise
    except (typer.Exit, typer.Abort):
        raise
    except Exception as error:  # noqa: BLE001  nothing unexpected may end in a traceback
        from kfadapter_grpc.cli.failures import report  # noqa: PLC0415  loads gRPC, which `--help` does not need

        _give_up_full_output()
        return report(error, Invocation.current(arguments or {}))
    return ExitCode.OK


def _give_up_full_output() -> None:
    """Drops what cannot be written, as on a full disk; Python would try again when it exits, and complain."""
    try:
        sys.stdout.flush()
    except OSError:
        _discard_output()


def _discard_output() -> None:
    """Lets Python flush stdout into nothing when it exits, instead of complaining."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
