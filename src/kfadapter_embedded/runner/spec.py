"""A compiled pipeline: KFP's pipeline spec, schema 2.1.0, in the JSON form of its messages.

Fields that no run needs are ignored; missing fields have proto's defaults.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from kfadapter_embedded.json_text import JsonValue

_NAME = re.compile(r"[^/\[\]]+")
_RETRY_FACTOR = 2.0
_RETRY_LIMIT_SECONDS = 3600.0


class SpecError(Exception):
    """The spec cannot be run; the message has the reason."""


class _Message(msgspec.Struct, rename="camel"):
    """A message of KFP's pipeline spec."""


class Output(_Message):
    """An output of another task of the same DAG."""

    producer_task: str = ""
    producer_subtask: str = ""
    output_parameter_key: str = ""
    output_artifact_key: str = ""

    @property
    def task(self) -> str:
        return self.producer_task or self.producer_subtask

    @property
    def key(self) -> str:
        return self.output_parameter_key or self.output_artifact_key


class Source(_Message):
    """The source of a task's input; one of the fields is set.

    Attributes:
        runtime_value: a `constant`; its strings may contain placeholders.
        parameter_expression_selector: selects a part of the DAG's own input; empty for the whole.
        task_final_status: the task whose final status an exit handler gets.
    """

    runtime_value: dict[str, Any] | None = None
    task_output_parameter: Output | None = None
    task_output_artifact: Output | None = None
    component_input_parameter: str | None = None
    component_input_artifact: str | None = None
    parameter_expression_selector: str = ""
    task_final_status: Output | None = None

    @property
    def output(self) -> Output | None:
        """The output of another task, if that is the source."""
        return self.task_output_parameter or self.task_output_artifact


class TaskInputs(_Message):
    parameters: dict[str, Source] = {}
    artifacts: dict[str, Source] = {}


class Loop(_Message):
    """The items that a task is repeated for: `raw`, a JSON list, or an input; `item_input` receives the item."""

    items: dict[str, str] = {}
    item_input: str = ""


class Retry(_Message):
    """How often a failed task is retried, and the durations between attempts."""

    max_retry_count: int = 0
    backoff_duration: str = ""
    backoff_factor: float = _RETRY_FACTOR
    backoff_max_duration: str = ""

    def pause(self, failures: int) -> float:
        """The seconds to wait after this number of failures."""
        factor = self.backoff_factor if self.backoff_factor > 0 else _RETRY_FACTOR
        wait = _seconds(self.backoff_duration, 0.0) * factor ** (failures - 1)
        return min(wait, _seconds(self.backoff_max_duration, _RETRY_LIMIT_SECONDS))


class Task(_Message):
    task_info: dict[str, str] = {}
    component_ref: dict[str, str] = {}
    inputs: TaskInputs = msgspec.field(default_factory=TaskInputs)
    dependent_tasks: tuple[str, ...] = ()
    trigger_policy: dict[str, str] = {}
    parameter_iterator: Loop | None = None
    artifact_iterator: Loop | None = None
    iterator_policy: dict[str, int] = {}
    retry_policy: Retry | None = None
    caching_options: dict[str, Any] = {}

    @property
    def depends_on(self) -> frozenset[str]:
        """The tasks that must have finished before it."""
        sources = (*self.inputs.parameters.values(), *self.inputs.artifacts.values())
        return frozenset({*self.dependent_tasks, *(source.output.task for source in sources if source.output)})

    @property
    def always(self) -> bool:
        """Whether it runs even if its dependencies failed, like exit handlers."""
        return self.trigger_policy.get("strategy") == "ALL_UPSTREAM_TASKS_COMPLETED"

    @property
    def loop(self) -> Loop | None:
        return self.parameter_iterator or self.artifact_iterator


class Selectors(_Message):
    """The task outputs that may become an output of a DAG: the first one that exists is used."""

    value_from_parameter: Output | None = None
    value_from_oneof: dict[str, tuple[Output, ...]] = {}
    artifact_selectors: tuple[Output, ...] = ()

    @property
    def outputs(self) -> tuple[Output, ...]:
        one = (self.value_from_parameter,) if self.value_from_parameter else ()
        return one or self.value_from_oneof.get("parameterSelectors", self.artifact_selectors)

    @property
    def is_one_of(self) -> bool:
        """Whether it uses the first that exists, as after branches."""
        return bool(self.value_from_oneof) or len(self.artifact_selectors) > 1


class DagOutputs(_Message):
    parameters: dict[str, Selectors] = {}
    artifacts: dict[str, Selectors] = {}


class Dag(_Message):
    tasks: dict[str, Task] = {}
    outputs: DagOutputs = msgspec.field(default_factory=DagOutputs)

    def ignoring(self, name: str) -> list[str]:
        """The tasks that run after this one whether it succeeds or not."""
        return [key for key, task in self.tasks.items() if task.always and name in task.depends_on]


class Parameter(_Message):
    """An input or output parameter of a component; `literals`, if any, are its only allowed values."""

    parameter_type: str = ""
    default_value: Any = None
    is_optional: bool = False
    literals: tuple[Any, ...] = ()


class Artifact(_Message):
    """An input or output artifact of a component."""

    artifact_type: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    is_optional: bool = False


class Definitions(_Message):
    parameters: dict[str, Parameter] = {}
    artifacts: dict[str, Artifact] = {}


class Container(_Message):
    """A command in an image; `image_pull_policy` and `active_deadline_seconds` are the platform spec's."""

    image: str = ""
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    env: tuple[dict[str, str], ...] = ()
    resources: dict[str, Any] = {}
    image_pull_policy: str = ""
    active_deadline_seconds: float = 0.0


