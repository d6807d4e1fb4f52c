"""The commands about experiments."""
# ruff: noqa: PLC0415  a command loads what it needs when it runs

from typing import Annotated

import typer

from kfadapter_grpc.cli.choices import Format
from kfadapter_grpc.cli.command import group
from kfadapter_grpc.cli.option_types import (
    AllowMissing,
    Archived,
    Contains,
    Description,
    ExperimentName,
    Limit,
    Output,
    Yes,
)
from kfadapter_grpc.cli.options import ClientOptions


def list_(
    options: ClientOptions,
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
) -> None:
    """List experiments, newest first."""
    from kfadapter_grpc.cli.commands import experiments as command

    command.list_experiments(options, output, contains=contains, archived=archived, order_by=order_by, limit=limit)


def show(
    options: ClientOptions,
    experiment: ExperimentName,
    *,
    output: Output = Format.TABLE,
) -> None:
    """Show an experiment."""
    from kfadapter_grpc.cli.commands import experiments as command

    command.show(options, experiment, output)


def create(
    options: ClientOptions,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name.")],
    *,
    description: Description = "",
    allow_existing: Annotated[
        bool, typer.Option("--allow-existing", help="Take the experiment of this name if there is one.")
    ] = False,
    output: Output = Format.TABLE,
) -> None:
    """Make an experiment."""
    from kfadapter_grpc.cli.commands import experiments as command

    command.create(options, name, output, description=description, allow_existing=allow_existing)


def archive(
    options: ClientOptions,
    experiment: ExperimentName,
    *,
    output: Output = Format.TABLE,
) -> None:
    """Put an experiment away, with its runs."""
    from kfadapter_grpc.cli.commands import experiments as command

    command.archive(options, experiment, output)


def unarchive(
    options: ClientOptions,
    experiment: ExperimentName,
    *,
    output: Output = Format.TABLE,
) -> None:
    """Take an experiment back from the archive; its runs stay there."""
    from kfadapter_grpc.cli.commands import experiments as command

    command.unarchive(options, experiment, output)


def delete(
    options: ClientOptions,
    experiment: ExperimentName,
    *,
    allow_missing: AllowMissing = False,
    yes: Yes = False,
    output: Output = Format.TABLE,
) -> None:
    """Delete an experiment; its runs stay."""
    from kfadapter_grpc.cli.commands import experiments as command

    command.delete(options, experiment, output, allow_missing=allow_missing, yes=yes)


experiments = group(
    "List experiments; make, put away and delete them.", list_, show, create, archive, unarchive, delete
)
