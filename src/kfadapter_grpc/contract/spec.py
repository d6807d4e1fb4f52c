"""The contents of a pipeline file."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeAlias, cast

Json: TypeAlias = bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"] | None


class PipelineFormat(enum.Enum):
    """The kind of file that a version was made from."""

    UNKNOWN = "unknown"
    KFP_V2 = "kfp_v2"
    ARGO_V1 = "argo_v1"


class ParameterType(enum.Enum):
    """The type of a parameter; the values are those of KFP's pipeline spec."""

    UNKNOWN = ""
    NUMBER_DOUBLE = "NUMBER_DOUBLE"
    NUMBER_INTEGER = "NUMBER_INTEGER"
    STRING = "STRING"
    BOOLEAN = "BOOLEAN"
    LIST = "LIST"
    STRUCT = "STRUCT"
    TASK_FINAL_STATUS = "TASK_FINAL_STATUS"


class TaskKind(enum.Enum):
    UNKNOWN = "unknown"
    CONTAINER = "container"
    IMPORTER = "importer"
    DAG = "dag"
    CONDITION = "condition"
    LOOP = "loop"
    EXIT_HANDLER = "exit_handler"

    @property
    def is_group(self) -> bool:
        return self in _GROUPS


_GROUPS = frozenset({TaskKind.DAG, TaskKind.CONDITION, TaskKind.LOOP})


@dataclass(frozen=True, slots=True)
class Parameter:
    name: str
    type: ParameterType
    declared_type: str = ""
    has_default: bool = False
    default: Json = field(default=None, metadata={"wire": "default_value", "present": "has_default"})
    optional: bool = False
    description: str = ""
    literals: tuple[Json, ...] = ()

    def __post_init__(self) -> None:
        """Keeps the default of a double a float: JSON and protobuf have 1 for it."""
        is_integer = isinstance(self.default, int) and not isinstance(self.default, bool)
        if self.type is ParameterType.NUMBER_DOUBLE and is_integer:
            with suppress(OverflowError):
                object.__setattr__(self, "default", float(cast("int", self.default)))

    def in_json(self, document: dict[str, Json]) -> dict[str, Json]:
        return document | {"type": self.type.value or self.declared_type}


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file or data set that is an input or output of a pipeline."""

    name: str
    type: str = ""
    is_list: bool = False
    optional: bool = False
    description: str = ""


@dataclass(frozen=True, slots=True)
class TaskResources:
    """The resource requests of a container, in Kubernetes' notation; empty if unset."""

    cpu_request: str = ""
    cpu_limit: str = ""
    memory_request: str = ""
    memory_limit: str = ""
    accelerator_type: str = ""
    accelerator_count: str = ""


@dataclass(frozen=True, slots=True)
class KubernetesExtra:
    """A Kubernetes object that a task uses: `kind` as the platform spec names it, and the object's name."""

    kind: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Task:
    """A task of a pipeline, or of a group of tasks."""

    name: str
    component: str = ""
    kind: TaskKind = TaskKind.UNKNOWN
    image: str = ""
    depends_on: tuple[str, ...] = ()
    condition: str = ""
    loop_items: str = ""
    resources: TaskResources | None = None
    caching_enabled: bool = False
    kubernetes_extras: tuple[KubernetesExtra, ...] = ()
    tasks: tuple[Task, ...] = ()
    display_name: str = ""
    max_retries: int = 0
    loop_parallelism: int = 0


def named_tasks(
    tasks: Iterable[Task], name: Callable[[Task], str] = lambda task: task.name, around: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Task]]:
    """Yields each task with its name after those of the groups around it, outermost first."""
    for task in tasks:
        names = (*around, name(task))
        yield names, task
        yield from named_tasks(task.tasks, name, names)


@dataclass(frozen=True, slots=True)
class SpecSummary:
    """The contents of a pipeline file."""

    format: PipelineFormat = PipelineFormat.UNKNOWN
    name: str = ""
    description: str = ""
    parameters: tuple[Parameter, ...] = ()
    schema_version: str = ""
    sdk_version: str = ""
    input_artifacts: tuple[Artifact, ...] = ()
    output_artifacts: tuple[Artifact, ...] = ()
    output_parameters: tuple[Parameter, ...] = ()
    tasks: tuple[Task, ...] = ()
    unknown_parts: tuple[str, ...] = ()
