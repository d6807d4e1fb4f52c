"""How watched runs are shown: redrawn in place on a terminal, a line for each change elsewhere."""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, TextIO

from rich.live import Live
from rich.text import Text

from kfadapter_grpc.cli import output
from kfadapter_grpc.cli.run_tree import Line, Marks, Rank, fit, marks_for, run_line, short_error, task_lines
from kfadapter_grpc.cli.text import one_line
from kfadapter_grpc.contract.run_paths import TaskPaths
from kfadapter_grpc.contract.runs import RunState
from kfadapter_grpc.folding import problem_of, rows_of, shown_state
from kfadapter_grpc.times import shown_duration

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import FrameType

    from kfadapter_grpc.contract.runs import Run, RunTask
    from kfadapter_grpc.contract.spec import Task

TIMES_A_SECOND = 4
"""How often the picture on a terminal is drawn anew."""
_LAST_LINES = 100
"""How long the picture of the end may be, on a terminal that can be scrolled."""
_UNREACHABLE = "{} is unreachable; waiting for it"
_STYLES = {
    RunState.SUCCEEDED: "green",
    RunState.FAILED: "red",
    RunState.RUNNING: "cyan",
    RunState.CANCELING: "yellow",
    RunState.CANCELED: "yellow",
}


class Followed:
    """A run as it was last seen.

    Attributes:
        run: The run, with its tasks.
        rows: Its tasks as a tree, with those that its pipeline declares.
        is_gone: Whether it was deleted.
    """

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

    def takes_state(self) -> bool:
        """Whether the state of the run has changed since the last call."""
        changed = self._printed_state is not self.run.state
        self._printed_state = self.run.state
        return changed


class Lines:
    """Prints each change on its own line."""

    def __init__(self, stream: TextIO | None, *, several: bool) -> None:
        """Writes to `stream`, or only notes; `several` prefixes each task with the run's name."""
        self._stream = stream
        self._several = several
        self._missing = ""
        self._lock = threading.Lock()

    def changed(self, one: Followed, tasks: Sequence[RunTask], at: datetime) -> None:
        """Prints the changes of a run."""
        paths = TaskPaths(one.run.tasks)
        for task in tasks:
            self._print(at, self._name(one.run, paths.of(task)), *_words(task))
        if one.takes_state():
            run = one.run
            took = shown_duration(run.finished_at - run.created_at) if run.finished_at and run.created_at else ""
            self._print(at, _name(run), shown_state(run.state), took)

    def logged(self, run: Run, path: str, line: str) -> None:
        """Prints a line of a task's log."""
        self._print(datetime.now(timezone.utc), f"{self._name(run, path)} | {line}")

    def misses(self, what: str) -> None:
        """Prints when something becomes unreachable and reachable again."""
        if what != self._missing:
            output.note(_UNREACHABLE.format(what) if what else f"{self._missing} answers again")
        self._missing = what

    def _name(self, run: Run, path: str) -> str:
        return f"{_name(run)}/{path}" if self._several else path

    def _print(self, at: datetime, *words: str) -> None:
        if self._stream is not None:
            line = "  ".join(one_line(word) for word in words if word)
            with self._lock:
                self._stream.write(f"{at.astimezone(timezone.utc):%H:%M:%S}  {line}\n")
                self._stream.flush()


class Screen:
    """Draws runs on the whole terminal during the `with` block, and a final time below what it showed before.

    The terminal is restored on errors, Ctrl-C and SIGTERM, and while the process is stopped by Ctrl-Z.
    """

    def __init__(self, followed: Sequence[Followed], stream: TextIO, tails: Mapping[str, str]) -> None:
        self._followed = followed
        self._tails = tails
        self._console = output.console(stream)
        self._marks = marks_for(stream)
        self._missing = ""
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

    def changed(self, one: Followed, tasks: Sequence[RunTask], at: datetime) -> None:
        """Does nothing: all of it is drawn anew, often enough."""

    def misses(self, what: str) -> None:
        """Shows what is unreachable; empty if nothing is."""
        self._missing = what

    def _text(self, height: int, tails: Mapping[str, str]) -> Text:
        now = datetime.now(timezone.utc)
        size = self._console.width, height
        lines = picture(self._followed, now, size, self._marks, tails=tails, missing=self._missing)
        return Text("\n", no_wrap=True, overflow="crop").join(map(_styled, lines))


def picture(
    followed: Sequence[Followed],
    now: datetime,
    size: tuple[int, int],
    marks: Marks,
    *,
    tails: Mapping[str, str] | None = None,
    missing: str = "",
) -> list[Line]:
    """Draws runs.

    Args:
        followed: The runs.
        now: The end of the elapsed time of what has not finished.
        size: The maximum of columns and lines.
        marks: The marks of the output.
        tails: The last lines of the logs of tasks, by their id.
        missing: What is unreachable.
    """
    width, height = size
    lines = [Line(_UNREACHABLE.format(missing), Rank.RUN, RunState.CANCELING)] if missing else []
    for one in followed:
        head = run_line(one.run, one.rows, now, marks, width)
        lines.append(replace(head, text=output.encodable(head.text)))
        lines += task_lines(one.rows, now, marks, output.encodable, width=width, tails=tails)
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


def _words(task: RunTask) -> tuple[str, ...]:
    took = shown_duration(task.finished_at - task.started_at) if task.started_at and task.finished_at else ""
    return shown_state(task.state), took, short_error(problem_of(task), marks_for())
