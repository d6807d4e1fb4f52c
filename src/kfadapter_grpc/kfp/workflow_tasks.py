"""The tasks of a run, and why it failed, from the nodes of its Argo Workflow (KFP 2.5 to 2.17, and files of KFP v1).

A task `greet` is several nodes: `greet-driver` decides whether and how it runs, `greet` is its executor, a DAG around
the pod `executor`. A loop is a DAG with `iteration-iterations(0:0)` and, in that, `iteration-item` for each item; an
exit task is inside `X.onExit`. They differ in their templates, which KFP's compiler names (argocompiler/*.go),
and by their positions, never by their names alone: an author may call a task `executor` or `x-driver`, too.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone

import msgspec

from kfadapter_grpc.contract.run_paths import paths_of
from kfadapter_grpc.contract.runs import RunState, RunTask
from kfadapter_grpc.contract.spec import TaskKind
from kfadapter_grpc.kfp.decoding import decode_or_empty
from kfadapter_grpc.kfp.run_nodes import (
    MAX_NAMED,
    STARTED,
    STOPPED,
    STUCK_AFTER,
    UNKNOWN_END,
    Failure,
    Pod,
    RunNodes,
    task_label,
)
from kfadapter_grpc.kfp.workflow import (
    NodeJson,
    Step,
    UnreadableWorkflowError,
    Workflow,
    moment,
    read_workflow,
    with_outputs,
)

_DRIVERS = frozenset({"system-dag-driver", "system-container-driver"})
_CONTAINERS = frozenset({"system-container-executor", "retry-system-container-executor"})
_IMPORTER = "system-importer"
_FOLDED = frozenset({"StepGroup", "TaskGroup", "Container"})
_ON_EXIT = ".onExit"
_ITERATIONS = "iteration-iterations"
_ITEM = "iteration-item"
_BEING_PREPARED = frozenset({"", "ContainerCreating", "PodInitializing"})
_STOPPED_BY_SIGNAL = re.compile(r".*exit code (137|143)\)?")
_STATES = {
    "Succeeded": RunState.SUCCEEDED,
    "Failed": RunState.FAILED,
    "Error": RunState.FAILED,
    "Skipped": RunState.SKIPPED,
    "Omitted": RunState.OMITTED,
}


class _PartJson(msgspec.Struct):
    name: str = ""
    condition: str = ""


class _TaskSpecJson(msgspec.Struct, rename="camel"):
    """The input of a driver: the PipelineTaskSpec of its task."""

    task_info: _PartJson = msgspec.field(default_factory=_PartJson)
    trigger_policy: _PartJson = msgspec.field(default_factory=_PartJson)


def read_nodes(
    manifest: str,
    *,
    is_over: bool = False,
    now: datetime | None = None,
    metrics: Mapping[str, Mapping[str, float]] | None = None,
) -> RunNodes:
    """Reads the tasks of a run from its `workflow_manifest`; one that cannot be read sets `unreadable`.

    In a finished run nothing is pending. `metrics` are those of v1beta1, by the id of the node that logged them.
    """
    try:
        workflow = read_workflow(manifest)
    except UnreadableWorkflowError as error:
        return RunNodes(unreadable=str(error))
    return _Reader(workflow, is_over=is_over, now=now or datetime.now(timezone.utc)).read(metrics or {})


@dataclass(frozen=True, slots=True)
class _Position:
    """The position of steps: in a task, in an iteration of a loop, at the end of a group, directly in its exit hook."""

    parent: str = ""
    iteration: int | None = None
    at_end: bool = False
    in_hook: bool = False


class _Reader:
    """Reads one Workflow. Groups are walked breadth first, so that a malicious one cannot exhaust the stack."""

    def __init__(self, workflow: Workflow, *, is_over: bool, now: datetime) -> None:
        self._workflow = workflow
        self._is_over = is_over
        self._now = now
        self._found: list[tuple[str, RunTask]] = []
        self._pods: dict[str, tuple[Pod, ...]] = {}
        self._steps: dict[str, Step] = {}
        self._is_v2 = False
        self._failures: list[Failure] = []
        self._waiting: list[tuple[str, str]] = []
        self._queue: deque[tuple[Mapping[str, Step], _Position]] = deque()

    def read(self, metrics: Mapping[str, Mapping[str, float]]) -> RunNodes:
        workflow = self._workflow
        self._begin(workflow.top())
        while self._queue:
            self._walk(*self._queue.popleft())
        tasks = [task for _, task in sorted(self._found, key=lambda item: item[0])]  # stable: a group before its tasks
        if not self._is_v2:
            tasks = with_outputs(workflow, tasks, self._steps, metrics)
        if workflow.is_terminated:
            tasks = self._cancel_stopped(tasks)
        if self._is_over:
            failed = _with_groups((task.task_id for task in tasks if task.state is RunState.FAILED), tasks)
            tasks = [_final(task, has_failed=task.task_id in failed) for task in tasks]
        canceled = {task.task_id for task in tasks if task.state is RunState.CANCELED}
        paths = paths_of(tasks) if self._waiting else {}
        warnings = [f"{task_label(paths.get(task_id, ''))} is waiting: {message}" for task_id, message in self._waiting]
        if len(warnings) > MAX_NAMED:
            warnings[MAX_NAMED:] = [f"{len(warnings) - MAX_NAMED} more tasks are waiting"]
        return RunNodes(
            tasks=tuple(tasks),
            namespace=workflow.namespace,
            is_terminated=workflow.is_terminated,
            warnings=tuple(warnings),
            pods_by_task=self._pods,
            failures=tuple(failure for failure in self._failures if failure.task_id not in canceled),
            message=workflow.message,
            steps=self._steps if self._is_v2 else {},
        )

    # --- walking ------------------------------------------------------------------------------------------------

    def _begin(self, top: Mapping[str, Step]) -> None:
        """Finds the author's tasks: below `root` of KFP v2, or directly in the Workflow of a v1 file."""
        for key, step in top.items():
            if key == self._workflow.name:
                inner = self._workflow.inside(step)
                driver = inner.get("root-driver")
                if driver is not None and driver.template in _DRIVERS and step.template == "entrypoint":
                    self._is_v2 = True
                    self._driver(driver, _Position())
                    inner = self._workflow.inside(inner["root"]) if "root" in inner else {}
                elif not inner and step.type not in {"DAG", "Steps"}:
                    inner = {step.template: replace(step, name=step.template)}  # its entrypoint is a container
                self._queue.append((inner, _Position()))
            elif key.endswith(_ON_EXIT):
                self._hook(step, _Position())

    def _walk(self, steps: Mapping[str, Step], position: _Position) -> None:
        drivers: dict[str, Step] = {}
        tasks: list[Step] = []
        for step in steps.values():
            if served := _served_task(step, steps):
                drivers[served] = step
            else:
                tasks.append(step)
        with_items = {step.name for step in tasks if step.item is not None}
        for step in sorted(tasks, key=lambda item: (item.started, item.item or 0, item.name)):
            if step.name.endswith(_ON_EXIT):
                self._hook(step, position)
            elif step.type not in _FOLDED or (step.type == "TaskGroup" and step.name not in with_items):
                at = position if step.item is None else replace(position, iteration=step.item)
                self._task(step.name, step, drivers.pop(step.name, None), at)
        for served, driver in drivers.items():
            self._task(served, None, driver, position)

    def _hook(self, step: Step, position: _Position) -> None:
        inner = self._workflow.inside(step) or {step.template: replace(step, name=step.template)}
        self._queue.append((inner, replace(position, at_end=True, in_hook=True)))

    def _loop(self, inner: Mapping[str, Step], loop: RunTask, position: _Position) -> None:
        for step in inner.values():
            if step.name == _ITERATIONS and step.item is not None:
                body = self._workflow.inside(step)
                driver, item = body.get(f"{_ITEM}-driver"), body.get(_ITEM)
                at = replace(position, iteration=step.item)
                if item is not None and item.template in _CONTAINERS:
                    self._task(loop.name, item, driver, at)
                    continue
                if driver is not None:
                    self._driver(driver, at)
                if item is not None:
                    self._queue.append((self._workflow.inside(item), at))

    def _driver(self, driver: Step, position: _Position) -> None:
        """Records a driver that serves no task of its own: the pipeline's, or an iteration's."""
        pods = driver.pods()
        if warning := self._waiting_message(pods):
            self._waiting.append((position.parent, warning))
        if _has_failed(driver):
            self._failures.append(self._failure(driver, pods, position, position.parent, by_driver=True))

    # --- one task -----------------------------------------------------------------------------------------------

    def _task(self, name: str, step: Step | None, driver: Step | None, position: _Position) -> None:
        """Adds a task: its executor or group, and its driver; at first only the latter exists."""
        inner = self._workflow.inside(step) if step else {}
        driver = inner.get("iteration-driver") if step and _is_loop(name, step) else driver
        source: Step = step or driver  # type: ignore[assignment] # there is one of the two
        spec = decode_or_empty((driver or source).input("task"), _TaskSpecJson)
        kind = _kind(name, step, driver, spec)
        pods, of_driver = self._pods_of(step), driver.pods() if driver else []
        state = _state(step, driver, kind, inner, pods)
        warning = self._waiting_message(pods or of_driver)
        if _has_failed(driver):
            pods = of_driver
        outer = source.outer
        task = RunTask(
            name=name,
            task_id=step.node_id if step else self._workflow.node_id(source.path.removesuffix("-driver")),
            state=state,
            started_at=moment(outer.started_at) if state in STARTED else None,
            finished_at=moment(outer.finished_at) if state in STARTED and state.is_over else None,
            pod_name=self._workflow.pod_name(pods[-1]) if pods else "",
            display_name=spec.task_info.name,
            kind=TaskKind.EXIT_HANDLER if position.in_hook else kind,
            parent_task_id=position.parent,
            iteration_index=position.iteration,
            attempts=len(pods),
            cached=driver is not None and driver.output("cached-decision") == "true",
            warnings=(warning,) if warning else (),
        )
        if warning:
            self._waiting.append((task.task_id, warning))
        if state is RunState.FAILED:
            task = replace(task, error=self._why(task, step, driver, pods, position))
        self._pods[task.task_id] = tuple(self._pod(pod) for pod in pods)
        self._steps[task.task_id] = driver or source
        self._found.append((min(one.started for one in (step, driver) if one), task))
        below = _Position(task.task_id, position.iteration, position.at_end)
        if kind is TaskKind.LOOP:
            self._loop(inner, task, below)
        elif kind.is_group:
            self._queue.append((inner, below))

    def _pods_of(self, step: Step | None) -> list[NodeJson]:
        executor = step
        if step and step.template in _CONTAINERS:
            executor = self._workflow.all_inside(step).get("executor")
        return executor.pods() if executor else []

    def _why(
        self, task: RunTask, step: Step | None, driver: Step | None, pods: Sequence[NodeJson], position: _Position
    ) -> str:
        """Returns why a task failed, and records it, unless it is a group in which something failed."""
        by_driver = _has_failed(driver)
        source = driver if by_driver else step
        if source is None or (not by_driver and not pods and source.type in {"DAG", "Steps"}):
            return ""
        failure = self._failure(source, pods, position, task.task_id, by_driver=by_driver)
        self._failures.append(replace(failure, iteration=None))
        return f"its driver failed: {failure.reason}" if by_driver else failure.reason

    def _failure(
        self, source: Step, pods: Sequence[NodeJson], position: _Position, task_id: str, *, by_driver: bool
    ) -> Failure:
        failed = [pod for pod in pods if _STATES.get(pod.phase) is RunState.FAILED] or [source.outer]
        message = failed[-1].message or source.outer.message
        return Failure(
            task_id=task_id,
            reason=message.removeprefix("main: "),
            at=failed[-1].finished_at or "",
            pod=self._workflow.pod_name(failed[-1]),
            by_driver=by_driver,
            at_end=position.at_end,
            iteration=position.iteration,
        )

    def _waiting_message(self, pods: Sequence[NodeJson]) -> str:
        """Why the last pod does not start, if that is worth a warning."""
        last = pods[-1] if pods else None
        if last is None or last.phase != "Pending" or self._is_over:
            return ""
        since = moment(last.started_at)
        is_slow = since is not None and self._now - since >= STUCK_AFTER
        return last.message if is_slow or last.message not in _BEING_PREPARED else ""

    def _pod(self, node: NodeJson) -> Pod:
        workflow = self._workflow
        return Pod(node.id, workflow.pod_name(node), workflow.namespace, node.phase in _STATES, node.artifact_names)

    def _cancel_stopped(self, tasks: Sequence[RunTask]) -> list[RunTask]:
        """In a run whose termination was requested, tasks that its end stopped are canceled, not failed."""
        failed = _with_groups(
            (failure.task_id for failure in self._failures if not _is_consequence(failure.reason)), tasks
        )
        active = {RunState.RUNNING, RunState.PENDING} if self._is_over else set()
        return [
            replace(task, state=RunState.CANCELED, error="")
            if task.state in active or (task.state is RunState.FAILED and task.task_id not in failed)
            else task
            for task in tasks
        ]


