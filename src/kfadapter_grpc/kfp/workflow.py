"""The Argo Workflow of a run, as far as it is read: its nodes, with Retry nodes and their attempts folded into steps.

KFP stores the Workflow as text and serves it as `pipeline_runtime.workflow_manifest` of a v1beta1 run. A node's name is
a path; `(0)` at its end counts attempts, `(1:item)` the items of a loop. `boundaryID` is the node that contains it. For
a file of KFP v1 the nodes have the inputs and outputs of tasks, and v1beta1 has the logged metrics.
"""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import cast

import msgspec

from kfadapter_grpc.contract.run_outputs import RunArtifact, RunInput, RunOutput
from kfadapter_grpc.contract.runs import RunTask
from kfadapter_grpc.contract.spec import Json
from kfadapter_grpc.kfp.decoding import decode_text, known_time
from kfadapter_grpc.kfp.run_nodes import METRICS, artifact
from kfadapter_grpc.kfp.transport import ResponseTooLargeError

MAX_NODES_BYTES = 128 * 1024 * 1024
_ATTEMPT = re.compile(r"\((\d+)\)$")
_ITEM = re.compile(r"\((\d+):.*\)$", re.DOTALL)
_GZIP = 16 + zlib.MAX_WBITS
_BUCKET = "mlpipeline"
"""Where KFP's own manifests have Argo store artifacts."""
_TERMINATED_BY_ARGO = "Stopped with strategy"


class UnreadableWorkflowError(Exception):
    """The nodes of a run cannot be read; the message has the reason."""


class _ParameterJson(msgspec.Struct):
    name: str = ""
    value: object = None


class _LocationJson(msgspec.Struct):
    bucket: str = ""
    key: str = ""
    endpoint: str = ""


class StoredJson(msgspec.Struct):
    """An artifact that Argo stored; the repository's common settings are not repeated."""

    name: str = ""
    s3: _LocationJson | None = None
    gcs: _LocationJson | None = None


class _IoJson(msgspec.Struct):
    parameters: list[_ParameterJson] | None = None
    artifacts: list[StoredJson] | None = None


class NodeJson(msgspec.Struct, rename="camel"):
    id: str
    name: str
    display_name: str = ""
    type: str = ""
    template_name: str = ""
    phase: str = ""
    boundary_id: str = msgspec.field(default="", name="boundaryID")
    message: str = ""
    started_at: str | None = None
    finished_at: str | None = None
    inputs: _IoJson | None = None
    outputs: _IoJson | None = None

    @property
    def artifact_names(self) -> frozenset[str]:
        return frozenset(artifact_.name for artifact_ in (self.outputs and self.outputs.artifacts) or ())


class _MetadataJson(msgspec.Struct):
    name: str = ""
    namespace: str = ""
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None


class _SpecJson(msgspec.Struct, rename="camel"):
    active_deadline_seconds: int | None = None


class _RepositoryRefJson(msgspec.Struct, rename="camel"):
    artifact_repository: StoredJson = msgspec.field(default_factory=StoredJson)


class _StatusJson(msgspec.Struct, rename="camel"):
    phase: str = ""
    message: str = ""
    nodes: dict[str, NodeJson] | None = None
    compressed_nodes: str = ""
    offload_node_status_version: str = ""
    artifact_repository_ref: _RepositoryRefJson = msgspec.field(default_factory=_RepositoryRefJson)


class _WorkflowJson(msgspec.Struct):
    metadata: _MetadataJson = msgspec.field(default_factory=_MetadataJson)
    spec: _SpecJson = msgspec.field(default_factory=_SpecJson)
    status: _StatusJson = msgspec.field(default_factory=_StatusJson)


@dataclass(slots=True, eq=False)
class Step:
    """One step of a Workflow: a node, or a Retry node with its attempts.

    Attributes:
        name: The last part of its path, without attempt and item.
        item: The item of a loop that it belongs to, counted from 0.
        node_id: The id of its outermost node: the Retry node's, even if KFP's retry dropped that.
        attempts: Its nodes, first to last, without the Retry node.
    """

    name: str
    item: int | None
    template: str
    node_id: str = ""
    retry: NodeJson | None = None
    attempts: list[NodeJson] = field(default_factory=list)

    @property
    def outer(self) -> NodeJson:
        return self.retry or self.attempts[-1]

    @property
    def path(self) -> str:
        return _ATTEMPT.sub("", self.outer.name)

    @property
    def type(self) -> str:
        return self.attempts[-1].type if self.attempts else ""

    @property
    def started(self) -> str:
        """When the first of its nodes started, in RFC 3339."""
        return min((node.started_at or "" for node in self._nodes()), default="")

    def pods(self) -> list[NodeJson]:
        return [node for node in self.attempts if node.type == "Pod"]

    def input(self, name: str) -> str:
        return _text_in([node.inputs for node in self._nodes()], name)

    def output(self, name: str) -> str:
        return _text_in([node.outputs for node in self._nodes()], name)

    def _nodes(self) -> list[NodeJson]:
        return [*reversed(self.attempts), *([self.retry] if self.retry else ())]


