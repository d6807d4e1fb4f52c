"""The tasks that a run's pipeline declares: titles and kinds, those that have not started, the sources of inputs.

KFP has a task only once its driver has run, and Argo a node only once it may run. The pipeline spec has all others.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple, TypeAlias, cast

import msgspec

from kfadapter_grpc.contract.call import Call
from kfadapter_grpc.contract.errors import AdapterError
from kfadapter_grpc.contract.runs import RunState, RunTask
from kfadapter_grpc.contract.spec import Json, PipelineFormat, Task, TaskKind
from kfadapter_grpc.kfp.decoding import decode_or_empty
from kfadapter_grpc.kfp.run_nodes import Key, RunNodes, keys_of
from kfadapter_grpc.kfp.spec import summarize
from kfadapter_grpc.kfp.versions import Versions
from kfadapter_grpc.kfp.workflow import Step

MAX_SPEC_BYTES = 8 * 1024 * 1024
"""Larger specs are not read for the tasks of a run."""
MAX_CACHED_BYTES = 32 * 1024 * 1024
"""The limit of cached specs, by their size as JSON."""
MAX_CACHED = 256
MAX_UNSTARTED = 1000
SPEC_SECONDS = 2.0
_NOT_ENTERED = frozenset({RunState.PENDING, RunState.SKIPPED, RunState.OMITTED})


class SpecTask(NamedTuple):
    """A task that a pipeline declares, and KFP's PipelineTaskSpec of it as JSON."""

    task: Task
    text: str = ""

    def input(self, name: str) -> str:
        """The part of it that a driver receives: the text, as `task`."""
        return self.text if name == "task" else ""


SpecTasks: TypeAlias = "Mapping[tuple[str, ...], SpecTask]"
"""The tasks of a pipeline by the names of their groups and their own, in an order in which they can run."""
_NO_TASKS: SpecTasks = MappingProxyType({})


class RunSpecs:
    """The specs of runs; those of versions never change, and are cached. Safe to use from many threads."""

    def __init__(self, versions: Versions) -> None:
        self._versions = versions
        self._cache: OrderedDict[str, tuple[SpecTasks, int]] = OrderedDict()
        self._lock = threading.Lock()

    def tasks(self, pipeline_id: str, version_id: str, inline: bytes, call: Call) -> SpecTasks:
        """Returns the tasks that the spec of a run declares; empty if it cannot be read, or not in time.

        It is the spec of a version, or `inline`, that of a run that was started from a file.
        """
        key = hashlib.sha256(inline).hexdigest() if inline else version_id
        with self._lock:
            if key in self._cache:
                self._cache.move_to_end(key)
                return self._cache[key][0]
        if not key or not (inline or pipeline_id) or len(inline) > MAX_SPEC_BYTES:
            return _NO_TASKS
        try:
            with call.within(SPEC_SECONDS) as part:
                spec = inline or self._versions.spec(pipeline_id, version_id, part, MAX_SPEC_BYTES)
            summary = summarize(spec)
        except AdapterError:
            return _NO_TASKS
        tasks = dict(_flat(summary.tasks, spec)) if summary.format is PipelineFormat.KFP_V2 else _NO_TASKS
        self._store(key, tasks, len(spec))
        return tasks

    def _store(self, key: str, tasks: SpecTasks, size: int) -> None:
        with self._lock:
            self._cache[key] = tasks, size
            while len(self._cache) > MAX_CACHED or sum(used for _, used in self._cache.values()) > MAX_CACHED_BYTES:
                self._cache.popitem(last=False)


class _DagJson(msgspec.Struct):
    tasks: dict[str, msgspec.Raw] = {}


class _ComponentJson(msgspec.Struct):
    dag: _DagJson = msgspec.field(default_factory=_DagJson)


class _SpecJson(msgspec.Struct):
    root: _ComponentJson = msgspec.field(default_factory=_ComponentJson)
    components: dict[str, _ComponentJson] = {}


class _WrapperJson(_SpecJson):
    """A bare pipeline spec, or one with a platform spec beside it."""

    pipeline_spec: _SpecJson | None = None


def _flat(tasks: Iterable[Task], spec: bytes) -> Iterator[tuple[tuple[str, ...], SpecTask]]:
    wrapper = decode_or_empty(spec, _WrapperJson)
    document = wrapper.pipeline_spec or wrapper
    queue: list[tuple[tuple[str, ...], _ComponentJson, Task]] = [((), document.root, task) for task in tasks]
    while queue:
        path, group, task = queue.pop(0)
        yield (*path, task.name), SpecTask(task, bytes(group.dag.tasks.get(task.name, b"")).decode("utf-8", "replace"))
        component = document.components.get(task.component, _ComponentJson())
        queue[:0] = [((*path, task.name), component, inner) for inner in task.tasks]


def with_unstarted(nodes: RunNodes, spec: SpecTasks, *, is_over: bool) -> RunNodes:
    """Adds the tasks that have not started: PENDING while their group runs, OMITTED afterwards.

    Nothing is added inside a group that has not started itself, or was skipped.
    """
    if not spec or nodes.unreadable:
        return nodes
    by_key = keys_of(nodes.tasks)
    added = [task for key, group in _groups(by_key) for task in _unstarted(key, group, spec, by_key, is_over=is_over)]
    warnings = nodes.warnings
    if len(added) > MAX_UNSTARTED:
        warnings = (*warnings, f"{len(added) - MAX_UNSTARTED} more tasks have not begun")
    return replace(nodes, tasks=(*nodes.tasks, *added[:MAX_UNSTARTED]), warnings=warnings)


