"""Inputs and outputs of the tasks of a run, from the executions, events and artifacts of ML Metadata."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from kfadapter_grpc.contract.run_outputs import RunArtifact, RunInput, RunOutput
from kfadapter_grpc.contract.runs import RunTask
from kfadapter_grpc.contract.spec import Json, TaskKind
from kfadapter_grpc.contract.values import json_text
from kfadapter_grpc.kfp.mlmd.records import SESSION, Execution, Producers, RecordedRun, read_session, session_of
from kfadapter_grpc.kfp.run_nodes import EXECUTOR_LOGS, METRICS, RunNodes, artifact
from kfadapter_grpc.kfp.spec_tasks import COMPILER_PREFIX, TaskInputs
from kfadapter_grpc.kfp.workflow import hashed

_SUFFIXES = "(0)", ""
"""Suffixes of the names of the nodes around a node: `(0)` if every template is retried, as KFP 2.17 is installed."""


@dataclass(frozen=True, slots=True)
class _Scope:
    """A group, or an iteration of a loop; `hashes` are those of the names of its node, one for each suffix.

    Attributes:
        task_id: The group's task; empty for the whole run, None if it is unknown.
    """

    task_id: str | None
    iteration: int | None
    hashes: tuple[int, ...]

    def inside(self, *names: str) -> tuple[int, ...]:
        texts = ["".join(name + suffix for name in names) for suffix in _SUFFIXES]
        return tuple(hashed(text, state) for text, state in zip(texts, self.hashes, strict=True))


class Join:
    """The executions of a run by task.

    Both have the tree of groups, iterations and names. Independently of that, a hash ends the names of a task's pods
    and, where there was no pod (a task from the cache, an importer), its id, as its node can have only one name. The
    result of either is used unless the other one differs.

    Attributes:
        executions: By task_id; the latest if there are several. Iterations, which are not tasks, are omitted.
        ambiguous: The tasks for which the two ways differ.
    """

    def __init__(self, nodes: RunNodes, executions: Sequence[Execution]) -> None:
        self._tasks = {task.task_id: task for task in nodes.tasks}
        self._by_group = {(task.parent_task_id, task.name, task.iteration_index): task for task in nodes.tasks}
        self._by_title = {(one.parent_task_id, one.display_name, one.iteration_index): one for one in nodes.tasks}
        self._numbers = {_number(task_id): task_id for task_id in self._tasks}
        self._pods = {_number(pod.name): task_id for task_id, pods in nodes.pods_by_task.items() for pod in pods}
        self._inside: dict[int, list[Execution]] = {}
        for one in sorted(executions, key=lambda found: found.id):
            self._inside.setdefault(one.parent, []).append(one)
        self.executions: dict[str, Execution] = {}
        self.ambiguous: set[str] = set()
        workflow = next((one.rpartition("-")[0] for one in self._numbers.values()), "")
        top = _Scope("", None, tuple(hashed(f"{workflow}{suffix}.root{suffix}") for suffix in _SUFFIXES))
        self._walk(top)
        self.executions = {key: one for key, one in self.executions.items() if key not in self.ambiguous}

    def at(self, group: str, name: str, iteration: int | None) -> RunTask | None:
        return self._by_group.get((group, name, iteration))

    def iterations(self, group: RunTask) -> Sequence[int | None]:
        """Returns the iterations of a loop; for another group, the one that it is in itself."""
        if group.kind is not TaskKind.LOOP:
            return [group.iteration_index]
        indexes = {task.iteration_index for task in self._tasks.values() if task.parent_task_id == group.task_id}
        return sorted(index for index in indexes if index is not None)

    def iteration_path(self, task_id: str) -> tuple[int, ...]:
        """Returns the iterations that contain a task, from the outermost loop to the innermost."""
        path: list[int] = []
        task = self._tasks.get(task_id)
        while task is not None:
            above = self._tasks.get(task.parent_task_id)
            if above is not None and above.kind is TaskKind.LOOP and task.iteration_index is not None:
                path.append(task.iteration_index)
            task = above
        return tuple(reversed(path))

    def _walk(self, top: _Scope) -> None:
        """Walks the tree, breadth first; ends even if it is not a tree."""
        queue = deque((root, top) for root in self._inside.pop(0, ()))
        while queue:
            group, scope = queue.popleft()
            for execution in self._inside.pop(group.id, ()):
                index = execution.iteration_index if group.iteration_count is not None else None
                if index is not None and execution.is_group:
                    hashes = scope.inside(f".iteration-iterations({index}:{index})", ".iteration-item")
                    queue.append((execution, _Scope(scope.task_id, index, hashes)))
                    continue
                inner = scope if index is None else replace(scope, iteration=index)
                task_id = self._task_of(execution, inner)
                if task_id:
                    self.executions[task_id] = execution
                if execution.id in self._inside:
                    task = self._tasks.get(task_id or "")
                    name = task.name if task and execution.name == task.display_name else execution.name
                    queue.append((execution, _Scope(task_id, inner.iteration, inner.inside(f".{name}"))))

    def _task_of(self, execution: Execution, scope: _Scope) -> str | None:
        by_tree = None
        if scope.task_id is not None:
            key = scope.task_id, execution.name, scope.iteration
            task = self._by_group.get(key) or self._by_title.get(key)
            by_tree = task.task_id if task else None
        by_node = (
            self._pods.get(_number(execution.pod_name))
            if execution.pod_name
            else next(self._by_name(execution, scope), None)
        )
        if by_tree and by_node and by_tree != by_node:
            self.ambiguous |= {by_tree, by_node}
            return None
        return by_tree or by_node

    def _by_name(self, execution: Execution, scope: _Scope) -> Iterator[str]:
        """Yields the task whose id ends in the hash of the name that the execution's node must have."""
        for state in scope.hashes:
            if (task_id := self._numbers.get(str(hashed(f".{execution.name}", state)))) is not None:
                yield task_id


