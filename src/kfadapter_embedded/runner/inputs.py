"""What goes into a task: where each value comes from, defaults, declared types (KFP's `driver/resolve.go`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kfadapter_embedded.execution import State, task_name

from .placeholders import filled, task_names
from .spec import SpecError
from .task_api import COLLECTED, DEFAULT
from .values import Origin, RuntimeArtifact, ValueFaultError, Values, check_literals, converted, picked

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kfadapter_embedded.json_text import JsonValue

    from .outcome import Outcome
    from .spec import Component, Output, Source, Task
    from .warned import TaskWarnings


def given_inputs(
    key: str,
    task: Task,
    values: Values,
    *,
    done: Mapping[str, Outcome],
    path: str,
    names: Mapping[str, str],
    warnings: TaskWarnings,
) -> Values:
    """What a task takes, from where its inputs come from.

    Args:
        key: The task's name in its DAG.
        task: The task.
        values: What went into the DAG.
        done: The DAG's tasks that have ended.
        path: The path of the DAG.
        names: What placeholders such as `{{$.pipeline_job_name}}` stand for.
        warnings: Takes what a cluster would do differently.

    Raises:
        ValueFaultError: a value is missing, or has no such part.
    """
    sources = task.inputs.parameters
    parameters: dict[str, JsonValue] = {
        name: value
        for name, source in sources.items()
        if (value := _value(source, values, done, names)) is not None or source.output
    }
    names = task_names(names, key, path)
    constants = (name for name, source in sources.items() if source.runtime_value is not None)
    # What placeholders stand for are the inputs as they came.
    parameters |= {name: filled(parameters.get(name), dict(parameters), names, warnings) for name in constants}
    artifacts = {name: _artifacts(source, values, done) for name, source in task.inputs.artifacts.items()}
    parent = task_name(path)
    origins = {
        name: _origin(source, values, done, parent) for name, source in {**sources, **task.inputs.artifacts}.items()
    }
    return Values(parameters, {name: one for name, one in artifacts.items() if one}, origins)


def with_defaults(
    component: Component,
    values: Values,
    path: str,
    warnings: TaskWarnings,  # noqa: ARG001
) -> Values:
    """Completes what goes into the component of a task, each value with the type that is declared.

    Raises:
        ValueFaultError: a value is missing, or does not fit.
    """
    parameters = dict(values.parameters)
    for name, declared in component.input_definitions.parameters.items():
        value, kind = parameters.pop(name, declared.default_value), declared.parameter_type
        if value is None and name in values.parameters:
            # The output of a failed task.
            if kind != "STRING":
                raise ValueFaultError(f"the parameter {name!r} is null")
            value = ""
        if value is None and not declared.is_optional and not kind.startswith("TASK_"):
            raise ValueFaultError(f"the parameter {name!r} has no value")
        if value is not None:
            parameters[name] = converted(value, kind, name)
        if name in values.parameters:
            check_literals(value, declared.literals, name)
    by_default = Origin(DEFAULT, task_name(path.rpartition("/")[0]))
    return Values(parameters, values.artifacts, {**dict.fromkeys(parameters, by_default), **values.origins})


def _value(source: Source, values: Values, done: Mapping[str, Outcome], names: Mapping[str, str]) -> JsonValue:
    """The value of a parameter; None if it has none, which only optional ones may."""
    if source.runtime_value is not None:
        constant: JsonValue = source.runtime_value.get("constant")
        return constant
    if source.component_input_parameter is not None:
        value, selector = values.parameters.get(source.component_input_parameter), source.parameter_expression_selector
        return picked(value, selector) if selector and value is not None else value
    if source.task_final_status:
        task = source.task_final_status.task
        return _final_status(task, done[task], names)
    if source.output is None:
        raise SpecError("a parameter of it comes from nowhere")
    producer = done[source.output.task]
    if source.output.key not in producer.values.parameters and producer.state is State.SUCCEEDED:
        raise _missing(source.output)
    return producer.values.parameters.get(source.output.key)


def _artifacts(source: Source, values: Values, done: Mapping[str, Outcome]) -> tuple[RuntimeArtifact, ...]:
    if source.component_input_artifact is not None:
        return values.artifacts.get(source.component_input_artifact, ())
    if source.output is None:
        raise SpecError("an artifact of it comes from nowhere")
    outputs = done[source.output.task].values.artifacts
    if source.output.key not in outputs:
        raise _missing(source.output)
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


def _missing(source: Output) -> ValueFaultError:
    return ValueFaultError(f"task {source.task} gave no output {source.key!r}")


def _final_status(name: str, outcome: Outcome, names: Mapping[str, str]) -> JsonValue:
    """What an exit handler gets: KFP 2.17.0 fills in no error (`driver/resolve.go:resolveInputParameter`)."""
    return {
        "state": outcome.known or "CANCELED",
        "pipelineJobResourceName": names.get("pipeline_job_resource_name", ""),
        "pipelineTaskName": name,
        "error": {},
    }
