"""Which runs: named, or chosen by the filters of `runs list`; and work on several, one after the other.

A failure does not end the work; what failed is shown at the end, and the exit code is then 8.
"""
# ruff: noqa: PLC0415  the help needs neither the client nor the views

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated

import typer

from kfadapter_grpc.cli import options as opt
from kfadapter_grpc.cli import output as out
from kfadapter_grpc.cli.completion import pipeline_names, run_names
from kfadapter_grpc.cli.errors import CommandError, ExitCode, UsageError
from kfadapter_grpc.cli.invocation import again, remember
from kfadapter_grpc.cli.references import (
    experiment_reference,
    find_version,
    pipeline_id,
    pipeline_reference,
    recurring_run_id,
    run_id,
)
from kfadapter_grpc.cli.values import Period, labels, parse_past_time
from kfadapter_grpc.contract.errors import AdapterError
from kfadapter_grpc.contract.runs import Run, RunState
from kfadapter_grpc.printable import counted

if TYPE_CHECKING:
    from kfadapter_grpc.client import Client
    from kfadapter_grpc.client.runs import RunsWhere

NEWEST = 20


@dataclass(frozen=True, slots=True)
class RunFilter:
    contains: opt.Contains = ""
    experiment: opt.InExperiment = ""
    pipeline: Annotated[
        str, typer.Option(metavar="NAME|ID", help="Only runs of this pipeline.", autocompletion=pipeline_names)
    ] = ""
    version: Annotated[str, typer.Option(metavar="NAME|ID", help="Only runs of this version of --pipeline.")] = ""
    recurring: Annotated[str, typer.Option(metavar="NAME|ID", help="Only runs that this recurring run started.")] = ""
    state: Annotated[
        list[opt.StateChoice] | None,
        typer.Option(case_sensitive=False, help="Only runs in this state; may be repeated."),
    ] = None
    created_after: opt.CreatedAfter = ""
    finished_after: Annotated[
        str, typer.Option(metavar="TIME", help="Only runs that finished later, as --created-after.")
    ] = ""
    label: opt.Labels = None

    def where(self, client: "Client", *, archived: bool = False, states: Sequence[opt.StateChoice] = ()) -> "RunsWhere":
        """Returns the filter as arguments of the client, with ids resolved; `states` is the default."""
        if self.version and not self.pipeline:
            raise typer.BadParameter("--version needs --pipeline")
        created, finished = parse_past_time(self.created_after), parse_past_time(self.finished_after)
        own_labels = labels(self.label)
        in_experiment = experiment_reference(client, self.experiment)
        of_pipeline, of_version = "", ""
        if self.version:
            version = find_version(client, pipeline_reference(client, self.pipeline), self.version)
            of_pipeline, of_version = version.pipeline_id, version.pipeline_version_id
        elif self.pipeline:
            of_pipeline = pipeline_id(client, self.pipeline)
        return {
            "experiment_name": in_experiment.name,
            "experiment_id": in_experiment.experiment_id,
            "states": [RunState(state.value.upper()) for state in self.state or states],
            "created_after": created,
            "finished_after": finished,
            "display_name_contains": self.contains,
            "labels": own_labels,
            "pipeline_id": of_pipeline,
            "pipeline_version_id": of_version,
            "recurring_run_id": recurring_run_id(client, self.recurring) if self.recurring else "",
            "archived": archived,
        }


@dataclass(frozen=True, slots=True)
class ListSelection(RunFilter):
    archived: opt.Archived = False
    order_by: Annotated[str, opt.order_by_fields("created_at, finished_at, display_name or run_id", "created_at")] = ""
    limit: Annotated[int, typer.Option(min=0, metavar="N", help="Maximum number; 0 for all.")] = NEWEST


RunNames = Annotated[
    list[str] | None, opt.argument(f"Runs: {opt.RUN_REFERENCES}; or none, and filters instead.", run_names, "RUN")
]
_DONE = {
    "terminate": "terminated",
    "retry": "retried",
    "archive": "archived",
    "unarchive": "unarchived",
    "delete": "deleted",
}
_FATAL = (ExitCode.CANNOT_CONNECT, ExitCode.NOT_ALLOWED)
"""Errors that every other run would have, too."""


@dataclass(frozen=True, slots=True)
class BulkSelection(RunFilter):
    """The filter of runs to change, and whether to ask for confirmation."""

    created_before: opt.CreatedBefore = ""
    every: Annotated[bool, typer.Option("--all", help="All runs; otherwise a filter is required.")] = False
    yes: opt.Yes = False

    @property
    def is_set(self) -> bool:
        return any(getattr(self, field.name) for field in fields(self) if field.name not in ("every", "yes"))


def single_run(run: list[str] | None, selection: BulkSelection) -> str:
    """Checks that runs are either named or filtered; returns the run if only one is named."""
    if run and (selection.every or selection.is_set):
        raise typer.BadParameter("name the runs, or choose them by filters, but not both")
    if not run and not selection.every and not selection.is_set:
        raise typer.BadParameter("name the runs, or choose them by filters such as --state and --pipeline, or by --all")
    if run and len(run) == 1:
        remember(run=run[0])
        return run[0]
    return ""


