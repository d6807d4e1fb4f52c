"""Executes a pipeline's DAG: which task runs when, with which values.

As in KFP, a task starts as soon as its dependencies have finished, so independent tasks run in parallel. How a task is
executed, as a command or an import, is left to a `Leaf`.
"""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from queue import SimpleQueue
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from kfadapter_embedded.execution import WHOLE, State, TaskReport, iteration_of, task_name

from .condition import holds
from .inputs import given_inputs, iteration_inputs, root_inputs, with_defaults
from .kept import fingerprint
from .loops import items, with_item
from .outcome import Outcome, dag_outcome, loop_outcome
from .spec import SpecError
from .task_api import CONDITION, ITERATOR_OUTPUT, described, entries, given_by, together
from .values import Origin, ValueFaultError, Values
from .warned import TaskWarnings, warn_of_upstream

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Mapping

    from kfadapter_embedded.json_text import JsonValue

    from .spec import Component, Dag, Loop, Pipeline, Task

    Leaf: TypeAlias = Callable[[TaskReport, Task, Component, Values, TaskWarnings], Outcome]
    """Executes a task that is no DAG: what it reports as soon as it begins, itself, what it runs, what goes in, and
    what takes its warnings."""

# The limit of concurrent tasks per DAG and of concurrent iterations per loop; the rest wait. Loops may be nested.
_MOST_TASKS = 32
_MOST_ITERATIONS = max(8, os.cpu_count() or 1)


def run_pipeline(
    pipeline: Pipeline,
    parameters: Mapping[str, JsonValue],
    leaf: Leaf,
    *,
    report: Callable[[TaskReport], None],
    stopped: threading.Event,
    names: Mapping[str, str],
    strict: bool = False,
) -> Outcome:
    """Runs a pipeline to its end.

    `leaf` executes the tasks that are not DAGs, `report` is called with every task that begins or ends, from any
    thread. Once `stopped` is set, no further task is started. If `strict`, a task fails where it would get a warning.
    """
    walk, warnings = _Walk(pipeline, leaf, report, stopped, names, strict), TaskWarnings(strict=strict)
    try:
        values = root_inputs(pipeline.root, parameters, warnings)
    except ValueFaultError as error:
        return Outcome(State.FAILED, str(error))
    if pipeline.root.dag is None:
        raise SpecError("the root of the pipeline has no tasks")
    report(TaskReport(WHOLE, State.RUNNING, details={"inputs": entries(values)}, warnings=warnings.texts))
    return walk.dag(pipeline.root.dag, values, WHOLE)


@dataclass(frozen=True)
class _Step:
    """A task being executed; `details` are those of its report."""

    name: str
    warnings: TaskWarnings
    details: dict[str, JsonValue] = field(default_factory=dict)

    def report(self, state: State) -> TaskReport:
        """A report of the task with this state."""
        return TaskReport(self.name, state, details=dict(self.details), warnings=self.warnings.texts)


