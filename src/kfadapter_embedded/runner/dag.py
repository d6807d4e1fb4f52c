"""Walks through a pipeline: which task runs when, with which values.

As in KFP, a task starts as soon as those that it depends on have finished, so independent tasks run side by side. What
a task is in the end, a command or an import, is the business of a `Leaf`.
"""

from __future__ import annotations

import json
import os
import uuid
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from kfadapter_embedded.execution import WHOLE, State, TaskReport, iteration_of, task_name

from .condition import ConditionError, holds
from .spec import SpecError
from .task_api import COLLECTED, CONDITION, ITERATOR_OUTPUT, described, entries, fingerprint, given_by, together
from .values import (
    Origin,
    RuntimeArtifact,
    ValueFaultError,
    Values,
    as_text,
    check_literals,
    converted,
    filled,
    picked,
)

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Mapping

    from kfadapter_embedded.json_text import JsonValue

    from .spec import Component, Dag, Loop, Output, Pipeline, Source, Task

    Leaf: TypeAlias = Callable[[TaskReport, Task, Component, Values], "Outcome"]
    """Executes a task that is no DAG: what it reports as soon as it begins, itself, what it runs, and what goes in."""

# So many tasks of one DAG, and iterations of one loop, are under way at once; the rest wait. Loops may be nested.
_MOST_TASKS = 32
_MOST_ITERATIONS = max(8, os.cpu_count() or 1)


@dataclass(frozen=True)
class Outcome:
    """How a task ended.

    Attributes:
        state: SUCCEEDED, FAILED, SKIPPED or CANCELED.
        error: Why it failed, in words.
        culprit: The innermost task that failed, by its path.
        values: What came out of it.
        cut_off: Whether it was skipped because a task before it failed, and not because of a condition.
        message: The error in the words of KFP's driver or launcher.
        attempts: How many times its command has been executed.
    """

    state: State
    error: str = ""
    culprit: str = ""
    values: Values = field(default_factory=Values)
    cut_off: bool = False
    message: str = ""
    attempts: int = 0

    @property
    def blocks(self) -> bool:
        """Whether tasks that depend on it cannot run."""
        return self.state in {State.FAILED, State.CANCELED} or self.cut_off

    def told(self) -> str:
        """The failure as an error of the whole run."""
        return f"task {self.culprit} failed: {self.error}" if self.culprit else self.error


class _NoValueError(Exception):
    """A task that was skipped should have given a value."""


def run_pipeline(
    pipeline: Pipeline,
    parameters: Mapping[str, JsonValue],
    leaf: Leaf,
    *,
    report: Callable[[TaskReport], None],
    stopped: threading.Event,
    names: Mapping[str, str],
) -> Outcome:
    """Runs a pipeline to its end.

    Args:
        pipeline: The pipeline.
        parameters: The values that the run was given.
        leaf: Executes the tasks that are no DAGs.
        report: Called with every task that begins or ends, from any thread.
        stopped: Once it is set, no further task is started.
        names: What placeholders such as `{{$.pipeline_job_name}}` stand for.
    """
    walk = _Walk(pipeline, leaf, report, stopped, names)
    try:
        values = walk.with_defaults(pipeline.root, Values(parameters), WHOLE)
    except ValueFaultError as error:
        return Outcome(State.FAILED, str(error))
    if pipeline.root.dag is None:
        raise SpecError("the root of the pipeline has no tasks")
    missing = dict.fromkeys(pipeline.root.input_definitions.parameters.keys() - values.parameters.keys())
    given = {**values.parameters, **missing}
    shown = replace(values, parameters=given, origins=dict.fromkeys(given, Origin("RUNTIME_VALUE_INPUT", "ROOT")))
    report(TaskReport(WHOLE, State.RUNNING, details={"inputs": entries(shown)}))
    return walk.dag(pipeline.root.dag, values, WHOLE)


