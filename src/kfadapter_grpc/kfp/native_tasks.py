"""The tasks of a run, and why it failed, from the native API of the KFP that follows 2.17: `GET /runs/{run_id}/tasks`.

Drivers and launchers write these tasks, not the server: a task exists once its driver has run, a killed one stays
RUNNING, a group is FAILED as soon as one of its tasks is. So the run's own state takes precedence, and what
only Argo knows is taken from the manifest: running pods, pods that cannot start, and how killed tasks ended.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import partial
from http import HTTPStatus

import msgspec

from kfadapter_grpc.contract import errors
from kfadapter_grpc.contract.call import Call
from kfadapter_grpc.contract.run_paths import paths_of
from kfadapter_grpc.contract.runs import RunState, RunStateChange, RunTask
from kfadapter_grpc.contract.spec import Task, TaskKind
from kfadapter_grpc.kfp.decoding import known_time
from kfadapter_grpc.kfp.error_table import Context
from kfadapter_grpc.kfp.failures import KfpFailureError, Operation
from kfadapter_grpc.kfp.native_io import RunIo, TaskIoJson, parse_int
from kfadapter_grpc.kfp.rest import V2, ListJson, ListQuery, Rest, explained, paginate, segment
from kfadapter_grpc.kfp.run_json import StateChangeJson, TaskStateJson, etag_of, state_of
from kfadapter_grpc.kfp.run_nodes import EXIT_CODE, STARTED, UNKNOWN_END, Failure, Key, Pod, RunNodes, keys_of
from kfadapter_grpc.kfp.spec_tasks import SpecTask, SpecTasks, TaskInputs
from kfadapter_grpc.kfp.transport import Request, ResponseTooLargeError

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
    inputs: TaskIoJson = msgspec.field(default_factory=TaskIoJson)
    outputs: TaskIoJson = msgspec.field(default_factory=TaskIoJson)

    @property
    def run_state(self) -> RunState:
        return _state_of(self.state)

    @property
    def kind(self) -> TaskKind:
        return _KINDS.get(self.type, TaskKind.UNKNOWN)

    def warnings(self) -> tuple[str, ...]:
        """The warnings of the embedded KFP, each on one line."""
        lines = (" ".join(line.split()) for line in self.status_metadata.custom_properties.warnings[:_MAX_WARNINGS])
        return tuple(
            line if len(line) <= _MAX_WARNING_CHARACTERS else f"{line[:_MAX_WARNING_CHARACTERS]}…" for line in lines
        )

    def history(self) -> tuple[RunStateChange, ...]:
        return tuple(RunStateChange(_state_of(one.state), known_time(one.update_time)) for one in self.state_history)


class NativeTasksJson(ListJson[NativeTaskJson]):
    items: list[NativeTaskJson] = msgspec.field(default_factory=list, name="tasks")


def _state_of(text: str) -> RunState:
    return RunState.SUCCEEDED if text == _CACHED else state_of(text)


@dataclass(frozen=True, slots=True)
class _PlacedTask:
    """A task with its position: its group, the iteration, its spec, and what Argo has of it.

    `order` has the iteration and the position in the spec, of its groups first.
    """

    json: NativeTaskJson
    key: Key
    parent_id: str
    iteration: int | None
    declared: SpecTask
    order: tuple[tuple[int, int], ...]
    argo: RunTask | None

    @property
    def started(self) -> tuple[datetime, tuple[tuple[int, int], ...], datetime, str]:
        """When it began, to the second; then its position in the pipeline."""
        started, ended = (known_time(at) or _LATEST for at in (self.json.create_time, self.json.end_time))
        return started, self.order, ended, self.json.name


class NativeReader:
    """Reads the tasks of a run, the root among them, whose state is that in v2beta1.

    The spec is empty if it is unknown, and what Argo shows has no tasks if the manifest was not read.
    """

    def __init__(
        self,
        tasks: Sequence[NativeTaskJson],
        run_id: str,
        state: RunState,
        spec: SpecTasks,
        argo: RunNodes,
    ) -> None:
        self._is_over = state.is_over
        self._is_terminated = argo.is_terminated or state is RunState.CANCELED
        self._etag = etag_of(tasks)
        self._spec = spec
        self._orders = {path: order for order, path in enumerate(spec)}
        self._argo = argo
        self._children: dict[str, list[NativeTaskJson]] = {}
        self._root_warnings = [text for task in tasks if task.type == _ROOT for text in task.warnings()]
        by_id = {task.task_id: task for task in tasks if task.type != _ROOT}
        for task in by_id.values():
            parent = task.parent_task_id if task.parent_task_id in by_id else ""
            self._children.setdefault(parent, []).append(task)
        self._placed = sorted(self._walk(keys_of(argo.tasks)), key=lambda placed: placed.started)
        self._pods = {placed.json.task_id: self._pods_of(placed) for placed in self._placed}
        self._inputs = TaskInputs(
            {placed.json.task_id: placed.declared for placed in self._placed},
            {placed.json.task_id: placed.parent_id for placed in self._placed},
        )
        self._io = RunIo(
            run_id,
            {placed.json.task_id: placed.json.outputs for placed in self._placed if not placed.json.kind.is_group},
            {placed.json.task_id: placed.iteration for placed in self._placed},
        )

    def read(self) -> RunNodes:
        states: dict[str, RunState] = {}
        # Groups come after their tasks.
        for placed in sorted(self._placed, key=lambda placed: len(placed.key), reverse=True):
            states[placed.json.task_id] = self._state(placed, states)
        tasks = [self._task(placed, states[placed.json.task_id]) for placed in self._placed]
        ids = {placed.argo.task_id: placed.json.task_id for placed in self._placed if placed.argo}
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
            merged=self._io.merged,
            stored_logs=self._io.logs,
        )

    def _walk(self, argo: Mapping[Key, RunTask]) -> Iterator[_PlacedTask]:
        """Walks the groups breadth first; tasks that contain each other in a cycle are omitted."""
        queue: deque[tuple[str, Key, tuple[tuple[int, int], ...], NativeTaskJson | None, int | None]]
        queue = deque([("", (), (), None, None)])
        while queue:
            parent_id, parent_key, parent_order, group, parent_iteration = queue.popleft()
            for json in self._children.get(parent_id, ()):
                in_loop = group is not None and group.kind is TaskKind.LOOP
                iteration = parse_int(json.type_attributes.iteration_index) if in_loop else parent_iteration
                key = (*parent_key, (json.name, iteration))
                path = tuple(name for name, _ in key)
                declared = self._spec.get(path, _UNDECLARED)
                order = (*parent_order, (iteration or 0, self._orders.get(path, len(self._orders))))
                yield _PlacedTask(json, key, parent_id, iteration, declared, order, argo.get(key))
                queue.append((json.task_id, key, order, json, iteration))

    def _state(self, placed: _PlacedTask, states: Mapping[str, RunState]) -> RunState:
        """The state of a task, once the states of the tasks inside it are known."""
        state, argo = placed.json.run_state, placed.argo
        inside = [states[child.task_id] for child in self._children.get(placed.json.task_id, ())]
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

    def _task(self, placed: _PlacedTask, state: RunState) -> RunTask:
        json, argo = placed.json, placed.argo
        kind = TaskKind.EXIT_HANDLER if placed.declared.task.kind is TaskKind.EXIT_HANDLER else json.kind
        pods = self._pods[placed.json.task_id]
        reason = self._reason(placed) if state is RunState.FAILED else ""
        warnings = (*json.warnings(), *(argo.warnings if argo is not None else ()))
        is_lost = self._is_over and json.run_state is RunState.RUNNING and not json.kind.is_group
        if is_lost and argo is None and not self._is_terminated:
            warnings = (*warnings, UNKNOWN_END)
        ended = known_time(json.end_time) or (argo.finished_at if argo is not None else None)
        display_name = json.display_name if json.display_name not in _NAMELESS else json.name
        return RunTask(
            name=json.name,
            task_id=json.task_id,
            state=state,
            error=f"its driver failed: {reason}" if reason and _by_driver(json) else reason,
            started_at=known_time(json.create_time) if state in STARTED else None,
            finished_at=ended if state in STARTED and state.is_over else None,
            pod_name=pods[-1].name if pods else "",
            state_history=json.history(),
            outputs=self._io.outputs(json.task_id, json.outputs, of_loop=kind is TaskKind.LOOP),
            display_name=placed.declared.task.display_name or display_name,
            kind=kind,
            parent_task_id=placed.parent_id,
            iteration_index=placed.iteration,
            attempts=len(pods),
            cached=json.state == _CACHED and not kind.is_group,
            warnings=warnings,
            inputs=self._io.inputs(json.inputs, partial(self._inputs.source, json.task_id), of_group=kind.is_group),
        )

    def _warnings(self, tasks: Sequence[RunTask]) -> list[str]:
        """The warnings of the run and its tasks, each once, with the first task that has it."""
        with_warnings = [
            placed.json for placed in self._placed if placed.json.status_metadata.custom_properties.warnings
        ]
        paths = paths_of(tasks) if with_warnings else {}
        by_text: dict[str, list[str]] = {text: [] for text in self._root_warnings}
        for placed in with_warnings:
            for text in placed.warnings():
                by_text.setdefault(text, []).append(paths[placed.task_id])
        lines = []
        for text, named in by_text.items():
            more = f" and {len(named) - 1} more" if len(named) > 1 else ""
            lines.append(f"task '{named[0]}'{more}: {text}" if named else text)
        omitted = len(lines) - _MAX_WARNINGS
        return [*lines[:_MAX_WARNINGS], f"{omitted} more warnings of tasks"] if omitted > 0 else lines

    # --- pods and reasons -----------------------------------------------------------------------------------------

    def _pods_of(self, placed: _PlacedTask) -> tuple[Pod, ...]:
        """The pods of its attempts; those of its driver if that failed."""
        known = self._argo.pods(placed.argo.task_id) if placed.argo is not None else ()
        json = placed.json
        pods = [pod for pod in json.pods if pod.type == "EXECUTOR"]
        if not pods and json.run_state is RunState.FAILED and not json.kind.is_group:
            pods = json.pods
        return known or tuple(Pod(pod.name, pod.name, is_over=True) for pod in pods)

    def _reason(self, placed: _PlacedTask) -> str:
        """Why a task failed; empty for a group of which a task failed."""
        argo, message = placed.argo, placed.json.status_metadata.message
        if placed.json.kind.is_group and any(
            child.run_state is RunState.FAILED for child in self._children.get(placed.json.task_id, ())
        ):
            return ""
        if argo is not None and argo.error and (not message or EXIT_CODE.fullmatch(message)):
            return argo.error.removeprefix("its driver failed: ")
        return message

    def _failures(self, states: Mapping[str, RunState], ids: Mapping[str, str]) -> Iterator[Failure]:
        """The original failures: tasks, groups without a failed task, and drivers that only Argo knows."""
        argo = {ids[one.task_id]: one for one in self._argo.failures if one.task_id in ids and one.iteration is None}
        at_end: set[str] = set()
        for placed in self._placed:
            json = placed.json
            if placed.declared.task.kind is TaskKind.EXIT_HANDLER or placed.parent_id in at_end:
                at_end.add(json.task_id)
            if states[json.task_id] is not RunState.FAILED or (json.kind.is_group and not self._reason(placed)):
                continue
            pods, argo_failure = self._pods[json.task_id], argo.get(json.task_id)
            yield Failure(
                task_id=json.task_id,
                reason=self._reason(placed),
                at=argo_failure.at if argo_failure else json.end_time.isoformat() if json.end_time else "",
                pod=pods[-1].name if pods else "",
                by_driver=_by_driver(json),
                at_end=json.task_id in at_end or (argo_failure is not None and argo_failure.at_end),
            )
        for failure in self._argo.failures:
            if failure.task_id not in ids or failure.iteration is not None:
                yield replace(failure, task_id=ids.get(failure.task_id, failure.task_id))


def _by_driver(json: NativeTaskJson) -> bool:
    """Whether the driver failed: it created the task as a failed one."""
    return [change.state for change in json.state_history] == [RunState.FAILED.value]


# --- the API --------------------------------------------------------------------------------------------------------


MAX_TASKS = 10_000
NO_SUCH_ROUTE = "Not Found"
"""KFP's response if the address does not exist; for a missing resource the response says more."""
REMEMBERED_SECONDS = 300.0
"""How long the result of the check is valid: KFP may be upgraded while the adapter runs."""
_PROBE_SECONDS = 2.0
_PROBED = f"{V2}/artifact_tasks"
"""Where this API is served, KFP rejects a request without a filter at once, with any credentials."""


