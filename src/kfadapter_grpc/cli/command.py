"""Turns functions into commands: options, exit codes, deferred imports.

A command is a function with Typer's annotations. A parameter whose type is a dataclass with such annotations
stands for the options that are its fields. One of the type `ClientOptions` stands for all options about the
adapter; `Annotated[ClientOptions, "namespace"]` takes only the named ones. A `Path` is decoded as the file
system encodes it. A parameter `Annotated[Flags, Settings]` receives the options of the fields that were set, by
name. Errors that a command raises become a message on stderr and an exit code.

The program's help needs only a table of commands, `{"name": ("package.module:function", "Short help.")}`: the
module is imported when the command runs or shows its own help. A sibling package adds its commands by declaring
such a table as an entry point of the group `kfadapter.commands`, in a module without imports; the name `runs report`
adds a command to the group `runs`.
"""

from __future__ import annotations

import functools
import inspect
import os
import pkgutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, cast, get_args

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from kfadapter_grpc.cli import invocation
from kfadapter_grpc.cli.errors import ExitCode
from kfadapter_grpc.cli.options import COMMON, ClientOptions, Flags, field_parameters, flag_parameters
from kfadapter_grpc.cli.text import native_path

Function = Callable[..., None]
Table = Mapping[str, tuple[str, str]]
"""The location (`module:function` or `module:group`) and the short help of commands, by name."""
DISTRIBUTION = "kfadapter-grpc"
CONTEXT = inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
ENTRY_POINTS = "kfadapter.commands"
"""The group of entry points that name tables of commands."""
_HELP = frozenset({"-h", "--help"})


class Deferred(TyperCommand):
    """A placeholder of a command, which imports the command when called."""

    def __init__(self, name: str, where: str, short_help: str) -> None:
        super().__init__(name, help=short_help, rich_markup_mode=None)
        self._where = where

    def load(self) -> TyperCommand | TyperGroup:
        target = pkgutil.resolve_name(self._where)
        if not isinstance(target, TyperGroup):
            return command(target, self.name)
        if not isinstance(target.commands, Commands):
            target.commands = cast("Any", Commands(target.commands, self.name or ""))  # only read
        return target

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:  # noqa: ANN401  as Click has it
        return self.load().make_context(info_name, args, parent, **extra)


class Commands(Mapping[str, TyperCommand | TyperGroup]):
    """The commands of the program or of a group, and those of the sibling packages.

    A lookup imports one command. Only siblings are searched: searching all installed packages would take 100 ms.
    """

    def __init__(self, known: Mapping[str, Any], group: str = "") -> None:
        self._known = dict(known)
        self._group = group
        self._has_siblings = False

    def try_deferred(self, name: str) -> TyperCommand | TyperGroup | None:
        """Returns a command or its placeholder; siblings are searched if none is known."""
        if name not in self._known:
            self._add_siblings()
        return self._known.get(name)

    def __getitem__(self, name: str) -> TyperCommand | TyperGroup:
        command = self.try_deferred(name)
        if command is None:
            raise KeyError(name)
        return command.load() if isinstance(command, Deferred) else command

    def __iter__(self) -> Iterator[str]:
        self._add_siblings()
        return iter(self._known)

    def __len__(self) -> int:
        self._add_siblings()
        return len(self._known)

    def _add_siblings(self) -> None:
        from importlib.metadata import PackageNotFoundError, distribution  # noqa: PLC0415  20 ms that few need

        if self._has_siblings:
            return
        self._has_siblings = True
        with suppress(PackageNotFoundError):  # run from a source tree
            for point in distribution(DISTRIBUTION).entry_points:
                for name, where in point.load().items() if point.group == ENTRY_POINTS else ():
                    group, _, command_name = name.rpartition(" ")
                    if group == self._group:
                        self._known[command_name] = Deferred(command_name, *where)


class ListingGroup(TyperGroup):
    """A group whose default command is `list`: `kfadapter runs` is `kfadapter runs list`.

    If it `lists_of`, a word that is no command is the first argument of `list`.
    """

    lists_of = False

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Parses the arguments after the group's name; during shell completion only what was typed counts."""
        first = args[0] if args else ""
        if first in self.commands or first in _HELP:
            lists = False
        elif not first or first.startswith("-"):
            lists = not ctx.resilient_parsing
        else:
            lists = self.lists_of
        return super().parse_args(ctx, ["list", *args] if lists else args)

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:  # noqa: ANN401  as Click has it
        """Completes commands, and the first argument of `list`."""
        offers = super().shell_complete(ctx, incomplete)
        if self.lists_of:
            listing = self.commands["list"]
            argument = next(parameter for parameter in listing.params if parameter.param_type_name == "argument")
            context = listing.make_context("list", [], ctx, resilient_parsing=True)
            offers += argument.shell_complete(context, incomplete)
        return offers


