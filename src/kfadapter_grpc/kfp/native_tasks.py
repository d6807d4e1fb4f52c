"""The tasks of a run, and why it failed, from the native API of the KFP that follows 2.17: `GET /runs/{run_id}/tasks`.

Drivers and launchers write these tasks, not the server: a task exists once its driver has run, a killed one stays
RUNNING, a group is FAILED as soon as one of its tasks is. So the run's own state takes precedence, and what
only Argo knows is taken from the manifest: running pods, pods that cannot start, and how killed tasks ended.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from kfadapter_grpc.contract.run_paths import paths_of
from kfadapter_grpc.contract.runs import RunState, RunStateChange, RunTask
from kfadapter_grpc.contract.spec import Task, TaskKind
from kfadapter_grpc.kfp.decoding import known_time
from kfadapter_grpc.kfp.native_ports import Ports, PortsJson, whole
from kfadapter_grpc.kfp.run_json import StateChangeJson, TaskStateJson, etag_of, state_of
from kfadapter_grpc.kfp.run_nodes import BEGUN, EXIT_CODE, UNKNOWN_END, Failure, Pod, RunNodes, keys_of
from kfadapter_grpc.kfp.spec_tasks import SpecTask, TaskInputs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from kfadapter_grpc.kfp.run_nodes import Key
    from kfadapter_grpc.kfp.spec_tasks import SpecTasks

_ROOT = "ROOT"
_CACHED = "CACHED"
_KINDS = {
    "RUNTIME": TaskKind.CONTAINER,
    "IMPORTER": TaskKind.IMPORTER,
    "LOOP": TaskKind.LOOP,
    "CONDITION": TaskKind.CONDITION,
    "CONDITION_BRANCH": TaskKind.CONDITION,
    "DAG": TaskKind.DAG,
    "EXIT_HANDLER": TaskKind.DAG,
}
_NAMELESS = frozenset({"Loop", "Condition Branch"})
"""The display names of groups whose names KFP has lost."""
_UNDECLARED = SpecTask(Task(""))
_LATEST = datetime.max.replace(tzinfo=timezone.utc)
_MAX_WARNINGS = 20
"""Maximum number of warnings that are read of a task, and of a run."""
_MAX_WARNING_CHARACTERS = 2000


class _PodJson(msgspec.Struct):
    name: str = ""
    type: str = ""


class _AttributesJson(msgspec.Struct):
    iteration_index: str | int | None = None


class _CustomJson(msgspec.Struct):
    """Properties that KFP leaves empty; the embedded KFP stores a task's warnings there."""

    warnings: list[str] = []


class _MetadataJson(msgspec.Struct):
    message: str = ""
    custom_properties: _CustomJson = msgspec.field(default_factory=_CustomJson)


class NativeTaskJson(TaskStateJson):
    name: str = ""
    display_name: str = ""
    pods: list[_PodJson] = msgspec.field(default_factory=list)
    status_metadata: _MetadataJson = msgspec.field(default_factory=_MetadataJson)
    state_history: list[StateChangeJson] = msgspec.field(default_factory=list)
    type_attributes: _AttributesJson = msgspec.field(default_factory=_AttributesJson)
    parent_task_id: str = ""
    inputs: PortsJson = msgspec.field(default_factory=PortsJson)
    outputs: PortsJson = msgspec.field(default_factory=PortsJson)

    @property
    def run_state(self) -> RunState:
        """Its state; a cached task has succeeded."""
        return _state_of(self.state)

    @property
    def kind(self) -> TaskKind:
        return _KINDS.get(self.type, TaskKind.UNKNOWN)

    def warnings(self) -> tuple[str, ...]:
        """The warnings of the embedded KFP, each on one line."""
        lines = (" ".join(one.split()) for one in self.status_metadata.custom_properties.warnings[:_MAX_WARNINGS])
        return tuple(
            one if len(one) <= _MAX_WARNING_CHARACTERS else f"{one[:_MAX_WARNING_CHARACTERS]}…" for one in lines
        )

    def pod_names(self) -> tuple[str, ...]:
        """The pods of its attempts; those of its driver if that failed."""
        executors = tuple(one.name for one in self.pods if one.type == "EXECUTOR")
        if executors or self.run_state is not RunState.FAILED or self.kind.is_group:
            return executors
        return tuple(one.name for one in self.pods)

    def history(self) -> tuple[RunStateChange, ...]:
        return tuple(RunStateChange(_state_of(one.state), known_time(one.update_time)) for one in self.state_history)


class NativeTasksJson(msgspec.Struct):
    tasks: list[NativeTaskJson] = []
    next_page_token: str = ""


def _state_of(text: str) -> RunState:
    return RunState.SUCCEEDED if text == _CACHED else state_of(text)


