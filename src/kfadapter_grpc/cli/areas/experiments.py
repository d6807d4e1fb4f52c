"""The commands about experiments."""
# ruff: noqa: PLC0415  a command loads what it needs when it runs

from typing import Annotated

import typer

from kfadapter_grpc.cli.choices import Format
from kfadapter_grpc.cli.guard import guarded
from kfadapter_grpc.cli.listing_group import ListingGroup
from kfadapter_grpc.cli.option_types import (
    AllowMissing,
    Archived,
    Contains,
    Description,
    ExperimentName,
    Limit,
    Namespace,
    Output,
    Target,
    Timeout,
    Yes,
    chosen,
)

app = typer.Typer(cls=ListingGroup, help="List experiments; make, put away and delete them.")


@app.command("list")
@guarded
def list_(
    context: typer.Context,
    *,
    contains: Contains = "",
    archived: Archived = False,
    order_by: Annotated[
        str,
        typer.Option(
            "--order-by",
            metavar="FIELD",
            help="created_at, name or experiment_id; desc behind it turns it round: 'name desc'.",
        ),
    ] = "",
    limit: Limit = 0,
    output: Output = Format.TABLE,
    target: Target = None,
    timeout: Timeout = None,
    namespace: Namespace = None,
) -> None:
    """List experiments, newest first."""
    from kfadapter_grpc.cli.commands import experiments as command

    options = chosen(context, target, timeout, namespace)
    command.list_experiments(options, output, contains=contains, archived=archived, order_by=order_by, limit=limit)


@app.command()
@guarded
def show(
    context: typer.Context,
    experiment: ExperimentName,
    *,
    output: Output = Format.TABLE,
    target: Target = None,
    timeout: Timeout = None,
    namespace: Namespace = None,
) -> None:
    """Show an experiment."""
    from kfadapter_grpc.cli.commands import experiments as command

    command.show(chosen(context, target, timeout, namespace), experiment, output)


@app.command()
@guarded
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name.")],
    *,
    description: Description = "",
    allow_existing: Annotated[
        bool, typer.Option("--allow-existing", help="Take the experiment of this name if there is one.")
    ] = False,
    output: Output = Format.TABLE,
    target: Target = None,
    timeout: Timeout = None,
    namespace: Namespace = None,
) -> None:
    """Make an experiment."""
    from kfadapter_grpc.cli.commands import experiments as command

    options = chosen(context, target, timeout, namespace)
    command.create(options, name, output, description=description, allow_existing=allow_existing)


@app.command()
@guarded
def archive(
    context: typer.Context,
    experiment: ExperimentName,
    *,
    output: Output = Format.TABLE,
    target: Target = None,
    timeout: Timeout = None,
    namespace: Namespace = None,
) -> None:
    """Put an experiment away, with its runs."""
    from kfadapter_grpc.cli.commands import experiments as command

    command.archive(chosen(context, target, timeout, namespace), experiment, output)


@app.command()
@guarded
def unarchive(
    context: typer.Context,
    experiment: ExperimentName,
    *,
    output: Output = Format.TABLE,
    target: Target = None,
    timeout: Timeout = None,
    namespace: Namespace = None,
) -> None:
    """Take an experiment back from the archive; its runs stay there."""
    from kfadapter_grpc.cli.commands import experiments as command

    command.unarchive(chosen(context, target, timeout, namespace), experiment, output)


@app.command()
@guarded
def delete(
    context: typer.Context,
    experiment: ExperimentName,
    *,
    allow_missing: AllowMissing = False,
    yes: Yes = False,
    output: Output = Format.TABLE,
    target: Target = None,
    timeout: Timeout = None,
    namespace: Namespace = None,
) -> None:
    """Delete an experiment; its runs stay."""
    from kfadapter_grpc.cli.commands import experiments as command

    options = chosen(context, target, timeout, namespace)
    command.delete(options, experiment, output, allow_missing=allow_missing, yes=yes)
