"""Options: as fields of a dataclass, those of every command that calls an adapter, and those of several commands."""

import copy
import enum
import inspect
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, get_args, get_type_hints

import typer

from kfadapter_grpc.cli.completion import (
    context_names,
    experiment_names,
    parameter_names,
    pipeline_names,
    recurring_run_names,
    run_names,
    task_paths,
    version_names,
)
from kfadapter_grpc.setting_sources import shown

if TYPE_CHECKING:
    from typing_extensions import Self

    from kfadapter_grpc.client import Client

Flags: TypeAlias = Mapping[str, Any]
"""Options by name; None if not set."""
COMMON = ("target", "timeout", "namespace")
"""The options in the help of each command; the others are in the program's own help."""
SECURITY = ("tls", "ca", "server_name", "client_certificate", "client_key")
_MAX_PORT = 65535
_ADDRESS = re.compile(r"(?:dns:(?:///)?|ipv4:|ipv6:)?(?:[^\s/\[\]:]+|\[[0-9A-Fa-f:.%]+\]):(?P<port>\d{1,5})|unix:\S+")
"""HOST:PORT with the schemes that gRPC resolves."""


file_option = partial(typer.Option, metavar="FILE")


def variable(option: str) -> str:
    """Returns the environment variable of one of `SECURITY`, or of `insecure_token`."""
    return f"KFADAPTER_{option.upper()}"


def field_parameters(kind: type) -> list[inspect.Parameter]:
    """Declares the fields of a dataclass for Typer; each annotation has an option.

    In a class with `VARIABLES`, the environment variable of a field is that prefix and the field's name.
    """
    hints, prefix = get_type_hints(kind, include_extras=True), getattr(kind, "VARIABLES", "")
    parameters = []
    for field in fields(kind):
        type_, option = hints[field.name].__origin__, copy.copy(hints[field.name].__metadata__[0])
        if prefix:
            option.envvar = prefix + field.name.upper()
        parameter = inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, annotation=Annotated[type_, option])
        parameters.append(parameter if field.default is MISSING else parameter.replace(default=field.default))
    return parameters


