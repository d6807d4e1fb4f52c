"""The commands about recurring runs."""
# ruff: noqa: PLC0415  a command loads what it needs when it runs

from typing import Annotated

import typer

from kfadapter_grpc.cli.choices import Format
from kfadapter_grpc.cli.command import group
from kfadapter_grpc.cli.option_types import (
    AllowMissing,
    ById,
    Description,
    Function,
    InExperiment,
    Limit,
    Output,
    Parameters,
    PipelineOrFile,
    RecurringId,
    RunDisplayName,
    ServiceAccount,
    Version,
    Yes,
)
from kfadapter_grpc.cli.options import ClientOptions


def list_(
    options: ClientOptions,
    *,
    experiment: InExperiment = "",
    order_by: Annotated[
        str,
        typer.Option(
            "--order-by",
            metavar="FIELD",
            help="created_at, display_name or recurring_run_id; desc behind it turns it round.",
        ),
    ] = "",
    limit: Limit = 0,
    output: Output = Format.TABLE,
) -> None:
    """List recurring runs, newest first."""
    from kfadapter_grpc.cli.commands import recurring as command

    command.list_recurring(options, output, experiment=experiment, order_by=order_by, limit=limit)


def show(
    options: ClientOptions,
    recurring_run: RecurringId,
    *,
    output: Output = Format.TABLE,
) -> None:
    """Show a recurring run."""
    from kfadapter_grpc.cli.commands import recurring as command

    command.show(options, recurring_run, output)


def create(
    options: ClientOptions,
    pipeline: PipelineOrFile,
    *,
    cron: Annotated[
        str,
        typer.Option("--cron", metavar="FIELDS", help="Five fields, or six with seconds first, in UTC: '0 3 * * *'."),
    ] = "",
    every: Annotated[str, typer.Option("--every", metavar="TIME", help="The time between two: 90s, 15m, 1h30m.")] = "",
    start: Annotated[str, typer.Option("--start", metavar="TIME", help="Not before: 2026-01-31T08:00:00Z.")] = "",
    end: Annotated[str, typer.Option("--end", metavar="TIME", help="Not after.")] = "",
    parameter: Parameters = None,
    version: Version = "",
    by_id: ById = None,
    function: Function = None,
    experiment: InExperiment = "",
    display_name: RunDisplayName = "",
    description: Description = "",
    max_concurrency: Annotated[
        int, typer.Option("--max-concurrency", min=1, max=10, metavar="N", help="How many of its runs at once.")
    ] = 1,
    catch_up: Annotated[bool, typer.Option("--catch-up", help="Make up for missed starts.")] = False,
    disabled: Annotated[bool, typer.Option("--disabled", help="Start no runs yet.")] = False,
    service_account: ServiceAccount = "",
    output: Output = Format.TABLE,
) -> None:
    """Let a pipeline, or a file, which is uploaded first, run again and again."""
    from kfadapter_grpc.cli.commands import recurring as command
    from kfadapter_grpc.cli.commands.run import Chosen

    wanted = command.Wanted(
        command.schedule(cron, every, start, end),
        parameters=parameter or [],
        experiment=experiment,
        display_name=display_name,
        description=description,
        max_concurrency=max_concurrency,
        catch_up=catch_up,
        enabled=not disabled,
        service_account=service_account,
    )
    what = Chosen(pipeline, version, by_id, function)
    command.create(options, what, wanted, output)


def enable(
    options: ClientOptions,
    recurring_run: RecurringId,
    *,
    output: Output = Format.TABLE,
) -> None:
    """Switch a recurring run on."""
    from kfadapter_grpc.cli.commands import recurring as command

    command.switch(options, recurring_run, output, on=True)


def disable(
    options: ClientOptions,
    recurring_run: RecurringId,
    *,
    output: Output = Format.TABLE,
) -> None:
    """Switch a recurring run off; runs that it has started go on."""
    from kfadapter_grpc.cli.commands import recurring as command

    command.switch(options, recurring_run, output, on=False)


def delete(
    options: ClientOptions,
    recurring_run: RecurringId,
    *,
    allow_missing: AllowMissing = False,
    yes: Yes = False,
    output: Output = Format.TABLE,
) -> None:
    """Delete a recurring run; runs that it has started stay."""
    from kfadapter_grpc.cli.commands import recurring as command

    command.delete(options, recurring_run, output, allow_missing=allow_missing, yes=yes)


recurring = group("List recurring runs; make, switch and delete them.", list_, show, create, enable, disable, delete)
