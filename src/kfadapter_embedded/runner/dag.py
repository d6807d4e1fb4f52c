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

from kfadapter_embedded.execution import Artifact, State, TaskReport

from .condition import ConditionError, holds
from .spec import SpecError
from .values import RuntimeArtifact, ValueFaultError, Values, as_text, check_literals, converted, filled, picked

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Mapping

    from kfadapter_embedded.json_text import JsonValue

    from .spec import Component, Dag, Loop, Output, Pipeline, Selectors, Source, Task

    Leaf: TypeAlias = Callable[[str, Task, Component, Values], "Outcome"]
    """Executes a task that is no DAG, and reports nothing: its path, itself, what it runs, and what goes in."""

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
    """

    state: State
    error: str = ""
    culprit: str = ""
    values: Values = field(default_factory=Values)
    cut_off: bool = False

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
        values = walk.with_defaults(pipeline.root, Values(parameters))
    except ValueFaultError as error:
        return Outcome(State.FAILED, str(error))
    if pipeline.root.dag is None:
        raise SpecError("the root of the pipeline has no tasks")
    return walk.dag(pipeline.root.dag, values, "")


@dataclass(frozen=True)
class _Walk:
    pipeline: Pipeline
    leaf: Leaf
    report: Callable[[TaskReport], None]
    stopped: threading.Event
    names: Mapping[str, str]

    def dag(self, dag: Dag, values: Values, path: str) -> Outcome:
        """Runs the tasks of a DAG; `path` is what their names begin with."""
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
        return _dag_outcome(dag, done)

    def _task(self, key: str, task: Task, values: Values, done: Mapping[str, Outcome], path: str) -> Outcome:
        """Runs one task, or finds why not; whatever goes wrong is its outcome."""
        name = f"{path}{key}"
        if self.stopped.is_set():
            return Outcome(State.CANCELED)
        if not task.always and any(done[one].blocks for one in task.depends_on):
            return self._ended(name, Outcome(State.SKIPPED, cut_off=True))
        try:
            return self._attempt(task, self._inputs(key, task, values, done), name)
        except _NoValueError:
            return self._ended(name, Outcome(State.SKIPPED))
        except (ConditionError, SpecError, ValueFaultError) as error:
            return self._ended(name, Outcome(State.FAILED, str(error), name))
        except OSError as error:
            return self._ended(name, Outcome(State.FAILED, f"this server could not run it: {error}", name))

    def _attempt(self, task: Task, inputs: Values, name: str) -> Outcome:
        condition = task.trigger_policy.get("condition")
        if condition and not holds(condition, inputs.parameters):
            return self._ended(name, Outcome(State.SKIPPED))
        loop = task.parameter_iterator or task.artifact_iterator
        return self._loop(task, loop, inputs, name) if loop else self._once(task, inputs, name)

    def _ended(self, name: str, outcome: Outcome) -> Outcome:
        if outcome.state is not State.CANCELED:
            error = outcome.error if outcome.culprit in {"", name} else outcome.told()
            self.report(TaskReport(name, outcome.state, error))
        return outcome

    def _once(self, task: Task, inputs: Values, name: str) -> Outcome:
        """Runs a task's component once."""
        component = self.pipeline.component(task)
        values = self.with_defaults(component, inputs)
        if component.dag:
            self.report(TaskReport(name, State.RUNNING))
            return self._ended(name, self.dag(component.dag, values, f"{name}/"))
        outcome = self.leaf(name, task, component, values)
        if outcome.state is State.SUCCEEDED:
            self.report(_success(name, outcome.values))
            return outcome
        return self._ended(name, replace(outcome, culprit=name))

    def _loop(self, task: Task, loop: Loop, inputs: Values, name: str) -> Outcome:
        """Runs a task once for every item."""
        iterations = [_with_item(loop, item, inputs) for item in _items(loop, inputs)]
        component = self.pipeline.component(task)
        self.report(TaskReport(name, State.RUNNING))

        def run(index: int) -> Outcome:
            return self._iteration(task, component, iterations[index], f"{name}[{index}]")

        limit = min(task.iterator_policy.get("parallelismLimit") or _MOST_ITERATIONS, _MOST_ITERATIONS)
        with ThreadPoolExecutor(_width(len(iterations), limit)) as threads:
            outcomes = list(threads.map(run, range(len(iterations))))
        return self._ended(name, _loop_outcome(outcomes, component))

    def _iteration(self, task: Task, component: Component, values: Values, name: str) -> Outcome:
        if self.stopped.is_set():
            return Outcome(State.CANCELED)
        if component.dag:
            try:
                return self.dag(component.dag, self.with_defaults(component, values), f"{name}/")
            except ValueFaultError as error:
                return Outcome(State.FAILED, str(error), name)
        return self._once(task, values, name)

    def with_defaults(self, component: Component, values: Values) -> Values:
        """Completes what goes into a component, each value with the type that is declared.

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
        return Values(parameters, values.artifacts)

    def _inputs(self, key: str, task: Task, values: Values, done: Mapping[str, Outcome]) -> Values:
        sources = task.inputs.parameters
        parameters: dict[str, JsonValue] = {
            name: value for name, source in sources.items() if (value := _value(source, values, done)) is not None
        }
        names = {**self.names, "pipeline_task_name": key, "pipeline_task_uuid": str(uuid.uuid4())}
        constants = (name for name, source in sources.items() if source.runtime_value is not None)
        # What placeholders stand for are the inputs as they came.
        parameters |= {name: filled(parameters.get(name), dict(parameters), names) for name in constants}
        artifacts = {name: _artifacts(source, values, done) for name, source in task.inputs.artifacts.items()}
        return Values(parameters, {name: one for name, one in artifacts.items() if one})


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


def _with_item(loop: Loop, item: JsonValue | RuntimeArtifact, inputs: Values) -> Values:
    if isinstance(item, RuntimeArtifact):
        return Values(inputs.parameters, {**inputs.artifacts, loop.item_input: (item,)})
    return Values({**inputs.parameters, loop.item_input: item}, inputs.artifacts)


def _success(name: str, values: Values) -> TaskReport:
    artifacts = tuple(
        Artifact(key, str(one.type.get("schemaTitle", "system.Artifact")), one.custom_path or one.uri, one.metadata)
        for key, several in values.artifacts.items()
        for one in several
    )
    return TaskReport(name, State.SUCCEEDED, parameters=values.parameters, artifacts=artifacts)


def _first_failure(outcomes: Iterator[Outcome]) -> Outcome | None:
    return next((one for one in outcomes if one.state is State.FAILED), None)


def _dag_outcome(dag: Dag, done: Mapping[str, Outcome]) -> Outcome:
    """The outcome of a whole DAG: one failure is its failure, whatever ran afterwards."""
    if failure := _first_failure(done[name] for name in dag.tasks):
        return Outcome(State.FAILED, failure.error, failure.culprit)
    if any(one.state is State.CANCELED for one in done.values()):
        return Outcome(State.CANCELED)
    parameters = {key: _first(done, one) for key, one in dag.outputs.parameters.items()}
    artifacts = {key: _first_artifact(done, one) for key, one in dag.outputs.artifacts.items()}
    return Outcome(
        State.SUCCEEDED,
        values=Values(
            {key: value for key, value in parameters.items() if value is not None},
            {key: value for key, value in artifacts.items() if value is not None},
        ),
    )


def _first(done: Mapping[str, Outcome], selectors: Selectors) -> JsonValue:
    given = (done[one.task].values.parameters.get(one.key) for one in selectors.outputs if one.task in done)
    return next((value for value in given if value is not None), None)


def _first_artifact(done: Mapping[str, Outcome], selectors: Selectors) -> tuple[RuntimeArtifact, ...] | None:
    given = (done[one.task].values.artifacts.get(one.key) for one in selectors.outputs if one.task in done)
    return next((value for value in given if value is not None), None)


def _loop_outcome(outcomes: list[Outcome], component: Component) -> Outcome:
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
    return Outcome(State.SUCCEEDED, values=Values(parameters, artifacts))
