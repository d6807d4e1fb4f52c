"""`kfadapter terminate`, `retry`, and `runs archive`, `unarchive`, `delete` and `prune`: changes to one run or several.

One run is printed as it is after the change; how several are changed is in `bulk`.
"""
# ruff: noqa: PLC0415  imports are deferred to keep the help fast

from datetime import datetime, timedelta, timezone
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from kfadapter_grpc.cli import output as out
from kfadapter_grpc.cli.bulk import Chosen, RunNames, change_all, chosen_runs, counted, only_one
from kfadapter_grpc.cli.errors import CommandError
from kfadapter_grpc.cli.invocation import again
from kfadapter_grpc.cli.listings import ListOptions
from kfadapter_grpc.cli.option_types import AllowMissing, Archived, Format, Output, StateChoice, Watch, Watching, Yes
from kfadapter_grpc.cli.options import ClientOptions
from kfadapter_grpc.cli.references import run_id
from kfadapter_grpc.cli.run_filter import RunFilter
from kfadapter_grpc.cli.values import duration

if TYPE_CHECKING:
    from kfadapter_grpc.client import Client

_IN_PROGRESS = (StateChoice.PENDING, StateChoice.RUNNING, StateChoice.PAUSED)
_FINISHED = (StateChoice.SUCCEEDED, StateChoice.FAILED, StateChoice.CANCELED, StateChoice.SKIPPED)


def terminate(
    options: ClientOptions,
    run: RunNames = None,
    *,
    which: Chosen,
    wait: Annotated[
        float, typer.Option("--wait", metavar="SECONDS", min=0, max=3600, help="How long to wait until it has stopped.")
    ] = 0,
    output: Output = "table",
) -> None:
    """Terminate runs; no-op for those that have finished.

    Filters choose runs in progress, unless --state says otherwise.
    """
    from kfadapter_grpc.folding import shown_state

    with options.client() as client:
        if one := only_one(run, which):
            found = client.runs.terminate(run_id(client, one), wait=wait)
            done = "has finished" if found.state.is_over else "is stopping"
            text = f"run {found.run_id} {done}: {shown_state(found.state)}"
            out.print_change(found, output, name=found.run_id, done=text)
        else:
            chosen = chosen_runs(client, run, which, states=_IN_PROGRESS)
            change_all("terminate", chosen, lambda one: client.runs.terminate(one, wait=wait), output, yes=which.yes)


def retry(
    options: ClientOptions,
    run: RunNames = None,
    *,
    which: Chosen,
    how: Watching,
    watch: Watch = False,
    output: Output = "table",
) -> None:
    """Retry failed runs from the tasks that failed.

    Filters choose failed runs.
    """
    from kfadapter_grpc.cli.run import print_started
    from kfadapter_grpc.cli.watch import follow

    how.check(watch=watch)
    with options.client() as client:
        if one := only_one(run, which):
            found = client.runs.retry(run_id(client, one))
            if watch:
                follow(client, [found.run_id], output, options, how)
            else:
                print_started(client, found, output, options)
        elif watch:
            raise typer.BadParameter("--watch is for one run; kfadapter watch RUN RUN ... watches several")
        else:
            chosen = chosen_runs(client, run, which, states=(StateChoice.FAILED,))
            change_all("retry", chosen, client.runs.retry, output, yes=which.yes)


def archive(
    options: ClientOptions,
    run: RunNames = None,
    *,
    which: Chosen,
    output: Output = "table",
) -> None:
    """Archive runs: they are kept but omitted from lists."""
    with options.client() as client:
        if one := only_one(run, which):
            found = client.runs.archive(run_id(client, one))
            out.print_change(found, output, name=found.run_id, done=f"archived run {found.run_id}")
        else:
            change_all("archive", chosen_runs(client, run, which), client.runs.archive, output, yes=which.yes)


