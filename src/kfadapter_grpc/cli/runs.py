"""`kfadapter runs`, `watch`, `logs`, `terminate` and `retry`: existing runs.

One run is printed as it is after a change; how several are changed is in `bulk`.
"""
# ruff: noqa: PLC0415  the help needs neither the client nor the views

import itertools
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from kfadapter_grpc.cli import options as opt
from kfadapter_grpc.cli import output as out
from kfadapter_grpc.cli.bulk import (
    BulkSelection,
    ListSelection,
    RunFilter,
    RunNames,
    change_all,
    select_runs,
    single_run,
)
from kfadapter_grpc.cli.command import group
from kfadapter_grpc.cli.completion import run_names
from kfadapter_grpc.cli.errors import CommandError
from kfadapter_grpc.cli.invocation import again
from kfadapter_grpc.cli.listings import ListOptions
from kfadapter_grpc.cli.options import ClientOptions
from kfadapter_grpc.cli.references import run_id
from kfadapter_grpc.cli.values import Period, duration
from kfadapter_grpc.contract.listing import View
from kfadapter_grpc.folding import shown_state
from kfadapter_grpc.printable import counted

if TYPE_CHECKING:
    from kfadapter_grpc.client import Client

_PAGE = "http://127.0.0.1:8080"


def list_(
    options: ClientOptions, selection: ListSelection, *, created_before: opt.CreatedBefore = "", listed: ListOptions
) -> None:
    """List runs, newest first."""
    from kfadapter_grpc.cli.run_view import RUNS

    limit, created = selection.limit, Period("", created_before)
    order = listed.order_by(RUNS, selection.order_by)
    with options.client() as client:
        filters = selection.where(client, archived=selection.archived)
        size = created.page_size(limit + 1 if limit else 0)
        matching = created.select(client.runs.list(**filters, order_by=order, page_size=size))
        runs = list(itertools.islice(matching, limit + 1 if limit else None))
    listed.print(runs, RUNS, limit=limit)
    if limit and len(runs) > limit:
        out.note(f"there are more than these {limit}; --limit 0 shows all")


def metrics(
    options: ClientOptions,
    selection: ListSelection,
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
            order_by=listed.order_by(RUNS, selection.order_by),
            limit=selection.limit,
            on_warning=missing.append,
            **selection.where(client, archived=selection.archived),
        )
    listed.print(rows, metrics_table(rows))
    for text in missing:
        out.note(text)
    if selection.limit and len(rows) == selection.limit:
        out.note(f"these are {selection.limit} runs at most; --limit 0 shows all")


def compare(
    options: ClientOptions,
    run: Annotated[list[str], opt.argument("The runs, 2 to 10.", run_names, "RUN")],
    *,
    every: Annotated[bool, typer.Option("--all", help="Show equal values, too; json and csv always do.")] = False,
    output: Annotated[opt.TableFormat, typer.Option("--output", "-o", help="Output format.")] = "table",
) -> None:
    """Compare runs: state, pipeline, duration, parameters and metrics."""
    from kfadapter_grpc.cli.comparison_view import print_compared
    from kfadapter_grpc.comparison import MAX_RUNS, read_runs

    if not 1 < len(run) <= MAX_RUNS:
        raise typer.BadParameter(f"compare 2 to {MAX_RUNS} runs, not {len(run)}")
    with options.client() as client:
        compared = read_runs(client, [run_id(client, reference) for reference in run])
    print_compared(compared, output, every=every)


def open_(
    options: ClientOptions,
    run: Annotated[str, opt.argument(f"Run: {opt.RUN_REFERENCES}; else the list.", run_names, "RUN")] = "",
    *,
    page: Annotated[
        str,
        typer.Option(
            metavar="URL",
            envvar="KFADAPTER_PAGE",
            help=f"Address of the page; defaults to that of kfadapter dev, or {_PAGE}.",
        ),
    ] = "",
    only_print: Annotated[bool, typer.Option("--print", help="Only print the address.")] = False,
) -> None:
    """Open the page of a run, or of all runs, in a browser."""
    import webbrowser
    from urllib.parse import quote

    with options.client() as client:
        page = page or _page_url(client.target)
        if not page.startswith(("http://", "https://")):
            raise typer.BadParameter(f"'{page}' is no address of the page; write {_PAGE}")
        address = f"{page.rstrip('/')}/runs"
        if run:
            address += f"/{quote(run_id(client, run), safe='')}"
    out.print_line(address)
    if not only_print and not webbrowser.open(address):
        out.note("found no browser; open the address in one")


