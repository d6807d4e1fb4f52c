"""Watched runs: shown live until all have finished."""

from __future__ import annotations

import sys
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from kfadapter_grpc.cli import output
from kfadapter_grpc.cli.drawing import Followed, Lines, Screen
from kfadapter_grpc.cli.errors import CommandError, ExitCode
from kfadapter_grpc.cli.invocation import RUN, Invocation, do, other
from kfadapter_grpc.cli.run_tree import planned_paths
from kfadapter_grpc.cli.run_view import print_outputs, print_warnings
from kfadapter_grpc.contract.errors import AdapterError
from kfadapter_grpc.contract.runs import RunState
from kfadapter_grpc.contract.watches import Heartbeat, RunChanged, RunGone

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kfadapter_grpc.cli.option_types import Format
    from kfadapter_grpc.cli.options import ClientOptions
    from kfadapter_grpc.client import Client
    from kfadapter_grpc.contract.runs import Run

Drawing = Lines | Screen
_LOGS = other("logs", RUN, "--failed", words="shows what its failed tasks wrote")
_SHOW = other("runs", "show", RUN, words="shows how it stands; none of its tasks began, so there are no logs")


def follow(client: Client, run_ids: Sequence[str], style: Format, options: ClientOptions) -> None:
    """Watches runs until all have finished, and prints them.

    Raises:
        CommandError: One failed, was terminated, or was deleted.
    """
    runs = [client.runs.get(one) for one in dict.fromkeys(run_ids)]  # a missing run is an error as everywhere
    followed = [Followed(run, _planned(client, run)) for run in runs]
    with _going_on(followed, options), _drawing(followed, style) as drawing:
        _follow(client, followed, drawing)
    _print(followed, style)
    _judge(followed, options)


def _planned(client: Client, run: Run) -> list[str]:
    """Returns the declared tasks; none if the pipeline was deleted."""
    if not run.pipeline_id or not run.pipeline_version_id or run.state.is_over:
        return []
    try:
        version = client.pipelines.get_version(pipeline_id=run.pipeline_id, pipeline_version_id=run.pipeline_version_id)
    except AdapterError:
        return []
    return planned_paths(version.spec.tasks) if version.spec else []


def _follow(client: Client, followed: Sequence[Followed], drawing: Drawing) -> None:
    by_id = {one.run.run_id: one for one in followed}
    with closing(client.runs.watch([*by_id], tasks=True)) as events:
        for event in events:
            if isinstance(event, RunChanged) and event.run.run_id in by_id:
                one = by_id[event.run.run_id]
                drawing.changed(one, one.take(event.run), event.observed_at)
            elif isinstance(event, RunGone) and event.run_id in by_id:
                by_id[event.run_id].gone = True
            elif isinstance(event, Heartbeat):
                drawing.reached(kfp=event.kfp_reachable)


@contextmanager
def _going_on(followed: Sequence[Followed], options: ClientOptions) -> Iterator[None]:
    """Prints, when interrupted, that the run continues."""
    try:
        yield
    except KeyboardInterrupt:
        for one in followed:
            if not one.run.state.is_over:
                invocation = Invocation(run=one.run.run_id, options=options)
                output.note(
                    f"the run goes on; {invocation.spell(other('watch', RUN))} follows it again,"
                    f" {invocation.spell(other('terminate', RUN))} stops it"
                )
        raise


@contextmanager
def _drawing(followed: Sequence[Followed], style: Format) -> Iterator[Drawing]:
    """Draws on a terminal, prints lines otherwise, and nothing if stdout is for data in another format."""
    stream = sys.stdout if style == "table" else sys.stderr
    if stream.isatty():
        with Screen(followed, stream) as screen:
            yield screen
    else:
        yield Lines(sys.stdout if style == "table" else None, several=len(followed) > 1)


def _print(followed: Sequence[Followed], style: Format) -> None:
    runs = [one.run for one in followed if not one.gone]
    if style == "table":
        for run in runs:
            print_outputs(run)
            print_warnings(run)
    elif style == "name":
        output.print_names(run.run_id for run in runs)
    elif len(followed) == 1 and runs:
        output.print_document(runs[0], style)
    else:
        output.print_document(runs, style)


def _judge(followed: Sequence[Followed], options: ClientOptions) -> None:
    """Exits with the worst outcome."""
    failed = next((one.run for one in followed if one.run.state is RunState.FAILED and not one.gone), None)
    if failed is not None:
        further = _LOGS if any(task.state is RunState.FAILED for task in failed.tasks) else _SHOW
        raise CommandError(
            f"run '{failed.display_name}' failed",
            why=failed.error or "Kubeflow Pipelines does not say why",
            next_step=Invocation(run=failed.run_id, options=options).spell(further),
            exit_code=ExitCode.RUN_FAILED,
        )
    gone = next((one.run for one in followed if one.gone), None)
    if gone is not None:
        raise CommandError(
            f"run {gone.run_id} is gone",
            why="it was deleted while it was watched",
            next_step=other("runs", words="shows the newest runs"),
            exit_code=ExitCode.NOT_FOUND,
        )
    cancelled = next((one.run for one in followed if one.run.state is RunState.CANCELED), None)
    if cancelled is not None:
        raise CommandError(
            f"run '{cancelled.display_name}' was cancelled",
            # The run's own error is mostly that its tasks failed, a result of the termination.
            why="it was terminated",
            next_step=do("start it again with kfadapter run, if it was not meant to end"),
            exit_code=ExitCode.CANCELLED,
        )