class NativeApi:
    """The native API of one KFP; `was_served` is what it last showed. Safe to use from many threads."""

    def __init__(self, rest: Rest) -> None:
        self._rest = rest
        self.was_served, self._until = False, 0.0

    def learn(self, *, is_served: bool) -> None:
        self.was_served, self._until = is_served, time.monotonic() + REMEMBERED_SECONDS

    def is_served(self, call: Call) -> bool:
        """Whether it is served; checks with a request if no response has shown it for a while."""
        if time.monotonic() >= self._until:
            try:
                with call.within(_PROBE_SECONDS) as part:
                    self._rest.ask_raw(Operation.PROBE, Request("GET", _PROBED), object, part)
            except KfpFailureError as error:
                if error.failure.page:
                    return False
                if error.failure.status == HTTPStatus.BAD_REQUEST or error.failure.text == NO_SUCH_ROUTE:
                    self.learn(is_served=error.failure.status == HTTPStatus.BAD_REQUEST)
            except errors.AdapterError:
                return False
        return self.was_served

    def tasks(self, run_id: str, call: Call, context: Context) -> Sequence[NativeTaskJson] | None:
        """Lists the tasks of a run, each once; None if the API is no longer served."""

        def fetch(query: ListQuery) -> NativeTasksJson:
            request = Request("GET", f"{V2}/runs/{segment(run_id)}/tasks", query.pairs())
            return self._rest.ask_raw(Operation.GET_RUN, request, NativeTasksJson, call)

        with explained(context):
            try:
                found = paginate(fetch, list, ListQuery(MAX_TASKS), weigh=lambda _: 0, rounds=MAX_TASKS)
            except KfpFailureError as error:
                if error.failure.text != NO_SUCH_ROUTE:
                    raise
                self._until = 0.0
                return None
        if found.next_token and len(found.items) < MAX_TASKS:
            raise ResponseTooLargeError(f"a task of run {run_id} is too large to be read")
        return tuple({one.task_id: one for one in found.items}.values())
