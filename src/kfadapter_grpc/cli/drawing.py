"""How watched runs are shown: redrawn in place on a terminal, a line for each change elsewhere."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, TextIO

from rich.live import Live
from rich.text import Text

from kfadapter_grpc.cli import output, run_tree
from kfadapter_grpc.cli.run_tree import UNICODE, marks_for, short_error
from kfadapter_grpc.cli.text import one_line
from kfadapter_grpc.contract.run_paths import TaskPaths
from kfadapter_grpc.contract.runs import RunState
from kfadapter_grpc.folding import shown_state
from kfadapter_grpc.times import shown_duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kfadapter_grpc.contract.runs import Run, RunTask

TIMES_A_SECOND = 4
"""How often the picture on a terminal is drawn anew, for the times that go on."""
_MOST_ITERATIONS = 3
_AWAY = "Kubeflow Pipelines is unreachable; waiting for it"
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
        planned: The paths of the tasks that its pipeline declares.
        gone: Whether the run was deleted.
    """

    def __init__(self, run: Run, planned: Sequence[str] = ()) -> None:
        self.run = run
        self.planned = planned
        self.gone = False
        self._told: dict[str, tuple[RunState, tuple[str, ...]]] = {}
        self._told_run = RunState.UNKNOWN

    def take(self, run: Run) -> list[RunTask]:
        """Updates the run; returns the tasks whose state or warnings have changed."""
        self.run = run
        now = {task.task_id or task.name: (task.state, task.warnings) for task in run.tasks}
        changed = [task for task in run.tasks if self._told.get(key := task.task_id or task.name) != now[key]]
        self._told = now
        return changed

    def takes_state(self) -> bool:
        """Whether the state of the run has changed since the last update."""
        changed = self._told_run is not self.run.state
        self._told_run = self.run.state
        return changed


class Lines:
    """Prints each change on its own line."""

    def __init__(self, stream: TextIO | None, *, several: bool) -> None:
        """Writes to `stream`, or only notes; `several` prefixes each task with the run's name."""
        self._stream = stream
        self._several = several
        self._reached = True

    def changed(self, one: Followed, tasks: Sequence[RunTask], at: datetime) -> None:
        """Prints the changes of a run."""
        name = one_line(one.run.display_name) or one.run.run_id
        paths = TaskPaths(one.run.tasks)
        for task in tasks:
            path = paths.of(task)
            self._tell(at, f"{name}/{path}" if self._several else path, *_task_words(task))
        if one.takes_state():
            run = one.run
            took = shown_duration(run.finished_at - run.created_at) if run.finished_at and run.created_at else ""
            self._tell(at, name, shown_state(run.state), took)

    def reached(self, *, kfp: bool) -> None:
        """Prints when Kubeflow Pipelines becomes unreachable and reachable again."""
        if kfp is not self._reached:
            output.note(_AWAY if not kfp else "Kubeflow Pipelines answers again")
        self._reached = kfp

    def _tell(self, at: datetime, *words: str) -> None:
        if self._stream is not None:
            line = "  ".join(one_line(word) for word in words if word)
            self._stream.write(f"{at.astimezone(timezone.utc):%H:%M:%S}  {line}\n")
            self._stream.flush()


class Screen:
    """Draws runs in place during the `with` block, and a final time at its end."""

    def __init__(self, followed: Sequence[Followed], stream: TextIO) -> None:
        self._followed = followed
        self._stream = stream
        self._console = output.console(stream)
        self._marks = marks_for(stream)
        self._reached = True
        self._live = Live(
            console=self._console,
            get_renderable=self._picture,
            refresh_per_second=TIMES_A_SECOND,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> Screen:  # noqa: PYI034  typing.Self is newer than Python 3.10
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()
        self._console.print(self._picture())

    def changed(self, one: Followed, tasks: Sequence[RunTask], at: datetime) -> None:
        """Shows the changes immediately."""
        del one, tasks, at  # all of it is redrawn
        self._live.refresh()

    def reached(self, *, kfp: bool) -> None:
        """Shows whether Kubeflow Pipelines is reachable."""
        self._reached = kfp

    def _picture(self) -> Text:
        now = datetime.now(timezone.utc)
        lines: list[Text] = []
        for one in self._followed:
            lines.append(Text(run_tree.run_line(one.run, now, one.planned), style="bold"))
            told = run_tree.task_lines(
                one.run, one.planned, now, self._marks, output.encodable, most_iterations=_MOST_ITERATIONS
            )
            for line in told:
                text = Text(line)
                for state, style in _STYLES.items():
                    text.highlight_regex(rf"(?<=  ){state.value}(?=  |$)", style)
                lines.append(text)
        if not self._reached:
            lines.append(Text(_AWAY, style="yellow"))
        picture = Text("\n", no_wrap=True, overflow="ellipsis" if self._marks is UNICODE else "crop")
        return picture.join(lines)


def _task_words(task: RunTask) -> tuple[str, ...]:
    length = ""
    if task.started_at is not None and task.finished_at is not None:
        length = shown_duration(task.finished_at - task.started_at)
    mark = marks_for().cut
    return shown_state(task.state), length, *(short_error(text, mark) for text in (task.error, *task.warnings))