@dataclass(frozen=True)
class _Walk:
    pipeline: Pipeline
    leaf: Leaf
    report: Callable[[TaskReport], None]
    stopped: threading.Event
    names: Mapping[str, str]

    def dag(self, dag: Dag, values: Values, path: str, *, is_branch: bool = False) -> Outcome:
        """Runs the tasks of a DAG of this path, which may be taken on a condition."""
        done: dict[str, Outcome] = {}
        waiting = {name: task.depends_on for name, task in dag.tasks.items()}
        running: dict[Future[Outcome], str] = {}
        with ThreadPoolExecutor(_width(len(waiting), _MOST_TASKS)) as threads:
            while waiting or running:
                for name in [one for one, needed in waiting.items() if needed <= done.keys()]:
                    del waiting[name]
                    running[threads.submit(self._task, name, dag.tasks[name], values, done, path)] = name
                if not running:
                    return Outcome(State.FAILED, f"{', '.join(waiting)}: waits for a task that there is not")
                for finished in wait(running, return_when=FIRST_COMPLETED).done:
                    done[running.pop(finished)] = finished.result()
        return _dag_outcome(dag, done, is_branch=is_branch)

    def _task(self, key: str, task: Task, values: Values, done: Mapping[str, Outcome], path: str) -> Outcome:
        """Runs one task, or finds why not; whatever goes wrong is its outcome."""
        name = f"{path}/{key}" if path else key
        if self.stopped.is_set():
            return Outcome(State.CANCELED)
        if not task.always and any(done[one].blocks for one in task.depends_on):
            return self._ended(name, Outcome(State.SKIPPED, cut_off=True), began=False)
        details: dict[str, JsonValue] = {}
        try:
            details.update(described(task, self.pipeline.component(task), key))
            return self._attempt(task, self._inputs(key, task, values, done, path), name, details)
        except _NoValueError:
            return self._ended(name, Outcome(State.SKIPPED), began=False)
        except (ConditionError, SpecError, ValueFaultError) as error:
            fault = str(error)
        except OSError as error:
            fault = f"this server could not run it: {error}"
        return self._ended(name, Outcome(State.FAILED, fault, name, message=fault), details)

    def _attempt(self, task: Task, inputs: Values, name: str, details: dict[str, JsonValue]) -> Outcome:
        details["inputs"] = entries(inputs, iteration_of(name))
        condition = task.trigger_policy.get("condition")
        if condition and not holds(condition, inputs.parameters):
            return self._ended(name, Outcome(State.SKIPPED), details)
        if task.loop:
            return self._loop(task, task.loop, inputs, name, details)
        return self._once(task, inputs, name, details)

    def _ended(
        self, name: str, outcome: Outcome, details: Mapping[str, JsonValue] | None = None, *, began: bool = True
    ) -> Outcome:
        if outcome.state is not State.CANCELED:
            error = outcome.error if outcome.culprit in {"", name} else outcome.told()
            report = TaskReport(name, outcome.state, error, outcome.message, outcome.attempts, began)
            self.report(replace(report, details=details or {}))
        return outcome

    def _once(self, task: Task, given: Values, name: str, details: dict[str, JsonValue]) -> Outcome:
        """Runs a task's component once."""
        component = self.pipeline.component(task)
        values = self.with_defaults(component, given, name)
        # KFP's importer notes no inputs.
        inputs = {} if component.executor.importer else entries(values, iteration_of(name))
        details = {**details, "inputs": inputs, **fingerprint(component, values)}
        begun = TaskReport(name, State.RUNNING, details=details)
        if component.dag:
            self.report(begun)
            outcome = self.dag(component.dag, values, name, is_branch=details["type"] == CONDITION)
            return self._ended(name, outcome, {"outputs": entries(outcome.values)})
        outcome = self.leaf(begun, task, component, values)
        outcome = replace(outcome, culprit=name, values=given_by(outcome.values, name))
        return self._ended(name, outcome, {"outputs": entries(outcome.values, iteration_of(name))})

    def _loop(self, task: Task, loop: Loop, inputs: Values, name: str, details: dict[str, JsonValue]) -> Outcome:
        """Runs a task once for every item."""
        item_origin = Origin("ITERATOR_INPUT", task_name(name))
        iterations = [_with_item(loop, item, inputs, item_origin) for item in _items(loop, inputs)]
        component = self.pipeline.component(task)
        given = [entries(one.only(loop.item_input), index) for index, one in enumerate(iterations)]
        details["inputs"] = together([entries(inputs, iteration_of(name)), *given])
        details["type_attributes"] = {"iteration_count": str(len(iterations))}
        if not iterations:
            self._ended(name, Outcome(State.SKIPPED), details)
            return _loop_outcome([], component, name)
        self.report(TaskReport(name, State.RUNNING, details=details))

        def run(index: int) -> Outcome:
            return self._iteration(task, component, iterations[index], f"{name}[{index}]")

        limit = min(task.iterator_policy.get("parallelismLimit") or _MOST_ITERATIONS, _MOST_ITERATIONS)
        with ThreadPoolExecutor(_width(len(iterations), limit)) as threads:
            outcomes = list(threads.map(run, range(len(iterations))))
        put_out = [entries(one.values.of_type(ITERATOR_OUTPUT), index) for index, one in enumerate(outcomes)]
        outcome = _loop_outcome(outcomes, component, name)
        return self._ended(name, outcome, {"outputs": {} if outcome.blocks else together(put_out)})

    def _iteration(self, task: Task, component: Component, values: Values, name: str) -> Outcome:
        if self.stopped.is_set():
            return Outcome(State.CANCELED)
        if component.dag:
            try:
                return self.dag(component.dag, self.with_defaults(component, values, name), name)
            except ValueFaultError as error:
                return Outcome(State.FAILED, str(error), name)
        once = msgspec.structs.replace(task, parameter_iterator=None, artifact_iterator=None)
        return self._once(once, values, name, described(once, component, task_name(name)))

    def with_defaults(self, component: Component, values: Values, path: str) -> Values:
        """Completes what goes into the component of a task, each value with the type that is declared.

        Raises:
            ValueFaultError: a value is missing, or does not fit.
        """
        parameters = dict(values.parameters)
        for name, declared in component.input_definitions.parameters.items():
            value, kind = parameters.pop(name, declared.default_value), declared.parameter_type
            if value is None and not declared.is_optional and not kind.startswith("TASK_"):
                raise ValueFaultError(f"the parameter {name!r} has no value")
            if value is not None:
                parameters[name] = converted(value, kind, name)
            if name in values.parameters:
                check_literals(value, declared.literals, name)
        by_default = Origin("COMPONENT_DEFAULT_INPUT", task_name(path.rpartition("/")[0]))
        return Values(parameters, values.artifacts, {**dict.fromkeys(parameters, by_default), **values.origins})

    def _inputs(self, key: str, task: Task, values: Values, done: Mapping[str, Outcome], path: str) -> Values:
        sources = task.inputs.parameters
        parameters: dict[str, JsonValue] = {
            name: value for name, source in sources.items() if (value := _value(source, values, done)) is not None
        }
        names = {**self.names, "pipeline_task_name": key, "pipeline_task_uuid": str(uuid.uuid4())}
        constants = (name for name, source in sources.items() if source.runtime_value is not None)
        # What placeholders stand for are the inputs as they came.
        parameters |= {name: filled(parameters.get(name), dict(parameters), names) for name in constants}
        artifacts = {name: _artifacts(source, values, done) for name, source in task.inputs.artifacts.items()}
        parent = task_name(path)
        origins = {
            name: _origin(source, values, done, parent) for name, source in {**sources, **task.inputs.artifacts}.items()
        }
        return Values(parameters, {name: one for name, one in artifacts.items() if one}, origins)