def _page_url(adapter: str) -> str:
    """Returns where `kfadapter dev` serves the page in front of an adapter, if it does; otherwise the usual address."""
    import socket

    from kfadapter_grpc.folders import page_note

    with suppress(OSError, ValueError, RuntimeError):
        page = page_note(adapter).read_text("utf-8")
        host, _, port = page.removeprefix("http://").rpartition(":")
        with socket.create_connection((host, int(port)), 0.5):
            return page
    return _PAGE


def show(options: ClientOptions, run: opt.RunName, *, output: opt.Output = "table") -> None:
    """Show a run: state, tasks, outputs, why it failed."""
    from kfadapter_grpc.cli.run_view import print_run

    with options.client() as client:
        record = client.runs.get(run_id(client, run))
    out.print_record(record, output, name=record.run_id, table=lambda: print_run(record))


def watch(
    options: ClientOptions,
    run: Annotated[list[str], opt.argument(f"Each run: {opt.RUN_REFERENCES}.", run_names, "RUN")],
    watch_options: opt.WatchOptions,
    *,
    output: Annotated[
        opt.Format, typer.Option("--output", "-o", help="Output format; json and yaml print finished runs.")
    ] = "table",
) -> None:
    """Watch runs until they have finished; the exit code is their outcome."""
    from kfadapter_grpc.cli.watch import follow

    watch_options.check(watch=True)
    with options.client() as client:
        follow(client, [run_id(client, reference) for reference in run], output, options, watch_options)


def logs(
    options: ClientOptions,
    run: opt.RunName,
    task: Annotated[str, typer.Argument(metavar="[TASK]", help="Name of a task; defaults to all tasks.")] = "",
    *,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Continue until the task, or the run, has ended.")
    ] = False,
    failed: Annotated[bool, typer.Option("--failed", help="Only tasks that failed.")] = False,
    attempt: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Attempt of a retried task; else the last.")
    ] = None,
    iteration: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="Iteration of a loop, counted from 0.")
    ] = None,
) -> None:
    """Print the logs of a run's tasks."""
    from kfadapter_grpc.cli.logs import print_log, print_logs

    if not task and (attempt or iteration is not None):
        raise typer.BadParameter("--attempt and --iteration need a TASK")
    with options.client() as client:
        found_id = run_id(client, run)
        if task:
            print_log(client, found_id, task, follow=follow, attempt=attempt, iteration=iteration)
        else:
            print_logs(client, found_id, follow=follow, failed=failed)


_IN_PROGRESS = (opt.StateChoice.PENDING, opt.StateChoice.RUNNING, opt.StateChoice.PAUSED)
_FINISHED = (opt.StateChoice.SUCCEEDED, opt.StateChoice.FAILED, opt.StateChoice.CANCELED, opt.StateChoice.SKIPPED)


def terminate(
    options: ClientOptions,
    run: RunNames = None,
    *,
    selection: BulkSelection,
    wait: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, max=3600, help="How long to wait until it has stopped.")
    ] = 0,
    output: opt.Output = "table",
) -> None:
    """Terminate runs; no-op for those that have finished.

    Filters select runs in progress, unless --state is set.
    """
    with options.client() as client:
        if single_id := single_run(run, selection):
            terminated = client.runs.terminate(run_id(client, single_id), wait=wait)
            outcome = "has finished" if terminated.state.is_over else "is stopping"
            text = f"run {terminated.run_id} {outcome}: {shown_state(terminated.state)}"
            out.print_change(terminated, output, name=terminated.run_id, text=text)
        else:
            chosen = select_runs(client, run, selection, states=_IN_PROGRESS)
            change_all(
                "terminate", chosen, lambda id_: client.runs.terminate(id_, wait=wait), output, yes=selection.yes
            )


def retry(
    options: ClientOptions,
    run: RunNames = None,
    *,
    selection: BulkSelection,
    watch_options: opt.WatchOptions,
    watch: opt.Watch = False,
    output: opt.Output = "table",
) -> None:
    """Retry failed runs from the tasks that failed.

    Filters choose failed runs.
    """
    from kfadapter_grpc.cli.run import print_started
    from kfadapter_grpc.cli.watch import follow

    watch_options.check(watch=watch)
    with options.client() as client:
        if single_id := single_run(run, selection):
            retried = client.runs.retry(run_id(client, single_id))
            if watch:
                follow(client, [retried.run_id], output, options, watch_options)
            else:
                print_started(client, retried, output, options)
        elif watch:
            raise typer.BadParameter("--watch is for one run; kfadapter watch RUN RUN ... watches several")
        else:
            chosen = select_runs(client, run, selection, states=(opt.StateChoice.FAILED,))
            change_all("retry", chosen, client.runs.retry, output, yes=selection.yes)


