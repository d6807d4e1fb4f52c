"""A compiled pipeline as the runner reads it: KFP's pipeline spec, schema 2.1.0, as types.

Only what a run needs is read; the rest of a spec is passed over.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kfadapter_embedded.json_text import JsonValue

_RETRY_FACTOR = 2.0
_RETRY_LIMIT_SECONDS = 3600.0


class SpecError(Exception):
    """The spec is none that can be run; the text says what is wrong with it."""


@dataclass(frozen=True)
class Constant:
    """A value that stands in the spec; texts in it may hold placeholders."""

    value: JsonValue


@dataclass(frozen=True)
class TaskOutput:
    """What another task of the same DAG gave under a name."""

    task: str
    key: str


@dataclass(frozen=True)
class ParentInput:
    """What the DAG itself was given under a name, or with a `selector` a part of it."""

    name: str
    selector: str = ""


@dataclass(frozen=True)
class FinalStatus:
    """How another task of the same DAG ended, for exit handlers."""

    task: str


Source: TypeAlias = "Constant | TaskOutput | ParentInput | FinalStatus"
"""Where the value of a task's input comes from."""


@dataclass(frozen=True)
class InputParameter:
    """A parameter that a component takes.

    Attributes:
        type: KFP's name for its type, for example NUMBER_INTEGER.
        default: Its default; None if it has none.
        optional: Whether the component does without it.
        literals: The only values that it takes; empty where any of its type will do.
    """

    type: str
    default: JsonValue = None
    optional: bool = False
    literals: tuple[JsonValue, ...] = ()


@dataclass(frozen=True)
class Loop:
    """What a task is repeated over: the text of a JSON list, or one of the task's own inputs.

    Attributes:
        item: The input that takes the item.
        raw: The list as JSON text; empty if `over` names an input.
        over: The input that holds the list.
        artifacts: Whether it is a list of artifacts.
        at_once: How many iterations may run at once; 0 for any number.
    """

    item: str
    raw: str = ""
    over: str = ""
    artifacts: bool = False
    at_once: int = 0


@dataclass(frozen=True)
class Retry:
    """How often a failed task is tried again, and the seconds in between."""

    times: int = 0
    backoff: float = 0.0
    factor: float = _RETRY_FACTOR
    longest: float = _RETRY_LIMIT_SECONDS

    def pause(self, failures: int) -> float:
        """Tells how many seconds to wait after so many failures."""
        return min(self.backoff * self.factor ** (failures - 1), self.longest)


@dataclass(frozen=True)
class Task:
    """A task of a DAG.

    Attributes:
        name: Its name in the DAG.
        component: The name of the component that it runs.
        depends_on: The tasks that must be over before it.
        parameters: Where its parameters come from.
        artifacts: Where its artifacts come from.
        condition: The condition under which it runs, in CEL; empty if there is none.
        always: Whether it runs although tasks before it failed, as exit handlers do.
        loop: What it is repeated over.
        retry: How it is tried again.
    """

    name: str
    component: str
    depends_on: frozenset[str]
    parameters: Mapping[str, Source]
    artifacts: Mapping[str, Source]
    condition: str = ""
    always: bool = False
    loop: Loop | None = None
    retry: Retry = field(default_factory=Retry)


@dataclass(frozen=True)
class Dag:
    """Tasks, and which of their outputs are the DAG's: for each, the first of several that there is."""

    tasks: Mapping[str, Task]
    parameters: Mapping[str, tuple[TaskOutput, ...]]
    artifacts: Mapping[str, tuple[TaskOutput, ...]]


@dataclass(frozen=True)
class Container:
    """A command in an image."""

    image: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    accelerator: str = ""


@dataclass(frozen=True)
class Importer:
    """An artifact from elsewhere: a fixed URI, or the parameter that holds it."""

    uri: str
    uri_parameter: str
    metadata: JsonValue


@dataclass(frozen=True)
class Component:
    """What a task runs, and what goes in and comes out.

    Attributes:
        name: Its name in the spec.
        parameters: The parameters that it takes.
        artifacts: The artifacts that it takes.
        output_parameters: Its output parameters, with KFP's names for their types.
        output_artifacts: Its output artifacts, with their types as the spec has them.
        body: What it is made of.
        executor: The name under which the platform spec speaks of it; empty for a DAG.
    """

    name: str
    parameters: Mapping[str, InputParameter]
    artifacts: frozenset[str]
    output_parameters: Mapping[str, str]
    output_artifacts: Mapping[str, Mapping[str, JsonValue]]
    body: Dag | Container | Importer
    executor: str = ""


