"""The records of a run in ML Metadata, from its messages: executions, events, artifacts, where bytes are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import lru_cache
from typing import cast
from urllib.parse import parse_qs

import msgspec

from kfadapter_grpc.contract.run_outputs import RunArtifact
from kfadapter_grpc.contract.spec import Json
from kfadapter_grpc.contract.values import LARGEST_EXACT_INTEGER
from kfadapter_grpc.kfp.decoding import decode_or_empty
from kfadapter_grpc.kfp.mlmd import metadata_store_pb2 as pb
from kfadapter_grpc.well_known import json_object

_MAX_MILLISECONDS = LARGEST_EXACT_INTEGER / 1e3

Producers = tuple[tuple[str, str], ...]
"""The tasks and outputs that an output of a group may come from: the first that has a value."""


@dataclass(frozen=True, slots=True)
class Execution:
    """A task, a group, or an iteration of a loop.

    Attributes:
        name: The task's, as in the spec; before KFP 2.14 its display name. Empty for the whole run.
        parent: The group that it is in; 0 for the whole run.
        pod_name: The pod of the last attempt; empty if it has not started, or needed no pod.
        parameters: Where the parameters of a group come from, as `artifacts` for artifacts.
    """

    id: int
    name: str = ""
    parent: int = 0
    iteration_index: int | None = None
    iteration_count: int | None = None
    is_group: bool = False
    pod_name: str = ""
    inputs: Mapping[str, Json] = field(default_factory=dict)
    outputs: Mapping[str, Json] = field(default_factory=dict)
    parameters: Mapping[str, Producers] = field(default_factory=dict)
    artifacts: Mapping[str, Producers] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """A run. The metadata of artifacts are what tasks set, and KFP's `display_name` and `store_session_info`."""

    namespace: str = ""
    pipeline_root: str = ""
    executions: tuple[Execution, ...] = ()
    events: tuple[pb.Event, ...] = ()
    artifacts: Mapping[int, RunArtifact] = field(default_factory=dict)


class _ParameterSelectorJson(msgspec.Struct, rename="camel"):
    producer_subtask: str = ""
    output_parameter_key: str = ""


class _OneOfJson(msgspec.Struct, rename="camel"):
    parameter_selectors: list[_ParameterSelectorJson] = []


class _ParameterProducerJson(msgspec.Struct, rename="camel"):
    value_from_parameter: _ParameterSelectorJson | None = None
    value_from_oneof: _OneOfJson | None = None


class _ArtifactSelectorJson(msgspec.Struct):
    producer_subtask: str = ""
    output_artifact_key: str = ""


class _ArtifactProducerJson(msgspec.Struct):
    artifact_selectors: list[_ArtifactSelectorJson] = []


def execution(message: pb.Execution) -> Execution:
    properties = dict(message.custom_properties)
    get = properties.get

    def text(key: str) -> str:
        return value.string_value if (value := get(key)) else ""

    def number(key: str) -> int | None:
        return value.int_value if (value := get(key)) else None

    def values(key: str) -> Mapping[str, Json]:
        return json_object(value.struct_value) if (value := get(key)) else {}

    return Execution(
        id=message.id,
        name=text("task_name") or text("display_name"),
        parent=number("parent_dag_id") or 0,
        iteration_index=number("iteration_index"),
        iteration_count=number("iteration_count"),
        is_group=not number("parent_dag_id") or "total_dag_tasks" in properties or "iteration_count" in properties,
        pod_name=text("pod_name"),
        inputs=values("inputs"),
        outputs=values("outputs"),
        parameters={key: _parameter_producers(producer) for key, producer in values("parameter_producer_task").items()},
        artifacts=_artifact_producers(text("artifact_producer_task")),
    )


def artifact(message: pb.Artifact, kind: str) -> RunArtifact:
    created = message.create_time_since_epoch
    is_known = 0 < created < _MAX_MILLISECONDS
    return RunArtifact(
        kind,
        message.uri,
        {key: _property(message.custom_properties[key]) for key in sorted(message.custom_properties)},
        str(message.id),
        created_at=datetime.fromtimestamp(created / 1000, timezone.utc) if is_known else None,
    )


def _property(value: pb.Value) -> Json:
    """The metadata that a task set. KFP stores booleans as integers, and wraps lists and objects once."""
    kind = value.WhichOneof("value")
    if kind == "double_value":
        number = value.double_value
        return int(number) if number.is_integer() and abs(number) <= LARGEST_EXACT_INTEGER else number
    if kind == "string_value":
        return value.string_value
    if kind == "int_value":
        return bool(value.int_value)
    if kind != "struct_value":
        return None
    fields = json_object(value.struct_value)
    wrapper = next(iter(fields)) if len(fields) == 1 else ""
    return fields[wrapper] if wrapper in {"list", "struct"} else fields


def _parameter_producers(text: Json) -> Producers:
    producer = decode_or_empty(cast("str", text), _ParameterProducerJson)
    if producer.value_from_parameter is not None:
        selectors = [producer.value_from_parameter]
    else:
        selectors = (producer.value_from_oneof or _OneOfJson()).parameter_selectors
    return tuple((selector.producer_subtask, selector.output_parameter_key) for selector in selectors)


def _artifact_producers(text: str) -> Mapping[str, Producers]:
    by_name = decode_or_empty(text, dict[str, _ArtifactProducerJson])
    return {
        key: tuple((one.producer_subtask, one.output_artifact_key) for one in producer.artifact_selectors)
        for key, producer in by_name.items()
    }


SESSION = "store_session_info"
"""The property; a task may set metadata of this name, which take precedence."""


class _SessionJson(msgspec.Struct, rename="pascal"):
    provider: str
    params: dict[str, str] = {}


def session_of(artifact: RunArtifact, pipeline_root: str) -> str:
    """Returns the session of an artifact, as JSON, empty if there is none.

    A root with a query (`s3://bucket/path?endpoint=...`) provides what the session of its artifacts leaves out.
    """
    session = read_session(artifact.metadata.get(SESSION))
    if session is None:
        return ""
    root, _, query = pipeline_root.partition("?")
    defaults = parse_qs(query) if artifact.uri.startswith(root) else {}
    params = {key: values[0] for key, values in defaults.items()} | session.params
    return msgspec.json.encode(_SessionJson(session.provider, params)).decode()


def read_session(value: Json) -> _SessionJson | None:
    return _decoded_session(value) if isinstance(value, str) else None


@lru_cache(32)  # the artifacts of a run mostly have the same
def _decoded_session(text: str) -> _SessionJson | None:
    try:
        return msgspec.json.decode(text, type=_SessionJson)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