def _final(task: RunTask, *, has_failed: bool) -> RunTask:
    """A task of a finished run: if Argo left it running it is canceled, and a pending one has never started."""
    if task.state is RunState.PENDING:
        return replace(task, state=RunState.OMITTED)
    if task.state is not RunState.RUNNING:
        return task
    if task.kind.is_group:
        return replace(task, state=RunState.FAILED if has_failed else RunState.CANCELED)
    return replace(task, state=RunState.CANCELED, warnings=(*task.warnings, UNKNOWN_END))


def _with_groups(task_ids: Iterable[str], tasks: Sequence[RunTask]) -> set[str]:
    parents = {task.task_id: task.parent_task_id for task in tasks}
    ids: set[str] = set()
    for task_id in task_ids:
        while task_id and task_id not in ids:
            ids.add(task_id)
            task_id = parents.get(task_id, "")  # noqa: PLW2901
    return ids


def _served_task(step: Step, steps: Mapping[str, Step]) -> str:
    """The name of the task whose driver a step is; empty if it is not a driver.

    KFP creates volumes in drivers alone, which are named as their tasks (argocompiler/dag.go, dummyImages).
    """
    name = step.name.removesuffix("-driver")
    if step.template not in _DRIVERS or name == step.name:
        return ""
    task_name = step.input("task-name")  # not in 2.5
    return "" if task_name == step.name or (not task_name and f"{step.name}-driver" in steps) else name