def group(about: str, *functions: Function, lists_of: bool = False, **named: Function) -> ListingGroup:
    """Creates a group of commands, each with its function's name or another one, which come first."""
    commands = [*(command(function, name) for name, function in named.items()), *map(command, functions)]
    group = ListingGroup(commands=commands, help=about, rich_markup_mode=None)
    group.lists_of = lists_of
    return group


def command(function: Function, name: str | None = None) -> TyperCommand:
    """Turns a function into a command; the name defaults to the function's."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command(name or function.__name__.strip("_").replace("_", "-"))(_with_shared_options(function))
    command = get_command(app)
    if not isinstance(command, TyperCommand):
        raise TypeError(command)
    return command


def _with_shared_options(function: Function) -> Function:
    """Replaces dataclasses with their options, and ends the command with the exit codes of the table."""
    taken: dict[str, tuple[type, list[str]]] = {}
    parameters, shared = list[inspect.Parameter](), list[inspect.Parameter]()
    for declaration in inspect.signature(function, eval_str=True).parameters.values():
        kind = getattr(declaration.annotation, "__origin__", declaration.annotation)
        if kind is ClientOptions:
            visible = getattr(declaration.annotation, "__metadata__", COMMON)
            made = shared = ClientOptions.parameters(visible[0] if isinstance(visible[0], tuple) else visible)
        elif kind == Flags:
            kind = dict
            parameters += (made := flag_parameters(declaration.annotation.__metadata__[0]))
        elif isinstance(kind, type) and is_dataclass(kind):
            parameters += (made := field_parameters(kind))
        else:
            parameters.append(declaration)
            continue
        taken[declaration.name] = kind, [option.name for option in made]

    @functools.wraps(function)
    def run(ctx: typer.Context, **arguments: Any) -> None:  # noqa: ANN401  whatever the function takes
        options: ClientOptions = ctx.obj or ClientOptions()
        about = {name: arguments[name] for name in ("pipeline", "run") if isinstance(arguments.get(name), str)}
        for parameter, (kind, names) in taken.items():
            values = {name: arguments.pop(name) for name in names}
            if kind is ClientOptions:
                arguments[parameter] = options = options.override(values)
            else:
                arguments[parameter] = kind(**values)
        invocation.remember(options=options, command=ctx.command_path, **about)
        try:
            code = run_guarded(functools.partial(function, **arguments))
        except typer.BadParameter as error:
            error.ctx = error.ctx or ctx
            raise
        if code is not ExitCode.OK:
            raise typer.Exit(code)

    return with_parameters(run, [CONTEXT, *parameters, *shared])


def with_parameters(function: Function, parameters: Iterable[inspect.Parameter]) -> Function:
    """Sets the parameters of a function that Typer reads."""
    named = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    for parameter in named:
        type_, option = (*get_args(parameter.annotation), None, None)[:2]
        if Path in (type_, *get_args(type_)) and option is not None:
            option.parser = native_path
    function.__signature__ = inspect.Signature(named)  # type: ignore[attr-defined]
    function.__annotations__ = {parameter.name: parameter.annotation for parameter in named}
    return function


def run_guarded(program: Callable[[], object]) -> ExitCode:
    """Runs a program or a command; errors become a message and an exit code, a closed pipe is not an error."""
    try:
        try:
            program()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
        _discard_output()
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except (typer.Exit, typer.Abort, typer.BadParameter):
        raise
    except Exception as error:  # noqa: BLE001  nothing unexpected may end in a traceback
        from kfadapter_grpc.cli.failures import report  # noqa: PLC0415  loads gRPC, which `--help` does not need

        try:  # Python must not retry on a full disk when it exits
            sys.stdout.flush()
        except OSError:
            _discard_output()
        return report(error, invocation.current())
    return ExitCode.OK


def _discard_output() -> None:
    """Redirects stdout to /dev/null, so that Python reports no error when it flushes stdout at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