def flag_parameters(settings: type) -> list[inspect.Parameter]:
    """Declares the fields of a dataclass whose values may also come from elsewhere: None if unset, without bounds."""
    parameters = []
    for parameter in field_parameters(settings):
        type_, option = get_args(parameter.annotation)
        default = (
            ""
            if parameter.default in (None, parameter.empty) or parameter.default is False
            else shown(parameter.default)
        )
        option.help = f"{option.help}  [env var: {option.envvar}{default and f'; default: {default}'}]"
        option.envvar = option.min = option.max = None
        parameters.append(parameter.replace(default=None, annotation=Annotated[type_ | None, option]))
    return parameters


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """The adapter to call, and how to call it. Unset options default to the environment, then to a context.

    A command has these options if it has a parameter of this type (`kfadapter_grpc.cli.command`).
    """

    target: Annotated[
        str | None,
        typer.Option(
            "--target", "-t", metavar="HOST:PORT", help="The adapter [env KFADAPTER_TARGET; 127.0.0.1:50051]."
        ),
    ] = None
    timeout: Annotated[float | None, typer.Option(metavar="SECONDS", min=0.001, help="Deadline of each call.")] = None
    namespace: Annotated[
        str, typer.Option("--namespace", "-n", metavar="NAME", help="Namespace; defaults to the adapter's.")
    ] = ""
    context: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Named context with these options [env KFADAPTER_CONTEXT; see kfadapter config].",
            autocompletion=context_names,
        ),
    ] = ""
    tls: Annotated[bool, typer.Option("--tls", help="Use TLS [env KFADAPTER_TLS].")] = False
    ca: Annotated[Path | None, file_option(help="CA of the adapter's certificate; implies TLS [env KFADAPTER_CA].")] = (
        None
    )
    server_name: Annotated[
        str, typer.Option(metavar="NAME", help="Name in that certificate, if not HOST [env KFADAPTER_SERVER_NAME].")
    ] = ""
    client_certificate: Annotated[
        Path | None, file_option(help="Client certificate, if required [env KFADAPTER_CLIENT_CERTIFICATE].")
    ] = None
    client_key: Annotated[Path | None, file_option(help="Its private key [env KFADAPTER_CLIENT_KEY].")] = None
    token_file: Annotated[
        Path | None,
        file_option(
            help="File with your token [env KFADAPTER_CLIENT_TOKEN_FILE, or KFADAPTER_TOKEN with the token itself]."
        ),
    ] = None
    insecure_token: Annotated[
        bool, typer.Option("--insecure-token", help="Send the token without TLS, where others can read it.")
    ] = False

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Returns the names of all options."""
        return tuple(field.name for field in fields(cls))

    @classmethod
    def parameters(cls, visible: Iterable[str]) -> list[inspect.Parameter]:
        """Declares the options for Typer; those not in `visible` are hidden, or omitted if there is no target."""
        names = [*visible, *(name for name in cls.names() if name not in COMMON and "target" in visible)]
        parameters = [parameter for parameter in field_parameters(cls) if parameter.name in names]
        for parameter in parameters:
            parameter.annotation.__metadata__[0].hidden = parameter.name not in visible
        return parameters

    def override(self, values: Mapping[str, object]) -> "Self":
        """Replaces options that are set in `values`; ignores other names."""
        return replace(self, **{name: values[name] for name in self.names() if values.get(name)})  # type: ignore[arg-type]

    def arguments(self) -> Iterator[str]:
        """Yields the security options as arguments."""
        for name in self.names():
            value = getattr(self, name)
            if value and name not in COMMON:
                yield f"--{name.replace('_', '-')}"
                if value is not True:
                    yield str(value)

    def check_target(self) -> None:
        address = _ADDRESS.fullmatch(self.target) if self.target else None
        if self.target and (address is None or not 0 < int(address["port"] or 1) <= _MAX_PORT):
            raise typer.BadParameter(
                f"'{self.target}' is no address of an adapter; write HOST:PORT, as 127.0.0.1:50051"
            )

    def client(self) -> "Client":
        """Creates the client."""
        from kfadapter_grpc.cli.contexts import in_use  # noqa: PLC0415
        from kfadapter_grpc.client import Client, Tls  # noqa: PLC0415  loads gRPC, which `--help` does not need

        self.check_target()
        _, used = in_use(self)
        variables = {variable(option): str(getattr(used, option)) for option in SECURITY if getattr(used, option)}
        return Client(
            used.target,
            timeout=used.timeout,
            namespace=used.namespace,
            tls=Tls.try_from_environment({**os.environ, **variables}),
            token=used.source,
            token_file=used.token_file,
            insecure_token=used.insecure_token or None,
        )


Format: TypeAlias = Literal["table", "json", "yaml", "name"]
TableFormat: TypeAlias = Literal["table", "csv", "json"]


class StateChoice(str, enum.Enum):
    """The states of runs; in capitals, values of `contract.runs.RunState`. Typer does not accept a list of literals."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    SKIPPED = "skipped"
    FAILED = "failed"
    CANCELING = "canceling"
    CANCELED = "canceled"
    PAUSED = "paused"


RUN_REFERENCES = "its name, its id or the beginning of it, @latest or @failed, of a pipeline as @latest:NAME"
_REFERENCES = "its name, its id or the beginning of it"


def order_by_fields(fields: str, example: str = "") -> Any:  # noqa: ANN401  as `typer.Option`
    """An option for the order of a list."""
    suffix = f": '{example} desc'" if example else ""
    return typer.Option("--order-by", metavar="FIELD", help=f"{fields}; append desc for descending order{suffix}.")


def argument(about: str, names: Callable[..., list[str]], metavar: str = "NAME|ID") -> Any:  # noqa: ANN401
    """An argument with names for completion."""
    return typer.Argument(metavar=metavar, help=about, autocompletion=names)


