"""`kfadapter recurring`."""
# ruff: noqa: PLC0415  the help needs neither the client nor the views

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from kfadapter_grpc.cli import options as opt
from kfadapter_grpc.cli import output as out
from kfadapter_grpc.cli.command import group
from kfadapter_grpc.cli.listings import TABULAR, Column, ListOptions, Table
from kfadapter_grpc.cli.options import ClientOptions
from kfadapter_grpc.cli.references import experiment_reference, recurring_run_id
from kfadapter_grpc.cli.run import RunOptions
from kfadapter_grpc.cli.values import Period, duration, parse_optional_time
from kfadapter_grpc.contract.errors import AdapterError
from kfadapter_grpc.contract.listing import View
from kfadapter_grpc.contract.recurring_runs import (
    CronSchedule,
    IntervalSchedule,
    ListRecurringRunsRequest,
    RecurringRun,
    Schedule,
)
from kfadapter_grpc.contract.runs import Run
from kfadapter_grpc.times import shown_duration, shown_time

if TYPE_CHECKING:
    from kfadapter_grpc.client import Client

_AT_ONCE = 8


def list_(
    options: ClientOptions,
    *,
    experiment: opt.InExperiment = "",
    created_after: opt.CreatedAfter = "",
    created_before: opt.CreatedBefore = "",
    order_by: Annotated[str, opt.order_by_fields("created_at, display_name or recurring_run_id")] = "",
    limit: opt.Limit = 0,
    listed: ListOptions,
) -> None:
    """List recurring runs, newest first."""
    last_runs: dict[str, Run | None] = {}
    table, created = _table(last_runs), Period(created_after, created_before)
    order = listed.order_by(table, order_by)
    with options.client() as client:
        ref = experiment_reference(client, experiment)
        recurring_runs = client.recurring_runs.list(
            experiment_name=ref.name,
            experiment_id=ref.experiment_id,
            order_by=order,
            page_size=created.page_size(limit),
        )
        recurring = list(islice(created.select(recurring_runs, newest_first=not order), limit or None))
        if listed.output in TABULAR or listed.sort:
            last_runs |= _last_runs(client, recurring)
        listed.print(recurring, table)


def show(options: ClientOptions, recurring_run: opt.RecurringId, *, output: opt.Output = "table") -> None:
    """Show a recurring run."""
    with options.client() as client:
        _print(client, client.recurring_runs.get(recurring_run_id(client, recurring_run)), output)


def create(
    options: ClientOptions,
    pipeline: opt.PipelineOrFile,
    *,
    cron: Annotated[
        str, typer.Option(metavar="FIELDS", help="Five fields, or six with seconds first, in UTC: '0 3 * * *'.")
    ] = "",
    every: Annotated[str, typer.Option(metavar="TIME", help="Interval: 90s, 15m, 1h30m.")] = "",
    start: Annotated[str, typer.Option(metavar="TIME", help="Start time: 2026-01-31T08:00:00Z.")] = "",
    end: Annotated[str, typer.Option(metavar="TIME", help="End time.")] = "",
    run_options: RunOptions,
    max_concurrency: Annotated[
        int, typer.Option(min=1, max=10, metavar="N", help="Maximum number of its runs at once.")
    ] = 1,
    catch_up: Annotated[bool, typer.Option("--catch-up", help="Catch up on missed starts.")] = False,
    disabled: Annotated[bool, typer.Option("--disabled", help="Create it disabled.")] = False,
    output: opt.Output = "table",
) -> None:
    """Create a recurring run of a pipeline, or of a file that is uploaded first."""
    if bool(cron) == bool(every):
        raise typer.BadParameter("give either --cron or --every")
    times = parse_optional_time(start), parse_optional_time(end)
    schedule = CronSchedule(cron, *times) if cron else IntervalSchedule(duration(every), *times)
    parameters = run_options.parse_parameters()
    with options.client() as client:
        in_experiment = experiment_reference(client, run_options.experiment)
        version = run_options.version_of(client, pipeline, options.timeout)
        created = client.recurring_runs.create(
            schedule=schedule,
            pipeline_id=version.pipeline_id,
            pipeline_version_id=version.pipeline_version_id,
            experiment_name=in_experiment.name,
            experiment_id=in_experiment.experiment_id,
            parameters=parameters(version),
            display_name=run_options.display_name,
            description=run_options.description,
            max_concurrency=max_concurrency,
            catch_up=catch_up,
            enabled=not disabled,
            service_account=run_options.service_account,
        )
        _print(client, created, output)


def enable(options: ClientOptions, recurring_run: opt.RecurringId, *, output: opt.Output = "table") -> None:
    """Enable a recurring run."""
    with options.client() as client:
        enabled = client.recurring_runs.enable(recurring_run_id(client, recurring_run))
    done = f"enabled the recurring run '{enabled.display_name}'"
    out.print_change(enabled, output, name=enabled.recurring_run_id, text=done)


def disable(options: ClientOptions, recurring_run: opt.RecurringId, *, output: opt.Output = "table") -> None:
    """Disable a recurring run; runs that it started continue."""
    with options.client() as client:
        disabled = client.recurring_runs.disable(recurring_run_id(client, recurring_run))
    done = f"disabled the recurring run '{disabled.display_name}'"
    out.print_change(disabled, output, name=disabled.recurring_run_id, text=done)