@dataclass(frozen=True)
class Pipeline:
    """A compiled pipeline.

    Attributes:
        name: Its own name.
        root: The outermost DAG, as a component that takes the pipeline's parameters.
        components: All others, by name.
        kubernetes: What the platform spec asks of Kubernetes, by executor.
    """

    name: str
    root: Component
    components: Mapping[str, Component]
    kubernetes: Mapping[str, Mapping[str, JsonValue]]

    def component(self, name: str) -> Component:
        """Finds a component.

        Raises:
            SpecError: there is none of this name.
        """
        if name not in self.components:
            raise SpecError(f"the pipeline names a component {name!r} that it does not have")
        return self.components[name]


def read_pipeline(document: JsonValue) -> Pipeline:
    """Reads a spec: bare, or KFP's wrapper of pipeline and platform spec.

    Raises:
        SpecError: it is none that can be run.
    """
    outer = mapping(document)
    spec = mapping(outer["pipeline_spec"]) if "pipeline_spec" in outer else outer
    if spec.get("kind") == "Workflow" or str(spec.get("apiVersion", "")).startswith("argoproj.io/"):
        raise SpecError(
            "this is a KFP v1 pipeline (an Argo Workflow), made of containers. The embedded KFP runs pipelines "
            "compiled by kfp 2; this one needs Kubeflow Pipelines on Kubernetes (KFADAPTER_KFP_URL)"
        )
    if "root" not in spec:
        raise SpecError("this is no compiled KFP pipeline: it has no root")
    executors = mapping(mapping(spec.get("deploymentSpec")).get("executors"))
    components = {
        name: _component(name, mapping(one), executors) for name, one in mapping(spec.get("components")).items()
    }
    root = _component("root", mapping(spec["root"]), executors)
    if not isinstance(root.body, Dag):
        raise SpecError("this is no compiled KFP pipeline: its root has no tasks")
    name = str(mapping(spec.get("pipelineInfo")).get("name", ""))
    return Pipeline(name, root, components, _kubernetes(mapping(outer.get("platform_spec"))))


def mapping(value: JsonValue) -> Mapping[str, JsonValue]:
    """The value, if it is a mapping; an empty one otherwise."""
    return value if isinstance(value, dict) else {}


def _list(value: JsonValue) -> list[JsonValue]:
    return value if isinstance(value, list) else []


def _kubernetes(platform: Mapping[str, JsonValue]) -> Mapping[str, Mapping[str, JsonValue]]:
    kubernetes = mapping(mapping(platform.get("platforms")).get("kubernetes"))
    executors = mapping(mapping(kubernetes.get("deploymentSpec")).get("executors"))
    return {name: mapping(one) for name, one in executors.items()}


def _component(name: str, spec: Mapping[str, JsonValue], executors: Mapping[str, JsonValue]) -> Component:
    inputs, outputs = mapping(spec.get("inputDefinitions")), mapping(spec.get("outputDefinitions"))
    label = str(spec.get("executorLabel", ""))
    body: Dag | Container | Importer
    body = _dag(mapping(spec["dag"])) if "dag" in spec else _executor(name, mapping(executors.get(label)))
    return Component(
        name,
        {key: _input(mapping(one)) for key, one in mapping(inputs.get("parameters")).items()},
        frozenset(mapping(inputs.get("artifacts"))),
        {key: _type(mapping(one)) for key, one in mapping(outputs.get("parameters")).items()},
        {key: mapping(mapping(one).get("artifactType")) for key, one in mapping(outputs.get("artifacts")).items()},
        body,
        label,
    )


def _type(spec: Mapping[str, JsonValue]) -> str:
    return str(spec.get("parameterType", ""))


def _input(spec: Mapping[str, JsonValue]) -> InputParameter:
    optional, literals = bool(spec.get("isOptional")), tuple(_list(spec.get("literals")))
    return InputParameter(_type(spec), spec.get("defaultValue"), optional, literals)


def _executor(component: str, spec: Mapping[str, JsonValue]) -> Container | Importer:
    if "container" in spec:
        return _container(mapping(spec["container"]))
    if "importer" in spec:
        importer = mapping(spec["importer"])
        uri = mapping(importer.get("artifactUri"))
        constant, parameter = str(uri.get("constant", "")), str(uri.get("runtimeParameter", ""))
        return Importer(constant, parameter, importer.get("metadata") or {})
    raise SpecError(f"component {component!r} is neither a container nor an importer")


def _container(spec: Mapping[str, JsonValue]) -> Container:
    command = tuple(str(part) for part in [*_list(spec.get("command")), *_list(spec.get("args"))])
    variables = (mapping(one) for one in _list(spec.get("env")))
    environment = {str(one.get("name", "")): str(one.get("value", "")) for one in variables}
    accelerator = mapping(mapping(spec.get("resources")).get("accelerator"))
    kind = accelerator.get("resourceType") or accelerator.get("type") or ""
    return Container(str(spec.get("image", "")), command, environment, str(kind))