def archive(
    options: ClientOptions, run: RunNames = None, *, selection: BulkSelection, output: opt.Output = "table"
) -> None:
    """Archive runs: they are kept but omitted from lists."""
    _store(options, "archive", run, selection, output)


def unarchive(
    options: ClientOptions, run: RunNames = None, *, selection: BulkSelection, output: opt.Output = "table"
) -> None:
    """Unarchive runs.

    Filters choose archived runs.
    """
    _store(options, "unarchive", run, selection, output)


def _store(
    options: ClientOptions, verb: str, run: list[str] | None, selection: BulkSelection, style: opt.Format
) -> None:
    archived = verb == "unarchive"
    with options.client() as client:
        change = client.runs.unarchive if archived else client.runs.archive
        if single_id := single_run(run, selection):
            changed = change(run_id(client, single_id, archived=archived))
            out.print_change(changed, style, name=changed.run_id, text=f"{verb}d run {changed.run_id}")
        else:
            change_all(verb, select_runs(client, run, selection, archived=archived), change, style, yes=selection.yes)


def delete(
    options: ClientOptions,
    run: RunNames = None,
    *,
    selection: BulkSelection,
    archived: opt.Archived = False,
    allow_missing: opt.AllowMissing = False,
    output: opt.Output = "table",
) -> None:
    """Delete runs. Terminate those in progress first: they would continue in the cluster."""
    with options.client() as client:
        if single_id := single_run(run, selection):
            _delete_run(client, single_id, output, allow_missing=allow_missing, yes=selection.yes)
            return
        chosen = select_runs(client, run, selection, archived=archived, allow_missing=allow_missing)
        may_miss = allow_missing or not run  # one that a filter has found may have been deleted since
        change_all(
            "delete", chosen, lambda id_: client.runs.delete(id_, allow_missing=may_miss), output, yes=selection.yes
        )


def _delete_run(client: "Client", run: str, style: opt.Format, *, allow_missing: bool, yes: bool) -> None:
    found_id = run_id(client, run, allow_missing=allow_missing)
    if not yes and out.is_interactive():
        question = f"Delete the run {found_id or run}?"
        if not allow_missing:
            record = client.runs.get(found_id, view=View.BASIC)
            going = "" if record.state.is_over else ", which has not finished and would continue in the cluster"
            question = f"Delete the run '{record.display_name}'{going}?"
        out.confirm(question)
    deleted = found_id if found_id and client.runs.delete(found_id, allow_missing=allow_missing) else ""
    out.print_deletion(
        {"run_id": deleted}, style, name=deleted, text=f"deleted run {found_id}", missing=f"not found: run {run}"
    )


def prune(
    options: ClientOptions,
    *,
    selection: RunFilter,
    archived: opt.Archived = False,
    older_than: Annotated[
        str, typer.Option(metavar="DURATION", help="Only runs that finished longer ago: 30d, 12h.")
    ] = "",
    keep: Annotated[int | None, typer.Option(metavar="N", min=0, help="Keep the newest N of them.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would be deleted; delete nothing.")] = False,
    yes: opt.Yes = False,
    output: opt.Output = "table",
) -> None:
    """Delete old runs that have finished; never one in progress."""
    from kfadapter_grpc.cli.run_view import RUNS

    if not older_than and keep is None:
        raise typer.BadParameter("give --older-than or --keep, or both")
    if wrong := {*(selection.state or ())} - {*_FINISHED}:
        raise typer.BadParameter(f"--state {min(wrong).value}: only runs that have finished are pruned")
    before = datetime.now(timezone.utc) - (duration(older_than) if older_than else timedelta())
    with options.client() as client:
        finished = select_runs(client, None, selection, states=_FINISHED, archived=archived)
        old = {
            found_id: run
            for found_id, run in islice(finished.items(), keep or 0, None)
            if run and (run.finished_at or run.created_at or before) < before
        }
        summary = f"{len(old)} of {counted(len(finished), 'finished run')}"
        if dry_run:
            runs = [run for run in old.values() if run]
            ListOptions(output).print(runs, RUNS)
            out.note(f"would delete {summary}; nothing was deleted")
            return

        def delete_finished(one: str) -> None:
            if not client.runs.get(one, view=View.BASIC).state.is_over:
                raise CommandError("it is in progress", why="IN_PROGRESS", next_step=again(text="leaves it out"))
            client.runs.delete(one, allow_missing=True)

        change_all("delete", old, delete_finished, output, yes=yes, summary=summary)


runs = group(
    "List, show, compare, archive, delete and prune runs; show their metrics.",
    list_,
    show,
    open_,
    metrics,
    compare,
    archive,
    unarchive,
    delete,
    prune,
)