def _width(count: int, limit: int) -> int:
    """How many of so many things run side by side."""
    return max(1, min(count, limit))


def _value(source: Source, values: Values, done: Mapping[str, Outcome]) -> JsonValue:
    """The value of a parameter; None if it has none, which only optional ones may."""
    if source.runtime_value is not None:
        constant: JsonValue = source.runtime_value.get("constant")
        return constant
    if source.component_input_parameter is not None:
        value, selector = values.parameters.get(source.component_input_parameter), source.parameter_expression_selector
        return picked(value, selector) if selector and value is not None else value
    if source.task_final_status:
        task = source.task_final_status.task
        return _final_status(task, done[task])
    if source.output is None:
        raise SpecError("a parameter of it comes from nowhere")
    outputs = done[source.output.task].values.parameters
    if source.output.key not in outputs:
        raise _missing(source.output, done)
    return outputs[source.output.key]


def _artifacts(source: Source, values: Values, done: Mapping[str, Outcome]) -> tuple[RuntimeArtifact, ...]:
    if source.component_input_artifact is not None:
        return values.artifacts.get(source.component_input_artifact, ())
    if source.output is None:
        raise SpecError("an artifact of it comes from nowhere")
    outputs = done[source.output.task].values.artifacts
    if source.output.key not in outputs:
        raise _missing(source.output, done)
    return outputs[source.output.key]


