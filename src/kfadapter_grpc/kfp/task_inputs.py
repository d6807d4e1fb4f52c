"""The sources of the inputs of tasks, by the spec of each task: KFP's PipelineTaskSpec, as drivers receive it."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, cast

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kfadapter_grpc.contract.spec import Json
    from kfadapter_grpc.kfp.spec_tasks import SpecTask
    from kfadapter_grpc.kfp.workflow import Step

HIDDEN = "pipelinechannel--"
"""The prefixes of inputs that the compiler adds: a group's, and those that texts of containers embed."""
_NOWHERE = "", ""
_T = TypeVar("_T")


class _ProducerJson(msgspec.Struct, rename="camel"):
    producer_task: str = ""
    output_parameter_key: str = ""
    output_artifact_key: str = ""


class _InputJson(msgspec.Struct, rename="camel"):
    task_output_parameter: _ProducerJson | None = None
    task_output_artifact: _ProducerJson | None = None
    component_input_parameter: str = ""
    component_input_artifact: str = ""


class _InputsJson(msgspec.Struct):
    parameters: dict[str, _InputJson] = {}
    artifacts: dict[str, _InputJson] = {}


class _ItemsJson(msgspec.Struct, rename="camel"):
    input_parameter: str = ""
    input_artifact: str = ""


class _IteratorJson(msgspec.Struct, rename="camel"):
    item_input: str = ""
    items: _ItemsJson = msgspec.field(default_factory=_ItemsJson)


class _TaskJson(msgspec.Struct, rename="camel"):
    inputs: _InputsJson = msgspec.field(default_factory=_InputsJson)
    parameter_iterator: _IteratorJson | None = None
    artifact_iterator: _IteratorJson | None = None

    def input(self, name: str) -> _InputJson | None:
        return self.inputs.parameters.get(name) or self.inputs.artifacts.get(name)

    def list_of(self, item: str) -> str:
        """The input with the list that contains `item`; `item` itself if it is not an item of a loop."""
        for one in (self.parameter_iterator, self.artifact_iterator):
            if one is not None and one.item_input == item:
                return one.items.input_parameter or one.items.input_artifact
        return item


class _ParameterJson(msgspec.Struct, rename="camel"):
    default_value: object = None


class _DefinitionsJson(msgspec.Struct):
    parameters: dict[str, _ParameterJson] = {}


class _ComponentJson(msgspec.Struct, rename="camel"):
    input_definitions: _DefinitionsJson = msgspec.field(default_factory=_DefinitionsJson)


class TaskInputs:
    """The inputs of the tasks of a run, as their specs declare them."""

    def __init__(self, specs: Mapping[str, Step | SpecTask], parents: Mapping[str, str]) -> None:
        """Takes the tasks' specs, and the ids of the groups that contain the tasks, both by task_id."""
        self._specs = specs
        self._parents = parents
        self._read: dict[str, _TaskJson] = {}

    def source(self, task_id: str, name: str) -> tuple[str, str]:
        """Returns the names of the task and output that an input comes from, empty if no task made it.

        An input that a group passes on has the source of the group's input; an item of a loop, that of its list.
        """
        for _ in self._parents:  # no deeper than there are tasks
            found = self._task(task_id).input(name)
            if found is None:
                return _NOWHERE
            if found.task_output_parameter is not None:
                return found.task_output_parameter.producer_task, found.task_output_parameter.output_parameter_key
            if found.task_output_artifact is not None:
                return found.task_output_artifact.producer_task, found.task_output_artifact.output_artifact_key
            task_id = self._parents.get(task_id, "")
            name = self._task(task_id).list_of(found.component_input_parameter or found.component_input_artifact)
            if not task_id or not name:
                return _NOWHERE
        return _NOWHERE

    def defaults(self, task_id: str) -> Mapping[str, Json]:
        """Returns the values of parameters of the component that need not be set."""
        found = _decoded(self._text(task_id, "component"), _ComponentJson).input_definitions.parameters
        return {name: cast("Json", one.default_value) for name, one in found.items() if one.default_value is not None}

    def _task(self, task_id: str) -> _TaskJson:
        known = self._read.get(task_id)
        if known is None:
            known = self._read[task_id] = _decoded(self._text(task_id, "task"), _TaskJson)
        return known

    def _text(self, task_id: str, name: str) -> str:
        spec = self._specs.get(task_id)
        return spec.input(name) if spec else ""


def _decoded(text: str, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(text or "{}", type=kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return kind()
