"""Shows watched runs until all have finished: redrawn on a terminal, otherwise a line for each change."""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, TextIO

from rich.live import Live
from rich.text import Text

from kfadapter_grpc.addresses import is_loopback
from kfadapter_grpc.cli import output
from kfadapter_grpc.cli.errors import CommandError, ExitCode, NotFoundError
from kfadapter_grpc.cli.invocation import RUN, Invocation, Step, other
from kfadapter_grpc.cli.logs import LogTails
from kfadapter_grpc.cli.run_tree import Line, Marks, Rank, fit, marks_for, run_line, short_error, task_lines
from kfadapter_grpc.cli.run_view import print_outputs
from kfadapter_grpc.contract.errors import AdapterError
from kfadapter_grpc.contract.run_paths import TaskPaths
from kfadapter_grpc.contract.runs import RunState
from kfadapter_grpc.contract.watches import Heartbeat, RunChanged, RunGone
from kfadapter_grpc.folding import problem_of, rows_of, shown_state
from kfadapter_grpc.printable import one_line, printable
from kfadapter_grpc.times import shown_duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import FrameType

    from kfadapter_grpc.cli.options import ClientOptions, Format, WatchOptions
    from kfadapter_grpc.client import Client
    from kfadapter_grpc.contract.runs import Run, RunTask
    from kfadapter_grpc.contract.spec import Task

TIMES_A_SECOND = 4
_LAST_LINES = 100
"""The maximum number of lines of the final view, which can be scrolled."""
_UNREACHABLE = "{} is unreachable; waiting for it"
_STYLES = {
    RunState.SUCCEEDED: "green",
    RunState.FAILED: "red",
    RunState.RUNNING: "cyan",
    RunState.CANCELING: "yellow",
    RunState.CANCELED: "yellow",
}


class WatchedRun:
    """A run as it was last seen; `rows` are its tasks as a tree, with those that its pipeline declares."""

    def __init__(self, run: Run, declared: Sequence[Task] = ()) -> None:
        self.run = run
        self.rows = rows_of(run, declared)
        self.is_gone = False
        self._declared = declared
        self._printed: dict[str, tuple[RunState, str]] = {}
        self._printed_state = RunState.UNKNOWN

    def update(self, run: Run) -> list[RunTask]:
        """Updates the run; returns the tasks whose state or problem has changed."""
        self.run, self.rows = run, rows_of(run, self._declared)
        now = {task.task_id or task.name: (task.state, problem_of(task)) for task in run.tasks}
        changed = [task for task in run.tasks if self._printed.get(key := task.task_id or task.name) != now[key]]
        self._printed = now
        return changed

    def has_new_state(self) -> bool:
        """Whether the state of the run has changed since the last call."""
        changed = self._printed_state is not self.run.state
        self._printed_state = self.run.state
        return changed


class LinePrinter:
    """Prints each change on its own line."""

    def __init__(self, stream: TextIO | None, *, with_run_names: bool) -> None:
        """Writes to `stream`, or only notes; `with_run_names` prefixes each task with the run's name."""
        self._stream = stream
        self._with_run_names = with_run_names
        self._unreachable = ""
        self._lock = threading.Lock()

    def changed(self, view: WatchedRun, tasks: Sequence[RunTask], observed_at: datetime) -> None:
        paths = TaskPaths(view.run.tasks)
        for task in tasks:
            self._print(observed_at, self._name(view.run, paths.of(task)), *_state_columns(task))
        if view.has_new_state():
            run = view.run
            took = shown_duration(run.finished_at - run.created_at) if run.finished_at and run.created_at else ""
            self._print(observed_at, _name(run), shown_state(run.state), took)

    def logged(self, run: Run, path: str, line: str) -> None:
        self._print(datetime.now(timezone.utc), f"{self._name(run, path)} | {line}")

    def report_connection(self, message: str) -> None:
        """Prints when something becomes unreachable and reachable again."""
        if message != self._unreachable:
            output.note(_UNREACHABLE.format(message) if message else f"{self._unreachable} is reachable again")
        self._unreachable = message

    def _name(self, run: Run, path: str) -> str:
        return f"{_name(run)}/{path}" if self._with_run_names else path

    def _print(self, observed_at: datetime, *columns: str) -> None:
        if self._stream is not None:
            line = "  ".join(one_line(word) for word in columns if word)
            with self._lock:
                self._stream.write(f"{observed_at.astimezone(timezone.utc):%H:%M:%S}  {line}\n")
                self._stream.flush()


