"""`kfadapter experiments`."""

from typing import Annotated

import typer

from kfadapter_grpc.cli import options as opt
from kfadapter_grpc.cli import output as out
from kfadapter_grpc.cli.command import group
from kfadapter_grpc.cli.listings import NAME_STEPS, Column, ListOptions, Table
from kfadapter_grpc.cli.options import ClientOptions
from kfadapter_grpc.cli.references import experiment_id, experiment_reference
from kfadapter_grpc.cli.values import Period
from kfadapter_grpc.contract.errors import ExperimentNotFoundError
from kfadapter_grpc.contract.experiments import Experiment, ListExperimentsRequest
from kfadapter_grpc.contract.listing import StorageState
from kfadapter_grpc.times import shown_time

EXPERIMENTS: Table[Experiment] = Table(
    "experiments",
    lambda experiment: experiment.name,
    (
        Column("NAME", "name"),
        Column("ID", "experiment_id", is_id=True),
        Column("CREATED", "created_at", wide=True),
        Column("LAST RUN", "last_run_created_at"),
        Column("DESCRIPTION", "description", cut=True),
    ),
    NAME_STEPS,
    ListExperimentsRequest.ORDERS,
)


def list_(
    options: ClientOptions,
    *,
    contains: opt.Contains = "",
    created_after: opt.CreatedAfter = "",
    created_before: opt.CreatedBefore = "",
    archived: opt.Archived = False,
    order_by: Annotated[str, opt.order_by_fields("created_at, name or experiment_id", "name")] = "",
    limit: opt.Limit = 0,
    listed: ListOptions,
) -> None:
    """List experiments, newest first."""
    created = Period(created_after, created_before)
    order = listed.order_by(EXPERIMENTS, order_by)
    with options.client() as client:
        experiments = client.experiments.list(
            name_contains=contains, archived=archived, order_by=order, page_size=created.page_size(limit)
        )
        listed.print(created.select(experiments, newest_first=not order), EXPERIMENTS, limit=limit)


def show(options: ClientOptions, experiment: opt.ExperimentName, *, output: opt.Output = "table") -> None:
    """Show an experiment."""
    with options.client() as client:
        ref = experiment_reference(client, experiment)
        result = client.experiments.get(ref.name, experiment_id=ref.experiment_id)
    _print(result, output)


def create(
    options: ClientOptions,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name.")],
    *,
    description: opt.Description = "",
    allow_existing: Annotated[
        bool, typer.Option("--allow-existing", help="Return the experiment of this name if it exists.")
    ] = False,
    output: opt.Output = "table",
) -> None:
    """Create an experiment."""
    with options.client() as client:
        created = client.experiments.create(name, description=description, allow_existing=allow_existing)
    _print(created, output)


def archive(options: ClientOptions, experiment: opt.ExperimentName, *, output: opt.Output = "table") -> None:
    """Archive an experiment and its runs."""
    with options.client() as client:
        archived = client.experiments.archive(experiment_id(client, experiment))
    out.print_change(archived, output, name=archived.name, text=f"archived the experiment {archived.name} and its runs")


def unarchive(options: ClientOptions, experiment: opt.ExperimentName, *, output: opt.Output = "table") -> None:
    """Unarchive an experiment; its runs stay archived."""
    with options.client() as client:
        unarchived = client.experiments.unarchive(experiment_id(client, experiment))
    message = f"unarchived the experiment {unarchived.name}; its runs stay archived"
    out.print_change(unarchived, output, name=unarchived.name, text=message)


def delete(
    options: ClientOptions,
    experiment: opt.ExperimentName,
    *,
    allow_missing: opt.AllowMissing = False,
    yes: opt.Yes = False,
    output: opt.Output = "table",
) -> None:
    """Delete an experiment; its runs are kept."""
    with options.client() as client:
        ref = experiment_reference(client, experiment)
        if not yes and out.is_interactive():
            out.confirm(f"Delete the experiment {ref}? Its runs stay.")
        try:
            found_id = ref.experiment_id or client.experiments.get(ref.name).experiment_id
        except ExperimentNotFoundError:
            if not allow_missing:
                raise
            found_id = ""
        deleted = found_id if found_id and client.experiments.delete(found_id, allow_missing=allow_missing) else ""
    out.print_deletion(
        {"experiment_id": deleted},
        output,
        name=experiment if deleted else "",
        text=f"deleted the experiment {experiment}; its runs stay",
        missing=f"not found: experiment {ref}",
    )


experiments = group(
    "List, show, create, archive and delete experiments.", list_, show, create, archive, unarchive, delete
)


def _print(experiment: Experiment, style: opt.Format) -> None:
    out.print_record(experiment, style, name=experiment.name, table=lambda: out.print_fields(_fields(experiment)))


def _fields(experiment: Experiment) -> list[tuple[str, str]]:
    return [
        ("Name", experiment.name),
        ("Id", experiment.experiment_id),
        ("Namespace", experiment.namespace),
        ("Description", experiment.description),
        ("Created", shown_time(experiment.created_at)),
        ("Last run", shown_time(experiment.last_run_created_at)),
        ("Archived", "yes" if experiment.storage_state is StorageState.ARCHIVED else ""),
    ]
