"""Inputs and outputs of tasks as the native API of KFP has them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, cast

import msgspec

from kfadapter_grpc.contract.run_outputs import RunArtifact, RunInput, RunOutput
from kfadapter_grpc.kfp.decoding import known_time
from kfadapter_grpc.kfp.run_outputs import EXECUTOR_LOGS, artifact
from kfadapter_grpc.kfp.spec_tasks import HIDDEN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from kfadapter_grpc.contract.spec import Json

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


class PortsJson(msgspec.Struct):
    """The inputs or the outputs of a task."""

    parameters: list[ParameterJson] = []
    artifacts: list[_ArtifactsJson] = []


class Ports:
    """The inputs and outputs of the tasks of one run.

    Attributes:
        merged: The ids of further numbers of an output, and the id of the artifact that they are shown as.
    """

    def __init__(self, run_id: str, made: Mapping[str, PortsJson], iterations: Mapping[str, int | None]) -> None:
        """Takes the outputs of tasks that are not groups by task_id, and the iteration of each task."""
        self._run_id = run_id
        self._iterations = iterations
        self.merged: dict[str, str] = {}
        self._known: dict[str, RunArtifact] = {}
        self._outputs = made
        self._own = {task_id: self._made(outputs, task_id) for task_id, outputs in made.items()}

    def logs(self, task_id: str) -> tuple[RunArtifact, ...]:
        """Returns the logs of a task that KFP has stored, that of the last attempt last."""
        artifacts = [
            self._artifact(group.artifact_key, [item], task_id)
            for group in self._outputs.get(task_id, PortsJson()).artifacts
            if group.artifact_key.startswith(EXECUTOR_LOGS)
            for item in group.artifacts
        ]
        return tuple(sorted(artifacts, key=lambda item: (len(item.uri), item.uri)))

    def outputs(self, task_id: str, json: PortsJson, *, of_loop: bool) -> tuple[RunOutput, ...]:
        """Returns the outputs of a task; each of a loop is a list with one item for each iteration."""
        outputs = {name: RunOutput(name, value=value) for name, value in _values(json.parameters, as_list=of_loop)}
        artifacts = self._own[task_id] if task_id in self._own else self._passed_on(json)
        outputs |= {
            name: RunOutput.of(name, *items) for name, items in artifacts.items() if not name.startswith(EXECUTOR_LOGS)
        }
        return tuple(outputs[name] for name in sorted(outputs))

    def inputs(
        self, json: PortsJson, source_of: Callable[[str], tuple[str, str]], *, of_group: bool
    ) -> tuple[RunInput, ...]:
        """Returns the inputs of a task; `source_of` gives the task and the output that an input comes from, if any."""
        parameters = [parameter for parameter in json.parameters if parameter.type != _ITEM]
        inputs = {
            name: RunInput(name, value, (), *source_of(name)) for name, value in _values(parameters, as_list=False)
        }
        inputs |= {
            name: RunInput(name, None, artifacts, *source_of(name), has_value=False)
            for name, artifacts in self._passed_on(json).items()
        }
        return tuple(inputs[name] for name in sorted(inputs) if of_group or not name.startswith(HIDDEN))

    def _made(self, found: PortsJson, task_id: str) -> dict[str, tuple[RunArtifact, ...]]:
        """The artifacts that a task made; the numbers of one output are one artifact."""
        made: dict[str, tuple[RunArtifact, ...]] = {}
        for entry in found.artifacts:
            if entry.artifact_key.startswith(EXECUTOR_LOGS):
                continue
            metrics = sorted((one for one in entry.artifacts if one.type == _METRIC), key=lambda one: one.name)
            others = [[one] for one in entry.artifacts if one.type != _METRIC]
            for ones in [metrics, *others] if metrics else others:
                one = self._artifact(entry.artifact_key, ones, task_id)
                self._known |= {each.artifact_id: one for each in ones}
                self.merged |= {each.artifact_id: one.artifact_id for each in ones[1:]}
                made[entry.artifact_key] = (*made.get(entry.artifact_key, ()), one)
        return made

    def _passed_on(self, found: PortsJson) -> dict[str, tuple[RunArtifact, ...]]:
        """Artifacts of other tasks, by name and in the order of iterations."""
        groups: dict[str, dict[str, RunArtifact]] = {}
        for entry in found.artifacts:
            for one in entry.artifacts:
                made = self._known.get(one.artifact_id) or self._artifact(entry.artifact_key, [one], "")
                groups.setdefault(entry.artifact_key, {})[made.artifact_id] = made
        return {
            name: tuple(sorted(group.values(), key=lambda one: self._iterations.get(one.task_id) or 0))
            for name, group in groups.items()
        }

    def _artifact(self, name: str, items: Sequence[_ArtifactJson], made_by: str) -> RunArtifact:
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
            task_id=made_by,
            created_at=known_time(first.created_at),
        )


def _values(parameters: Sequence[ParameterJson], *, as_list: bool) -> Iterator[tuple[str, Json]]:
    by_name: dict[str, list[ParameterJson]] = {}
    for parameter in parameters:
        by_name.setdefault(parameter.parameter_key, []).append(parameter)
    for name, values in by_name.items():
        if len(values) > 1 or (as_list and values[0].type == _OF_ITERATION):
            values.sort(key=lambda parameter: whole(parameter.producer.iteration) or 0)
            yield name, [cast("Json", parameter.value) for parameter in values]
        else:
            yield name, cast("Json", values[0].value)


def whole(text: str | int | None) -> int | None:
    """Parses an int64 of KFP's JSON, which is a string there; None if it is not a number."""
    try:
        return None if text is None else int(text)
    except ValueError:
        return None
