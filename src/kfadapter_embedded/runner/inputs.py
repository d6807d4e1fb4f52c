"""The inputs of tasks: sources of values, defaults, declared types (KFP's `driver/resolve.go`).

A parameter that is None is null; KFP distinguishes it from one that is missing.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

from kfadapter_embedded.execution import State, task_name
from kfadapter_embedded.json_text import JsonValue
from kfadapter_grpc.check import rules

from .condition import picked
from .outcome import Outcome
from .placeholders import filled, has_placeholder, task_names
from .spec import Artifact, Component, Loop, Parameter, Source, SpecError, Task
from .task_api import COLLECTED
from .values import ItemText, Origin, RuntimeArtifact, ValueFaultError, Values, as_text, check_literals, converted
from .warned import TaskWarnings

# Characters of four bytes in UTF-8: KFP's connection to MySQL (`charset=utf8`) does not support them.
_FOUR_BYTES = re.compile("[\U00010000-\U0010ffff]")


def root_inputs(root: Component, given: Mapping[str, JsonValue], warnings: TaskWarnings) -> Values:
    """The inputs of a run: its parameters, and defaults (`compiler/argocompiler/argo.go:Compile`).

    Raises ValueFaultError if a parameter has no value.
    """
    parameters = dict(given)
    for name, declared in root.input_definitions.parameters.items():
        if parameters.setdefault(name, declared.default_value) is None and not declared.is_optional:
            raise ValueFaultError(f"the parameter {name!r} has no value")
        _warn_of_text(as_text(parameters[name]), warnings)
    return Values(parameters, origins=dict.fromkeys(parameters, Origin("RUNTIME_VALUE_INPUT", "ROOT")))


def given_inputs(
    key: str,
    task: Task,
    component: Component,
    values: Values,
    *,
    done: Mapping[str, Outcome],
    path: str,
    names: Mapping[str, str],
    warnings: TaskWarnings,
) -> Values:
    """The inputs of a task, resolved from their sources, each parameter with its declared type.

    `key` is the name of the task in the DAG at `path`, whose inputs are `values` and whose tasks that have ended are
    `done`; `names` has the values of placeholders such as `{{$.pipeline_job_name}}`. Raises ValueFaultError if a value
    is missing, has another type, or does not have the selected part.
    """
    sources = task.inputs.parameters
    parameters = _resolved(task, component, values, done=done, names=names, warnings=warnings)
    nulls = {name for name, value in parameters.items() if value is None and _may_be_null(sources.get(name))}
    _warn_of_loop(key, task, component, parameters, warnings)
    _warn_of_texts(sources, component, parameters, warnings)
    _fill(sources, component, parameters, task_names(names, key, path), warnings)
    skipped = {*nulls, task.loop.item_input} if task.loop else nulls
    if not component.executor.importer:  # KFP's importer has no driver
        parameters = _typed(component, _with_items(component, parameters, warnings), skipped)
    if component.executor.container and None in parameters.values():
        # A value that no task produced is unset in KFP, and cannot be encoded as JSON.
        raise ValueFaultError("proto: google.protobuf.Value: none of the oneof fields is set")
    parent = task_name(path)
    origins = {
        name: _origin(source, values, done, parent) for name, source in {**sources, **task.inputs.artifacts}.items()
    }
    artifacts = dict(_artifacts(task, component, values, done, warnings))
    _warn_of_artifacts(component, artifacts, warnings)
    return Values(parameters, artifacts, {**dict.fromkeys(parameters, _by_default(parent)), **origins})


def _resolved(
    task: Task,
    component: Component,
    values: Values,
    *,
    done: Mapping[str, Outcome],
    names: Mapping[str, str],
    warnings: TaskWarnings,
) -> dict[str, JsonValue]:
    """The parameters of a task before conversion, including defaults of a group's optional ones."""
    sources, declared = task.inputs.parameters, component.input_definitions.parameters
    parameters: dict[str, JsonValue] = {
        name: one.default_value
        for name, one in declared.items()
        if component.dag and one.is_optional and name not in sources
    }
    for name, source in sources.items():
        expected = declared.get(name, Parameter())
        value = _value(source, values, done, names)
        if value is not None or source.component_input_parameter is None:
            check_literals(value, expected.literals, name)
            parameters[name] = _selected(value, source, name, warnings)
        elif component.executor.importer:
            parameters[name] = None
        elif not expected.is_optional or source.parameter_expression_selector:
            raise ValueFaultError(f"the resolved input parameter is null: {source.component_input_parameter}")
        elif component.dag:
            parameters[name] = expected.default_value
            if name in _taken_inside(component):
                warnings.warn(rules.OPTIONAL_INTO_PIPELINE.text(input=name))
    return parameters


