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
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from kfadapter_embedded.execution import EXECUTOR_LOGS, SCRATCH, State, TaskReport, iteration_of, log_path

from .dag import Outcome
from .environment import VARIABLE, end_family, make_overlay
from .log import TaskLog, why
from .spec import mapping
from .task_api import entries, given_by, recorded
from .values import RuntimeArtifact, ValueFaultError, Values, as_text, converted, filled, load_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from kfadapter_embedded.json_text import JsonValue

    from .spec import Component, Container, Importer, Task

MAX_INPUT_BYTES = (128 << 10) - 1
"""Linux's limit for one argument; KFP's components take all their inputs in one."""
MAX_OUTPUT_BYTES = 16 << 20
"""How large the outputs of a task may be as JSON, artifacts' contents aside."""
# The last thing that components do before they begin is to install the kfp that they were compiled with. The one of
# this server is there already, and does. What a user requested, another kfp among it, is installed.
_INSTALLS_KFP = re.compile(
    r"""(?:PIP_DISABLE_PIP_VERSION_CHECK=1\ )?python3\ -m\ pip\ install(?:\ +--\S+(?:\ +[^\s'-][^\s']*)?)*
    \ +'kfp==[^']+'(?:\ +'--no-deps')?(?:\ +'typing-extensions[^']*')?\ *&&\ +(?="\$0"\ "\$@")""",
    re.VERBOSE,
)
# How KFP's launcher begins to say why a task failed.
_LAUNCHER = "failed to execute component"
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
        names: Mapping[str, str],
    ) -> None:
        self.folder = folder
        self.mark = mark
        self.stopped = stopped
        self._report = report
        self._names = names
        self._room = threading.Semaphore(max(2, os.cpu_count() or 2))
        outputs = folder / "outputs"
        outputs.mkdir(exist_ok=True)
        self._numbers = count(1 + len(list(outputs.iterdir())))

    def __call__(self, begun: TaskReport, task: Task, component: Component, values: Values) -> Outcome:
        """Executes a task, again and again as its retry policy says."""
        if importer := component.executor.importer:
            self._report(begun)
            with TaskLog(log_path(self.folder, begun.name)) as log:
                return replace(_imported(importer, component, values, self._names, log), attempts=1)
        logs: list[RuntimeArtifact] = []
        retry = task.retry_policy
        for failures in range(retry.max_retry_count + 1):
            path = log_path(self.folder, begun.name, failures)
            path.unlink(missing_ok=True)
            logs.append(recorded(RuntimeArtifact(EXECUTOR_LOGS, {}, str(path))))
            with TaskLog(path) as log:
                outcome = self._attempt(begun, failures, component, values, log)
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

    def _attempt(self, begun: TaskReport, failures: int, component: Component, values: Values, log: TaskLog) -> Outcome:
        """Executes a task once, as soon as there is room."""
        with self._room:
            if self.stopped.is_set():
                return Outcome(State.CANCELED)
            if not failures:
                self._report(begun)
            outcome = _Attempt(self, next(self._numbers), begun.name, component, values).outcome(log)
            return Outcome(State.CANCELED) if outcome.state is State.FAILED and self.stopped.is_set() else outcome