class Screen:
    """Draws runs on the whole terminal during the `with` block, and a final time below what it showed before.

    The terminal is restored on errors, Ctrl-C and SIGTERM, and while the process is stopped by Ctrl-Z.
    """

    def __init__(self, watched: Sequence[WatchedRun], stream: TextIO, tails: Mapping[str, str]) -> None:
        self._followed = watched
        self._tails = tails
        self._console = output.console(stream)
        self._marks = marks_for(stream)
        self._unreachable = ""
        self._live = Live(
            console=self._console,
            screen=True,
            get_renderable=lambda: self._text(self._console.height, self._tails),
            refresh_per_second=TIMES_A_SECOND,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> Screen:  # noqa: PYI034  typing.Self is newer than Python 3.10
        self._at_sigterm = signal.signal(signal.SIGTERM, _exit)
        self._at_stop = signal.signal(signal.SIGTSTP, self._suspend)
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()
        signal.signal(signal.SIGTSTP, self._at_stop)
        signal.signal(signal.SIGTERM, self._at_sigterm)
        self._console.print(self._text(max(self._console.height, _LAST_LINES), {}))

    def _suspend(self, number: int, _: FrameType | None) -> None:
        """Leaves the screen before Ctrl-Z stops this process, and takes it again when the process is continued."""
        self._live.stop()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        signal.signal(number, self._suspend)
        self._live.start()

    def changed(self, view: WatchedRun, tasks: Sequence[RunTask], observed_at: datetime) -> None:
        """Does nothing: the screen is redrawn several times a second."""

    def report_connection(self, message: str) -> None:
        """Shows what is unreachable; empty if nothing is."""
        self._unreachable = message

    def _text(self, height: int, tails: Mapping[str, str]) -> Text:
        now = datetime.now(timezone.utc)
        size = self._console.width, height
        lines = render(self._followed, now, size, self._marks, tails=tails, missing=self._unreachable)
        return Text("\n", no_wrap=True, overflow="crop").join(map(_styled, lines))


def render(
    watched: Sequence[WatchedRun],
    now: datetime,
    size: tuple[int, int],
    marks: Marks,
    *,
    tails: Mapping[str, str] | None = None,
    missing: str = "",
) -> list[Line]:
    """Draws runs in at most `size` columns and lines; `tails` are the last lines of the logs of tasks, by their id."""
    width, height = size
    lines = [Line(_UNREACHABLE.format(missing), Rank.RUN, RunState.CANCELING)] if missing else []
    for view in watched:
        head = run_line(view.run, view.rows, now, marks, width)
        lines.append(replace(head, text=output.encodable(head.text)))
        lines += task_lines(view.rows, now, marks, output.encodable, width=width, tails=tails)
    return fit(lines, width, height, marks)


def _styled(line: Line) -> Text:
    if line.rank is Rank.LOG:
        return Text(line.text, style="dim")
    text = Text(line.text, style="bold" if line.rank is Rank.RUN else "")
    hangs = line.rank is Rank.PROBLEM and line.state is RunState.PENDING
    if style := "yellow" if hangs else _STYLES.get(line.state, ""):
        mark = "^$" if line.rank is Rank.RUN else r"^\S+"
        text.highlight_regex(rf"{mark}|(?<=  ){line.state.value}(?=  |$)", style)
    return text


def _exit(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _name(run: Run) -> str:
    return one_line(run.display_name) or run.run_id


def _state_columns(task: RunTask) -> tuple[str, ...]:
    took = shown_duration(task.finished_at - task.started_at) if task.started_at and task.finished_at else ""
    return shown_state(task.state), took, short_error(problem_of(task), marks_for())


Display = LinePrinter | Screen
MAX_OUTPUTS = 20
_LOGS = other("logs", RUN, "--failed", text="shows the logs of its failed tasks")
_SHOW = other("runs", "show", RUN, text="shows its state; no task started, so there are no logs")
_AGAIN, _STOP = other("watch", RUN), other("terminate", RUN)
_NEXT = other("runs", "show", RUN), other("logs", RUN)
_FILES, _PAGE = other("artifacts", "list", RUN), other("runs", "open", RUN)
_RETRY = other("retry", RUN, "--watch", text="runs its failed tasks again")


def follow(
    client: Client, run_ids: Sequence[str], style: Format, options: ClientOptions, watch_options: WatchOptions
) -> None:
    """Watches runs until all have finished, and prints them."""
    runs = [client.runs.get(run_id) for run_id in dict.fromkeys(run_ids)]  # a missing run is an error as everywhere
    watched = [WatchedRun(run, _declared(client, run)) for run in runs]
    stream = sys.stdout if style == "table" else sys.stderr
    with _noting_interruption(watched, options):
        if not watch_options.quiet and stream.isatty() and os.environ.get("TERM") != "dumb":
            tails = LogTails(client)
            with Screen(watched, stream, tails.lines) as screen:
                _follow(client, watched, screen, tails if watch_options.logs else None)
        else:
            lines = LinePrinter(
                sys.stdout if style == "table" and not watch_options.quiet else None, with_run_names=len(watched) > 1
            )
            _follow(client, watched, lines, LogTails(client, lines.logged) if watch_options.logs else None)
    # `kfadapter dev` serves the page, too.
    has_page = "KFADAPTER_PAGE" in os.environ or is_loopback(client.target.rpartition(":")[0])
    _print(watched, style, options, has_page=has_page)
    _raise_outcome(watched, options)


def _declared(client: Client, run: Run) -> Sequence[Task]:
    """Returns the declared tasks; none if they cannot be read, or are not needed any more."""
    if not run.state.is_over:
        with suppress(AdapterError):
            version = client.pipelines.try_version_of(run)
            return version.spec.tasks if version and version.spec else ()
    return ()


def _follow(client: Client, watched: Sequence[WatchedRun], display: Display, tails: LogTails | None) -> None:
    by_id = {view.run.run_id: view for view in watched}

    def connected(is_open: bool) -> None:
        display.report_connection("" if is_open else "the adapter")

    with closing(client.runs.watch([*by_id], tasks=True, on_connection=connected)) as events:
        for event in events:
            if isinstance(event, RunChanged) and event.run.run_id in by_id:
                view = by_id[event.run.run_id]
                display.changed(view, view.update(event.run), event.observed_at)
                if tails is not None:
                    tails.follow(view.run)
            elif isinstance(event, RunGone) and event.run_id in by_id:
                by_id[event.run_id].is_gone = True
            elif isinstance(event, Heartbeat):
                display.report_connection("" if event.kfp_reachable else "Kubeflow Pipelines")


@contextmanager
def _noting_interruption(watched: Sequence[WatchedRun], options: ClientOptions) -> Iterator[None]:
    """Prints, when interrupted, that the runs continue."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        for view in watched:
            if not view.run.state.is_over:
                output.note(f"run {view.run.run_id} continues; next:")
                _print_commands(view.run, options, _AGAIN, _STOP)
        raise


def _print_commands(run: Run, options: ClientOptions, *steps: Step) -> None:
    invocation = Invocation(run=run.run_id, options=options)
    for step in steps:
        output.note(f"  {invocation.format(step)}")


def _print(watched: Sequence[WatchedRun], style: Format, options: ClientOptions, *, has_page: bool) -> None:
    runs = [view.run for view in watched if not view.is_gone]
    if style == "table":
        for run in runs:
            print_outputs(run, MAX_OUTPUTS)
            if run.warnings:  # in full: the live view cuts them
                output.print_section("WARNINGS", [printable(text) for text in run.warnings])
            if run.state is RunState.SUCCEEDED:
                has_files = any(output.artifacts for task in run.tasks for output in task.outputs)
                output.note("next:")
                steps = (*_NEXT, *([_FILES] if has_files else ()), *([_PAGE] if has_page else ()))
                _print_commands(run, options, *steps)
    elif style == "name":
        output.print_names(run.run_id for run in runs)
    elif len(watched) == 1 and runs:
        output.print_document(runs[0], style)
    else:
        output.print_document(runs, style)


def _raise_outcome(watched: Sequence[WatchedRun], options: ClientOptions) -> None:
    """Exits with the worst outcome."""
    failed = next((view.run for view in watched if view.run.state is RunState.FAILED and not view.is_gone), None)
    if failed is not None:
        is_known = any(task.state is RunState.FAILED for task in failed.tasks)
        invocation = Invocation(run=failed.run_id, options=options)
        raise CommandError(
            f"run '{failed.display_name}' failed",
            why=failed.error or "Kubeflow Pipelines reports no reason",
            next_step="\n".join(invocation.format(step) for step in ((_LOGS, _RETRY) if is_known else (_SHOW,))),
            exit_code=ExitCode.RUN_FAILED,
        )
    deleted = next((view.run for view in watched if view.is_gone), None)
    if deleted is not None:
        raise NotFoundError(
            f"not found: run {deleted.run_id}",
            why="it was deleted while it was watched",
            next_step=other("runs", text="shows the newest runs"),
        )
    cancelled = next((view.run for view in watched if view.run.state is RunState.CANCELED), None)
    if cancelled is not None:
        raise CommandError(
            f"run '{cancelled.display_name}' was cancelled",
            # The run's own error is mostly that its tasks failed, a result of the termination.
            why="it was terminated",
            next_step="start it again with kfadapter run, if it was not meant to end",
            exit_code=ExitCode.CANCELLED,
        )