def iteration_inputs(task: Task, component: Component, values: Values) -> Values:
    """The inputs of an iteration: those of the loop, and the item, whose type is converted only now.

    Raises ValueFaultError if the item has another type.
    """
    loop = task.loop or Loop()
    skipped = {loop.items.get("inputParameter", "")}
    parameters = _typed(component, values.parameters, skipped)
    item, given = parameters.get(loop.item_input), values.parameters.get(loop.item_input)
    if isinstance(item, str) and not isinstance(given, str):
        parameters[loop.item_input] = ItemText.of(item, given)
    return replace(values, parameters=parameters)


def with_defaults(component: Component, values: Values, path: str) -> Values:
    """Completes the inputs of a command, as KFP's launcher does (`component/launcher_v2.go:addDefaultParams`)."""
    if component.dag:
        return values
    declared = component.input_definitions.parameters.items()
    defaults = {name: one.default_value for name, one in declared if one.default_value is not None}
    origin = _by_default(task_name(path.rpartition("/")[0]))
    return Values(
        {**defaults, **values.parameters}, values.artifacts, {**dict.fromkeys(defaults, origin), **values.origins}
    )


def _by_default(parent: str) -> Origin:
    return Origin("COMPONENT_DEFAULT_INPUT", parent)


def _with_items(component: Component, given: Mapping[str, JsonValue], warnings: TaskWarnings) -> dict[str, JsonValue]:
    """The parameters, with the item itself where the text of a loop's item is given to another type."""
    parameters = dict(given)
    for name, declared in component.input_definitions.parameters.items():
        value, kind = parameters.get(name), declared.parameter_type
        if isinstance(value, ItemText) and kind != "STRING":
            warnings.warn(rules.ITEM_OF_ANY_LIST.text(input=name, expected=kind))
            parameters[name] = value.item
    return parameters


def _typed(component: Component, given: Mapping[str, JsonValue], skipped: Collection[str]) -> dict[str, JsonValue]:
    """The parameters with their declared types; skipped ones are not converted and may be missing."""
    parameters = dict(given)
    for name, declared in component.input_definitions.parameters.items():
        kind = declared.parameter_type
        if name in skipped or (name not in given and (declared.is_optional or kind.startswith("TASK_"))):
            continue
        if name not in given and declared.default_value is None:
            raise ValueFaultError(f'neither value nor default value provided for non-optional parameter "{name}"')
        parameters[name] = converted(given.get(name), kind, name)
    return parameters


def _value(source: Source, values: Values, done: Mapping[str, Outcome], names: Mapping[str, str]) -> JsonValue:
    """The value of a parameter (`driver/resolve.go:resolveInputParameter`)."""
    if source.runtime_value is not None:
        constant: JsonValue = source.runtime_value.get("constant")
        return constant
    if (name := source.component_input_parameter) is not None:
        if name not in values.parameters:
            raise ValueFaultError(f"parent DAG does not have input parameter {name}")
        return values.parameters[name]
    if source.task_final_status:
        task = source.task_final_status.task
        return _final_status(task, done[task], names)
    if source.output is None:
        raise SpecError("a parameter of it comes from nowhere")
    # Outputs that a failed task did not produce are null, as are those it never produces (`resolveUpstreamParameters`).
    return done[source.output.task].values.parameters.get(source.output.key)


def _selected(value: JsonValue, source: Source, name: str, warnings: TaskWarnings) -> JsonValue:
    if not source.parameter_expression_selector:
        return value
    part = picked(value, source.parameter_expression_selector)
    if part is None:
        warnings.warn(rules.NULL_FIELD.text(input=name))
    return part


def _may_be_null(source: Source | None) -> bool:
    """Whether an input of a group stays null: a task inside then uses the default of its own input."""
    return source is None or bool(source.component_input_parameter and not source.parameter_expression_selector)


def _taken_inside(component: Component) -> set[str]:
    """The names of a group's inputs that the tasks inside use."""
    tasks = component.dag.tasks.values() if component.dag else ()
    sources = (source for task in tasks for source in task.inputs.parameters.values())
    return {source.component_input_parameter for source in sources if source.component_input_parameter}


def _fill(
    sources: Mapping[str, Source],
    component: Component,
    parameters: dict[str, JsonValue],
    names: Mapping[str, str],
    warnings: TaskWarnings,
) -> None:
    """Fills in the constants; text that looks like a placeholder in other values is not replaced."""
    came = dict(parameters)
    for name, value in came.items():
        constant = name in sources and sources[name].runtime_value is not None
        if constant:
            parameters[name] = filled(value, came, names, warnings)
        # A constant for a command is filled in here, too.
        if constant == bool(component.dag) and has_placeholder(value, came):
            rule = rules.TEXT_INTO_PIPELINE if component.dag else rules.PLACEHOLDER_IN_VALUE
            warnings.warn(rule.text(input=name))


