"""Executes single tasks: commands, as processes or in containers, with retries, and imports."""

from __future__ import annotations

import math
import re
import signal
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count
from pathlib import Path

from kfadapter_embedded.execution import (
    EXECUTOR_LOGS,
    SCRATCH,
    State,
    Steps,
    TaskReport,
    iteration_of,
    log_path,
    task_name,
)
from kfadapter_embedded.json_text import JsonValue, protojson
from kfadapter_embedded.run_tasks import artifact_number, executor_pod, pod_uid
from kfadapter_grpc.check.rules import ARTIFACT_ELSEWHERE, ARTIFACT_METADATA, PLACEHOLDER_IN_CODE

from .attempts import AttemptFolders
from .command import (
    EXECUTOR,
    Command,
    Exit,
    Start,
    StartError,
    in_container,
    known_placeholders,
    needs_image,
    with_empty_lists,
    words_of,
)
from .importer import Imports, imported
from .limits import Limits, limits_of, resolved, task_config
from .log import TaskLog, why
from .outcome import LAUNCHER, Outcome, failed
from .outputs import Outputs
from .placeholders import WORKSPACE, with_places
from .places import IMAGES, Store, Tree, transfer
from .spec import Component, Container, Retry, Task
from .task_api import entries, given_by, recorded
from .values import RuntimeArtifact, ValueFaultError, Values
from .warned import TaskWarnings