@dataclass(frozen=True)
class _Attempt:
    """One execution of a container's command."""

    runner: ComponentRunner
    number: int
    name: str
    component: Component
    values: Values

    @property
    def outputs(self) -> Path:
        """Where its outputs go: no other attempt writes there."""
        return self.runner.folder / "outputs" / f"{self.number:04}-{_file_name(self.name)}"

    @property
    def container(self) -> Container:
        if self.component.executor.container is None:
            raise TypeError(self.name)
        return self.component.executor.container

    def outcome(self, log: TaskLog) -> Outcome:
        text = json.dumps(self._executor_input(), ensure_ascii=False)
        if len(text.encode(errors="replace")) > MAX_INPUT_BYTES:
            size = len(text.encode(errors="replace"))
            return _failed(
                f"its inputs are {size} bytes as JSON, and no component takes more than {MAX_INPUT_BYTES}: "
                "pass large data as an artifact (dsl.Output[dsl.Dataset])"
            )
        accelerator = mapping(self.container.resources.get("accelerator"))
        if kind := accelerator.get("resourceType") or accelerator.get("type"):
            log.note(f"requests {kind}; nothing is reserved on this machine")
        code = self._execute([_argument(one, text) for one in (*self.container.command, *self.container.args)], log)
        if code:
            ending = f"exit status {code}" if code > 0 else f"signal: {signal.strsignal(-code)}".lower()
            return Outcome(State.FAILED, why(code, log.tail, self.container.image), message=f"{_LAUNCHER}: {ending}")
        try:
            return Outcome(State.SUCCEEDED, values=self._read_outputs())
        except ValueFaultError as error:
            return _failed(str(error))

    def _execute(self, command: list[str], log: TaskLog) -> int:
        """Runs the command to its end and all that it has started; its exit code."""
        mark = f"{self.runner.mark}/{self.number}/"
        folder = self.runner.folder / SCRATCH / f"{self.number}"
        work = folder / "work"
        work.mkdir(parents=True)
        self.outputs.mkdir(parents=True)
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
        declared = self.component.output_definitions
        artifacts: dict[str, JsonValue] = {
            name: {"artifacts": [one.json() for one in several]} for name, several in self.values.artifacts.items()
        }
        parameters: dict[str, JsonValue] = {
            name: {"outputFile": str(self.outputs / name)} for name in declared.parameters
        }
        made: dict[str, JsonValue] = {name: {"artifacts": [self._artifact(name).json()]} for name in declared.artifacts}
        return {
            "inputs": {"parameterValues": dict(self.values.parameters), "artifacts": artifacts},
            "outputs": {"parameters": parameters, "artifacts": made, "outputFile": str(self._output_file)},
        }

    @property
    def _output_file(self) -> Path:
        return self.outputs / "executor_output.json"

    def _artifact(self, name: str) -> RuntimeArtifact:
        return RuntimeArtifact(
            name, self.component.output_definitions.artifacts[name].artifact_type, str(self.outputs / name)
        )

    def _read_outputs(self) -> Values:
        said = self._executor_output()
        parameters = {**self._written_parameters(), **mapping(said.get("parameterValues"))}
        declared = self.component.output_definitions
        kinds = {key: one.parameter_type for key, one in declared.parameters.items()}
        typed = {key: converted(value, kinds[key], key) for key, value in parameters.items() if key in kinds}
        artifacts = mapping(said.get("artifacts"))
        return Values(
            typed,
            {name: tuple(self._made(name, artifacts.get(name))) for name in declared.artifacts},
        )

    def _executor_output(self) -> Mapping[str, JsonValue]:
        if not self._output_file.exists():
            return {}
        size = self._output_file.stat().st_size
        if size > MAX_OUTPUT_BYTES:
            raise ValueFaultError(f"its outputs are {size} bytes, and at most {MAX_OUTPUT_BYTES} are taken")
        try:
            return mapping(load_json(self._output_file.read_bytes()))
        except (ValueError, RecursionError) as error:
            raise ValueFaultError(f"its outputs cannot be read: {error}") from None

    def _written_parameters(self) -> dict[str, JsonValue]:
        """Output parameters that the component wrote into files itself (`dsl.OutputPath`)."""
        files = {name: self.outputs / name for name in self.component.output_definitions.parameters}
        return {
            name: path.read_text("utf-8", errors="replace")
            for name, path in files.items()
            if path.is_file() and path.stat().st_size <= MAX_OUTPUT_BYTES
        }

    def _made(self, name: str, said: JsonValue) -> Iterator[RuntimeArtifact]:
        planned = self._artifact(name)
        listed = mapping(said).get("artifacts")
        for one in listed if isinstance(listed, list) else [{}]:
            given = mapping(one)
            custom = str(given.get("custom_path") or "")
            uri = str(given.get("uri") or planned.uri)
            yield recorded(replace(planned, uri=uri, metadata=mapping(given.get("metadata")), custom_path=custom))


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


def _failed(error: str) -> Outcome:
    return Outcome(State.FAILED, error, message=f"{_LAUNCHER}: {error}")


def _file_name(task: str) -> str:
    return re.sub(r"[^\w.-]+", "-", task)[-60:]


def _imported(
    importer: Importer, component: Component, values: Values, names: Mapping[str, str], log: TaskLog
) -> Outcome:
    """Imports an artifact: nothing is copied, and what lies on this machine must be there."""
    parameter = importer.artifact_uri.get("runtimeParameter", "")
    uri = importer.artifact_uri.get("constant") or as_text(values.parameters.get(parameter, ""))
    parts = urlsplit(uri)
    if parts.scheme in {"", "file"}:
        uri = unquote(parts.path) if parts.scheme else uri
        if not Path(uri).exists():
            return _failed(f"it imports {uri}, and there is no such file on this machine")
    log.note(f"imports {uri}; nothing is copied")
    metadata = mapping(filled(importer.metadata or {}, values.parameters, names))
    declared = component.output_definitions.artifacts.items()
    made = {
        name: (recorded(RuntimeArtifact(name, one.artifact_type, uri, metadata), imported=True),)
        for name, one in declared
    }
    return Outcome(State.SUCCEEDED, values=Values(artifacts=made))