def _kind(name: str, step: Step | None, driver: Step | None, spec: _TaskSpecJson) -> TaskKind:
    template = step.template if step else ""
    if template == _IMPORTER:
        return TaskKind.IMPORTER
    if template in _CONTAINERS or template in _DRIVERS or (driver and driver.template == "system-container-driver"):
        return TaskKind.CONTAINER
    if step and _is_loop(name, step):
        return TaskKind.LOOP
    is_group = step is None or step.type in {"DAG", "Steps"} or template.startswith("comp-")
    if not is_group:
        return TaskKind.CONTAINER
    return TaskKind.CONDITION if spec.trigger_policy.condition else TaskKind.DAG


def _has_failed(step: Step | None) -> bool:
    return step is not None and _STATES.get(step.outer.phase) is RunState.FAILED


def _is_loop(name: str, step: Step) -> bool:
    """Whether a step is a loop; its driver is inside it."""
    return step.template.endswith(f"-{name}-iterator")


def _state(
    step: Step | None, driver: Step | None, kind: TaskKind, inner: Mapping[str, Step], pods: Sequence[NodeJson]
) -> RunState:
    if _has_failed(driver):
        return RunState.FAILED
    if step is None:
        return RunState.OMITTED if driver and driver.outer.phase == "Omitted" else RunState.PENDING
    final = _STATES.get(step.outer.phase)
    iterations = inner.get(_ITERATIONS)
    if final is RunState.SUCCEEDED and kind is TaskKind.LOOP and iterations and iterations.outer.phase == "Skipped":
        return RunState.SKIPPED
    if final is not None:
        return final
    is_pending = pods and pods[-1].phase == "Pending" and not kind.is_group
    return RunState.PENDING if is_pending else RunState.RUNNING


def _is_consequence(reason: str) -> bool:
    return not reason or reason.startswith(STOPPED) or bool(_STOPPED_BY_SIGNAL.fullmatch(reason))