def _groups(by_key: Mapping[Key, RunTask]) -> Iterator[tuple[Key, RunTask | None]]:
    """The groups that have started, the pipeline first; a loop once for each iteration, which ends the key."""
    yield (), None
    iterations: dict[str, set[int]] = {}
    for task in by_key.values():
        if task.iteration_index is not None:
            iterations.setdefault(task.parent_task_id, set()).add(task.iteration_index)
    for key, task in by_key.items():
        if task.kind is TaskKind.LOOP and task.state not in _NOT_ENTERED:
            for index in sorted(iterations.get(task.task_id, ())):
                yield (*key, ("", index)), task
        elif task.kind.is_group and task.state not in _NOT_ENTERED:
            yield (*key, ("", task.iteration_index)), task


def _unstarted(
    key: Key, group: RunTask | None, spec: SpecTasks, by_key: Mapping[Key, RunTask], *, is_over: bool
) -> Iterator[RunTask]:
    above, iteration = key[:-1], key[-1][1] if key else None
    path = tuple(name for name, _ in above)
    declared = [one.task for place, one in spec.items() if place[:-1] == path]
    ended = is_over or (group is not None and group.state.is_over)
    parent_id = group.task_id if group else ""
    for task in declared:
        if (*above, (task.name, iteration)) not in by_key:
            yield RunTask(
                task.name,
                task_id=f"{parent_id}/{task.name}" + ("" if iteration is None else f"[{iteration}]"),
                state=RunState.OMITTED if ended else RunState.PENDING,
                display_name=task.display_name or task.name,
                kind=task.kind,
                parent_task_id=parent_id,
                iteration_index=iteration,
            )


COMPILER_PREFIX = "pipelinechannel--"
"""The prefixes of inputs that the compiler adds: a group's, and those that texts of containers embed."""
_NO_SOURCE = "", ""


class _ProducerJson(msgspec.Struct, rename="camel"):
    producer_task: str = ""
    output_parameter_key: str = ""
    output_artifact_key: str = ""


class _InputJson(msgspec.Struct, rename="camel"):
    task_output_parameter: _ProducerJson | None = None
    task_output_artifact: _ProducerJson | None = None
    component_input_parameter: str = ""
    component_input_artifact: str = ""


class _InputsJson(msgspec.Struct):
    parameters: dict[str, _InputJson] = {}
    artifacts: dict[str, _InputJson] = {}


class _ItemsJson(msgspec.Struct, rename="camel"):
    input_parameter: str = ""
    input_artifact: str = ""


class _IteratorJson(msgspec.Struct, rename="camel"):
    item_input: str = ""
    items: _ItemsJson = msgspec.field(default_factory=_ItemsJson)


class _TaskJson(msgspec.Struct, rename="camel"):
    inputs: _InputsJson = msgspec.field(default_factory=_InputsJson)
    parameter_iterator: _IteratorJson | None = None
    artifact_iterator: _IteratorJson | None = None

    def input(self, name: str) -> _InputJson | None:
        return self.inputs.parameters.get(name) or self.inputs.artifacts.get(name)

    def list_of(self, item: str) -> str:
        """The input with the list that contains `item`; `item` itself if it is not an item of a loop."""
        for iterator in (self.parameter_iterator, self.artifact_iterator):
            if iterator is not None and iterator.item_input == item:
                return iterator.items.input_parameter or iterator.items.input_artifact
        return item


class _ParameterJson(msgspec.Struct, rename="camel"):
    default_value: object = None


class _DefinitionsJson(msgspec.Struct):
    parameters: dict[str, _ParameterJson] = {}


class _DeclaredJson(msgspec.Struct, rename="camel"):
    input_definitions: _DefinitionsJson = msgspec.field(default_factory=_DefinitionsJson)


class TaskInputs:
    """The inputs of the tasks of a run, as their specs declare them."""

    def __init__(self, specs: Mapping[str, Step | SpecTask], parents: Mapping[str, str]) -> None:
        self._specs = specs
        self._parents = parents
        self._read: dict[str, _TaskJson] = {}

    def source(self, task_id: str, name: str) -> tuple[str, str]:
        """Returns the names of the task and output that an input comes from, empty if no task made it.

        An input that a group passes on has the source of the group's input; an item of a loop, that of its list.
        """
        for _ in self._parents:  # no deeper than there are tasks
            input_ = self._task(task_id).input(name)
            if input_ is None:
                return _NO_SOURCE
            if input_.task_output_parameter is not None:
                return input_.task_output_parameter.producer_task, input_.task_output_parameter.output_parameter_key
            if input_.task_output_artifact is not None:
                return input_.task_output_artifact.producer_task, input_.task_output_artifact.output_artifact_key
            task_id = self._parents.get(task_id, "")
            name = self._task(task_id).list_of(input_.component_input_parameter or input_.component_input_artifact)
            if not task_id or not name:
                return _NO_SOURCE
        return _NO_SOURCE

    def defaults(self, task_id: str) -> Mapping[str, Json]:
        """Returns the values of parameters of the component that need not be set."""
        parameters = decode_or_empty(self._text(task_id, "component"), _DeclaredJson).input_definitions.parameters
        return {
            name: cast("Json", one.default_value) for name, one in parameters.items() if one.default_value is not None
        }

    def _task(self, task_id: str) -> _TaskJson:
        task = self._read.get(task_id)
        if task is None:
            task = self._read[task_id] = decode_or_empty(self._text(task_id, "task"), _TaskJson)
        return task

    def _text(self, task_id: str, name: str) -> str:
        spec = self._specs.get(task_id)
        return spec.input(name) if spec else ""
