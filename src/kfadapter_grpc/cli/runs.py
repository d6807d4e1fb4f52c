"""`kfadapter runs`, `watch`, `logs`, `terminate` and `retry`: existing runs."""
# ruff: noqa: PLC0415  imports are deferred to keep the help fast

import itertools
from typing import TYPE_CHECKING, Annotated

import typer

from kfadapter_grpc.cli import output as out
from kfadapter_grpc.cli.command import group
from kfadapter_grpc.cli.completion import run_ids
from kfadapter_grpc.cli.listings import ListOptions
from kfadapter_grpc.cli.option_types import (
    RUN_REFERENCES,
    AllowMissing,
    CreatedBefore,
    Format,
    Output,
    RunName,
    TableFormat,
    Watch,
    Watching,
    Yes,
)
from kfadapter_grpc.cli.options import ClientOptions
from kfadapter_grpc.cli.references import run_id
from kfadapter_grpc.cli.run_filter import Selection
from kfadapter_grpc.cli.values import Period

if TYPE_CHECKING:
    from kfadapter_grpc.client import Client

MOST_COMPARED = 10
"""How many runs are compared at most."""


def list_(options: ClientOptions, which: Selection, *, created_before: CreatedBefore = "", listed: ListOptions) -> None:
    """List runs, newest first."""
    from kfadapter_grpc.cli.run_view import RUNS

    limit, created = which.limit, Period("", created_before)
    order = listed.order_by(RUNS, which.order_by)
    with options.client() as client:
        size = created.page_size(limit + 1 if limit else 0)
        matching = created.select(client.runs.list(**which.where(client), order_by=order, page_size=size))
        found = list(itertools.islice(matching, limit + 1 if limit else None))
    listed.print(found, RUNS, limit=limit)
    if limit and len(found) > limit:
        out.note(f"there are more than these {limit}; --limit 0 shows all")


def metrics(
    options: ClientOptions,
    which: Selection,
    *,
    parameter: Annotated[
        list[str] | None,
        typer.Option("--parameter", "-p", metavar="NAME", help="A run parameter as a column; may be repeated."),
    ] = None,
    listed: ListOptions,
) -> None:
    """Compare the metrics of runs, one run on a row, newest first."""
    from kfadapter_grpc.cli.run_view import RUNS, metrics_table

    missing: list[str] = []
    with options.client() as client:
        rows = client.runs.metrics(
            parameters=parameter or (),
            order_by=listed.order_by(RUNS, which.order_by),
            limit=which.limit,
            on_warning=missing.append,
            **which.where(client),
        )
    listed.print(rows, metrics_table(rows))
    for text in missing:
        out.note(text)
    if which.limit and len(rows) == which.limit:
        out.note(f"these are {which.limit} runs at most; --limit 0 shows all")


def compare(
    options: ClientOptions,
    run: Annotated[list[str], typer.Argument(metavar="RUN", help="The runs, 2 to 10.", autocompletion=run_ids)],
    *,
    every: Annotated[bool, typer.Option("--all", help="Show equal values, too; json and csv always do.")] = False,
    output: Annotated[TableFormat, typer.Option("--output", "-o", help="Output format.")] = "table",
) -> None:
    """Compare runs: state, pipeline, duration, parameters and metrics."""
    from kfadapter_grpc.cli.comparison_view import print_compared

    if not 1 < len(run) <= MOST_COMPARED:
        raise typer.BadParameter(f"compare 2 to {MOST_COMPARED} runs, not {len(run)}")
    with options.client() as client:
        found = [client.runs.get(run_id(client, one)) for one in run]
    print_compared(found, output, every=every)


def show(options: ClientOptions, run: RunName, *, output: Output = "table") -> None:
    """Show a run: state, tasks, outputs, why it failed."""
    from kfadapter_grpc.cli.run_view import print_run

    with options.client() as client:
        found = client.runs.get(run_id(client, run))
    out.print_record(found, output, name=found.run_id, table=lambda: print_run(found))


