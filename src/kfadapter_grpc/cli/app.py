"""The program `kfadapter`: the table of its commands, and what they share."""

import inspect
import os
import re
import sys
from collections.abc import Sequence
from typing import Annotated, Any, cast

import typer
from typer.core import TyperGroup

from kfadapter_grpc.cli import invocation
from kfadapter_grpc.cli.command import CONTEXT, Commands, Deferred, Table, run_guarded, with_parameters
from kfadapter_grpc.cli.completion import SHELL_VARIABLE, join_bash_words
from kfadapter_grpc.cli.errors import ExitCode, epilog
from kfadapter_grpc.cli.options import ClientOptions
from kfadapter_grpc.cli.text import prepare_streams, utf8_arguments

CLI = "kfadapter_grpc.cli"
COMMANDS: Table = {
    "serve": (f"{CLI}.serve:serve", "Start the server in front of a Kubeflow Pipelines."),
    "health": (f"{CLI}.health:health", "Check the health of an adapter; for containers and scripts."),
    "token": (
        f"{CLI}.serve:token",
        "Create a token: the token on stdout, the line for the adapter's --token-file on stderr.",
    ),
    "whoami": (f"{CLI}.login:whoami", "Show who the adapter takes you for, and your roles."),
    "login": (f"{CLI}.login:login", "Log in at the issuer of a context, with a browser on any machine."),
    "logout": (f"{CLI}.login:logout", "Forget the login of a context."),
    "doctor": (
        "kfadapter_grpc.doctor.command:doctor",
        "Check an installation and say what to do: an adapter, or the server itself.",
    ),
    "check": (
        f"{CLI}.check:check",
        "Check a pipeline file for what fails or is otherwise on Kubeflow Pipelines; nothing is run.",
    ),
    "upload": (f"{CLI}.upload:upload", "Upload a pipeline as a new pipeline or a new version."),
    "get": (f"{CLI}.pipelines:get", "Show a pipeline: parameters, artifacts, tasks, versions."),
    "list": (f"{CLI}.pipelines:list_", "List pipelines, newest first."),
    "versions": (f"{CLI}.pipelines:versions", "List the versions of a pipeline, newest first; compare two."),
    "update": (f"{CLI}.pipelines:update", "Change the display name or the tags of a pipeline, or of one version."),
    "delete": (f"{CLI}.pipelines:delete", "Delete a pipeline and its versions, or one version."),
    "download": (f"{CLI}.pipelines:download", "Download the file of a version, by default the latest."),
    "graph": (f"{CLI}.graph:graph", "Draw the tasks of a pipeline, or of a run."),
    "payload": (f"{CLI}.upload:payload", "Print an upload as JSON messages, for grpcurl -d @."),
    "run": (f"{CLI}.run:run", "Run a pipeline, or upload and run a file."),
    "watch": (f"{CLI}.runs:watch", "Watch runs until they have finished; the exit code is their outcome."),
    "logs": (f"{CLI}.runs:logs", "Print the logs of a run's tasks."),
    "terminate": (f"{CLI}.runs:terminate", "Terminate runs; no-op for those that have finished."),
    "retry": (f"{CLI}.runs:retry", "Retry failed runs from the tasks that failed."),
    "runs": (f"{CLI}.runs:runs", "List, show, compare, archive, delete and prune runs; show their metrics."),
    "artifacts": (f"{CLI}.artifacts:artifacts", "List and download what the tasks of a run made."),
    "experiments": (f"{CLI}.experiments:experiments", "List, show, create, archive and delete experiments."),
    "recurring": (f"{CLI}.recurring:recurring", "List, show, create, enable, disable and delete recurring runs."),
    "config": (f"{CLI}.config:config", "List, show, set, use and delete named contexts: adapters."),
}
_SERVERS = ("serve", "dev")
_PREFIX = "Value error, "
"""The prefix of the error messages of Pydantic, which validates values for Typer."""
_UsageError: type[Any] = typer.BadParameter.__mro__[1]
"""Click's UsageError; Typer may have its own copy of Click under another name."""


class Program(TyperGroup):
    """The group of all commands, including those of sibling packages."""

    def __init__(self, **attributes: Any) -> None:  # noqa: ANN401  as Typer has it
        super().__init__(**attributes)
        self.table = Commands({name: Deferred(name, *where) for name, where in COMMANDS.items()})
        self.commands = cast("Any", self.table)  # only read

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]  # noqa: ARG002
        return [*self.table]

    def get_command(self, ctx: typer.Context, cmd_name: str) -> Any:  # type: ignore[override]  # noqa: ANN401, ARG002
        return self.table.try_deferred(cmd_name)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,  # noqa: ARG002  this group always exits by itself
        windows_expand_args: bool = True,
        **extra: Any,  # noqa: ANN401  as Typer has it
    ) -> Any:  # noqa: ANN401
        arguments = sys.argv[1:] if args is None else list(args)
        invocation.begin(arguments)
        try:
            code = super().main(arguments, prog_name, complete_var, False, windows_expand_args, **extra)
        except _UsageError as error:
            code = _report_usage(error)
        except typer.Abort as error:  # a prompt without a response
            interrupted = isinstance(error.__context__, KeyboardInterrupt)
            code = ExitCode.INTERRUPTED if interrupted else ExitCode.CANCELLED
        sys.exit(code)


def _report_usage(error: Any) -> ExitCode:  # noqa: ANN401  Click's class has no public name
    if type(error).show is not _UsageError.show:  # not an error: help is shown without arguments
        error.show()
        return ExitCode.USAGE
    from kfadapter_grpc.cli.text import did_you_mean, print_error  # noqa: PLC0415  not for a help that was typed right

    message = re.sub(r"\s*\n\t", " ", error.format_message().replace(_PREFIX, ""))  # Click puts each choice on a line
    if possible := getattr(error, "possibilities", None):
        message = f"{error.message}.{did_you_mean(error.option_name, possible)}"
    if error.ctx is None:
        print_error(message, "the command line cannot be understood", f"{invocation.PROGRAM} --help")
    else:
        usage = " ".join(error.ctx.get_usage().split()).replace("Usage:", "usage:", 1)
        print_error(message, usage, f"{error.ctx.command_path} --help")
    return ExitCode.USAGE


def _print_version(requested: bool) -> None:
    if requested:
        from kfadapter_grpc.version import running  # noqa: PLC0415

        sys.stdout.write("".join(f"{name} {version}\n" for name, version in running().items()))
        raise typer.Exit


app = typer.Typer(
    name="kfadapter",
    cls=Program,
    help="Upload, show, run and delete pipelines of Kubeflow Pipelines through a kfadapter server.",
    epilog=epilog(),
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _common(ctx: typer.Context, *, version: bool, **options: Any) -> None:  # noqa: ANN401, ARG001
    # Read when gRPC is loaded, later; gRPC would log a line for every failed handshake.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR" if ctx.invoked_subcommand in _SERVERS else "NONE")
    ctx.obj = ClientOptions(**options)


_VERSION = inspect.Parameter(
    "version",
    inspect.Parameter.KEYWORD_ONLY,
    default=False,
    annotation=Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print versions and exit.")
    ],
)
app.callback()(with_parameters(_common, [CONTEXT, *ClientOptions.parameters(ClientOptions.names()), _VERSION]))


def main() -> None:
    sys.exit(run_guarded(_program))


def _program() -> None:
    prepare_streams()
    if SHELL_VARIABLE in os.environ:
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # before gRPC is loaded: its log would be offered as names
    join_bash_words(os.environ)
    app(utf8_arguments(sys.argv[1:]), prog_name="kfadapter")
