"""Watched runs: shown live until all have finished."""

from __future__ import annotations

import os
import sys
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING

from kfadapter_grpc.addresses import is_loopback
from kfadapter_grpc.cli import output
from kfadapter_grpc.cli.drawing import Followed, Lines, Screen
from kfadapter_grpc.cli.errors import CommandError, ExitCode
from kfadapter_grpc.cli.invocation import RUN, Invocation, Step, do, other
from kfadapter_grpc.cli.log_tails import LogTails
from kfadapter_grpc.cli.run_view import print_outputs, print_warnings
from kfadapter_grpc.contract.errors import AdapterError
from kfadapter_grpc.contract.runs import RunState
from kfadapter_grpc.contract.watches import Heartbeat, RunChanged, RunGone

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kfadapter_grpc.cli.option_types import Format, Watching
    from kfadapter_grpc.cli.options import ClientOptions
    from kfadapter_grpc.client import Client
    from kfadapter_grpc.contract.runs import Run
    from kfadapter_grpc.contract.spec import Task

Drawing = Lines | Screen
MOST_OUTPUTS = 20
"""How many outputs are printed at the end."""
_LOGS = other("logs", RUN, "--failed", words="shows what its failed tasks wrote")
_SHOW = other("runs", "show", RUN, words="shows how it stands; none of its tasks began, so there are no logs")
_AGAIN, _STOP = other("watch", RUN), other("terminate", RUN)
_NEXT = other("runs", "show", RUN), other("logs", RUN)
_FILES, _PAGE = other("artifacts", "list", RUN), other("runs", "open", RUN)
_RETRY = other("retry", RUN, "--watch", words="runs its failed tasks again")


def follow(client: Client, run_ids: Sequence[str], style: Format, options: ClientOptions, how: Watching) -> None:
    """Watches runs until all have finished, and prints them.

    Args:
        client: The adapter.
        run_ids: The runs.
        style: How they are printed at the end.
        options: The adapter, for the commands that are printed.
        how: What is shown meanwhile.

    Raises:
        CommandError: One failed, was terminated, or was deleted.
    """
    runs = [client.runs.get(one) for one in dict.fromkeys(run_ids)]  # a missing run is an error as everywhere
    followed = [Followed(run, _declared(client, run)) for run in runs]
    stream = sys.stdout if style == "table" else sys.stderr
    with _going_on(followed, options):
        if not how.quiet and stream.isatty() and os.environ.get("TERM") != "dumb":
            tails = LogTails(client)
            with Screen(followed, stream, tails.lines) as screen:
                _follow(client, followed, screen, tails if how.logs else None)
        else:
            lines = Lines(sys.stdout if style == "table" and not how.quiet else None, several=len(followed) > 1)
            _follow(client, followed, lines, LogTails(client, lines.logged) if how.logs else None)
    # `kfadapter dev` serves the page, too.
    has_page = "KFADAPTER_PAGE" in os.environ or is_loopback(client.target.rpartition(":")[0])
    _print(followed, style, options, has_page=has_page)
    _judge(followed, options)


def _declared(client: Client, run: Run) -> Sequence[Task]:
    """Returns the declared tasks; none if they cannot be read, or are not needed any more."""
    if not run.state.is_over:
        with suppress(AdapterError):
            version = client.pipelines.try_version_of(run)
            return version.spec.tasks if version and version.spec else ()
    return ()


def _follow(client: Client, followed: Sequence[Followed], drawing: Drawing, tails: LogTails | None) -> None:
    by_id = {one.run.run_id: one for one in followed}

    def connected(is_open: bool) -> None:
        drawing.misses("" if is_open else "the adapter")

    with closing(client.runs.watch([*by_id], tasks=True, on_connection=connected)) as events:
        for event in events:
            if isinstance(event, RunChanged) and event.run.run_id in by_id:
                one = by_id[event.run.run_id]
                drawing.changed(one, one.update(event.run), event.observed_at)
                if tails is not None:
                    tails.follow(one.run)
            elif isinstance(event, RunGone) and event.run_id in by_id:
                by_id[event.run_id].is_gone = True
            elif isinstance(event, Heartbeat):
                drawing.misses("" if event.kfp_reachable else "Kubeflow Pipelines")


@contextmanager
def _going_on(followed: Sequence[Followed], options: ClientOptions) -> Iterator[None]:
    """Prints, when interrupted, that the runs continue."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        for one in followed:
            if not one.run.state.is_over:
                output.note(f"run {one.run.run_id} continues; next:")
                _print_commands(one.run, options, _AGAIN, _STOP)
        raise


def _print_commands(run: Run, options: ClientOptions, *steps: Step) -> None:
    invocation = Invocation(run=run.run_id, options=options)
    for step in steps:
        output.note(f"  {invocation.spell(step)}")


def _print(followed: Sequence[Followed], style: Format, options: ClientOptions, *, has_page: bool) -> None:
    runs = [one.run for one in followed if not one.is_gone]
    if style == "table":
        for run in runs:
            print_outputs(run, MOST_OUTPUTS)
            print_warnings(run)
            if run.state is RunState.SUCCEEDED:
                has_files = any(one.artifacts for task in run.tasks for one in task.outputs)
                output.note("next:")
                steps = (*_NEXT, *([_FILES] if has_files else ()), *([_PAGE] if has_page else ()))
                _print_commands(run, options, *steps)
    elif style == "name":
        output.print_names(run.run_id for run in runs)
    elif len(followed) == 1 and runs:
        output.print_document(runs[0], style)
    else:
        output.print_document(runs, style)


def _judge(followed: Sequence[Followed], options: ClientOptions) -> None:
    """Exits with the worst outcome."""
    failed = next((one.run for one in followed if one.run.state is RunState.FAILED and not one.is_gone), None)
    if failed is not None:
        is_known = any(task.state is RunState.FAILED for task in failed.tasks)
        invocation = Invocation(run=failed.run_id, options=options)
        raise CommandError(
            f"run '{failed.display_name}' failed",
            why=failed.error or "Kubeflow Pipelines does not say why",
            next_step="\n".join(invocation.spell(one) for one in ((_LOGS, _RETRY) if is_known else (_SHOW,))),
            exit_code=ExitCode.RUN_FAILED,
        )
    gone = next((one.run for one in followed if one.is_gone), None)
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