@dataclass(frozen=True, slots=True)
class _PlacedTask:
    """A task with its position: its group, the iteration, its spec, and what Argo has of it.

    `order` has the iteration and the position in the spec, of its groups first.
    """

    found: NativeTaskJson
    key: Key
    parent_id: str
    iteration: int | None
    declared: SpecTask
    order: tuple[tuple[int, int], ...]
    argo: RunTask | None

    @property
    def began(self) -> tuple[datetime, tuple[tuple[int, int], ...], datetime, str]:
        """When it began, to the second; then its position in the pipeline."""
        began, ended = (known_time(at) or _LATEST for at in (self.found.create_time, self.found.end_time))
        return began, self.order, ended, self.found.name


class NativeReader:
    """Reads the tasks of a run, the root among them, whose state is that in v2beta1.

    The spec is empty if it is unknown, and what Argo shows has no tasks if the manifest was not read.
    """

    def __init__(
        self,
        found: Sequence[NativeTaskJson],
        run_id: str,
        state: RunState,
        spec: SpecTasks,
        argo: RunNodes,
    ) -> None:
        self._is_over = state.is_over
        self._is_terminated = argo.is_terminated or state is RunState.CANCELED
        self._etag = etag_of(found)
        self._spec = spec
        self._orders = {path: order for order, path in enumerate(spec)}
        self._argo = argo
        self._children: dict[str, list[NativeTaskJson]] = {}
        self._root_warnings = [text for one in found if one.type == _ROOT for text in one.warnings()]
        by_id = {one.task_id: one for one in found if one.type != _ROOT}
        for one in by_id.values():
            parent = one.parent_task_id if one.parent_task_id in by_id else ""
            self._children.setdefault(parent, []).append(one)
        self._placed = sorted(self._walk(keys_of(argo.tasks)), key=lambda one: one.began)
        self._pods = {one.found.task_id: self._pods_of(one) for one in self._placed}
        self._inputs = TaskInputs(
            {one.found.task_id: one.declared for one in self._placed},
            {one.found.task_id: one.parent_id for one in self._placed},
        )
        self._ports = Ports(
            run_id,
            {one.found.task_id: one.found.outputs for one in self._placed if not one.found.kind.is_group},
            {one.found.task_id: one.iteration for one in self._placed},
        )

    def read(self) -> RunNodes:
        states: dict[str, RunState] = {}
        for one in sorted(self._placed, key=lambda placed: len(placed.key), reverse=True):  # groups after their tasks
            states[one.found.task_id] = self._state(one, states)
        tasks = [self._task(one, states[one.found.task_id]) for one in self._placed]
        ids = {one.argo.task_id: one.found.task_id for one in self._placed if one.argo}
        known = set(ids)
        further = [
            replace(task, parent_task_id=ids.get(task.parent_task_id, task.parent_task_id))
            for task in self._argo.tasks
            if task.task_id not in known
        ]
        argo_pods = {ids.get(task_id, task_id): pods for task_id, pods in self._argo.pods_by_task.items() if pods}
        return replace(
            self._argo,
            etag=self._etag,
            tasks=(*tasks, *further),
            warnings=(*self._argo.warnings, *self._warnings(tasks)),
            pods_by_task=self._pods | argo_pods,
            failures=tuple(self._failures(states, ids)),
            merged=self._ports.merged,
            stored_logs=self._ports.logs,
        )

    def _walk(self, argo: Mapping[Key, RunTask]) -> Iterator[_PlacedTask]:
        """Walks the groups breadth first; tasks that contain each other in a cycle are omitted."""
        todo: deque[tuple[str, Key, tuple[tuple[int, int], ...], NativeTaskJson | None, int | None]]
        todo = deque([("", (), (), None, None)])
        while todo:
            parent_id, above, order_above, group, around = todo.popleft()
            for one in self._children.get(parent_id, ()):
                in_loop = group is not None and group.kind is TaskKind.LOOP
                iteration = whole(one.type_attributes.iteration_index) if in_loop else around
                key = (*above, (one.name, iteration))
                path = tuple(name for name, _ in key)
                declared = self._spec.get(path, _UNDECLARED)
                order = (*order_above, (iteration or 0, self._orders.get(path, len(self._orders))))
                yield _PlacedTask(one, key, parent_id, iteration, declared, order, argo.get(key))
                todo.append((one.task_id, key, order, one, iteration))

    def _state(self, one: _PlacedTask, states: Mapping[str, RunState]) -> RunState:
        """The state of a task, once the states of the tasks inside it are known."""
        state, argo = one.found.run_state, one.argo
        inside = [states[child.task_id] for child in self._children.get(one.found.task_id, ())]
        if state is RunState.FAILED and not self._is_over and RunState.RUNNING in inside:
            return RunState.RUNNING
        if (
            argo is not None
            and self._is_terminated
            and argo.state is RunState.CANCELED
            and state is not RunState.SUCCEEDED
        ):
            return RunState.CANCELED
        if state is not RunState.RUNNING:
            return state
        if not self._is_over:
            return RunState.PENDING if argo is not None and argo.state is RunState.PENDING else state
        if argo is not None and argo.state.is_over:
            return argo.state
        return RunState.FAILED if RunState.FAILED in inside and not self._is_terminated else RunState.CANCELED

    def _task(self, one: _PlacedTask, state: RunState) -> RunTask:
        found, argo = one.found, one.argo
        kind = TaskKind.EXIT_HANDLER if one.declared.task.kind is TaskKind.EXIT_HANDLER else found.kind
        pods = self._pods[one.found.task_id]
        warnings = (*found.warnings(), *(argo.warnings if argo is not None else ()))
        lost = self._is_over and found.run_state is RunState.RUNNING and not found.kind.is_group
        if lost and argo is None and not self._is_terminated:
            warnings = (*warnings, UNKNOWN_END)
        ended = known_time(found.end_time) or (argo.finished_at if argo is not None else None)
        shown = found.display_name if found.display_name not in _NAMELESS else found.name
        return RunTask(
            name=found.name,
            task_id=found.task_id,
            state=state,
            error=self._words(one) if state is RunState.FAILED else "",
            started_at=known_time(found.create_time) if state in BEGUN else None,
            finished_at=ended if state in BEGUN and state.is_over else None,
            pod_name=pods[-1].name if pods else "",
            state_history=found.history(),
            outputs=self._ports.outputs(found.task_id, found.outputs, of_loop=kind is TaskKind.LOOP),
            display_name=one.declared.task.display_name or shown,
            kind=kind,
            parent_task_id=one.parent_id,
            iteration_index=one.iteration,
            attempts=len(pods),
            cached=found.state == _CACHED and not kind.is_group,
            warnings=warnings,
            inputs=self._ports.inputs(
                found.inputs, partial(self._inputs.source, found.task_id), of_group=kind.is_group
            ),
        )

    def _warnings(self, tasks: Sequence[RunTask]) -> list[str]:
        """The warnings of the run and its tasks, each once, with the first task that has it."""
        warned = [one.found for one in self._placed if one.found.status_metadata.custom_properties.warnings]
        paths = paths_of(tasks) if warned else {}
        having: dict[str, list[str]] = {text: [] for text in self._root_warnings}
        for one in warned:
            for text in one.warnings():
                having.setdefault(text, []).append(paths[one.task_id])
        found = [f"{_named(paths)}{text}" for text, paths in having.items()]
        more = len(found) - _MAX_WARNINGS
        return [*found[:_MAX_WARNINGS], f"{more} more warnings of tasks"] if more > 0 else found

    # --- pods and reasons -----------------------------------------------------------------------------------------

    def _pods_of(self, one: _PlacedTask) -> tuple[Pod, ...]:
        known = self._argo.pods(one.argo.task_id) if one.argo is not None else ()
        return known or tuple(Pod(name, name, is_over=True) for name in one.found.pod_names())

    def _words(self, one: _PlacedTask) -> str:
        """Why a task failed; empty for a group of which a task failed."""
        failure = self._reason(one)
        return f"its driver failed: {failure}" if failure and _by_driver(one.found) else failure

    def _reason(self, one: _PlacedTask) -> str:
        argo, said = one.argo, one.found.status_metadata.message
        if one.found.kind.is_group and any(
            child.run_state is RunState.FAILED for child in self._children.get(one.found.task_id, ())
        ):
            return ""
        if argo is not None and argo.error and (not said or EXIT_CODE.fullmatch(said)):
            return argo.error.removeprefix("its driver failed: ")
        return said

    def _failures(self, states: Mapping[str, RunState], ids: Mapping[str, str]) -> Iterator[Failure]:
        """The original failures: tasks, groups without a failed task, and drivers that only Argo knows."""
        argo = {ids[one.task_id]: one for one in self._argo.failures if one.task_id in ids and one.iteration is None}
        at_end: set[str] = set()
        for one in self._placed:
            found = one.found
            if one.declared.task.kind is TaskKind.EXIT_HANDLER or one.parent_id in at_end:
                at_end.add(found.task_id)
            if states[found.task_id] is not RunState.FAILED or (found.kind.is_group and not self._reason(one)):
                continue
            pods, known = self._pods[found.task_id], argo.get(found.task_id)
            yield Failure(
                task_id=found.task_id,
                reason=self._reason(one),
                at=known.at if known else found.end_time.isoformat() if found.end_time else "",
                pod=pods[-1].name if pods else "",
                by_driver=_by_driver(found),
                at_end=found.task_id in at_end or (known is not None and known.at_end),
            )
        for failure in self._argo.failures:
            if failure.task_id not in ids or failure.iteration is not None:
                yield replace(failure, task_id=ids.get(failure.task_id, failure.task_id))


def _named(paths: Sequence[str]) -> str:
    """The first of the tasks that share a warning, and how many more there are."""
    if not paths:
        return ""
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return f"task '{paths[0]}'{more}: "


def _by_driver(found: NativeTaskJson) -> bool:
    """Whether the driver failed: it created the task as a failed one."""
    return [one.state for one in found.state_history] == [RunState.FAILED.value]