def _origin(source: Source, values: Values, done: Mapping[str, Outcome], parent: str) -> Origin:
    """Where an input of a task comes from, which is in the group `parent`."""
    if source.task_final_status:
        return Origin("TASK_FINAL_STATUS_OUTPUT", parent)
    if source.output is None:
        if source.runtime_value is not None:
            return Origin("RUNTIME_VALUE_INPUT", parent)
        name = source.component_input_parameter or source.component_input_artifact or ""
        return Origin("COMPONENT_INPUT", values.origins.get(name, Origin("", parent)).producer)
    made = done[source.output.task].values.origins.get(source.output.key, Origin("", source.output.task))
    return Origin(COLLECTED if made.type == COLLECTED else "TASK_OUTPUT_INPUT", made.producer)


def _missing(source: Output, done: Mapping[str, Outcome]) -> Exception:
    if done[source.task].state is State.SKIPPED:
        return _NoValueError()
    return ValueFaultError(f"task {source.task} gave no output {source.key!r}")


def _final_status(name: str, outcome: Outcome) -> JsonValue:
    """What an exit handler gets, in the form that KFP's executor takes."""
    failed: dict[str, JsonValue] = {"code": 1, "message": outcome.told()} if outcome.state is State.FAILED else {}
    return {
        "state": outcome.state.value,
        "pipelineJobResourceName": "",
        "pipelineTaskName": name,
        "error": failed,
    }


def _items(loop: Loop, inputs: Values) -> list[JsonValue] | list[RuntimeArtifact]:
    """What a loop goes over; raises ValueFaultError if it is no list."""
    if "inputArtifact" in loop.items:
        return list(inputs.artifacts.get(loop.items["inputArtifact"], ()))
    items: JsonValue = loop.items.get("raw") or inputs.parameters.get(loop.items.get("inputParameter", ""))
    try:
        items = json.loads(items) if isinstance(items, str) else items
    except (ValueError, RecursionError):
        items = None
    if not isinstance(items, list):
        raise ValueFaultError(f"the loop goes over {as_text(items)[:100]}, which is no list")
    return items


def _with_item(loop: Loop, item: JsonValue | RuntimeArtifact, inputs: Values, origin: Origin) -> Values:
    origins = {**inputs.origins, loop.item_input: origin}
    if isinstance(item, RuntimeArtifact):
        return Values(inputs.parameters, {**inputs.artifacts, loop.item_input: (item,)}, origins)
    return Values({**inputs.parameters, loop.item_input: item}, inputs.artifacts, origins)


def _first_failure(outcomes: Iterator[Outcome]) -> Outcome | None:
    return next((one for one in outcomes if one.state is State.FAILED), None)


def _dag_outcome(dag: Dag, done: Mapping[str, Outcome], *, is_branch: bool) -> Outcome:
    """The outcome of a whole DAG: one failure is its failure, whatever ran afterwards."""
    if failure := _first_failure(done[name] for name in dag.tasks):
        return Outcome(State.FAILED, failure.error, failure.culprit)
    if any(one.state is State.CANCELED for one in done.values()):
        return Outcome(State.CANCELED)
    parameters: dict[str, JsonValue] = {}
    artifacts: dict[str, tuple[RuntimeArtifact, ...]] = {}
    origins: dict[str, Origin] = {}
    for key, selectors in {**dag.outputs.parameters, **dag.outputs.artifacts}.items():
        for one in selectors.outputs:
            given = done[one.task].values if one.task in done else Values()
            value, several = given.parameters.get(one.key), given.artifacts.get(one.key)
            if value is None and several is None:
                continue
            if several is None:
                parameters[key] = value
            else:
                artifacts[key] = several
            origins[key] = Origin("ONE_OF_OUTPUT" if is_branch or selectors.is_one_of else "OUTPUT", one.task)
            break
    return Outcome(State.SUCCEEDED, values=Values(parameters, artifacts, origins))


def _loop_outcome(outcomes: list[Outcome], component: Component, path: str) -> Outcome:
    """The outcome of a loop: its outputs are lists, without the iterations that gave none."""
    if failure := _first_failure(iter(outcomes)):
        return Outcome(State.FAILED, failure.error, failure.culprit)
    if any(one.state is State.CANCELED for one in outcomes):
        return Outcome(State.CANCELED)
    given = [one.values for one in outcomes]
    parameters: dict[str, JsonValue] = {
        key: [one.parameters[key] for one in given if key in one.parameters]
        for key in component.output_definitions.parameters
    }
    artifacts = {
        key: tuple(artifact for one in given for artifact in one.artifacts.get(key, ()))
        for key in component.output_definitions.artifacts
    }
    origins = dict.fromkeys({**parameters, **artifacts}, Origin(COLLECTED, task_name(path)))
    return Outcome(State.SUCCEEDED, values=Values(parameters, artifacts, origins))
