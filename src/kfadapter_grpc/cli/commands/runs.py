"""What the commands about runs do that are there already: list, show, stop, retry, put away, delete."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kfadapter_grpc.cli import output
from kfadapter_grpc.cli.choices import Format
from kfadapter_grpc.cli.commands import watch
from kfadapter_grpc.cli.commands.run import in_full
from kfadapter_grpc.cli.confirmation import ask, can_answer
from kfadapter_grpc.cli.invocation import RUN, Invocation, other
from kfadapter_grpc.cli.records import listed_record, record
from kfadapter_grpc.cli.references import experiment_reference, reference, run_id, version_reference
from kfadapter_grpc.cli.run_tree import shown_state
from kfadapter_grpc.cli.run_view import print_run, print_runs, print_started
from kfadapter_grpc.contract.experiments import ExperimentRef
from kfadapter_grpc.contract.listing import View

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from kfadapter_grpc.cli.options import ClientOptions
    from kfadapter_grpc.client import Client
    from kfadapter_grpc.contract.runs import Run, RunState


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which runs to list, as it was typed; what is empty does not narrow the list."""

    contains: str = ""
    experiment: str = ""
    pipeline: str = ""
    version: str = ""
    recurring: str = ""
    states: Sequence[RunState] = ()
    created_after: datetime | None = None
    finished_after: datetime | None = None
    labels: Mapping[str, str] | None = None
    archived: bool = False
    order_by: str = ""


def list_runs(options: ClientOptions, wanted: Wanted, style: Format, *, limit: int) -> None:
    """Lists runs, and says where there are more than were asked for."""
    with options.client() as client:
        found = list(itertools.islice(_matching(client, wanted, limit), limit + 1 if limit else None))
    runs = found[: limit or None]
    if style is Format.NAME:
        output.print_names(run.run_id for run in runs)
    elif style is not Format.TABLE:
        output.print_document([listed_record(run) for run in runs], style)
    elif runs:
        print_runs(runs)
    else:
        output.note("no runs")
    if len(found) > len(runs):
        output.note(f"there are more than these {limit}; --limit 0 shows all")


def show(options: ClientOptions, run: str, style: Format) -> None:
    """Shows a run with its tasks and what they made."""
    with options.client() as client:
        found = client.runs.get(run_id(client, run))
    if style is Format.TABLE:
        print_run(found)
    else:
        _print_one(found, style, "")


def terminate(options: ClientOptions, run: str, style: Format, *, wait: float) -> None:
    """Stops a run; one that is over is left as it is."""
    with options.client() as client:
        found = client.runs.terminate(run_id(client, run), wait=wait)
    state = shown_state(found.state)
    said = f"run {found.run_id} is over: {state}" if found.state.is_over else f"run {found.run_id} stops: {state}"
    _print_one(found, style, said)


def retry(options: ClientOptions, run: str, style: Format, *, follow: bool) -> None:
    """Runs a failed run again."""
    with options.client() as client:
        found = client.runs.retry(run_id(client, run))
        if follow:
            watch.follow(client, [found.run_id], style, options)
        elif style is Format.TABLE:
            print_started(
                in_full(client, found), Invocation(run=found.run_id, options=options).spell(other("watch", RUN))
            )
        else:
            _print_one(found, style, "")


def archive(options: ClientOptions, run: str, style: Format) -> None:
    """Puts a run away."""
    with options.client() as client:
        found = client.runs.archive(run_id(client, run))
    _print_one(found, style, f"archived run {found.run_id}")


def unarchive(options: ClientOptions, run: str, style: Format) -> None:
    """Takes a run back."""
    with options.client() as client:
        found = client.runs.unarchive(run_id(client, run))
    _print_one(found, style, f"took run {found.run_id} back from the archive")


def delete(options: ClientOptions, run: str, style: Format, *, allow_missing: bool, yes: bool) -> None:
    """Deletes a run, after asking where somebody can answer."""
    with options.client() as client:
        which = run_id(client, run)
        if not yes and can_answer():
            ask(_question(client, which, allow_missing=allow_missing))
        deleted = client.runs.delete(which, allow_missing=allow_missing)
    if style in (Format.JSON, Format.YAML):
        output.print_document({"run_id": which if deleted else ""}, style)
    elif not deleted:
        output.note(f"there was no run {which}")
    elif style is Format.NAME:
        output.print_names([which])
    else:
        output.print_line(f"deleted run {which}")


def _question(client: Client, run: str, *, allow_missing: bool) -> str:
    if allow_missing:
        return f"Delete the run {run}?"
    found = client.runs.get(run, view=View.BASIC)
    going = "" if found.state.is_over else ", which is not over and would go on unseen"
    return f"Delete the run '{found.display_name}'{going}?"


def _matching(client: Client, wanted: Wanted, limit: int) -> itertools.chain[Run]:
    experiment = experiment_reference(wanted.experiment) if wanted.experiment else ExperimentRef()
    pipeline_id, version_id = _pipeline(client, wanted)
    found = client.runs.list(
        experiment_name=experiment.name,
        experiment_id=experiment.experiment_id,
        states=wanted.states,
        created_after=wanted.created_after,
        finished_after=wanted.finished_after,
        display_name_contains=wanted.contains,
        labels=wanted.labels,
        pipeline_id=pipeline_id,
        pipeline_version_id=version_id,
        recurring_run_id=wanted.recurring,
        archived=wanted.archived,
        order_by=wanted.order_by,
        page_size=min(limit + 1, 1000) if limit else 0,
    )
    return itertools.chain(found)


def _pipeline(client: Client, wanted: Wanted) -> tuple[str, str]:
    """Finds the ids of the pipeline and the version that runs are to be of."""
    if not wanted.pipeline:
        return "", ""
    ref = reference(wanted.pipeline, by_id=None)
    if wanted.version:
        version = version_reference(wanted.version)
        found = client.pipelines.get_version(
            ref.name,
            pipeline_id=ref.pipeline_id,
            version_name=version.name,
            pipeline_version_id=version.pipeline_version_id,
        )
        return found.pipeline_id, found.pipeline_version_id
    return ref.pipeline_id or client.pipelines.get(ref.name, view=View.BASIC).pipeline_id, ""


def _print_one(found: Run, style: Format, said: str) -> None:
    if style is Format.TABLE:
        output.print_line(said)
    elif style is Format.NAME:
        output.print_names([found.run_id])
    else:
        output.print_document(record(found), style)
