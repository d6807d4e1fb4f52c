"""What the commands about recurring runs do."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from kfadapter_grpc.cli import output
from kfadapter_grpc.cli.choices import Format
from kfadapter_grpc.cli.column_widths import Step
from kfadapter_grpc.cli.commands.run import experiment_of, find_version
from kfadapter_grpc.cli.confirmation import ask, can_answer
from kfadapter_grpc.cli.durations import duration, shown_duration
from kfadapter_grpc.cli.filters import optional_moment, page_size
from kfadapter_grpc.cli.parameter_values import parse_parameters
from kfadapter_grpc.cli.pipeline_view import SHORT_NAME, shown_time
from kfadapter_grpc.cli.records import record
from kfadapter_grpc.cli.run_view import shown_value
from kfadapter_grpc.contract.errors import AdapterError
from kfadapter_grpc.contract.listing import View
from kfadapter_grpc.contract.parameters import typed_values
from kfadapter_grpc.contract.recurring_runs import CronSchedule, IntervalSchedule

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kfadapter_grpc.cli.commands.run import Chosen
    from kfadapter_grpc.cli.options import ClientOptions
    from kfadapter_grpc.client import Client
    from kfadapter_grpc.contract.recurring_runs import RecurringRun, Schedule


@dataclass(frozen=True, slots=True)
class Wanted:
    """How runs are to recur, as it was typed.

    Attributes:
        schedule: When runs are started.
        parameters: The values, `name=value` each.
        experiment: The experiment's name or id; empty means the default one.
        display_name: What people see.
        description: What it is for.
        max_concurrency: How many of its runs there may be at once.
        catch_up: Whether missed starts are made up for.
        enabled: Whether it starts runs from the beginning.
        service_account: The service account of the tasks.
    """

    schedule: Schedule
    parameters: Sequence[str] = ()
    experiment: str = ""
    display_name: str = ""
    description: str = ""
    max_concurrency: int = 1
    catch_up: bool = False
    enabled: bool = True
    service_account: str = ""


def schedule(cron: str, every: str, start: str, end: str) -> Schedule:
    """Reads a schedule: a calendar, or a length of time.

    Raises:
        BadParameter: Neither is given, or both.
    """
    if bool(cron) == bool(every):
        message = "give either --cron or --every"
        raise typer.BadParameter(message)
    start_at, end_at = optional_moment(start), optional_moment(end)
    if cron:
        return CronSchedule(cron, start_at, end_at)
    return IntervalSchedule(duration(every), start_at, end_at)


def create(options: ClientOptions, chosen: Chosen, wanted: Wanted, style: Format) -> None:
    """Makes a recurring run of a pipeline, or of a file, which is uploaded first."""
    texts = parse_parameters(wanted.parameters)
    experiment = experiment_of(wanted.experiment)
    with options.client() as client:
        version = find_version(options, client, chosen)
        made = client.recurring_runs.create(
            schedule=wanted.schedule,
            pipeline_id=version.pipeline_id,
            pipeline_version_id=version.pipeline_version_id,
            experiment_name=experiment.name,
            experiment_id=experiment.experiment_id,
            parameters=typed_values(texts, version.spec.parameters if version.spec else ()),
            display_name=wanted.display_name,
            description=wanted.description,
            max_concurrency=wanted.max_concurrency,
            catch_up=wanted.catch_up,
            enabled=wanted.enabled,
            service_account=wanted.service_account,
        )
        _print(client, made, style)


def list_recurring(options: ClientOptions, style: Format, *, experiment: str, order_by: str, limit: int) -> None:
    """Lists recurring runs."""
    ref = experiment_of(experiment)
    with options.client() as client:
        found = client.recurring_runs.list(
            experiment_name=ref.name,
            experiment_id=ref.experiment_id,
            order_by=order_by,
            page_size=page_size(limit),
        )
        recurring = list(itertools.islice(found, limit or None))
    if style is Format.NAME:
        output.print_names(one.recurring_run_id for one in recurring)
    elif style is not Format.TABLE:
        output.print_document([record(one) for one in recurring], style)
    elif recurring:
        _print_table(recurring)
    else:
        output.note("no recurring runs")


def show(options: ClientOptions, which: str, style: Format) -> None:
    """Shows one recurring run."""
    with options.client() as client:
        _print(client, client.recurring_runs.get(which), style)


def switch(options: ClientOptions, which: str, style: Format, *, on: bool) -> None:
    """Switches a recurring run on or off."""
    with options.client() as client:
        found = client.recurring_runs.enable(which) if on else client.recurring_runs.disable(which)
        _print(client, found, style, f"switched the recurring run '{found.display_name}' {'on' if on else 'off'}")


def delete(options: ClientOptions, which: str, style: Format, *, allow_missing: bool, yes: bool) -> None:
    """Deletes a recurring run, after asking where somebody can answer."""
    if not yes and can_answer():
        ask(f"Delete the recurring run {which}? Runs that it has started stay.")
    with options.client() as client:
        deleted = client.recurring_runs.delete(which, allow_missing=allow_missing)
    if style in (Format.JSON, Format.YAML):
        output.print_document({"recurring_run_id": which if deleted else ""}, style)
    elif not deleted:
        output.note(f"there was no recurring run {which}")
    elif style is Format.NAME:
        output.print_names([which])
    else:
        output.print_line(f"deleted the recurring run {which}")


def _print(client: Client, found: RecurringRun, style: Format, said: str = "") -> None:
    if style is Format.NAME:
        output.print_names([found.recurring_run_id])
    elif style is not Format.TABLE:
        output.print_document(record(found), style)
    elif said:
        output.print_line(said)
    else:
        output.print_fields(_fields(client, found))


def _fields(client: Client, found: RecurringRun) -> list[tuple[str, str]]:
    def version_name(which: str) -> str:
        return client.pipelines.get_version(pipeline_id=found.pipeline_id, pipeline_version_id=which).name

    starts = found.schedule
    return [
        ("Name", found.display_name),
        ("Id", found.recurring_run_id),
        ("State", _state(found)),
        ("Schedule", shown_schedule(starts)),
        ("From", shown_time(starts.start_at) if starts else ""),
        ("Until", shown_time(starts.end_at) if starts else ""),
        ("Next (computed)", shown_time(found.computed_next_start_at)),
        ("At once", str(found.max_concurrency)),
        ("Catches up", _yes_no(found.catch_up)),
        (
            "Pipeline",
            _named(found.pipeline_id, lambda which: client.pipelines.get(pipeline_id=which, view=View.BASIC).name),
        ),
        ("Version", _named(found.pipeline_version_id, version_name) or "the latest at each start"),
        ("Experiment", _named(found.experiment_id, lambda which: client.experiments.get(experiment_id=which).name)),
        ("Parameters", "\n".join(f"{name} = {shown_value(value)}" for name, value in found.parameters.items())),
        ("Description", found.description),
        ("Created", shown_time(found.created_at)),
        ("Error", found.error),
    ]


def _named(which: str, name_of: Callable[[str], str]) -> str:
    """A name beside the id; the id alone where what it stands for is gone or cannot be looked up."""
    try:
        return f"{name_of(which)} ({which})" if which else ""
    except AdapterError:
        return which


def _print_table(recurring: Sequence[RecurringRun]) -> None:
    head = ("NAME", "ID", "STATE", "SCHEDULE", "NEXT (COMPUTED)")
    rows = [
        (
            one.display_name,
            one.recurring_run_id,
            _state(one),
            shown_schedule(one.schedule),
            shown_time(one.computed_next_start_at),
        )
        for one in recurring
    ]
    steps = (Step("SCHEDULE", 12), Step("SCHEDULE", 0), Step("NAME", SHORT_NAME))
    output.print_table(head, rows, steps=steps, cut=("SCHEDULE",))


def shown_schedule(starts: Schedule | None) -> str:
    """Tells when runs are started."""
    if starts is None:
        return ""
    return starts.cron if isinstance(starts, CronSchedule) else f"every {shown_duration(starts.interval)}"


def _state(found: RecurringRun) -> str:
    if found.ended:
        return "ended"
    return "enabled" if found.enabled else "disabled"


def _yes_no(value: bool) -> str:
    return "yes" if value else "no"