MAX_INPUT_BYTES = (128 << 10) - 1
"""Linux's limit for one argument; KFP's components take all their inputs in one."""
# The last thing a component does before it starts is to install the kfp that it was compiled with. This server's kfp is
# available already and works as well. Packages that the user requests, including another kfp, are installed.
_INSTALLS_KFP = re.compile(
    r"""(?:PIP_DISABLE_PIP_VERSION_CHECK=1\ )?python3\ -m\ pip\ install(?:\ +--\S+(?:\ +[^\s'-][^\s']*)?)*
    \ +'kfp==[^']+'(?:\ +'--no-deps')?(?:\ +'typing-extensions[^']*')?\ *&&\ +(?="\$0"\ "\$@")""",
    re.VERBOSE,
)
# The script that is left if it installs nothing else. Each task's environment has pip.
_INSTALLS_NOTHING = re.compile(
    r'\s*(?:if ! \[ -x "\$\(command -v pip\)" \]; then\n +python3 -m ensurepip [^\n]*\nfi\s+)?"\$0" "\$@"\s*'
)
_WHOLE_INPUT = "{{$}}"
_PLACEHOLDER = re.compile(r"\{\{\$[^{}]*\}\}")


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
        names: Mapping[str, str],
        store: Store,
        attempts: AttemptFolders,
    ) -> None:
        self.folder = folder
        self.names = names
        self.store = store
        self.attempts = attempts
        self.imports = Imports(folder / SCRATCH / "imports", Path(names[WORKSPACE]))
        self.processes = processes
        self.containers = containers
        self.steps = steps
        self.stopped = stopped
        self._report = report
        self._room = room
        self.store.folder.mkdir(exist_ok=True)
        self._numbers = count(1)

    def __call__(
        self, begun: TaskReport, task: Task, component: Component, values: Values, warnings: TaskWarnings
    ) -> Outcome:
        """Executes a task, with the retries of its policy."""
        if component.executor.importer:
            self._report(begun)
            with TaskLog(log_path(self.folder, begun.name)) as log:
                outcome = imported(task, component, values, imports=self.imports, log=log, warnings=warnings)
                _note(warnings.texts, log)
                return replace(outcome, attempts=1)
        logs: list[RuntimeArtifact] = []
        retry = task.retry_policy or Retry()
        for failures in range(retry.max_retry_count + 1):
            path = log_path(self.folder, begun.name, failures)
            path.unlink(missing_ok=True)
            logs.append(recorded(RuntimeArtifact(EXECUTOR_LOGS, {}, str(path))))
            with TaskLog(path) as log:
                number, has_retries = next(self._numbers), task.retry_policy is not None
                attempt = _Attempt(self, number, failures, has_retries, begun.name, component, values, warnings)
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
        """Executes a task once, as soon as a slot is free."""
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
    failures: int
    has_retries: bool
    name: str
    component: Component
    values: Values
    warnings: TaskWarnings

    @cached_property
    def outputs(self) -> Outputs:
        """The attempt's outputs, under URIs that no other attempt uses."""
        # KFP's SDK, in an image, uses the paths of a pod; other commands get those of this machine.
        run, seen = self.runner, "" if self._contained and self._is_python else str(self._folder / "places")
        root = f"{run.store.root}/{task_name(self.name)}/{uuid.uuid4()}"
        return Outputs(Tree(self._folder / "places", seen), run.store, root, self.component.output_definitions)

    @property
    def _folder(self) -> Path:
        """The folder of the attempt's files, needed only while it runs."""
        return self.runner.folder / SCRATCH / f"{self.number}"

    @property
    def container(self) -> Container:
        if self.component.executor.container is None:
            raise TypeError(self.name)
        return self.component.executor.container

    def outcome(self, log: TaskLog) -> Outcome:
        """Executes the attempt; raises ValueFaultError for what KFP's driver rejects."""
        known = known_placeholders(self.values, self.outputs)
        text = protojson(self._executor_input(known))
        if (size := len(text.encode(errors="replace"))) > MAX_INPUT_BYTES:
            return failed(
                f"its inputs are {size} bytes as JSON, and no component takes more than {MAX_INPUT_BYTES}: "
                "pass large data as an artifact (dsl.Output[dsl.Dataset])"
            )
        command = self._command(known, text)
        if command.limits.accelerator:
            log.note(f"requests {command.limits.accelerator}; nothing is reserved on this machine")
        try:
            return self._executed(command, log)
        except StartError as error:
            return failed(str(error))
        except ValueFaultError as error:
            return failed(*error.args)
        finally:
            # No other task waits for this, and at the end of the run everything left is removed.
            self.runner.attempts.give_back(self._folder)

    def _executed(self, command: Command, log: TaskLog) -> Outcome:
        self.runner.attempts.take(self._folder)
        self._take_inputs(log)
        self.outputs.make_folders()
        end = self._start(command, log)
        if end.code:
            ending = f"exit status {end.code}" if end.code > 0 else f"signal: {signal.strsignal(-end.code)}".lower()
            image = "" if self._contained else self.container.image
            return Outcome(State.FAILED, end.reason or why(end.code, log.tail, image), message=f"{LAUNCHER}: {ending}")
        values = self.outputs.read()
        for name, (artifact,) in values.artifacts.items():
            if not artifact.path and not artifact.uri.startswith(IMAGES):
                self.warnings.warn(ARTIFACT_ELSEWHERE.text(output=name, uri=artifact.uri))
        return Outcome(State.SUCCEEDED, values=values)

    def _take_inputs(self, log: TaskLog) -> None:
        """Copies the input artifacts into its tree (`component/launcher_v2.go:downloadArtifacts`)."""
        for name, several in self.values.artifacts.items():
            for artifact in several:
                target = self.outputs.tree.path(artifact.uri)
                try:
                    if artifact.uri.startswith(IMAGES):
                        raise ValueFaultError("a model in an image needs a container beside the step")
                    if target is None or target.exists():
                        continue
                    if artifact.workspace_path:
                        self.outputs.tree.link_workspace(target, artifact.workspace_path)
                        continue
                    source = Path(artifact.path) if artifact.path else self.runner.imports.path(artifact.uri, log)
                    transfer(source, target)
                except ValueFaultError as error:
                    raise ValueFaultError(
                        f"its input {name!r} cannot be had: {error}",
                        f'failed to download input artifact "{name}" from remote storage URI "{artifact.uri}": {error}',
                    ) from None

    @property
    def _contained(self) -> bool:
        return in_container(self.container, self.runner.steps)

    @property
    def _is_python(self) -> bool:
        return EXECUTOR in " ".join((*self.container.command, *self.container.args))

    def _start(self, command: Command, log: TaskLog) -> Exit:
        if self._contained and self.runner.containers:
            return self.runner.containers(command, log)
        if needs_image(self.container):
            self.warnings.remark(f"runs as a process, not in image {command.image}")
        return self.runner.processes(command, log)

    def _command(self, known: Mapping[str, str], executor_input: str) -> Command:
        """The command to run; raises ValueFaultError for what KFP's driver rejects."""
        container, parameters = self.container, self.values.parameters
        words = words_of(container, self.values, known, executor_input)
        parts = (*container.command, *container.args)
        if self._is_python:
            for found in (one[0] for part in parts if part != _WHOLE_INPUT for one in _PLACEHOLDER.finditer(part)):
                if found in known or found == _WHOLE_INPUT:
                    self.warnings.warn(PLACEHOLDER_IN_CODE.text(placeholder=found))
            words = tuple(with_empty_lists(one, self.values) for one in words)
            if not self._contained:
                words = without_kfp(words)
        artifacts = (one for several in self.values.artifacts.values() for one in several)
        own, limits = self.component.passed_through, limits_of(container, parameters)
        variables = {one.get("name", ""): one.get("value", "") for one in container.env}
        return Command(
            number=self.number,
            words=words,
            image=str(resolved(container.image, parameters)),
            variables={**self._pod, **(variables if own.get("ENV", True) else {})},
            limits=limits if own.get("RESOURCES", True) else Limits(),
            inputs=tuple(Path(one.uri) for one in artifacts if one.uri.startswith("/")),
            tree=self.outputs.tree,
            pull=container.image_pull_policy,
            seconds=container.active_deadline_seconds,
        )

    @property
    def _pod(self) -> dict[str, str]:
        """KFP's environment variables: the pod that the API lists, and the attempt (`argocompiler/container.go`)."""
        run = self.runner.names
        pod = executor_pod(run.get("pipeline_job_resource_name", ""), self.name, self.failures)
        attempt = {"KFP_RETRY_INDEX": str(self.failures)} if self.has_retries else {}
        return {"KFP_POD_NAME": pod, "KFP_POD_UID": pod_uid(run.get("pipeline_job_uuid", ""), pod), **attempt}

    def _executor_input(self, known: Mapping[str, str]) -> JsonValue:
        """The input of KFP's executor: the input values, and the paths of the outputs."""
        artifacts: dict[str, JsonValue] = {}
        for name, several in self.values.artifacts.items():
            if self._is_python and any(_arrives_otherwise(one.metadata) for one in several):
                self.warnings.warn(ARTIFACT_METADATA.text(attributes="the metadata", input=name))
            artifacts[name] = {"artifacts": [_taken(one) for one in several]}
        parameters = with_places(self.values, known)
        for name, one in self.component.input_definitions.parameters.items():
            if one.parameter_type == "TASK_CONFIG":
                parameters[name] = task_config(self.component, self.container, self.values.parameters)
        inputs: JsonValue = {"parameterValues": parameters, "artifacts": artifacts}
        return {"inputs": inputs, "outputs": self.outputs.planned()}


