"""The program around the commands: remembers what was typed, and tells its mistakes as all other errors are told."""

from __future__ import annotations

import copy
import sys
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

from kfadapter_grpc.cli import invocation
from kfadapter_grpc.cli.client_options import ClientOptions
from kfadapter_grpc.cli.exit_codes import ExitCode
from kfadapter_grpc.cli.security_options import SecurityOptions

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_PREFIX = "Value error, "
"""What Pydantic, which checks values for Typer, puts before what is wrong with one."""
_UsageError: type[Any] = typer.BadParameter.__mro__[1]
"""Every mistake in a command line; Typer has it, under whatever name it keeps Click."""


class Program(TyperGroup):
    """The group of all commands.

    The options of who calls may stand behind every command that calls an adapter, too; its help does not repeat them.
    """

    def __init__(self, **attributes: Any) -> None:  # noqa: ANN401  as Typer has it
        super().__init__(**attributes)
        self._accept(self.commands.values(), [one for one in self.params if one.name in SecurityOptions.names()])

    def _accept(self, commands: Iterable[Any], options: Sequence[Any]) -> None:
        for command in commands:
            if isinstance(command, TyperGroup):
                self._accept(command.commands.values(), options)
            elif any(one.name == "target" for one in command.params):
                command.params += [_behind(option) for option in options]

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


def _behind(option: Any) -> Any:  # noqa: ANN401  Click's classes have no public names
    """Makes of an option in front of a command the one behind it."""
    behind = copy.copy(option)
    behind.hidden, behind.expose_value, behind.callback = True, False, _take
    return behind


def _take(context: typer.Context, option: Any, value: object) -> object:  # noqa: ANN401
    if value and isinstance(context.obj, ClientOptions):
        context.obj = context.obj.secured({option.name: value})
    return value


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
