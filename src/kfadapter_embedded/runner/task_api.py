"""A task, its inputs and its outputs in the form of the tasks and artifacts of KFP's API."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import cast

from kfadapter_embedded.execution import iteration_of, task_name
from kfadapter_embedded.json_text import JsonValue

from .spec import Component, Task
from .values import Origin, RuntimeArtifact, Values

CONDITION = "CONDITION_BRANCH"
COLLECTED = "COLLECTED_INPUTS"
DEFAULT = "COMPONENT_DEFAULT_INPUT"
ITERATOR_OUTPUT = "ITERATOR_OUTPUT"
_METRIC = "Metric"
# KFP's types by the titles of their schemas; metrics have no file.
_TYPES = {
    "system.Model": "Model",
    "system.Dataset": "Dataset",
    "system.HTML": "HTML",
    "system.Markdown": "Markdown",
    "system.Metrics": _METRIC,
    "system.ClassificationMetrics": "ClassificationMetric",
    "system.SlicedClassificationMetrics": "SlicedClassificationMetric",
}
_DISPLAYED = {"LOOP": "Loop", CONDITION: "Condition Branch"}


def described(task: Task, component: Component, key: str) -> dict[str, JsonValue]:
    """What KFP's driver records of a task, independently of its inputs."""
    kind = _type(task, component)
    shown: dict[str, JsonValue] = {"display_name": _DISPLAYED.get(kind) or task.task_info.get("name") or key}
    if importer := component.executor.importer:
        shown["type_attributes"] = {"download_to_workspace": importer.download_to_workspace}
    return {**shown, "type": kind}


def _type(task: Task, component: Component) -> str:
    if task.loop:
        return "LOOP"
    if component.dag:
        # The group around the branches of an `If` has no condition of its own.
        return CONDITION if task.trigger_policy.get("condition") else "DAG"
    return "IMPORTER" if component.executor.importer else "RUNTIME"


def entries(values: Values, iteration: int | None = None) -> dict[str, JsonValue]:
    """Inputs or outputs, each with its producer and the iteration of the task that they belong to."""
    found: dict[str, list[JsonValue]] = {"parameters": [], "artifacts": []}

    def shown(name: str, key: str) -> dict[str, JsonValue]:
        kind, producer = values.origins[name]
        made_by = {"task_name": producer} | ({} if iteration is None else {"iteration": str(iteration)})
        return {"type": kind, key: name, "producer": cast("JsonValue", made_by)}

    for name, value in values.parameters.items():
        found["parameters"].append({"value": value, **shown(name, "parameter_key")})
    for name, several in values.artifacts.items():
        records = ([dict(one) for one in each.records] for each in several if each.records)
        found["artifacts"] += [{"artifacts": list(each), **shown(name, "artifact_key")} for each in records]
    return {key: each for key, each in found.items() if each}


def together(several: Iterable[Mapping[str, JsonValue]]) -> dict[str, JsonValue]:
    """The inputs or outputs of all, merged."""
    found: dict[str, list[JsonValue]] = {}
    for each in several:
        for key, listed in each.items():
            found.setdefault(key, []).extend(cast("list[JsonValue]", listed))
    return cast("dict[str, JsonValue]", found)


def given_by(values: Values, path: str) -> Values:
    """The outputs of a command or an import, with the task that produced them."""
    name = task_name(path)
    kind = "OUTPUT" if iteration_of(path) is None else ITERATOR_OUTPUT
    origins = dict.fromkeys(values.parameters, Origin(kind, name))
    return replace(values, origins={**origins, **dict.fromkeys(values.artifacts, Origin("OUTPUT", name))})


def recorded(artifact: RuntimeArtifact, *, imported: bool = False) -> RuntimeArtifact:
    """The artifact with its records in KFP's artifact API; an imported artifact is named after its file."""
    kind = _TYPES.get(str(artifact.type.get("schemaTitle")), "Artifact")
    place = artifact.path or artifact.uri
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    if kind == _METRIC:
        parts = [(name, {name: value}, value) for name, value in artifact.metadata.items()]
    else:
        parts = [(place.rpartition("/")[2] if imported else artifact.name, dict(artifact.metadata), None)]
    records: list[dict[str, JsonValue]] = []
    for name, metadata, number in parts:
        record: dict[str, JsonValue] = {"artifact_id": str(uuid.uuid4()), "name": name, "type": kind}
        if not kind.endswith(_METRIC):
            record["uri"] = Path(place).as_uri() if place.startswith("/") else place
        if metadata:
            record["metadata"] = metadata
        if isinstance(number, int | float) and not isinstance(number, bool):
            record["number_value"] = number
        records.append({**record, "created_at": now})
    return replace(artifact, records=tuple(records))