def _warn_of_loop(
    key: str, task: Task, component: Component, parameters: Mapping[str, JsonValue], warnings: TaskWarnings
) -> None:
    """Warns of loops that KFP lacks, and of what its iteration drivers cannot do, since they do not get the list."""
    if task.artifact_iterator:
        warnings.warn(rules.LOOP_OVER_ARTIFACTS.text(loop=key))
    items = task.loop.items.get("inputParameter", "") if task.loop else ""
    if task.loop is None or parameters.get(items, True) in ([], "[]"):
        return
    if any(one.parameter_expression_selector for one in task.inputs.parameters.values()):
        warnings.warn(rules.LOOP_OVER_ITEM_FIELD.text(loop=key))
    if items in _taken_inside(component):
        warnings.warn(rules.LOOPED_LIST_INSIDE.text(input=items, loop=key))


def _warn_of_text(text: str, warnings: TaskWarnings) -> None:
    """Warns of a text that becomes a part of KFP's Workflow."""
    if found := _FOUR_BYTES.search(text):
        warnings.warn(rules.FOUR_BYTES.text(character=found[0]))
    if found := rules.ARGO_TEMPLATES.search(text):
        warnings.warn(rules.ARGO_TEMPLATE.text(template=found[0]))


def _warn_of_texts(
    sources: Mapping[str, Source], component: Component, parameters: Mapping[str, JsonValue], warnings: TaskWarnings
) -> None:
    if container := component.executor.container:
        _warn_of_text("".join((*container.command, *container.args)), warnings)
    for name, source in sources.items():
        text = as_text(parameters.get(name))
        if source.runtime_value is not None:
            _warn_of_text(text, warnings)
        elif source.output and (found := _FOUR_BYTES.search(text)):
            warnings.warn(rules.FOUR_BYTES_OUTPUT.text(character=found[0], input=name))


def _warn_of_artifacts(
    component: Component, artifacts: Mapping[str, tuple[RuntimeArtifact, ...]], warnings: TaskWarnings
) -> None:
    """Warns of lists that go into a group, and of an artifact that comes twice."""
    names: dict[str, list[str]] = {}
    for name, several in artifacts.items():
        if component.dag and len(several) > 1:
            warnings.warn(rules.ARTIFACT_LIST_INTO_PIPELINE.text(input=name))
        for one in several:
            identity = str(one.records[0]["artifact_id"]) if one.records else one.uri
            names.setdefault(identity, []).append(name)
    for same in names.values():
        if len(same) > 1:
            warnings.warn(rules.SAME_ARTIFACT.text(inputs=" and ".join(f"'{name}'" for name in dict.fromkeys(same))))


def _artifacts(
    task: Task, component: Component, values: Values, done: Mapping[str, Outcome], warnings: TaskWarnings
) -> Iterator[tuple[str, tuple[RuntimeArtifact, ...]]]:
    """The artifacts of the inputs that have one, or a list, which may be empty (`driver/resolve.go`)."""
    for name, source in task.inputs.artifacts.items():
        is_optional = component.input_definitions.artifacts.get(name, Artifact()).is_optional
        if source.component_input_artifact is not None:
            if source.component_input_artifact in values.artifacts:
                yield name, values.artifacts[source.component_input_artifact]
            elif is_optional:
                warnings.warn(rules.MISSING_ARTIFACT.text(input=name))
            else:
                raise ValueFaultError(f"parent DAG does not have input artifact {name}")
            continue
        if source.output is None:
            raise SpecError("an artifact of it comes from nowhere")
        producer = done[source.output.task]
        if source.output.key in producer.values.artifacts:
            yield name, producer.values.artifacts[source.output.key]
        elif producer.state is State.SUCCEEDED or not is_optional:
            raise ValueFaultError(f"task {source.output.task} gave no output {source.output.key!r}")
        else:
            warnings.warn(rules.IGNORED_ARTIFACT.text(task=source.output.task, input=name))


def _origin(source: Source, values: Values, done: Mapping[str, Outcome], parent: str) -> Origin:
    """The source of an input of a task in the group `parent`."""
    if source.task_final_status:
        return Origin("TASK_FINAL_STATUS_OUTPUT", parent)
    if source.output is None:
        if source.runtime_value is not None:
            return Origin("RUNTIME_VALUE_INPUT", parent)
        name = source.component_input_parameter or source.component_input_artifact or ""
        return Origin("COMPONENT_INPUT", values.origins.get(name, Origin("", parent)).producer)
    made = done[source.output.task].values.origins.get(source.output.key, Origin("", source.output.task))
    return Origin(COLLECTED if made.type == COLLECTED else "TASK_OUTPUT_INPUT", made.producer)


def _final_status(name: str, outcome: Outcome, names: Mapping[str, str]) -> JsonValue:
    """What an exit handler gets: KFP 2.17.0 does not set the error (`driver/resolve.go:resolveInputParameter`)."""
    return {
        "state": outcome.known or "CANCELED",
        "pipelineJobResourceName": names.get("pipeline_job_resource_name", ""),
        "pipelineTaskName": name,
        "error": {},
    }
