"""The program around the commands: remembers what was typed, and tells its mistakes as all other errors are told."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

from kfadapter_grpc.cli import invocation
from kfadapter_grpc.cli.exit_codes import ExitCode

if TYPE_CHECKING:
    from collections.abc import Sequence

_PREFIX = "Value error, "
"""What Pydantic, which checks values for Typer, puts before what is wrong with one."""
_UsageError: type[Any] = typer.BadParameter.__mro__[1]
"""Every mistake in a command line; Typer has it, under whatever name it keeps Click."""


class Program(TyperGroup):
    """The group of all commands."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,  # noqa: ARG002  this group always exits by itself
        windows_expand_args: bool = True,
        **extra: Any,  # noqa: ANN401  as Typer has it
    ) -> Any:  # noqa: ANN401
        """Runs a command line, and exits with what it ends with."""
        words = sys.argv[1:] if args is None else list(args)
        invocation.remember(words)
        try:
            code = super().main(words, prog_name, complete_var, False, windows_expand_args, **extra)
        except _UsageError as error:
            code = _tell(error)
        except typer.Abort as error:  # a question that got no answer
            interrupted = isinstance(error.__context__, KeyboardInterrupt)
            code = ExitCode.INTERRUPTED if interrupted else ExitCode.CANCELLED
        sys.exit(code)


def _tell(error: Any) -> ExitCode:  # noqa: ANN401  Click's class has no public name
    if type(error).show is not _UsageError.show:  # no mistake: the help was asked for by typing nothing
        error.show()
        return ExitCode.USAGE
    from kfadapter_grpc.cli.report import print_parts  # noqa: PLC0415  not for a help that was typed right

    what = error.format_message().replace(_PREFIX, "")
    if error.ctx is None:
        print_parts(what, "the command line cannot be understood", f"{invocation.PROGRAM} --help")
    else:
        usage = " ".join(error.ctx.get_usage().split()).replace("Usage:", "usage:", 1)
        print_parts(what, usage, f"{error.ctx.command_path} --help")
    return ExitCode.USAGE