def without_kfp(words: tuple[str, ...]) -> tuple[str, ...]:
    """The words of a Python component's command, without the installation of kfp, nor a script for nothing else."""
    words = tuple(_INSTALLS_KFP.sub("", one) for one in words)
    return words[3:] if words[:2] == ("sh", "-c") and _INSTALLS_NOTHING.fullmatch(words[2]) else words


def _taken(artifact: RuntimeArtifact) -> JsonValue:
    """An artifact as a step gets it (`metadata/converter.go:toRuntimeArtifact`), of the type that the step declares."""
    number = next((artifact_number(str(one["artifact_id"])) for one in artifact.records), "0")
    # The mark of KFP's driver (`driver/resolve.go:setWorkspaceFlag`), which the SDK looks for.
    mark = {"_kfp_workspace": True} if artifact.workspace_path else {}
    return {"name": number, "uri": artifact.uri, "metadata": {**artifact.metadata, **mark}}


def _arrives_otherwise(metadata: Mapping[str, JsonValue]) -> bool:
    """Whether ML Metadata returns metadata that differ from what was stored, apart from insignificant rounding."""
    return any(
        not math.isclose(one, round(one, 6), rel_tol=1e-3)
        if type(one) is float
        else isinstance(one, bool | list | dict)
        for one in metadata.values()
    )


def _note(warnings: Sequence[str], log: TaskLog) -> None:
    for text in warnings:
        log.note(f"warning: {text}")