def unarchive(
    options: ClientOptions,
    run: RunNames = None,
    *,
    which: Chosen,
    output: Output = "table",
) -> None:
    """Unarchive runs.

    Filters choose archived runs.
    """
    with options.client() as client:
        if one := only_one(run, which):
            found = client.runs.unarchive(run_id(client, one, archived=True))
            out.print_change(found, output, name=found.run_id, done=f"unarchived run {found.run_id}")
        else:
            change_all(
                "unarchive",
                chosen_runs(client, run, which, archived=True),
                client.runs.unarchive,
                output,
                yes=which.yes,
            )


def delete(
    options: ClientOptions,
    run: RunNames = None,
    *,
    which: Chosen,
    archived: Archived = False,
    allow_missing: AllowMissing = False,
    output: Output = "table",
) -> None:
    """Delete runs. Terminate those in progress first: they would continue in the cluster."""
    with options.client() as client:
        if one := only_one(run, which):
            _delete_one(client, one, output, allow_missing=allow_missing, yes=which.yes)
            return
        chosen = chosen_runs(client, run, which, archived=archived, allow_missing=allow_missing)
        may_miss = allow_missing or not run  # one that a filter has found may have been deleted since
        change_all("delete", chosen, lambda one: client.runs.delete(one, allow_missing=may_miss), output, yes=which.yes)


def _delete_one(client: "Client", run: str, style: Format, *, allow_missing: bool, yes: bool) -> None:
    from kfadapter_grpc.contract.listing import View

    which = run_id(client, run, allow_missing=allow_missing)
    if not yes and out.can_answer():
        question = f"Delete the run {which or run}?"
        if not allow_missing:
            found = client.runs.get(which, view=View.BASIC)
            going = "" if found.state.is_over else ", which is not over and would go on unseen"
            question = f"Delete the run '{found.display_name}'{going}?"
        out.ask(question)
    deleted = which if which and client.runs.delete(which, allow_missing=allow_missing) else ""
    out.print_deletion(
        {"run_id": deleted}, style, name=deleted, done=f"deleted run {which}", missing=f"not found: run {run}"
    )


def prune(
    options: ClientOptions,
    *,
    which: RunFilter,
    archived: Archived = False,
    older_than: Annotated[
        str, typer.Option("--older-than", metavar="DURATION", help="Only runs that finished longer ago: 30d, 12h.")
    ] = "",
    keep: Annotated[int | None, typer.Option("--keep", metavar="N", min=0, help="Keep the newest N of them.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would be deleted; delete nothing.")] = False,
    yes: Yes = False,
    output: Output = "table",
) -> None:
    """Delete old runs that have finished; never one in progress."""
    from kfadapter_grpc.cli.run_view import RUNS
    from kfadapter_grpc.contract.listing import View

    if not older_than and keep is None:
        raise typer.BadParameter("give --older-than or --keep, or both")
    if wrong := {*(which.state or ())} - {*_FINISHED}:
        raise typer.BadParameter(f"--state {min(wrong).value}: only runs that have finished are pruned")
    before = datetime.now(timezone.utc) - (duration(older_than) if older_than else timedelta())
    with options.client() as client:
        found = chosen_runs(client, None, which, states=_FINISHED, archived=archived)
        old = {
            one: run
            for one, run in islice(found.items(), keep or 0, None)
            if run and (run.finished_at or run.created_at or before) < before
        }
        of = f"{len(old)} of {counted(len(found))} that have finished"
        if dry_run:
            runs = [run for run in old.values() if run]
            ListOptions(output).print(runs, RUNS)
            out.note(f"would delete {of}; nothing was deleted")
            return

        def delete_finished(one: str) -> None:
            if not client.runs.get(one, view=View.BASIC).state.is_over:
                raise CommandError("it is in progress", why="IN_PROGRESS", next_step=again(words="leaves it out"))
            client.runs.delete(one, allow_missing=True)

        change_all("delete", old, delete_finished, output, yes=yes, of=of)
