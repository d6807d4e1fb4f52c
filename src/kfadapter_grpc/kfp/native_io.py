"""Inputs and outputs of tasks as the native API of KFP has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import cast

import msgspec

from kfadapter_grpc.contract.run_outputs import RunArtifact, RunInput, RunOutput
from kfadapter_grpc.contract.spec import Json
from kfadapter_grpc.kfp.decoding import known_time
from kfadapter_grpc.kfp.run_nodes import EXECUTOR_LOGS, artifact
from kfadapter_grpc.kfp.spec_tasks import COMPILER_PREFIX

_METRIC = "Metric"
_ITEM = "ITERATOR_INPUT"
_OF_ITERATION = "ITERATOR_OUTPUT"


class _ProducerJson(msgspec.Struct):
    iteration: str | int | None = None


class ParameterJson(msgspec.Struct):
    """A parameter; a loop has one for each iteration."""

    parameter_key: str = ""
    value: object = None
    type: str = ""
    producer: _ProducerJson = msgspec.field(default_factory=_ProducerJson)


class _ArtifactJson(msgspec.Struct):
    artifact_id: str = ""
    name: str = ""
    type: str = ""
    uri: str = ""
    metadata: dict[str, object] = {}
    number_value: object = None
    created_at: datetime | None = None


class _ArtifactsJson(msgspec.Struct):
    artifact_key: str = ""
    artifacts: list[_ArtifactJson] = []


class TaskIoJson(msgspec.Struct):
    """The inputs or the outputs of a task."""

    parameters: list[ParameterJson] = []
    artifacts: list[_ArtifactsJson] = []


class RunIo:
    """The inputs and outputs of the tasks of one run.

    Attributes:
        merged: The ids of further numbers of an output, and the id of the artifact that they are shown as.
    """

    def __init__(self, run_id: str, outputs: Mapping[str, TaskIoJson], iterations: Mapping[str, int | None]) -> None:
        """Takes the outputs of tasks that are not groups by task_id, and the iteration of each task."""
        self._run_id = run_id
        self._iterations = iterations
        self.merged: dict[str, str] = {}
        self._known: dict[str, RunArtifact] = {}
        self._outputs = outputs
        self._own = {task_id: self._produced(json, task_id) for task_id, json in outputs.items()}

    def logs(self, task_id: str) -> tuple[RunArtifact, ...]:
        """Returns the logs of a task that KFP has stored, that of the last attempt last."""
        artifacts = [
            self._artifact(group.artifact_key, [item], task_id)
            for group in self._outputs.get(task_id, TaskIoJson()).artifacts
            if group.artifact_key.startswith(EXECUTOR_LOGS)
            for item in group.artifacts
        ]
        return tuple(sorted(artifacts, key=lambda item: (len(item.uri), item.uri)))

    def outputs(self, task_id: str, json: TaskIoJson, *, of_loop: bool) -> tuple[RunOutput, ...]:
        """Returns the outputs of a task; each of a loop is a list with one item for each iteration."""
        outputs = {name: RunOutput(name, value=value) for name, value in _values(json.parameters, as_list=of_loop)}
        artifacts = self._own[task_id] if task_id in self._own else self._consumed(json)
        outputs |= {
            name: RunOutput.of(name, *items) for name, items in artifacts.items() if not name.startswith(EXECUTOR_LOGS)
        }
        return tuple(outputs[name] for name in sorted(outputs))

    def inputs(
        self, json: TaskIoJson, source_of: Callable[[str], tuple[str, str]], *, of_group: bool
    ) -> tuple[RunInput, ...]:
        """Returns the inputs of a task; `source_of` gives the task and the output that an input comes from, if any."""
        parameters = [parameter for parameter in json.parameters if parameter.type != _ITEM]
        inputs = {
            name: RunInput(name, value, (), *source_of(name)) for name, value in _values(parameters, as_list=False)
        }
        inputs |= {
            name: RunInput(name, None, artifacts, *source_of(name), has_value=False)
            for name, artifacts in self._consumed(json).items()
        }
        return tuple(inputs[name] for name in sorted(inputs) if of_group or not name.startswith(COMPILER_PREFIX))

    def _produced(self, json: TaskIoJson, task_id: str) -> dict[str, tuple[RunArtifact, ...]]:
        """The artifacts that a task made; the numbers of one output are one artifact."""
        artifacts: dict[str, tuple[RunArtifact, ...]] = {}
        for output in json.artifacts:
            if output.artifact_key.startswith(EXECUTOR_LOGS):
                continue
            metrics = sorted((one for one in output.artifacts if one.type == _METRIC), key=lambda one: one.name)
            others = [[one] for one in output.artifacts if one.type != _METRIC]
            for group in [metrics, *others] if metrics else others:
                one = self._artifact(output.artifact_key, group, task_id)
                self._known |= {item.artifact_id: one for item in group}
                self.merged |= {item.artifact_id: one.artifact_id for item in group[1:]}
                artifacts[output.artifact_key] = (*artifacts.get(output.artifact_key, ()), one)
        return artifacts

    def _consumed(self, json: TaskIoJson) -> dict[str, tuple[RunArtifact, ...]]:
        """Artifacts of other tasks, by name and in the order of iterations."""
        groups: dict[str, dict[str, RunArtifact]] = {}
        for group in json.artifacts:
            for one in group.artifacts:
                made = self._known.get(one.artifact_id) or self._artifact(group.artifact_key, [one], "")
                groups.setdefault(group.artifact_key, {})[made.artifact_id] = made
        return {
            name: tuple(sorted(group.values(), key=lambda one: self._iterations.get(one.task_id) or 0))
            for name, group in groups.items()
        }

    def _artifact(self, name: str, items: Sequence[_ArtifactJson], task_id: str) -> RunArtifact:
        first = items[0]
        metadata = {key: value for item in items for key, value in item.metadata.items()}
        metadata |= {item.name: item.number_value for item in items if item.number_value is not None}
        return artifact(
            first.type,
            cast("Mapping[str, Json]", metadata),
            name=name,
            uri=first.uri,
            artifact_id=first.artifact_id,
            run_id=self._run_id,
            task_id=task_id,
            created_at=known_time(first.created_at),
        )


def _values(parameters: Sequence[ParameterJson], *, as_list: bool) -> Iterator[tuple[str, Json]]:
    by_name: dict[str, list[ParameterJson]] = {}
    for parameter in parameters:
        by_name.setdefault(parameter.parameter_key, []).append(parameter)
    for name, values in by_name.items():
        if len(values) > 1 or (as_list and values[0].type == _OF_ITERATION):
            values.sort(key=lambda parameter: parse_int(parameter.producer.iteration) or 0)
            yield name, [cast("Json", parameter.value) for parameter in values]
        else:
            yield name, cast("Json", values[0].value)


def parse_int(text: str | int | None) -> int | None:
    """Parses an int64 of KFP's JSON, which is a string there; None if it is not a number."""
    try:
        return None if text is None else int(text)
    except ValueError:
        return None