def _dag(spec: Mapping[str, JsonValue]) -> Dag:
    outputs = mapping(spec.get("outputs"))
    return Dag(
        {name: _task(name, mapping(one)) for name, one in mapping(spec.get("tasks")).items()},
        {key: _parameter_selectors(mapping(one)) for key, one in mapping(outputs.get("parameters")).items()},
        {key: _artifact_selectors(mapping(one)) for key, one in mapping(outputs.get("artifacts")).items()},
    )


def _parameter_selectors(spec: Mapping[str, JsonValue]) -> tuple[TaskOutput, ...]:
    several = _list(mapping(spec.get("valueFromOneof")).get("parameterSelectors"))
    one = spec.get("valueFromParameter")
    return tuple(_selector(mapping(each), "outputParameterKey") for each in ([one] if one else several))


def _artifact_selectors(spec: Mapping[str, JsonValue]) -> tuple[TaskOutput, ...]:
    return tuple(_selector(mapping(each), "outputArtifactKey") for each in _list(spec.get("artifactSelectors")))


def _selector(spec: Mapping[str, JsonValue], key: str) -> TaskOutput:
    return TaskOutput(str(spec.get("producerSubtask", "")), str(spec.get(key, "")))


def _task(name: str, spec: Mapping[str, JsonValue]) -> Task:
    inputs, trigger = mapping(spec.get("inputs")), mapping(spec.get("triggerPolicy"))
    parameters = {key: _parameter(key, mapping(one)) for key, one in mapping(inputs.get("parameters")).items()}
    artifacts = {key: _artifact(key, mapping(one)) for key, one in mapping(inputs.get("artifacts")).items()}
    producers = {one.task for one in [*parameters.values(), *artifacts.values()] if isinstance(one, TaskOutput)}
    return Task(
        name,
        str(mapping(spec.get("componentRef")).get("name", "")),
        frozenset({str(one) for one in _list(spec.get("dependentTasks"))} | producers),
        parameters,
        artifacts,
        str(trigger.get("condition", "")),
        always=trigger.get("strategy") == "ALL_UPSTREAM_TASKS_COMPLETED",
        loop=_loop(spec),
        retry=_retry(mapping(spec.get("retryPolicy"))),
    )


def _parameter(name: str, spec: Mapping[str, JsonValue]) -> Source:
    if "runtimeValue" in spec:
        return Constant(mapping(spec["runtimeValue"]).get("constant"))
    if "taskOutputParameter" in spec:
        output = mapping(spec["taskOutputParameter"])
        return TaskOutput(str(output.get("producerTask", "")), str(output.get("outputParameterKey", "")))
    if "componentInputParameter" in spec:
        return ParentInput(str(spec["componentInputParameter"]), str(spec.get("parameterExpressionSelector", "")))
    if "taskFinalStatus" in spec:
        return FinalStatus(str(mapping(spec["taskFinalStatus"]).get("producerTask", "")))
    raise SpecError(f"it is not said where the parameter {name!r} comes from")


def _artifact(name: str, spec: Mapping[str, JsonValue]) -> Source:
    if "taskOutputArtifact" in spec:
        output = mapping(spec["taskOutputArtifact"])
        return TaskOutput(str(output.get("producerTask", "")), str(output.get("outputArtifactKey", "")))
    if "componentInputArtifact" in spec:
        return ParentInput(str(spec["componentInputArtifact"]))
    raise SpecError(f"it is not said where the artifact {name!r} comes from")


def _loop(spec: Mapping[str, JsonValue]) -> Loop | None:
    limit = mapping(spec.get("iteratorPolicy")).get("parallelismLimit")
    at_once = limit if isinstance(limit, int) else 0
    if "parameterIterator" in spec:
        iterator = mapping(spec["parameterIterator"])
        items = mapping(iterator.get("items"))
        raw, over = str(items.get("raw", "")), str(items.get("inputParameter", ""))
        return Loop(str(iterator.get("itemInput", "")), raw, over, at_once=at_once)
    if "artifactIterator" in spec:
        iterator = mapping(spec["artifactIterator"])
        over = str(mapping(iterator.get("items")).get("inputArtifact", ""))
        return Loop(str(iterator.get("itemInput", "")), over=over, artifacts=True, at_once=at_once)
    return None


def _retry(spec: Mapping[str, JsonValue]) -> Retry:
    times, factor = spec.get("maxRetryCount"), spec.get("backoffFactor")
    return Retry(
        times if isinstance(times, int) else 0,
        _seconds(spec.get("backoffDuration"), 0.0),
        factor if isinstance(factor, int | float) and factor > 0 else _RETRY_FACTOR,
        _seconds(spec.get("backoffMaxDuration"), _RETRY_LIMIT_SECONDS),
    )


def _seconds(value: JsonValue, default: float) -> float:
    """A duration as protobuf's JSON writes it, for example `"60s"`."""
    try:
        return float(str(value).removesuffix("s"))
    except ValueError:
        return default
