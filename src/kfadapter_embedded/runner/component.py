"""Executes single tasks: Python components as commands, each in an environment of its own, and imports."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import threading
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count
from typing import IO, TYPE_CHECKING

from kfadapter_embedded.execution import EXECUTOR_LOGS, SCRATCH, State, TaskReport, iteration_of, log_path

from .environment import VARIABLE, end_family, make_overlay
from .importer import imported
from .log import TaskLog, why
from .outcome import LAUNCHER, Outcome, failed
from .outputs import Outputs
from .spec import mapping
from .task_api import entries, given_by, recorded
from .values import RuntimeArtifact, ValueFaultError, Values

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from kfadapter_embedded.json_text import JsonValue

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
_PIECE = 1 << 16
_DRAIN_SECONDS = 5.0


class ComponentRunner:
    """Executes tasks in a run's folder; a `Leaf`. Its processes are known by the mark."""

    def __init__(
        self,
        folder: Path,
        mark: str,
        *,
        report: Callable[[TaskReport], None],
        stopped: threading.Event,
    ) -> None:
        self.folder = folder
        self.mark = mark
        self.stopped = stopped
        self._report = report
        self._room = threading.Semaphore(max(2, os.cpu_count() or 2))
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
        text = json.dumps(self._executor_input(), ensure_ascii=False)
        if len(text.encode(errors="replace")) > MAX_INPUT_BYTES:
            size = len(text.encode(errors="replace"))
            return failed(
                f"its inputs are {size} bytes as JSON, and no component takes more than {MAX_INPUT_BYTES}: "
                "pass large data as an artifact (dsl.Output[dsl.Dataset])"
            )
        accelerator = mapping(self.container.resources.get("accelerator"))
        if kind := accelerator.get("resourceType") or accelerator.get("type"):
            log.note(f"requests {kind}; nothing is reserved on this machine")
        code = self._execute([_argument(one, text) for one in (*self.container.command, *self.container.args)], log)
        if code:
            ending = f"exit status {code}" if code > 0 else f"signal: {signal.strsignal(-code)}".lower()
            return Outcome(State.FAILED, why(code, log.tail, self.container.image), message=f"{LAUNCHER}: {ending}")
        try:
            return Outcome(State.SUCCEEDED, values=self.outputs.read())
        except ValueFaultError as error:
            return failed(*error.args)

    def _execute(self, command: list[str], log: TaskLog) -> int:
        """Runs the command to its end and all that it has started; its exit code."""
        mark = f"{self.runner.mark}/{self.number}/"
        folder = self.runner.folder / SCRATCH / f"{self.number}"
        work = folder / "work"
        work.mkdir(parents=True)
        self.outputs.folder.mkdir(parents=True)
        given = {one.get("name", ""): one.get("value", "") for one in self.container.env}
        own = {**given, "TMPDIR": str(work), VARIABLE: mark}
        variables = {**make_overlay(folder / "environment").variables(os.environ), **own}
        try:
            process = subprocess.Popen(  # noqa: S603  # the user's own component is what is to be run
                command,
                cwd=work,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        except ValueError as error:
            raise ValueFaultError(f"its command cannot be started: {error}") from None
        if self.runner.stopped.is_set():
            # The signal that stops a run went to existing processes, and this one may have been started later.
            process.terminate()
        code = _followed(process, log, lambda: end_family(mark))
        shutil.rmtree(folder, ignore_errors=True)
        return code

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
    # In a venv of the component's own this server's kfp would not be there.
    return part if "-m venv" in part else _INSTALLS_KFP.sub("", part)


def _followed(process: subprocess.Popen[bytes], log: TaskLog, end_rest: Callable[[], None]) -> int:
    """Writes a process's output into the log until it has ended, and ends what it leaves behind."""
    if process.stdout is None:
        raise TypeError("the process was started without this pipe")
    follower = threading.Thread(target=_copy, args=(process.stdout, log), daemon=True)
    follower.start()
    code = process.wait()
    end_rest()
    # A process that escaped holds the pipe open; it is not waited for.
    follower.join(_DRAIN_SECONDS)
    return code


def _copy(stream: IO[bytes], log: TaskLog) -> None:
    with stream, suppress(ValueError):
        while piece := os.read(stream.fileno(), _PIECE):
            log.write(piece)


def _file_name(task: str) -> str:
    return re.sub(r"[^\w.-]+", "-", task)[-60:]
