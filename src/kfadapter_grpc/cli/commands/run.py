"""What run does: uploads a file where one is given, types the parameters, starts the run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kfadapter_grpc.cli import output
from kfadapter_grpc.cli.choices import Format
from kfadapter_grpc.cli.commands import upload, watch
from kfadapter_grpc.cli.errors import CommandError
from kfadapter_grpc.cli.exit_codes import ExitCode
from kfadapter_grpc.cli.invocation import RUN, Invocation, other, remember
from kfadapter_grpc.cli.parameter_values import parse_parameters
from kfadapter_grpc.cli.pipeline_file import STDIN, is_file_name, pipeline_files, several
from kfadapter_grpc.cli.records import record
from kfadapter_grpc.cli.references import experiment_reference, reference, version_reference
from kfadapter_grpc.cli.run_view import print_started, run_fields
from kfadapter_grpc.cli.streams import native_path
from kfadapter_grpc.contract.errors import AdapterError
from kfadapter_grpc.contract.experiments import ExperimentRef
from kfadapter_grpc.contract.parameters import typed_values
from kfadapter_grpc.contract.pipelines import IfExists, UploadPipelineMetadata

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from kfadapter_grpc.cli.options import ClientOptions
    from kfadapter_grpc.client import Client
    from kfadapter_grpc.contract.pipelines import PipelineVersion
    from kfadapter_grpc.contract.runs import Run


@dataclass(frozen=True, slots=True)
class Chosen:
    """What to run: a pipeline or a file, as it was typed.

    Attributes:
        pipeline: The pipeline's name or id, or the file.
        version: Its version's name or id; empty means the latest.
        by_id: Whether it is an id, or a name; None where its looks tell.
        function: Which pipeline of a `.py` to take.
    """

    pipeline: str
    version: str = ""
    by_id: bool | None = None
    function: str | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """How to run it.

    Attributes:
        parameters: The values, `name=value` each.
        experiment: The experiment's name or id; empty means the default one.
        create_experiment: Make the experiment if there is none of this name.
        display_name: What people see.
        description: What it is for.
        labels: The caller's own labels.
        request_id: Under which the call may be repeated.
        caching: Whether results of earlier runs may be used.
        service_account: The service account of the tasks.
        validate_only: Only check.
    """

    parameters: Sequence[str] = ()
    experiment: str = ""
    create_experiment: bool = False
    display_name: str = ""
    description: str = ""
    labels: Mapping[str, str] | None = None
    request_id: str = ""
    caching: bool = True
    service_account: str = ""
    validate_only: bool = False


def run(options: ClientOptions, chosen: Chosen, wanted: Wanted, style: Format, *, follow: bool) -> None:
    """Starts a run, and follows it to its end if that is asked for."""
    texts = parse_parameters(wanted.parameters)
    with options.client() as client:
        version = find_version(options, client, chosen)
        started = _create(client, version, texts, wanted)
        if wanted.validate_only:
            _print_valid(started, style)
        elif not follow:
            _print_started(in_full(client, started) if style is Format.TABLE else started, options, style)
        else:
            output.note(f"started run {started.run_id}")
            watch.follow(client, [started.run_id], style, options)


def find_version(options: ClientOptions, client: Client, chosen: Chosen) -> PipelineVersion:
    """Finds the version to run, or makes it of a file.

    Raises:
        CommandError: The file cannot be read or compiled.
    """
    if chosen.by_id is None and is_file_name(chosen.pipeline):
        return _uploaded(options, client, chosen)
    ref = reference(chosen.pipeline, by_id=chosen.by_id)
    version = version_reference(chosen.version)
    return client.pipelines.get_version(
        ref.name,
        pipeline_id=ref.pipeline_id,
        version_name=version.name,
        pipeline_version_id=version.pipeline_version_id,
    )


def experiment_of(text: str) -> ExperimentRef:
    """Tells which experiment is meant; nothing stands for the default one."""
    return experiment_reference(text) if text else ExperimentRef()


def _create(client: Client, version: PipelineVersion, texts: Mapping[str, str], wanted: Wanted) -> Run:
    experiment = experiment_of(wanted.experiment)
    return client.runs.create(
        pipeline_id=version.pipeline_id,
        pipeline_version_id=version.pipeline_version_id,
        experiment_name=experiment.name,
        experiment_id=experiment.experiment_id,
        create_experiment=wanted.create_experiment,
        parameters=typed_values(texts, version.spec.parameters if version.spec else ()),
        display_name=wanted.display_name,
        description=wanted.description,
        labels=wanted.labels,
        request_id=wanted.request_id,
        validate_only=wanted.validate_only,
        caching=wanted.caching,
        service_account=wanted.service_account,
    )


def _uploaded(options: ClientOptions, client: Client, chosen: Chosen) -> PipelineVersion:
    """Uploads a file, unless its pipeline has a version with these bytes."""
    path = native_path(chosen.pipeline)
    _check_file(path, chosen)
    with pipeline_files(path, chosen.function, options.timeout) as files:
        if len(files) > 1:
            raise several(files, path, "a run is of one pipeline")
        name = files[0].name
        remember(pipeline=name)
        receipt = upload.send(
            options, files[0].path, UploadPipelineMetadata(name=name, if_exists=IfExists.SKIP_IF_SAME)
        )
    made = "new" if receipt.version_created else "already there with these bytes"
    output.note(f"uploaded {name}, version {receipt.version.name} ({made})")
    return client.pipelines.get_version(
        pipeline_id=receipt.pipeline.pipeline_id, pipeline_version_id=receipt.version.pipeline_version_id
    )


def _check_file(path: Path, chosen: Chosen) -> None:
    if path == STDIN:
        raise CommandError(
            "the standard input cannot be run",
            why="it has no name, which its pipeline would need",
            next_step="kfadapter upload - --name NAME\nthen kfadapter run NAME",
            exit_code=ExitCode.USAGE,
        )
    if chosen.version:
        raise CommandError(
            "--version is for pipelines that are there already",
            why=f"{path} is taken for a file, which is uploaded first; --name takes it for a pipeline's name",
            next_step="the same command without --version, or with --name",
            exit_code=ExitCode.USAGE,
        )


def in_full(client: Client, started: Run) -> Run:
    """The run with the names of its pipeline, version and experiment; as it is where they cannot be looked up."""
    try:
        return client.runs.get(started.run_id)
    except AdapterError:
        return started


def _print_started(started: Run, options: ClientOptions, style: Format) -> None:
    if style is Format.TABLE:
        print_started(started, Invocation(run=started.run_id, options=options).spell(other("watch", RUN)))
    elif style is Format.NAME:
        output.print_names([started.run_id])
    else:
        output.print_document(record(started), style)


def _print_valid(checked: Run, style: Format) -> None:
    """Says that nothing is wrong; there is no run, so it has neither id nor state."""
    if style in (Format.JSON, Format.YAML):
        output.print_document(record(checked), style)
    elif style is Format.TABLE:
        output.print_fields([field for field in run_fields(checked) if field[0] not in ("Id", "State")])
    output.note("nothing is wrong with it; nothing was started")
