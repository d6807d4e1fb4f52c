"""Comparisons, for people: runs side by side, and what changed from one pipeline spec to another."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, TypeAlias

from kfadapter_grpc.client.metrics import metric_key, metric_names
from kfadapter_grpc.codec import json_moment
from kfadapter_grpc.contract.errors import AdapterError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from kfadapter_grpc.client import Client
    from kfadapter_grpc.contract.runs import Run
    from kfadapter_grpc.contract.spec import Artifact, Json, Parameter, SpecSummary, Task


MAX_RUNS = 10
"""How many runs are compared at most."""


class Missing(enum.Enum):
    """Marks a missing value, which differs from null."""

    MISSING = "missing"


MISSING = Missing.MISSING
Value: TypeAlias = "Json | datetime | timedelta | Missing"


class RowKind(enum.Enum):
    """What a row of compared runs is about."""

    FACT = "fact"
    PARAMETER = "parameter"
    METRIC = "metric"


@dataclass(frozen=True, slots=True)
class ComparedRow:
    """A fact, a parameter or a metric of several runs."""

    kind: RowKind
    name: str
    values: tuple[Value, ...]
    differs: bool


def read_runs(client: Client, run_ids: Sequence[str]) -> list[Run]:
    """Reads runs to compare, in this order.

    KFP records the parameters that were set for a run. The defaults of the others are added from its version, if that
    still exists.
    """
    with ThreadPoolExecutor(MAX_RUNS) as threads:
        runs = [*threads.map(client.runs.get, run_ids)]
        started = {run.pipeline_version_id: run for run in runs}  # one of each version
        defaults = dict(zip(started, threads.map(lambda run: _defaults(client, run), started.values()), strict=True))
    return [replace(run, parameters={**defaults[run.pipeline_version_id], **run.parameters}) for run in runs]


def _defaults(client: Client, run: Run) -> dict[str, Json]:
    with suppress(AdapterError):  # without them the comparison is less complete, but correct
        version = client.pipelines.try_version_of(run)
        if version and version.spec:
            return {one.name: one.default for one in version.spec.parameters if one.has_default}
    return {}


def compare_runs(runs: Sequence[Run]) -> tuple[ComparedRow, ...]:
    """Compares runs that were read with `View.FULL`: facts, then parameters, then scalar metrics.

    Pipelines, versions and experiments are named by their ids if names do not distinguish them. A run has a duration
    once it has finished. Metrics have the shortest names that are unambiguous among these runs.
    """
    facts: dict[str, Sequence[Value]] = {
        "state": [run.state.value or MISSING for run in runs],
        "pipeline": _named([(run.pipeline_name, run.pipeline_id) for run in runs]),
        "version": _named([(run.pipeline_version_name, run.pipeline_version_id) for run in runs]),
        "experiment": _named([(run.experiment_name, run.experiment_id) for run in runs]),
        "duration": [
            run.finished_at - run.created_at if run.finished_at and run.created_at else MISSING for run in runs
        ],
        "created": [run.created_at or MISSING for run in runs],
    }
    names = metric_names(metric for run in runs for metric in run.metrics)
    metrics = [{names[metric_key(metric)]: metric.value for metric in run.metrics} for run in runs]
    return (
        *(_row(RowKind.FACT, name, values) for name, values in facts.items()),
        *_table(RowKind.PARAMETER, [run.parameters for run in runs]),
        *_table(RowKind.METRIC, metrics),
    )


def plain(value: Value) -> Json:
    """Returns a value as it is written: times as RFC 3339, durations in whole seconds, nothing if it is missing."""
    if isinstance(value, datetime):
        return json_moment(value)
    if isinstance(value, timedelta):
        return int(value.total_seconds())
    return "" if isinstance(value, Missing) else value


def is_same(one: object, other: object) -> bool:
    """Whether two values are the same: 7 and 7.0 are, NaN and NaN are, true and 1 are not."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(is_same(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(is_same, one, other))
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one):
        return math.isnan(other)
    return one == other


def _named(pairs: Sequence[tuple[str, str]]) -> list[Value]:
    """Names with their ids; the ids are used if different resources have the same name."""
    ambiguous = len(set(pairs)) > len({name for name, _ in pairs})
    return [(which if ambiguous else name) or which or MISSING for name, which in pairs]


def _table(kind: RowKind, columns: Sequence[Mapping[str, Json]]) -> Iterator[ComparedRow]:
    for name in dict.fromkeys(name for column in columns for name in column):
        yield _row(kind, name, [column.get(name, MISSING) for column in columns])


def _row(kind: RowKind, name: str, values: Sequence[Value]) -> ComparedRow:
    return ComparedRow(kind, name, tuple(values), not all(is_same(values[0], one) for one in values))