def delete(
    options: ClientOptions,
    recurring_run: opt.RecurringId,
    *,
    allow_missing: opt.AllowMissing = False,
    yes: opt.Yes = False,
    output: opt.Output = "table",
) -> None:
    """Delete a recurring run; runs that it started are kept."""
    with options.client() as client:
        found_id = recurring_run_id(client, recurring_run, allow_missing=allow_missing)
        if not yes and out.is_interactive():
            out.confirm(f"Delete the recurring run {recurring_run}? Runs that it has started stay.")
        deleted = found_id if found_id and client.recurring_runs.delete(found_id, allow_missing=allow_missing) else ""
    out.print_deletion(
        {"recurring_run_id": deleted},
        output,
        name=deleted,
        text=f"deleted the recurring run {recurring_run}",
        missing=f"not found: recurring run {recurring_run}",
    )


recurring = group(
    "List, show, create, enable, disable and delete recurring runs.", list_, show, create, enable, disable, delete
)


def _print(client: "Client", recurring_run: RecurringRun, style: opt.Format) -> None:
    name = recurring_run.recurring_run_id
    out.print_record(recurring_run, style, name=name, table=lambda: out.print_fields(_fields(client, recurring_run)))


def _fields(client: "Client", recurring_run: RecurringRun) -> list[tuple[str, str]]:
    from kfadapter_grpc.cli.run_view import shown_value

    def version_name(version_id: str) -> str:
        return client.pipelines.get_version(pipeline_id=recurring_run.pipeline_id, pipeline_version_id=version_id).name

    starts, last = recurring_run.schedule, _last_run(client, recurring_run)
    return [
        ("Name", recurring_run.display_name),
        ("Id", recurring_run.recurring_run_id),
        ("State", _state(recurring_run)),
        ("Schedule", format_schedule(starts)),
        ("From", shown_time(starts.start_at) if starts else ""),
        ("Until", shown_time(starts.end_at) if starts else ""),
        ("Last", f"{shown_time(last.scheduled_at)}  {last.state.name}  {last.display_name}" if last else ""),
        ("Next (computed)", shown_time(recurring_run.next_start(last.scheduled_at if last else None))),
        ("At once", str(recurring_run.max_concurrency)),
        ("Catches up", "yes" if recurring_run.catch_up else "no"),
        (
            "Pipeline",
            _named(recurring_run.pipeline_id, lambda id_: client.pipelines.get(pipeline_id=id_, view=View.BASIC).name),
        ),
        ("Version", _named(recurring_run.pipeline_version_id, version_name) or "the latest at each start"),
        ("Experiment", _named(recurring_run.experiment_id, lambda id_: client.experiments.get(experiment_id=id_).name)),
        ("Parameters", "\n".join(f"{name} = {shown_value(value)}" for name, value in recurring_run.parameters.items())),
        ("Description", recurring_run.description),
        ("Created", shown_time(recurring_run.created_at)),
        ("Error", recurring_run.error),
    ]


def _named(resource_id: str, name_of: Callable[[str], str]) -> str:
    """The name with the id; the id alone if the resource was deleted or cannot be read."""
    try:
        return f"{name_of(resource_id)} ({resource_id})" if resource_id else ""
    except AdapterError:
        return resource_id


def _last_run(client: "Client", recurring_run: RecurringRun) -> Run | None:
    """The newest of its runs; None if it has none, or if they cannot be listed."""
    try:
        return next(iter(client.runs.list(recurring_run_id=recurring_run.recurring_run_id, page_size=1)), None)
    except AdapterError:
        return None


def _last_runs(client: "Client", recurring: Sequence[RecurringRun]) -> dict[str, Run | None]:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        runs = pool.map(lambda item: _last_run(client, item), recurring)
        return dict(zip((item.recurring_run_id for item in recurring), runs, strict=True))


def _table(last_runs: Mapping[str, Run | None]) -> Table[RecurringRun]:
    """Defines the list of recurring runs; `last_runs` has their last runs by id."""

    def last_start(recurring_run: RecurringRun) -> datetime | None:
        last = last_runs.get(recurring_run.recurring_run_id)
        return last.scheduled_at if last else None

    return Table(
        "recurring runs",
        lambda item: item.recurring_run_id,
        (
            Column("NAME", "display_name"),
            Column("ID", "recurring_run_id", is_id=True),
            Column("STATE", "state", _state),
            Column("SCHEDULE", "schedule", lambda item: format_schedule(item.schedule), cut=True),
            Column("LAST", "last_start_at", last_start),
            Column("NEXT (COMPUTED)", "next_start_at", lambda item: item.next_start(last_start(item))),
            Column("CREATED", "created_at", wide=True),
            Column("PIPELINE", "pipeline_id", wide=True),
            Column("EXPERIMENT", "experiment_id", wide=True),
            Column("DESCRIPTION", "description", wide=True, if_any=True),
        ),
        (
            out.Shrink("SCHEDULE", 12),
            out.Shrink("LAST", 0),
            out.Shrink("SCHEDULE", 0),
            out.Shrink("NAME", out.SHORT_NAME),
        ),
        ListRecurringRunsRequest.ORDERS,
    )


def format_schedule(starts: Schedule | None) -> str:
    if starts is None:
        return ""
    return starts.cron if isinstance(starts, CronSchedule) else f"every {shown_duration(starts.interval)}"


def _state(recurring_run: RecurringRun) -> str:
    if recurring_run.ended:
        return "ended"
    return "enabled" if recurring_run.enabled else "disabled"
