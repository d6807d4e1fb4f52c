"""`kfadapter runs`, `watch` and `logs`: existing runs."""
# ruff: noqa: PLC0415  imports are deferred to keep the help fast

import itertools
from contextlib import suppress
from typing import Annotated

import typer

from kfadapter_grpc.cli import output as out
from kfadapter_grpc.cli.command import group
from kfadapter_grpc.cli.completion import run_names
from kfadapter_grpc.cli.listings import ListOptions
from kfadapter_grpc.cli.option_types import (
    RUN_REFERENCES,
    CreatedBefore,
    Format,
    Output,
    RunName,
    TableFormat,
    Watching,
)
from kfadapter_grpc.cli.options import ClientOptions
from kfadapter_grpc.cli.references import run_id
from kfadapter_grpc.cli.run_changes import archive, delete, prune, unarchive
from kfadapter_grpc.cli.run_filter import Selection
from kfadapter_grpc.cli.values import Period

_PAGE = "http://127.0.0.1:8080"
"""Where the page is unless told otherwise."""


def list_(options: ClientOptions, which: Selection, *, created_before: CreatedBefore = "", listed: ListOptions) -> None:
    """List runs, newest first."""
    from kfadapter_grpc.cli.run_view import RUNS

    limit, created = which.limit, Period("", created_before)
    order = listed.order_by(RUNS, which.order_by)
    with options.client() as client:
        where = which.where(client, archived=which.archived)
        size = created.page_size(limit + 1 if limit else 0)
        matching = created.select(client.runs.list(**where, order_by=order, page_size=size))
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
            **which.where(client, archived=which.archived),
        )
    listed.print(rows, metrics_table(rows))
    for text in missing:
        out.note(text)
    if which.limit and len(rows) == which.limit:
        out.note(f"these are {which.limit} runs at most; --limit 0 shows all")


def compare(
    options: ClientOptions,
    run: Annotated[list[str], typer.Argument(metavar="RUN", help="The runs, 2 to 10.", autocompletion=run_names)],
    *,
    every: Annotated[bool, typer.Option("--all", help="Show equal values, too; json and csv always do.")] = False,
    output: Annotated[TableFormat, typer.Option("--output", "-o", help="Output format.")] = "table",
) -> None:
    """Compare runs: state, pipeline, duration, parameters and metrics."""
    from kfadapter_grpc.cli.comparison_view import print_compared
    from kfadapter_grpc.comparison import MAX_RUNS, read_runs

    if not 1 < len(run) <= MAX_RUNS:
        raise typer.BadParameter(f"compare 2 to {MAX_RUNS} runs, not {len(run)}")
    with options.client() as client:
        found = read_runs(client, [run_id(client, one) for one in run])
    print_compared(found, output, every=every)


def open_(
    options: ClientOptions,
    run: Annotated[
        str, typer.Argument(metavar="RUN", help=f"Run: {RUN_REFERENCES}; else the list.", autocompletion=run_names)
    ] = "",
    *,
    page: Annotated[
        str,
        typer.Option(
            "--page",
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
        page = page or _page_of(client.target)
        if not page.startswith(("http://", "https://")):
            raise typer.BadParameter(f"'{page}' is no address of the page; write {_PAGE}")
        address = f"{page.rstrip('/')}/runs"
        if run:
            address += f"/{quote(run_id(client, run), safe='')}"
    out.print_line(address)
    if not only_print and not webbrowser.open(address):
        out.note("found no browser; open the address in one")


def _page_of(adapter: str) -> str:
    """Returns where `kfadapter dev` serves the page in front of an adapter, if it does; otherwise the usual address."""
    import socket

    from kfadapter_grpc.folders import page_note

    with suppress(OSError, ValueError, RuntimeError):
        page = page_note(adapter).read_text("utf-8")
        host, _, port = page.removeprefix("http://").rpartition(":")
        with socket.create_connection((host, int(port)), 0.5):
            return page
    return _PAGE


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
        typer.Argument(metavar="RUN", help=f"Each run: {RUN_REFERENCES}.", autocompletion=run_names),
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
