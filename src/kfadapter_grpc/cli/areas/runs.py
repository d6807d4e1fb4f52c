"""The commands about runs."""
# ruff: noqa: PLC0415  a command loads what it needs when it runs

from typing import Annotated

import typer

from kfadapter_grpc.cli.choices import Format, StateChoice
from kfadapter_grpc.cli.command import group
from kfadapter_grpc.cli.completion import pipeline_names, run_ids
from kfadapter_grpc.cli.option_types import (
    AllowMissing,
    Archived,
    ById,
    Contains,
    CreatedAfter,
    Description,
    Function,
    InExperiment,
    Labels,
    Output,
    Parameters,
    PipelineOrFile,
    RunDisplayName,
    RunName,
    ServiceAccount,
    Version,
    Watch,
    Yes,
)
from kfadapter_grpc.cli.options import ClientOptions

NEWEST = 20
"""How many runs are listed unless more are asked for."""


def run(
    options: ClientOptions,
    pipeline: PipelineOrFile,
    *,
    parameter: Parameters = None,
    version: Version = "",
    by_id: ById = None,
    function: Function = None,
    experiment: InExperiment = "",
    create_experiment: Annotated[
        bool, typer.Option("--create-experiment", help="Make the experiment if there is none of this name.")
    ] = False,
    display_name: RunDisplayName = "",
    description: Description = "",
    label: Labels = None,
    request_id: Annotated[
        str, typer.Option("--request-id", metavar="ID", help="Makes the start safe to repeat, by anybody.")
    ] = "",
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Use no results of earlier runs.")] = False,
    service_account: ServiceAccount = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only check; a file is uploaded all the same.")] = False,
    watch: Watch = False,
    output: Output = Format.TABLE,
) -> None:
    """Run a pipeline, or a file, which is uploaded first.

    A file whose pipeline has a version with the same bytes is not stored again.
    """
    from kfadapter_grpc.cli.commands import run as command
    from kfadapter_grpc.cli.upload_options import parse_tags

    wanted = command.Wanted(
        parameters=parameter or [],
        experiment=experiment,
        create_experiment=create_experiment,
        display_name=display_name,
        description=description,
        labels=parse_tags(label or [], "label"),
        request_id=request_id,
        caching=not no_cache,
        service_account=service_account,
        validate_only=dry_run,
    )
    what = command.Chosen(pipeline, version, by_id, function)
    command.run(options, what, wanted, output, follow=watch)


def watch(
    options: ClientOptions,
    run: Annotated[
        list[str],
        typer.Argument(metavar="RUN", help="The runs' ids; @latest is the newest run.", autocompletion=run_ids),
    ],
    *,
    output: Annotated[
        Format,
        typer.Option("--output", "-o", help="How to print; json and yaml print runs that are over."),
    ] = Format.TABLE,
) -> None:
    """Follow runs to their end; the exit code tells how it was."""
    from kfadapter_grpc.cli.commands import watch as command

    command.watch(options, run, output)


def logs(
    options: ClientOptions,
    run: RunName,
    task: Annotated[str, typer.Argument(metavar="[TASK]", help="One task, by its name; all if not given.")] = "",
    *,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Continue until the task, or the run, has ended.")
    ] = False,
    failed: Annotated[bool, typer.Option("--failed", help="Only tasks that failed.")] = False,
    attempt: Annotated[
        int | None, typer.Option("--attempt", metavar="N", min=1, help="Attempt of a retried task; else the last.")
    ] = None,
    iteration: Annotated[
        int | None, typer.Option("--iteration", metavar="N", min=0, help="Iteration of a loop, counted from 0.")
    ] = None,
) -> None:
    """Print what the tasks of a run wrote."""
    from kfadapter_grpc.cli.commands import logs as command

    if task:
        command.log(options, run, task, follow=follow, attempt=attempt or 0, iteration_index=iteration)
    elif attempt or iteration is not None:
        raise typer.BadParameter("--attempt and --iteration need a TASK")
    else:
        command.logs(options, run, follow=follow, failed=failed)


