"""`kfadapter run`: starts a run of a pipeline, or of a file, which is uploaded first."""
# ruff: noqa: PLC0415  the help needs neither the client nor the views

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kfadapter_grpc.cli import options as opt
from kfadapter_grpc.cli import output as out
from kfadapter_grpc.cli.completion import run_names
from kfadapter_grpc.cli.errors import CommandError, NotFoundError, UsageError
from kfadapter_grpc.cli.invocation import RUN, Invocation, again, other, remember
from kfadapter_grpc.cli.options import ClientOptions
from kfadapter_grpc.cli.pipeline_file import is_file_name, pipeline_files, several_pipelines_error
from kfadapter_grpc.cli.references import experiment_reference, find_version, pipeline_reference, run_id
from kfadapter_grpc.cli.text import STDIN, native_path
from kfadapter_grpc.cli.values import labels, pairs
from kfadapter_grpc.contract.errors import AdapterError, PipelineNotFoundError, VersionNotFoundError
from kfadapter_grpc.contract.listing import View
from kfadapter_grpc.contract.parameters import typed_values
from kfadapter_grpc.contract.pipelines import IfExists, PipelineRef, PipelineVersion
from kfadapter_grpc.contract.runs import Run
from kfadapter_grpc.contract.spec import Json

if TYPE_CHECKING:
    from kfadapter_grpc.client import Client

_PARAMETERS = ("parameters.", "parameters:")
"""The beginnings of warnings about the values of parameters."""