class Importer(_Message):
    """An external artifact; its URI is a `constant`, or in the parameter named by `runtimeParameter`."""

    artifact_uri: dict[str, str] = {}
    metadata: Any = None
    reimport: bool = False
    download_to_workspace: bool = False


class Executor(_Message):
    """Executes a component that is not a DAG."""

    container: Container | None = None
    importer: Importer | None = None


class Component(_Message):
    """The component of a task, with its inputs and outputs.

    Attributes:
        executor: the executor of its label; empty for a DAG.
        task_config_passthroughs: the settings of its tasks that its `dsl.TaskConfig` gets, instead of the pod unless
            `applyToTask` is set.
    """

    input_definitions: Definitions = msgspec.field(default_factory=Definitions)
    output_definitions: Definitions = msgspec.field(default_factory=Definitions)
    dag: Dag | None = None
    executor_label: str = ""
    executor: Executor = msgspec.field(default_factory=Executor)
    task_config_passthroughs: tuple[dict[str, Any], ...] = ()

    @property
    def passed_through(self) -> dict[str, bool]:
        """Settings such as ENV that its `dsl.TaskConfig` gets, and whether they hold for its own pod, too."""
        return {one.get("field", ""): bool(one.get("applyToTask")) for one in self.task_config_passthroughs}


class Pipeline(_Message):
    """A compiled pipeline.

    Attributes:
        root: The outermost DAG, as a component that takes the pipeline's parameters.
        default_pipeline_root: The root of its artifacts' URIs, if a run sets none.
        kubernetes: The Kubernetes settings of the platform spec, by executor.
        active_deadline_seconds: How long a run may take (`dsl.PipelineConfig`); 0 for no limit.
    """

    pipeline_info: dict[str, str] = {}
    root: Component = msgspec.field(default_factory=Component)
    default_pipeline_root: str = ""
    components: dict[str, Component] = {}
    deployment_spec: dict[str, dict[str, Executor]] = {}
    kubernetes: dict[str, Any] = {}
    active_deadline_seconds: float = 0.0

    def component(self, task: Task) -> Component:
        """The component of a task; raises SpecError if it does not exist."""
        name = task.component_ref.get("name", "")
        if name not in self.components:
            raise SpecError(f"the pipeline names a component {name!r} that it does not have")
        return self.components[name]

    def title(self, path: str) -> str:
        """The path of a task by display names, as users see it (`contract/run_paths.py`)."""
        dag, parts = self.root.dag, []
        for part in path.split("/"):
            key, bracket, index = part.partition("[")
            if dag is None or key not in dag.tasks:
                return path
            named = [task.task_info.get("name", name) for name, task in dag.tasks.items()]
            name = dag.tasks[key].task_info.get("name", key)
            shown = name if named.count(name) == 1 and _NAME.fullmatch(name) else key
            parts.append(shown + bracket + index)
            dag = self.component(dag.tasks[key]).dag
        return "/".join(parts)


def read_pipeline(document: JsonValue) -> Pipeline:
    """Parses a spec: bare, or KFP's wrapper of pipeline and platform spec; raises SpecError if it cannot be run."""
    outer = mapping(document)
    spec = mapping(outer["pipeline_spec"]) if "pipeline_spec" in outer else outer
    if spec.get("kind") == "Workflow" or str(spec.get("apiVersion", "")).startswith("argoproj.io/"):
        raise SpecError(
            "this is a KFP v1 pipeline (an Argo Workflow), made of containers. The embedded KFP runs pipelines "
            "compiled by kfp 2; this one needs Kubeflow Pipelines on Kubernetes (KFADAPTER_KFP_URL)"
        )
    if "root" not in spec:
        raise SpecError("this is no compiled KFP pipeline: it has no root")
    try:
        pipeline = msgspec.convert(spec, Pipeline)
    except msgspec.ValidationError as error:
        raise SpecError(f"this is no compiled KFP pipeline: {error}") from None
    executors = pipeline.deployment_spec.get("executors", {})
    for name, component in {**pipeline.components, "root": pipeline.root}.items():
        component.executor = executors.get(component.executor_label, component.executor)
        if not (component.dag or component.executor.container or component.executor.importer):
            raise SpecError(f"component {name!r} is neither a container nor an importer")
    if pipeline.root.dag is None:
        raise SpecError("this is no compiled KFP pipeline: its root has no tasks")
    _add_platform(pipeline, outer)
    return pipeline


def _add_platform(pipeline: Pipeline, outer: Mapping[str, JsonValue]) -> None:
    """Adds the settings of the platform spec."""
    platform = mapping(mapping(outer.get("platform_spec")).get("platforms"))
    kubernetes = mapping(platform.get("kubernetes"))
    pipeline.active_deadline_seconds = _deadline(mapping(kubernetes.get("pipelineConfig")))
    pipeline.kubernetes = dict(mapping(mapping(kubernetes.get("deploymentSpec")).get("executors")))
    for label, executor in pipeline.deployment_spec.get("executors", {}).items():
        if executor.container:
            settings = mapping(pipeline.kubernetes.get(label))
            executor.container.image_pull_policy = str(settings.get("imagePullPolicy") or "")
            executor.container.active_deadline_seconds = _deadline(settings)


def _deadline(settings: Mapping[str, JsonValue]) -> float:
    return max(0.0, _seconds(str(settings.get("activeDeadlineSeconds")), 0.0))


def mapping(value: JsonValue) -> Mapping[str, JsonValue]:
    """The value, if it is a mapping; an empty one otherwise."""
    return value if isinstance(value, dict) else {}


def _seconds(value: str, default: float) -> float:
    """Reads a duration in protobuf's JSON, for example `"60s"`."""
    try:
        return float(value.removesuffix("s"))
    except ValueError:
        return default