def select_runs(
    client: "Client",
    run: list[str] | None,
    selection: RunFilter,
    *,
    states: Sequence[opt.StateChoice] = (),
    archived: bool = False,
    allow_missing: bool = False,
) -> Mapping[str, Run | None]:
    """Returns runs by their ids: the named ones, without their records, or those that match the filter.

    `states` apply if the filter has none; `allow_missing` leaves out named runs that do not exist.
    """
    if run:
        ids = (run_id(client, name, archived=archived, allow_missing=allow_missing) for name in run)
        return {found_id: None for found_id in ids if found_id}
    filters = selection.where(client, archived=archived, states=states)
    period = Period("", selection.created_before if isinstance(selection, BulkSelection) else "")
    return {found.run_id: found for found in period.select(client.runs.list(**filters))}


def _confirm(verb: str, chosen: Mapping[str, Run | None], summary: str) -> None:
    """Asks for confirmation, with the number of runs and their states; named runs need it only for delete."""
    listed = [run for run in chosen.values() if run]
    if not listed and not (verb == "delete" and out.is_interactive()):
        return
    states = ", ".join(f"{count} {state.value}" for state, count in Counter(run.state for run in listed).items())
    question = f"{verb.capitalize()} {summary or counted(len(chosen), 'run')}{states and f' ({states})'}?"
    if verb == "delete" and any(not run.state.is_over for run in listed):
        question += " Those in progress would continue in the cluster."
    if not out.is_interactive():
        raise UsageError(
            f"not confirmed: {question}",
            why="no terminal to confirm",
            next_step=again("--yes", text="does it without confirmation"),
        )
    out.confirm(question, refused="nothing was done")


def change_all(
    verb: str,
    chosen: Mapping[str, Run | None],
    call: Callable[[str], object],
    style: opt.Format,
    *,
    yes: bool,
    summary: str = "",
) -> None:
    """Changes runs one after the other, and prints the result; asks for confirmation if runs were selected by a filter.

    An adapter that is unreachable or refuses the caller ends the command. `summary` has the number selected and in all.
    """
    from kfadapter_grpc.cli.failures import exit_code, next_step

    if not yes and chosen:
        _confirm(verb, chosen, summary)
    elif summary:
        out.note(f"to {verb}: {summary}")
    changed: list[str] = []
    failed: dict[str, AdapterError | CommandError] = {}
    try:
        with out.progress_bar(verb, counts=True) as update:
            for number, run_id in enumerate(chosen):
                if update:
                    update(number, len(chosen))
                try:
                    call(run_id)
                    changed.append(run_id)
                except KeyboardInterrupt:
                    text = f"it may be {_DONE[verb]} nevertheless"
                    failed[run_id] = CommandError(text, why="INTERRUPTED", next_step=again())
                    raise
                except (AdapterError, CommandError) as error:
                    failed[run_id] = error
                    if isinstance(error, AdapterError) and exit_code(error) in _FATAL:
                        raise
    finally:
        _print(verb, chosen, changed, failed, style)
    if failed:
        reasons = Counter(_reason(error) for error in failed.values())
        first = next(iter(failed.values()))
        raise CommandError(
            f"not {_DONE[verb]}: {len(failed)} of {counted(len(chosen), 'run')}",
            why=", ".join(f"{reason} ({count})" for reason, count in reasons.items()),
            next_step=next_step(first) if isinstance(first, AdapterError) else first.next_step,
        )


def _print(
    verb: str,
    chosen: Mapping[str, Run | None],
    changed: Sequence[str],
    failed: Mapping[str, AdapterError | CommandError],
    style: opt.Format,
) -> None:
    """Prints the runs that were changed, those that failed, and those not tried, as after Ctrl-C."""
    tried = {*changed, *failed}
    untried = [run_id for run_id in chosen if run_id not in tried]
    rows = [
        {
            "run_id": run_id,
            "display_name": run.display_name if (run := chosen[run_id]) else "",
            "reason": _reason(error),
            "message": str(error),
        }
        for run_id, error in failed.items()
    ]
    if style == "name":
        out.print_names(changed)
    elif style != "table":
        out.print_document({"done": [*changed], "failed": rows, "not_tried": untried}, style)
    elif not chosen:
        out.note("no runs match; nothing was done")
    else:
        not_tried = f"; not tried: {len(untried)}" if untried else ""
        out.print_line(f"{_DONE[verb]} {len(changed)} of {counted(len(chosen), 'run')}{not_tried}")
        if rows:
            out.print_line("")
            steps = (out.Shrink("ERROR", 16), out.Shrink("REASON", 0), out.Shrink("NAME", out.SHORT_NAME))
            cells = [(row["display_name"], row["run_id"], row["reason"], row["message"]) for row in rows]
            out.print_table(("NAME", "ID", "REASON", "ERROR"), cells, steps=steps)


def _reason(error: AdapterError | CommandError) -> str:
    return error.why if isinstance(error, CommandError) else error.reason