def terminate(
    options: ClientOptions,
    run: RunName,
    *,
    wait: Annotated[
        float, typer.Option("--wait", metavar="SECONDS", min=0, max=3600, help="Wait so long until it has stopped.")
    ] = 0,
    output: Output = Format.TABLE,
) -> None:
    """Stop a run; one that is over is left as it is."""
    from kfadapter_grpc.cli.commands import runs as command

    command.terminate(options, run, output, wait=wait)


def retry(
    options: ClientOptions,
    run: RunName,
    *,
    watch: Watch = False,
    output: Output = Format.TABLE,
) -> None:
    """Run a failed run again, from the tasks that failed."""
    from kfadapter_grpc.cli.commands import runs as command

    command.retry(options, run, output, follow=watch)


def list_(
    options: ClientOptions,
    *,
    contains: Contains = "",
    experiment: InExperiment = "",
    pipeline: Annotated[
        str,
        typer.Option(
            "--pipeline", metavar="NAME|ID", help="Only runs of this pipeline.", autocompletion=pipeline_names
        ),
    ] = "",
    version: Annotated[
        str, typer.Option("--version", metavar="NAME|ID", help="Only runs of this version of --pipeline.")
    ] = "",
    recurring: Annotated[
        str, typer.Option("--recurring", metavar="ID", help="Only runs that this recurring run made.")
    ] = "",
    state: Annotated[
        list[StateChoice] | None, typer.Option("--state", help="Only runs in this state; may be repeated.")
    ] = None,
    created_after: CreatedAfter = "",
    finished_after: Annotated[
        str, typer.Option(metavar="TIME", help="Only those that were over later, as --created-after.")
    ] = "",
    label: Labels = None,
    archived: Archived = False,
    order_by: Annotated[
        str,
        typer.Option(
            "--order-by",
            metavar="FIELD",
            help="created_at, finished_at, display_name or run_id; desc behind it turns it round: 'created_at desc'.",
        ),
    ] = "",
    limit: Annotated[int, typer.Option("--limit", min=0, metavar="N", help="At most so many; 0 for all.")] = NEWEST,
    output: Output = Format.TABLE,
) -> None:
    """List runs, newest first."""
    from kfadapter_grpc.cli.commands import runs as command
    from kfadapter_grpc.cli.filters import optional_moment
    from kfadapter_grpc.cli.upload_options import parse_tags
    from kfadapter_grpc.contract.runs import RunState

    if version and not pipeline:
        message = "--version needs --pipeline"
        raise typer.BadParameter(message)
    wanted = command.Wanted(
        contains=contains,
        experiment=experiment,
        pipeline=pipeline,
        version=version,
        recurring=recurring,
        states=[RunState(one.value.upper()) for one in state or []],
        created_after=optional_moment(created_after),
        finished_after=optional_moment(finished_after),
        labels=parse_tags(label or [], "label"),
        archived=archived,
        order_by=order_by,
    )
    command.list_runs(options, wanted, output, limit=limit)


def show(
    options: ClientOptions,
    run: RunName,
    *,
    output: Output = Format.TABLE,
) -> None:
    """Show a run: its state, its tasks, what they made, why it failed."""
    from kfadapter_grpc.cli.commands import runs as command

    command.show(options, run, output)


def archive(
    options: ClientOptions,
    run: RunName,
    *,
    output: Output = Format.TABLE,
) -> None:
    """Put a run away: it stays, but lists leave it out."""
    from kfadapter_grpc.cli.commands import runs as command

    command.archive(options, run, output)


def unarchive(
    options: ClientOptions,
    run: RunName,
    *,
    output: Output = Format.TABLE,
) -> None:
    """Take a run back from the archive."""
    from kfadapter_grpc.cli.commands import runs as command

    command.unarchive(options, run, output)


def delete(
    options: ClientOptions,
    run: RunName,
    *,
    allow_missing: AllowMissing = False,
    yes: Yes = False,
    output: Output = Format.TABLE,
) -> None:
    """Delete a run; one that is not over goes on in the cluster, unseen: terminate it first."""
    from kfadapter_grpc.cli.commands import runs as command

    command.delete(options, run, output, allow_missing=allow_missing, yes=yes)


runs = group("List runs; show, put away and delete them.", list_, show, archive, unarchive, delete)
