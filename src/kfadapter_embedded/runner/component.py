"""Executes single tasks: commands, as processes or in containers, as often as their retry policy says, and imports."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from kfadapter_embedded.execution import EXECUTOR_LOGS, State, TaskReport, iteration_of, log_path

from .command import EXECUTOR, Command, Exit, StartError, in_container, needs_image, words_of
from .importer import imported
from .limits import limits_of, resolved
from .log import TaskLog, why
from .outcome import LAUNCHER, Outcome, failed
from .outputs import Outputs
from .task_api import entries, given_by, recorded
from .values import RuntimeArtifact, ValueFaultError, Values, protojson

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from kfadapter_embedded.execution import Steps
    from kfadapter_embedded.json_text import JsonValue

    from .command import Start
    from .spec import Component, Container, Task
    from .warned import TaskWarnings

MAX_INPUT_BYTES = (128 << 10) - 1
"""Linux's limit for one argument; KFP's components take all their inputs in one."""
# The last thing that components do before they begin is to install the kfp that they were compiled with. The one of
# this server is there already, and does. What a user requested, another kfp among it, is installed.
_INSTALLS_KFP = re.compile(
    r"""(?:PIP_DISABLE_PIP_VERSION_CHECK=1\ )?python3\ -m\ pip\ install(?:\ +--\S+(?:\ +[^\s'-][^\s']*)?)*
    \ +'kfp==[^']+'(?:\ +'--no-deps')?(?:\ +'typing-extensions[^']*')?\ *&&\ +(?="\$0"\ "\$@")""",
    re.VERBOSE,
)
_WHOLE_INPUT = "{{$}}"


class ComponentRunner:
    """Executes tasks in a run's folder; a `Leaf`."""

    def __init__(
        self,
        folder: Path,
        *,
        processes: Start,
        containers: Start | None,
        steps: Steps,
        room: AbstractContextManager[None],
        report: Callable[[TaskReport], None],
        stopped: threading.Event,
    ) -> None:
        self.folder = folder
        self.processes = processes
        self.containers = containers
        self.steps = steps
        self.stopped = stopped
        self._report = report
        self._room = room
        outputs = folder / "outputs"
        outputs.mkdir(exist_ok=True)
        self._numbers = count(1 + len(list(outputs.iterdir())))

    def __call__(
        self, begun: TaskReport, task: Task, component: Component, values: Values, warnings: TaskWarnings
    ) -> Outcome:
        """Executes a task, again and again as its retry policy says."""
        if importer := component.executor.importer:
            self._report(begun)
            with TaskLog(log_path(self.folder, begun.name)) as log:
                outcome = imported(importer, component, values, log, warnings)
                _note(warnings.texts, log)
                return replace(outcome, attempts=1)
        logs: list[RuntimeArtifact] = []
        retry = task.retry_policy
        for failures in range(retry.max_retry_count + 1):
            path = log_path(self.folder, begun.name, failures)
            path.unlink(missing_ok=True)
            logs.append(recorded(RuntimeArtifact(EXECUTOR_LOGS, {}, str(path))))
            with TaskLog(path) as log:
                attempt = _Attempt(self, next(self._numbers), begun.name, component, values, warnings)
                outcome = self._attempt(attempt, begun, log, again=failures > 0)
                outcome = replace(outcome, attempts=failures + 1, values=outcome.values.with_logs(logs))
                if outcome.state is not State.FAILED or failures == retry.max_retry_count:
                    break
                log.note(f"attempt {failures + 1} of {retry.max_retry_count + 1} failed: {outcome.error}")
            shown = {"outputs": entries(given_by(outcome.values, begun.name), iteration_of(begun.name))}
            failed = replace(begun, state=State.FAILED, error=outcome.error, message=outcome.message, details=shown)
            self._report(replace(failed, attempts=failures + 1))
            if self.stopped.wait(retry.pause(failures + 1)):
                return Outcome(State.CANCELED)
        return outcome

    def _attempt(self, attempt: _Attempt, begun: TaskReport, log: TaskLog, *, again: bool) -> Outcome:
        """Executes a task once, as soon as there is room."""
        with self._room:
            if self.stopped.is_set():
                return Outcome(State.CANCELED)
            if not again:
                self._report(begun)
            known = attempt.warnings.texts
            _note(known, log)
            outcome = attempt.outcome(log)
            _note(attempt.warnings.texts[len(known) :], log)
            return Outcome(State.CANCELED) if outcome.state is State.FAILED and self.stopped.is_set() else outcome