# --- pipeline specs -------------------------------------------------------------------------------------------------


class PartKind(enum.Enum):
    """What a change of a pipeline spec is about."""

    PIPELINE = "pipeline"
    PARAMETER = "parameter"
    INPUT_ARTIFACT = "input_artifact"
    OUTPUT_PARAMETER = "output_parameter"
    OUTPUT_ARTIFACT = "output_artifact"
    TASK = "task"


class ChangeKind(enum.Enum):
    """How a part changed."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class SpecChange:
    """A part that was added or removed, or a field of a part that changed.

    Attributes:
        name: The part's name; the path of a task (`each/train`); empty for the pipeline itself.
        field: What changed (`image`, `resources.cpu_limit`); empty if the part was added or removed.
        before: The value before; the fields of a removed part; MISSING if it was added or not set.
    """

    kind: PartKind
    name: str
    change: ChangeKind
    field: str = ""
    before: Json | Missing = MISSING
    after: Json | Missing = MISSING


_Fields: TypeAlias = "dict[str, Json]"
"""The fields of a part by their names, without those that are not set."""
_Parts: TypeAlias = "dict[str, _Fields]"


def compare_specs(before: SpecSummary, after: SpecSummary) -> tuple[SpecChange, ...]:
    """Compares two pipeline specs as far as their summaries go: they hold no code and no arguments of containers."""
    return tuple(
        change for kind, parts_of in _PARTS.items() for change in _changes(kind, parts_of(before), parts_of(after))
    )


def _changes(kind: PartKind, before: _Parts, after: _Parts) -> Iterator[SpecChange]:
    for name in before | after:
        if name not in after:
            yield SpecChange(kind, name, ChangeKind.REMOVED, before=before[name])
        elif name not in before:
            yield SpecChange(kind, name, ChangeKind.ADDED, after=after[name])
        else:
            for field in before[name] | after[name]:
                old, new = (part[name].get(field, MISSING) for part in (before, after))
                if not is_same(old, new):
                    yield SpecChange(kind, name, ChangeKind.CHANGED, field, old, new)


def _pipeline(spec: SpecSummary) -> _Parts:
    fields: _Fields = {
        "name": spec.name,
        "description": spec.description,
        "format": spec.format.value,
        "schema_version": spec.schema_version,
        "sdk_version": spec.sdk_version,
        "unknown_parts": list(spec.unknown_parts),
    }
    return {"": _set(fields)}


def _parameters(parameters: Iterable[Parameter]) -> _Parts:
    made: _Parts = {}
    for one in parameters:
        fields: _Fields = {
            "type": one.type.value or one.declared_type,
            "optional": one.optional,
            "literals": list(one.literals),
            "description": one.description,
        }
        made[one.name] = _set(fields) | ({"default": one.default} if one.has_default else {})
    return made


def _artifacts(artifacts: Iterable[Artifact]) -> _Parts:
    made: _Parts = {}
    for one in artifacts:
        fields = asdict(one)
        made[fields.pop("name")] = _set(fields)
    return made


def task_fields(tasks: Iterable[Task], group: str = "") -> _Parts:
    """Returns the fields of declared tasks that are set, by the names of their groups and the task, as in `a/b`."""
    made: _Parts = {}
    for one in tasks:
        resources = asdict(one.resources) if one.resources else {}
        fields: _Fields = {
            "kind": one.kind.value,
            "display_name": one.display_name,
            "image": one.image,
            "depends_on": sorted(one.depends_on),
            "condition": one.condition,
            "loop_items": one.loop_items,
            "loop_parallelism": one.loop_parallelism,
            **{f"resources.{name}": value for name, value in resources.items()},
            "caching_enabled": one.caching_enabled,
            "max_retries": one.max_retries,
            "kubernetes_extras": sorted(f"{extra.kind} {extra.name}".strip() for extra in one.kubernetes_extras),
        }
        made[group + one.name] = _set(fields)
        made |= task_fields(one.tasks, f"{group}{one.name}/")
    return made


def _set(fields: _Fields) -> _Fields:
    return {name: value for name, value in fields.items() if value or isinstance(value, bool)}


_PARTS: Mapping[PartKind, Callable[[SpecSummary], _Parts]] = {
    PartKind.PIPELINE: _pipeline,
    PartKind.PARAMETER: lambda spec: _parameters(spec.parameters),
    PartKind.INPUT_ARTIFACT: lambda spec: _artifacts(spec.input_artifacts),
    PartKind.OUTPUT_PARAMETER: lambda spec: _parameters(spec.output_parameters),
    PartKind.OUTPUT_ARTIFACT: lambda spec: _artifacts(spec.output_artifacts),
    PartKind.TASK: lambda spec: task_fields(spec.tasks),
}