Like = Annotated[
    str,
    typer.Option(
        "--like",
        metavar="RUN",
        help="Run it again, with the same version, parameters, experiment, description, labels and caching;"
        " other options override them.",
        autocompletion=run_names,
    ),
]
CreateExperiment = Annotated[
    bool, typer.Option("--create-experiment", help="Create the experiment if it does not exist.")
]
RequestId = Annotated[str, typer.Option("--request-id", metavar="ID", help="Idempotency key of the run.")]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Do not reuse results of earlier runs.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only validate; a file is uploaded nevertheless.")]


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Options of a run, or of each run of a recurring run."""

    parameter: opt.Parameters = None
    params: opt.ParameterFile = None
    version: opt.Version = ""
    by_id: opt.ById = None
    function: opt.Function = None
    experiment: opt.InExperiment = ""
    display_name: opt.RunDisplayName = ""
    description: opt.Description = ""
    service_account: opt.ServiceAccount = ""

    def parse_parameters(self) -> Callable[[PipelineVersion], dict[str, Json]]:
        """Parses the parameters; returns a function that converts them to the types that a version declares.

        They override those in a file, which keep their types.
        """
        from kfadapter_grpc.cli.parameter_file import read_parameters

        typed, of_file = pairs(self.parameter), read_parameters(self.params) if self.params else {}
        return lambda version: of_file | typed_values(typed, version.spec.parameters if version.spec else ())

    def version_of(self, client: "Client", pipeline: str, seconds: float | None) -> PipelineVersion:
        """Returns the version to run; uploads a file unless its pipeline has a version with the same bytes."""
        from kfadapter_grpc.cli.upload import describe_existing, send

        if self.by_id is not None or not is_file_name(pipeline):
            return find_version(client, pipeline_reference(client, pipeline, by_id=self.by_id), self.version or None)
        path = native_path(pipeline)
        _check_file(path, self.version)
        with pipeline_files(path, self.function, seconds) as files:
            if len(files) > 1:
                raise several_pipelines_error(files, path, "a run has one pipeline")
            name = files[0].name
            remember(pipeline=name)
            receipt = send(client, files[0].path, name, if_exists=IfExists.SKIP_IF_SAME)
        uploaded = f"uploaded {name}, version {receipt.version.name} (new)"
        out.note(uploaded if receipt.version_created else describe_existing(client, receipt))
        return client.pipelines.get_version(
            pipeline_id=receipt.pipeline.pipeline_id, pipeline_version_id=receipt.version.pipeline_version_id
        )


def run(
    options: ClientOptions,
    pipeline: opt.PipelineOrFile = "",
    *,
    watch_options: opt.WatchOptions,
    like: Like = "",
    start: RunOptions,
    create_experiment: CreateExperiment = False,
    label: opt.Labels = None,
    request_id: RequestId = "",
    no_cache: NoCache = False,
    dry_run: DryRun = False,
    watch: opt.Watch = False,
    output: opt.Output = "table",
) -> None:
    """Run a pipeline, or upload and run a file.

    A file whose pipeline has a version with the same bytes is not stored again.
    """
    from kfadapter_grpc.cli.watch import follow

    watch_options.check(watch=watch)
    if bool(pipeline) == bool(like):
        raise typer.BadParameter("set either a PIPELINE or FILE, or --like RUN")
    parameters, own_labels = start.parse_parameters(), labels(label)
    with options.client() as client:
        in_experiment = experiment_reference(client, start.experiment)
        if like:
            old = client.runs.get(run_id(client, like), view=View.BASIC)
            found_version = _version_of(client, old, start.version)
        else:
            old = Run(run_id="")
            found_version = start.version_of(client, pipeline, options.timeout)
        declared = parameters(found_version)
        _check_repeatable(old, declared)
        started = client.runs.create(
            pipeline_id=found_version.pipeline_id,
            pipeline_version_id=found_version.pipeline_version_id,
            experiment_name=in_experiment.name,
            experiment_id=in_experiment.experiment_id if start.experiment else old.experiment_id,
            create_experiment=create_experiment,
            parameters={**old.parameters, **declared},
            display_name=start.display_name,
            description=start.description or old.description,
            labels={**old.labels, **own_labels},
            request_id=request_id,
            validate_only=dry_run,
            caching=not (no_cache or old.caching_disabled),
            service_account=start.service_account or old.service_account,
        )
        if dry_run:
            _print_valid(started, output)
        elif watch:
            out.note(f"started run {started.run_id}")
            follow(client, [started.run_id], output, options, watch_options)
        else:
            print_started(client, started, output, options)


def _version_of(client: "Client", run: Run, version: str) -> PipelineVersion:
    """Returns the version that a run was started from, or another one of its pipeline."""
    name = f"run '{run.display_name}'"
    if not run.pipeline_id:
        raise CommandError(
            f"{name} cannot be run again",
            why="it was started from a file, not from a version of a pipeline",
            next_step="kfadapter run FILE",
        )
    try:
        return find_version(client, PipelineRef(run.pipeline_id), version or run.pipeline_version_id or None)
    except PipelineNotFoundError:
        raise NotFoundError(
            f"{name} cannot be run again",
            why=f"its pipeline {run.pipeline_id} was deleted",
            next_step=other("list", text="shows all pipelines"),
        ) from None
    except VersionNotFoundError:
        if version:
            raise
        raise NotFoundError(
            f"{name} cannot be run again as it was",
            why=f"its version {run.pipeline_version_id} was deleted",
            next_step=again("--version", "NAME", text=f"runs another one; kfadapter versions {run.pipeline_id}"),
        ) from None


def _check_repeatable(run: Run, replaced: Mapping[str, Json]) -> None:
    """Checks that the adapter returned the parameters of a run as they are, except those that are replaced."""
    known = tuple(f"parameters.{name}{after}" for name in replaced for after in (".", "[", ":"))
    lost = [text for text in run.warnings if text.startswith(_PARAMETERS) and not text.startswith(known)]
    if lost:
        raise CommandError(
            f"run '{run.display_name}' cannot be run again as it was",
            why="\n".join(lost),
            next_step=again("-p", "NAME=VALUE", text="sets such a parameter; --params FILE sets several"),
        )


def _check_file(path: Path, version: str) -> None:
    if path == STDIN:
        raise UsageError(
            "standard input cannot be run",
            why="it has no name for its pipeline",
            next_step="kfadapter upload - --name NAME\nthen kfadapter run NAME",
        )
    if version:
        raise UsageError(
            "--version is for existing pipelines",
            why=f"{path} is a file, which is uploaded first; with --name it is the name of a pipeline",
            next_step="the same command without --version, or with --name",
        )


def print_started(client: "Client", started: Run, style: opt.Format, options: ClientOptions) -> None:
    """Prints a run that was just started; as a table with the names of pipeline, version and experiment, if known."""
    from kfadapter_grpc.cli.run_view import run_fields

    def table() -> None:
        try:
            known = client.runs.get(started.run_id)
        except AdapterError:
            known = started
        follow = Invocation(run=started.run_id, options=options).format(other("watch", RUN))
        out.print_fields([*run_fields(known), ("Follow", follow)])

    out.print_record(started, style, name=started.run_id, table=table)


def _print_valid(checked: Run, style: opt.Format) -> None:
    """Prints a validated run, which has neither id nor state."""
    from kfadapter_grpc.cli.run_view import run_fields

    if style in ("json", "yaml"):
        out.print_document(checked, style)
    elif style == "table":
        out.print_fields([field for field in run_fields(checked) if field[0] not in ("Id", "State")])
    out.note("the request is valid; nothing was started")