@dataclass(frozen=True)
class _Attempt:
    """One execution of a container's command."""

    runner: ComponentRunner
    number: int
    name: str
    component: Component
    values: Values
    warnings: TaskWarnings

    @property
    def outputs(self) -> Outputs:
        """Its outputs, in a folder into which no other attempt writes."""
        folder = self.runner.folder / "outputs" / f"{self.number:04}-{_file_name(self.name)}"
        return Outputs(folder, self.component.output_definitions)

    @property
    def container(self) -> Container:
        if self.component.executor.container is None:
            raise TypeError(self.name)
        return self.component.executor.container

    def outcome(self, log: TaskLog) -> Outcome:
        text = protojson(self._executor_input())
        if len(text.encode(errors="replace")) > MAX_INPUT_BYTES:
            size = len(text.encode(errors="replace"))
            return failed(
                f"its inputs are {size} bytes as JSON, and no component takes more than {MAX_INPUT_BYTES}: "
                "pass large data as an artifact (dsl.Output[dsl.Dataset])"
            )
        command = self._command(text)
        if command.limits.accelerator:
            log.note(f"requests {command.limits.accelerator}; nothing is reserved on this machine")
        try:
            end = self._start(command, log)
        except StartError as error:
            return failed(str(error))
        if end.code:
            ending = f"exit status {end.code}" if end.code > 0 else f"signal: {signal.strsignal(-end.code)}".lower()
            image = "" if self._contained else self.container.image
            return Outcome(State.FAILED, end.reason or why(end.code, log.tail, image), message=f"{LAUNCHER}: {ending}")
        try:
            return Outcome(State.SUCCEEDED, values=self.outputs.read())
        except ValueFaultError as error:
            return failed(*error.args)

    @property
    def _contained(self) -> bool:
        return in_container(self.container, self.runner.steps)

    def _start(self, command: Command, log: TaskLog) -> Exit:
        self.outputs.folder.mkdir(parents=True)
        if self._contained and self.runner.containers:
            return self.runner.containers(command, log)
        if needs_image(self.container):
            self.warnings.remark(f"runs as a process, not in image {command.image}")
        return self.runner.processes(command, log)

    def _command(self, executor_input: str) -> Command:
        """What is started; raises ValueFaultError for what KFP's driver refuses."""
        container, parameters = self.container, self.values.parameters
        parts = (*container.command, *container.args)
        if EXECUTOR not in " ".join(parts):
            words = words_of(container, self.values, self.outputs, executor_input)
        elif self._contained:
            words = tuple(executor_input if one == _WHOLE_INPUT else one for one in parts)
        else:
            words = tuple(_argument(one, executor_input) for one in parts)
        artifacts = (one for several in self.values.artifacts.values() for one in several)
        return Command(
            number=self.number,
            words=words,
            image=str(resolved(container.image, parameters)),
            variables={one.get("name", ""): one.get("value", "") for one in container.env},
            limits=limits_of(container, parameters),
            inputs=tuple(Path(one.custom_path or one.uri) for one in artifacts),
            outputs=self.outputs.folder,
            pull=container.image_pull_policy,
        )

    def _executor_input(self) -> JsonValue:
        """The input of KFP's executor: the values, and where outputs go."""
        artifacts: dict[str, JsonValue] = {
            name: {"artifacts": [one.json() for one in several]} for name, several in self.values.artifacts.items()
        }
        inputs: JsonValue = {"parameterValues": dict(self.values.parameters), "artifacts": artifacts}
        return {"inputs": inputs, "outputs": self.outputs.planned()}


def _note(warnings: Sequence[str], log: TaskLog) -> None:
    for text in warnings:
        log.note(f"warning: {text}")


def _argument(part: str, executor_input: str) -> str:
    """A part of the command as it is executed."""
    if part == _WHOLE_INPUT:
        return executor_input
    return _INSTALLS_KFP.sub("", part)


def _file_name(task: str) -> str:
    return re.sub(r"[^\w.-]+", "-", task)[-60:]