@dataclass(frozen=True)
class _Walk:
    pipeline: Pipeline
    leaf: Leaf
    report: Callable[[TaskReport], None]
    stopped: threading.Event
    names: Mapping[str, str]
    strict: bool

    def dag(self, dag: Dag, values: Values, path: str, *, is_branch: bool = False) -> Outcome:
        """Runs the tasks of the DAG at this path; `is_branch` if it has a condition."""
        done: dict[str, Outcome] = {}
        waiting = {name: task.depends_on for name, task in dag.tasks.items()}
        if list(waiting.values()) == [frozenset()]:  # one task, as in most loops, needs no further thread
            done = {key: self._task(key, dag, values, done, path) for key in waiting}
            return dag_outcome(dag, done, is_branch=is_branch)
        running: dict[Future[Outcome], str] = {}
        ended: SimpleQueue[Future[Outcome]] = SimpleQueue()
        with ThreadPoolExecutor(_width(len(waiting), _MOST_TASKS)) as threads:
            while waiting or running:
                for name in [one for one, needed in waiting.items() if needed <= done.keys()]:
                    del waiting[name]
                    future = threads.submit(self._task, name, dag, values, done, path)
                    running[future] = name
                    future.add_done_callback(ended.put)
                if not running:
                    return Outcome(State.FAILED, f"{', '.join(waiting)}: waits for a task that there is not")
                finished = ended.get()
                done[running.pop(finished)] = finished.result()
        return dag_outcome(dag, done, is_branch=is_branch)

    def _task(self, key: str, dag: Dag, values: Values, done: Mapping[str, Outcome], path: str) -> Outcome:
        """Runs one task, or determines why it cannot run; every failure becomes its outcome."""
        task = dag.tasks[key]
        step = self._step(f"{path}/{key}" if path else key)
        if self.stopped.is_set():
            return Outcome(State.CANCELED)
        if not _is_due(task, [done[one] for one in task.depends_on]):
            return self._ended(step, Outcome(State.SKIPPED), began=False)
        try:
            component = self.pipeline.component(task)
            step.details.update(described(task, component, key))
            warn_of_upstream(self.pipeline, dag, key, done, step.warnings)
            inputs = given_inputs(
                key, task, component, values, done=done, path=path, names=self.names, warnings=step.warnings
            )
            return self._attempt(task, inputs, step)
        except (SpecError, ValueFaultError) as error:
            fault = str(error)
        except OSError as error:
            fault = f"this server could not run it: {error}"
        return self._ended(step, Outcome(State.FAILED, fault, self.pipeline.title(step.name), message=fault))

    def _step(self, name: str) -> _Step:
        return _Step(name, TaskWarnings(strict=self.strict))

    def _attempt(self, task: Task, inputs: Values, step: _Step) -> Outcome:
        step.details["inputs"] = entries(inputs, iteration_of(step.name))
        condition = task.trigger_policy.get("condition")
        if condition and not holds(condition, inputs.parameters):
            return self._ended(step, Outcome(State.SKIPPED, known="CANCELED"))
        if task.loop:
            return self._loop(task, task.loop, inputs, step)
        return self._once(task, inputs, step)

    def _ended(self, step: _Step, outcome: Outcome, *, began: bool = True) -> Outcome:
        if outcome.state is not State.CANCELED:
            error = outcome.error if outcome.culprit in {"", self.pipeline.title(step.name)} else outcome.told()
            ended = step.report(State.CACHED if outcome.cached else outcome.state)
            self.report(replace(ended, error=error, message=outcome.message, attempts=outcome.attempts, began=began))
        return outcome

    def _once(self, task: Task, given: Values, step: _Step) -> Outcome:
        """Runs a task's component once."""
        component, name = self.pipeline.component(task), step.name
        values = with_defaults(component, given, name)
        # KFP's importer records no inputs.
        inputs = {} if component.executor.importer else entries(values, iteration_of(name))
        pipeline = self.pipeline.pipeline_info.get("name", "")
        step.details.update(inputs=inputs, **fingerprint(task, component, given, pipeline))
        begun = step.report(State.RUNNING)
        if component.dag:
            self.report(begun)
            outcome = self.dag(component.dag, values, name, is_branch=step.details["type"] == CONDITION)
            outputs = entries(outcome.values) if outcome.state is State.SUCCEEDED else {}
            return self._ended(replace(step, details={"outputs": outputs}), outcome)
        outcome = self.leaf(begun, task, component, values, step.warnings)
        known = outcome.known or ("COMPLETE" if outcome.state is State.SUCCEEDED else outcome.state.value)
        outcome = replace(
            outcome, culprit=self.pipeline.title(name), known=known, values=given_by(outcome.values, name)
        )
        # A cached task was never reported as running, so its details have not been reported.
        details = step.details if outcome.cached else {}
        outputs = entries(outcome.values, iteration_of(name))
        return self._ended(replace(step, details={**details, "outputs": outputs}), outcome)

    def _loop(self, task: Task, loop: Loop, inputs: Values, step: _Step) -> Outcome:
        """Runs a task once for every item."""
        name = step.name
        item_origin = Origin("ITERATOR_INPUT", task_name(name))
        iterations = [with_item(loop, item, inputs, item_origin) for item in items(loop, inputs)]
        component = self.pipeline.component(task)
        given = [entries(one.only(loop.item_input), index) for index, one in enumerate(iterations)]
        step.details["inputs"] = together([entries(inputs, iteration_of(name)), *given])
        step.details["type_attributes"] = {"iteration_count": str(len(iterations))}
        if not iterations:
            self._ended(step, Outcome(State.SKIPPED))
            return loop_outcome([], component, name)
        self.report(step.report(State.RUNNING))
        step = replace(step, details={})

        def run(index: int) -> Outcome:
            return self._iteration(task, component, iterations[index], f"{name}[{index}]")

        limit = min(task.iterator_policy.get("parallelismLimit") or _MOST_ITERATIONS, _MOST_ITERATIONS)
        with ThreadPoolExecutor(_width(len(iterations), limit)) as threads:
            outcomes = list(threads.map(run, range(len(iterations))))
        put_out = [entries(one.values.of_type(ITERATOR_OUTPUT), index) for index, one in enumerate(outcomes)]
        outcome = loop_outcome(outcomes, component, name)
        step.details["outputs"] = together(put_out) if outcome.state is State.SUCCEEDED else {}
        return self._ended(step, outcome)

    def _iteration(self, task: Task, component: Component, values: Values, name: str) -> Outcome:
        if self.stopped.is_set():
            return Outcome(State.CANCELED)
        if component.dag:
            try:
                return self.dag(component.dag, iteration_inputs(task, component, values), name)
            except ValueFaultError as error:
                return Outcome(State.FAILED, str(error), self.pipeline.title(name))
        step = self._step(name)
        once = msgspec.structs.replace(task, parameter_iterator=None, artifact_iterator=None)
        step.details.update(described(once, component, task_name(name)))
        return self._once(once, values, step)


def _is_due(task: Task, before: list[Outcome]) -> bool:
    """Whether a task is started (`compiler/argocompiler/dag.go:depends`), now that its dependencies have ended."""
    if task.always:
        return any(one.known != "CANCELED" for one in before)
    return all(one.state is State.SUCCEEDED for one in before)


def _width(count: int, limit: int) -> int:
    """How many of `count` things run in parallel."""
    return max(1, min(count, limit))