def watch(
    options: ClientOptions,
    run: Annotated[
        list[str],
        typer.Argument(metavar="RUN", help=f"Each run: {RUN_REFERENCES}.", autocompletion=run_ids),
    ],
    how: Watching,
    *,
    output: Annotated[
        Format,
        typer.Option("--output", "-o", help="Output format; json and yaml print finished runs."),
    ] = "table",
) -> None:
    """Watch runs until they have finished; the exit code is their outcome."""
    from kfadapter_grpc.cli.watch import follow

    how.check(watch=True)
    with options.client() as client:
        follow(client, [run_id(client, one) for one in run], output, options, how)


def logs(
    options: ClientOptions,
    run: RunName,
    task: Annotated[str, typer.Argument(metavar="[TASK]", help="Name of a task; defaults to all tasks.")] = "",
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
    """Print the logs of a run's tasks."""
    from kfadapter_grpc.cli.logs import print_log, print_logs

    if not task and (attempt or iteration is not None):
        raise typer.BadParameter("--attempt and --iteration need a TASK")
    with options.client() as client:
        which = run_id(client, run)
        if task:
            print_log(client, which, task, follow=follow, attempt=attempt, iteration=iteration)
        else:
            print_logs(client, which, follow=follow, failed=failed)


def terminate(
    options: ClientOptions,
    run: RunName,
    *,
    wait: Annotated[
        float, typer.Option("--wait", metavar="SECONDS", min=0, max=3600, help="How long to wait until it has stopped.")
    ] = 0,
    output: Output = "table",
) -> None:
    """Terminate a run; no-op if it has finished."""
    from kfadapter_grpc.folding import shown_state

    with options.client() as client:
        found = client.runs.terminate(run_id(client, run), wait=wait)
    done = "has finished" if found.state.is_over else "is stopping"
    out.print_change(found, output, name=found.run_id, done=f"run {found.run_id} {done}: {shown_state(found.state)}")


def retry(
    options: ClientOptions, run: RunName, how: Watching, *, watch: Watch = False, output: Output = "table"
) -> None:
    """Retry a failed run from the tasks that failed."""
    from kfadapter_grpc.cli.run import print_started
    from kfadapter_grpc.cli.watch import follow

    how.check(watch=watch)
    with options.client() as client:
        found = client.runs.retry(run_id(client, run))
        if watch:
            follow(client, [found.run_id], output, options, how)
        else:
            print_started(client, found, output, options)


def archive(options: ClientOptions, run: RunName, *, output: Output = "table") -> None:
    """Archive a run: it is kept but omitted from lists."""
    with options.client() as client:
        found = client.runs.archive(run_id(client, run))
    out.print_change(found, output, name=found.run_id, done=f"archived run {found.run_id}")


def unarchive(options: ClientOptions, run: RunName, *, output: Output = "table") -> None:
    """Unarchive a run."""
    with options.client() as client:
        found = client.runs.unarchive(run_id(client, run, archived=True))
    out.print_change(found, output, name=found.run_id, done=f"unarchived run {found.run_id}")


def delete(
    options: ClientOptions,
    run: RunName,
    *,
    allow_missing: AllowMissing = False,
    yes: Yes = False,
    output: Output = "table",
) -> None:
    """Delete a run. Terminate it first if it is in progress: it would continue in the cluster."""
    with options.client() as client:
        which = run_id(client, run, allow_missing=allow_missing)
        if not yes and out.can_answer():
            out.ask(_question(client, which or run, allow_missing=allow_missing))
        deleted = which if which and client.runs.delete(which, allow_missing=allow_missing) else ""
    out.print_deletion(
        {"run_id": deleted}, output, name=deleted, done=f"deleted run {which}", missing=f"not found: run {run}"
    )


runs = group(
    "List, show, compare, archive and delete runs; show their metrics.",
    list_,
    show,
    metrics,
    compare,
    archive,
    unarchive,
    delete,
)


def _question(client: "Client", run: str, *, allow_missing: bool) -> str:
    from kfadapter_grpc.contract.listing import View

    if allow_missing:
        return f"Delete the run {run}?"
    found = client.runs.get(run, view=View.BASIC)
    going = "" if found.state.is_over else ", which is not over and would go on unseen"
    return f"Delete the run '{found.display_name}'{going}?"