def _number(name: str) -> str:
    return name.rpartition("-")[2]


AMBIGUOUS = "its inputs and outputs are left out: by its name they are of one task, by its pod of another"
"""The warning of a task whose execution is ambiguous."""
_MISSING: Json = object()  # type: ignore[assignment] # no value, which is not the same as null
_TEMPLATE = re.compile(r"\{\{\$\.inputs\.parameters\[(?:'([^']*)'|\"([^\"]*)\")\]\}\}")


def with_outputs(run_id: str, nodes: RunNodes, recorded: RecordedRun) -> RunNodes:
    return _Outputs(run_id, nodes, recorded).complete()


class _Outputs:
    """What is recorded of one run, by task."""

    def __init__(self, run_id: str, nodes: RunNodes, recorded: RecordedRun) -> None:
        self._run_id = run_id
        self._nodes = nodes
        self._recorded = recorded
        self._tasks = {task.task_id: task for task in nodes.tasks}
        self._join = Join(nodes, recorded.executions)
        self._inputs = TaskInputs(nodes.steps, {task.task_id: task.parent_task_id for task in nodes.tasks})
        self._input_ids: dict[int, dict[str, list[int]]] = {}
        self._output_ids: dict[int, dict[str, list[int]]] = {}
        for event in recorded.events:
            if event.artifact_id in recorded.artifacts:
                ids = self._output_ids if event.type == event.OUTPUT else self._input_ids
                name = next((step.key for step in event.path.steps if step.key), "")  # the path has no other step
                ids.setdefault(event.execution_id, {}).setdefault(name, []).append(event.artifact_id)
        self._producers_of: dict[int, list[RunArtifact]] = {}
        self._artifacts: dict[str, dict[str, tuple[RunArtifact, ...]]] = {}
        for task_id, execution in sorted(self._join.executions.items(), key=lambda one: one[1].id):
            self._read_artifacts(task_id, execution)

    def complete(self) -> RunNodes:
        recorded = self._recorded
        stores = {str(key): session_of(one, recorded.pipeline_root) for key, one in recorded.artifacts.items()}
        tasks = tuple(self._complete_task(task) for task in self._nodes.tasks)
        return replace(self._nodes, tasks=tasks, stores=stores, stored_logs=self._logs)

    def _logs(self, task_id: str) -> tuple[RunArtifact, ...]:
        execution = self._join.executions.get(task_id)
        outputs = self._output_ids.get(execution.id, {}) if execution else {}
        names = {key: name for name, ids in outputs.items() if name.startswith(EXECUTOR_LOGS) for key in ids}
        return tuple(self._artifact(self._recorded.artifacts[key], names[key], task_id) for key in sorted(names))

    def _complete_task(self, task: RunTask) -> RunTask:
        execution = self._join.executions.get(task.task_id)
        if task.task_id in self._join.ambiguous:
            return replace(task, warnings=(*task.warnings, AMBIGUOUS))
        if execution is None:
            return task
        return replace(
            task,
            inputs=tuple(sorted(self._inputs_of(task, execution), key=lambda one: one.name)),
            outputs=tuple(sorted(self._outputs_of(task, execution), key=lambda one: one.name)),
        )

    # --- outputs ------------------------------------------------------------------------------------------------

    def _read_artifacts(self, task_id: str, execution: Execution) -> None:
        """Collects the artifacts that a task made; a group has those of its tasks."""
        by_name: dict[str, tuple[RunArtifact, ...]] = {}
        for name, ids in self._output_ids.get(execution.id, {}).items():
            if name.startswith(EXECUTOR_LOGS):
                continue
            keys = sorted(set(ids))
            stored = [self._recorded.artifacts[key] for key in keys]
            by_name[name] = artifacts = tuple(self._artifact(item, name, task_id, execution.outputs) for item in stored)
            for key, artifact_ in zip(keys, artifacts, strict=True):
                self._producers_of.setdefault(key, []).append(artifact_)
        self._artifacts[task_id] = by_name

    def _artifact(
        self, stored: RunArtifact, name: str, task_id: str, parameters: Mapping[str, Json] | None = None
    ) -> RunArtifact:
        """Makes an artifact, without the metadata that KFP added."""
        metadata = dict(stored.metadata)
        if read_session(metadata.get(SESSION)) is not None:
            del metadata[SESSION]
        if metadata.get("display_name") == name:
            del metadata["display_name"]
        if stored.type == METRICS:
            metadata = {key: _exact(value, (parameters or {}).get(key)) for key, value in metadata.items()}
        return artifact(
            stored.type,
            metadata,
            name=name,
            uri=stored.uri,
            artifact_id=stored.artifact_id,
            run_id=self._run_id,
            task_id=task_id,
            created_at=stored.created_at,
        )

    def _outputs_of(self, task: RunTask, execution: Execution) -> Iterator[RunOutput]:
        for name in (*execution.outputs, *execution.parameters):
            if (value := self._value(task, name)) is not _MISSING:
                yield RunOutput(name, value=value)
        for name in {**self._artifacts[task.task_id], **execution.artifacts}:
            if artifacts := self._artifacts_of(task, name):
                yield RunOutput.of(name, *artifacts)

    def _value(self, task: RunTask, name: str, depth: int = 0) -> Json:
        """The value of an output; a group's is that of one of its tasks, a loop's a list of those of its iterations."""
        execution = self._join.executions.get(task.task_id)
        if execution is None or depth > len(self._tasks):
            return _MISSING
        if name in execution.outputs:
            return execution.outputs[name]
        results: list[Json] = []
        for producers in self._producers(task, execution.parameters.get(name, ())):
            values = (self._value(child, key, depth + 1) for child, key in producers)
            results += [value for value in values if value is not _MISSING][:1]
        if task.kind is TaskKind.LOOP and results:
            return results
        return results[0] if results else _MISSING

    def _artifacts_of(self, task: RunTask, name: str, depth: int = 0) -> tuple[RunArtifact, ...]:
        """The artifacts of an output; a group's are those of its tasks, a loop's those of all its iterations."""
        execution = self._join.executions.get(task.task_id)
        if execution is None or depth > len(self._tasks):
            return ()
        if (own := self._artifacts[task.task_id].get(name)) is not None:
            return own
        artifacts: list[RunArtifact] = []
        for producers in self._producers(task, execution.artifacts.get(name, ())):
            candidates = (self._artifacts_of(child, key, depth + 1) for child, key in producers)
            artifacts += next((candidate for candidate in candidates if candidate), ())
        return tuple(artifacts)

    def _producers(self, group: RunTask, producers: Producers) -> Iterator[list[tuple[RunTask, str]]]:
        """Yields where an output of a group may come from: once, or for each iteration of a loop."""
        for iteration in self._join.iterations(group):
            places = ((self._join.at(group.task_id, name, iteration), key) for name, key in producers)
            yield [(task, key) for task, key in places if task is not None]

    # --- inputs -------------------------------------------------------------------------------------------------

    def _inputs_of(self, task: RunTask, execution: Execution) -> Iterator[RunInput]:
        parameters = {**self._inputs.defaults(task.task_id), **execution.inputs}
        for name, value in parameters.items():
            if task.kind.is_group or not name.startswith(COMPILER_PREFIX):
                source = self._inputs.source(task.task_id, name)
                yield RunInput(name, _resolved(value, execution.inputs), (), *source)
        for name, ids in self._input_ids.get(execution.id, {}).items():
            source = self._inputs.source(task.task_id, name)
            artifacts = self._in_order([self._input(one, name, task, source[0]) for one in ids])
            if source == ("", "") and len({one.name for one in artifacts}) == 1 and artifacts[0].task_id:
                source = self._tasks[artifacts[0].task_id].name, artifacts[0].name
            yield RunInput(name, None, artifacts, *source, has_value=False)

    def _input(self, artifact_id: int, name: str, task: RunTask, source: str) -> RunArtifact:
        """An input artifact of a task, as recorded by the task that is its source or closest to it."""

        def nearness(made: RunArtifact) -> tuple[bool, bool]:
            maker = self._tasks[made.task_id]
            beside = (maker.parent_task_id, maker.iteration_index) == (task.parent_task_id, task.iteration_index)
            return maker.name == source, beside

        makers = self._producers_of.get(artifact_id)
        return max(makers, key=nearness) if makers else self._artifact(self._recorded.artifacts[artifact_id], name, "")

    def _in_order(self, artifacts: Sequence[RunArtifact]) -> tuple[RunArtifact, ...]:
        return tuple(sorted(artifacts, key=lambda one: self._join.iteration_path(one.task_id)))


def _exact(value: Json, parameter: Json) -> Json:
    """A metric, which the store keeps with six decimals, or the parameter if it is equal to that precision."""
    numbers = [one for one in (value, parameter) if isinstance(one, int | float) and not isinstance(one, bool)]
    return parameter if len({f"{one:.6f}" for one in numbers}) == 1 and len(numbers) == 2 else value  # noqa: PLR2004


def _resolved(value: Json, inputs: Mapping[str, Json]) -> Json:
    """A value with the other inputs that it embeds filled in, as KFP's launcher does."""
    if isinstance(value, str):
        return _TEMPLATE.sub(lambda match: _text(inputs.get(match[1] or match[2], match[0])), value)
    if isinstance(value, list):
        return [_resolved(item, inputs) for item in value]
    return {key: _resolved(item, inputs) for key, item in value.items()} if isinstance(value, dict) else value


def _text(value: Json) -> str:
    if isinstance(value, float):
        return f"{Decimal(repr(value)):f}"
    return value if isinstance(value, str) else "" if value is None else json_text(value)