class Workflow:
    """A Workflow.

    Attributes:
        name: Its name, which is the prefix of the names of its pods.
        is_terminated: Whether termination was requested: by KFP, which sets its deadline to 0, or by Argo's tools.
    """

    def __init__(self, json: _WorkflowJson, nodes: Mapping[str, NodeJson]) -> None:
        self.name = json.metadata.name
        self.namespace = json.metadata.namespace
        self.run_id = (json.metadata.labels or {}).get("pipeline/runid", "")
        self.message = json.status.message
        self._repository = json.status.artifact_repository_ref.artifact_repository
        self.is_terminated = json.spec.active_deadline_seconds == 0 or self.message.startswith(_TERMINATED_BY_ARGO)
        self._old_pod_names = (json.metadata.annotations or {}).get("workflows.argoproj.io/pod-name-format") == "v1"
        self._found: dict[str, dict[str, Step]] = {}
        self._inside: dict[str, list[NodeJson]] = {}
        for node in nodes.values():
            self._inside.setdefault(node.boundary_id if node.boundary_id in nodes else "", []).append(node)

    def top(self) -> dict[str, Step]:
        return self._steps([""])

    def inside(self, step: Step) -> dict[str, Step]:
        """The steps inside a step, by name and item: those that its last attempt has started, with earlier attempts."""
        steps = self.all_inside(step)
        last = step.attempts[-1].id if step.attempts else ""
        return {key: inner for key, inner in steps.items() if inner.outer.boundary_id == last}

    def all_inside(self, step: Step) -> dict[str, Step]:
        """The same, of all its attempts."""
        steps = self._found.get(step.node_id)
        if steps is None:
            steps = self._found[step.node_id] = self._steps([node.id for node in step.attempts])
        return steps

    def pod_name(self, node: NodeJson) -> str:
        """The name of a node's pod, as KFP's RetrievePodName (backend/src/common/util/workflow.go) makes it."""
        if self._old_pod_names or node.name == self.name:
            return node.id
        number = node.id.rpartition("-")[2]
        return f"{self.name}-{number}" if ".inline" in node.name else f"{self.name}-{node.template_name}-{number}"

    def node_id(self, name: str) -> str:
        return self.name if name == self.name else f"{self.name}-{hashed(name)}"

    def uri(self, stored: StoredJson) -> str:
        if stored.gcs and stored.gcs.key:
            return f"gs://{stored.gcs.bucket or (self._repository.gcs or _LocationJson()).bucket}/{stored.gcs.key}"
        if not (stored.s3 and stored.s3.key):
            return ""
        common = self._repository.s3 or _LocationJson()
        scheme = "s3" if "amazonaws" in (stored.s3.endpoint or common.endpoint) else "minio"
        return f"{scheme}://{stored.s3.bucket or common.bucket or _BUCKET}/{stored.s3.key}"

    def _steps(self, boundaries: list[str]) -> dict[str, Step]:
        steps: dict[str, Step] = {}
        for boundary in boundaries:
            numbered = ((_attempt(node), node) for node in self._inside.get(boundary, ()))
            for number, node in sorted(numbered, key=lambda entry: (entry[0], entry[1].name)):
                display_name = node.display_name or node.name.rpartition(".")[2]
                key = _ATTEMPT.sub("", display_name) if number >= 0 else display_name
                step = steps.get(key)
                if step is None:
                    item = _ITEM.search(key)
                    name = key[: item.start()] if item else key
                    step = steps[key] = Step(name, int(item[1]) if item else None, node.template_name)
                if node.type == "Retry":
                    step.retry = node
                else:
                    step.attempts.append(node)
        for step in steps.values():
            outer = step.outer
            is_attempt = step.retry is None and _attempt(outer) >= 0
            step.node_id = self.node_id(step.path) if is_attempt else outer.id
        return steps


def read_workflow(manifest: str) -> Workflow:
    """Reads a Workflow. Raises UnreadableWorkflowError if it is not a Workflow, or its nodes are missing."""
    try:
        json = decode_text(manifest, _WorkflowJson)
        status = json.status
        nodes = status.nodes or {}
        if not nodes and status.compressed_nodes:
            packed = base64.b64decode(status.compressed_nodes)
            nodes = decode_text(_unpacked(packed), dict[str, NodeJson])
    except (ValueError, ResponseTooLargeError, zlib.error) as error:
        raise UnreadableWorkflowError(f"its workflow cannot be read ({error})") from error
    if not nodes and status.offload_node_status_version:
        raise UnreadableWorkflowError("its workflow is so large that Argo keeps its nodes in a database of its own")
    return Workflow(json, nodes)