def reference(about: str, names: Callable[..., list[str]]) -> Any:  # noqa: ANN401
    """An option that takes a name, or the beginning of an id."""
    return typer.Option(metavar="NAME|ID", help=f"{about}: {_REFERENCES}.", autocompletion=names)


Output = Annotated[Format, typer.Option("--output", "-o", help="Output format.")]
PipelineName = Annotated[str, argument(f"Pipeline: {_REFERENCES}.", pipeline_names)]
Version = Annotated[str, reference("Version", version_names)]
OneVersion = Annotated[str | None, reference("Only this version", version_names)]
ById = Annotated[bool | None, typer.Option("--id/--name", help="Treat the reference as an id or as a name.")]
Limit = Annotated[int, typer.Option(min=0, metavar="N", help="Maximum number; 0 for all.")]
File = Annotated[
    Path, typer.Argument(metavar="FILE", help="YAML, JSON, zip or tar.gz; a .py is compiled first; - is stdin.")
]
Function = Annotated[str | None, typer.Option(metavar="NAME", help="Pipeline function of a .py; defaults to all.")]
Description = Annotated[str, typer.Option(help="Description.")]
Tags = Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="A tag; may be repeated.")]
Parameters = Annotated[
    list[str] | None,
    typer.Option(
        "--parameter",
        "-p",
        metavar="NAME=VALUE",
        help="Parameter, converted to its declared type: number, true or false, JSON, text; may be repeated.",
        autocompletion=parameter_names,
    ),
]
ParameterFile = Annotated[
    Path | None, file_option(help="Parameters as JSON or YAML, which keep their types; - is stdin. -p overrides them.")
]
PipelineOrFile = Annotated[
    str,
    argument(
        "Pipeline name or id, or a file: a path with a / or a suffix of pipeline files (.yaml, .py, ...).",
        pipeline_names,
        "PIPELINE|FILE",
    ),
]
Labels = Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="A label; may be repeated.")]
RunName = Annotated[str, argument(f"Run: {RUN_REFERENCES}.", run_names, "RUN")]
TaskName = Annotated[str, argument("Task: its name, its id or its path.", task_paths, "TASK")]
RunDisplayName = Annotated[str, typer.Option(help="Display name; generated if omitted.")]
InExperiment = Annotated[str, reference("Experiment", experiment_names)]
ExperimentName = Annotated[str, argument(f"Experiment: {_REFERENCES}.", experiment_names)]
RecurringId = Annotated[str, argument(f"Recurring run: {_REFERENCES}.", recurring_run_names)]
ServiceAccount = Annotated[str, typer.Option(metavar="NAME", help="The Kubernetes service account of the tasks.")]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Watch the run; the exit code is its outcome.")]
Archived = Annotated[bool, typer.Option("--archived", help="Only those that are archived.")]
AllowMissing = Annotated[bool, typer.Option("--allow-missing", help="Succeed if it does not exist.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
Contains = Annotated[str, typer.Option(metavar="TEXT", help="Only names that contain this text.")]
CreatedAfter = Annotated[
    str,
    typer.Option(
        "--created-after",
        "--since",
        metavar="TIME",
        help="Only those created since: 2d for two days, 2026-01-31, 2026-01-31T08:00:00+09:00; no zone means UTC.",
    ),
]
CreatedBefore = Annotated[
    str, typer.Option(metavar="TIME", help="Only those created before, as --since; later ones are read, too.")
]


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """Options of commands that watch runs."""

    logs: Annotated[bool, typer.Option("--logs", help="While watching, show the output of running tasks.")] = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="While watching, print no progress.")] = False

    def check(self, *, watch: bool) -> None:
        """Checks the combination of options; `watch` is whether runs are watched."""
        if (self.logs or self.quiet) and not watch:
            raise typer.BadParameter("--logs and --quiet need --watch")
        if self.logs and self.quiet:
            raise typer.BadParameter("use either --logs or --quiet")