def hashed(text: str, state: int = 0x811C9DC5) -> int:
    """The number that ends the id of a node of this name, FNV-1a of 32 bits; `state` is that of its prefix."""
    for byte in text.encode():
        state = ((state ^ byte) * 0x01000193) & 0xFFFFFFFF
    return state


def moment(text: str | None) -> datetime | None:
    """Parses a time of Argo's; None if it is unset or invalid."""
    try:
        return known_time(msgspec.convert(text, datetime)) if text else None
    except (msgspec.ValidationError, OverflowError, ValueError):
        return None


def _attempt(node: NodeJson) -> int:
    """Which attempt a node is, counted from 0; -1 for a Retry node, and if there are no attempts."""
    match = _ATTEMPT.search(node.display_name or node.name)
    return int(match[1]) if match and node.type != "Retry" else -1


def _unpacked(packed: bytes) -> bytes:
    unpacking = zlib.decompressobj(_GZIP)
    nodes = unpacking.decompress(packed, MAX_NODES_BYTES)
    if unpacking.unconsumed_tail:
        raise UnreadableWorkflowError(f"its nodes are larger than {MAX_NODES_BYTES} bytes")
    return nodes


def _text_in(all_ports: Iterable[_IoJson | None], name: str) -> str:
    parameters = (
        parameter for ports in all_ports for parameter in (ports and ports.parameters) or () if parameter.name == name
    )
    return next((str(parameter.value) for parameter in parameters if parameter.value not in (None, "")), "")


LOGGED = "mlpipeline-metrics"
"""The artifact in which a task logs metrics; KFP's agent reads it, and v1beta1 serves the numbers."""
_LOGS = "main-logs"


def with_outputs(
    workflow: Workflow, tasks: Iterable[RunTask], steps: Mapping[str, Step], metrics: Mapping[str, Mapping[str, float]]
) -> list[RunTask]:
    by_uri: dict[str, RunArtifact] = {}
    completed = []
    for task in tasks:
        outputs = list(_outputs(workflow, task, steps[task.task_id], metrics))
        by_uri |= {artifact_.uri: artifact_ for output in outputs for artifact_ in output.artifacts if artifact_.uri}
        completed.append(replace(task, outputs=tuple(sorted(outputs, key=lambda artifact_: artifact_.name))))
    names = {task.task_id: task.name for task in completed}
    return [replace(task, inputs=_inputs(workflow, steps[task.task_id], by_uri, names)) for task in completed]


def _outputs(
    workflow: Workflow, task: RunTask, step: Step, metrics: Mapping[str, Mapping[str, float]]
) -> Iterator[RunOutput]:
    node = step.attempts[-1] if step.attempts else step.outer
    outputs = node.outputs
    for parameter in (outputs and outputs.parameters) or ():
        if parameter.value is not None:
            yield RunOutput(parameter.name, value=cast("Json", parameter.value))
    stored = [item for item in (outputs and outputs.artifacts) or () if item.name != _LOGS]
    logged = metrics.get(node.id, {})
    for item in stored:
        yield RunOutput.of(item.name, _artifact(workflow, task, node, item, logged if item.name == LOGGED else {}))
    if logged and LOGGED not in {item.name for item in stored}:
        yield RunOutput.of(LOGGED, _artifact(workflow, task, node, None, logged))


def _artifact(
    workflow: Workflow, task: RunTask, node: NodeJson, stored: StoredJson | None, logged: Mapping[str, float]
) -> RunArtifact:
    name = stored.name if stored else LOGGED
    return artifact(
        METRICS if name == LOGGED else "system.Artifact",
        dict(logged),
        name=name,
        uri=workflow.uri(stored) if stored else "",
        artifact_id=f"{node.id}/{name}",
        run_id=workflow.run_id,
        task_id=task.task_id,
        created_at=moment(node.finished_at),
    )


def _inputs(
    workflow: Workflow, step: Step, by_uri: Mapping[str, RunArtifact], names: Mapping[str, str]
) -> tuple[RunInput, ...]:
    node = step.attempts[-1] if step.attempts else step.outer
    inputs = node.inputs
    parameters: Sequence[RunInput] = [
        RunInput(item.name, cast("Json", item.value))
        for item in (inputs and inputs.parameters) or ()
        if item.value is not None
    ]
    artifacts = []
    for item in (inputs and inputs.artifacts) or ():
        if uri := workflow.uri(item):
            artifact_ = by_uri.get(uri) or artifact(
                "system.Artifact", {}, name=item.name, uri=uri, run_id=workflow.run_id
            )
            source = (names[artifact_.task_id], artifact_.name) if artifact_.task_id else ("", "")
            artifacts.append(RunInput(item.name, None, (artifact_,), *source, has_value=False))
    return tuple(sorted((*parameters, *artifacts), key=lambda item: item.name))
