"""The probes that tell how a KFP was installed, by the newest run that has ended there."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeVar

import msgspec

from kfadapter_grpc.kfp.probes.probe import CannotTellError, DiffersError
from kfadapter_grpc.kfp.rest import V2, segment

if TYPE_CHECKING:
    from kfadapter_grpc.kfp.probes.bench import Bench

_T = TypeVar("_T")
_ENDED = {"operation": "IN", "key": "state", "string_values": {"values": ["SUCCEEDED", "FAILED"]}}
_RETRIES_FAILURES = {"", "OnFailure", "Always"}
"""Argo's retry policies that let a task with a failed container run again."""
_LOG = "main-logs"


class _Plugin(msgspec.Struct):
    state: str = ""
    state_message: str = ""


class _Run(msgspec.Struct):
    run_id: str
    plugins_output: dict[str, _Plugin] = {}


class _Runs(msgspec.Struct):
    runs: list[_Run] = []


class _RetryStrategy(msgspec.Struct):
    retry_policy: str = msgspec.field(default="", name="retryPolicy")


class _TemplateDefaults(msgspec.Struct):
    retry_strategy: _RetryStrategy | None = msgspec.field(default=None, name="retryStrategy")


class _Spec(msgspec.Struct):
    template_defaults: _TemplateDefaults = msgspec.field(default_factory=_TemplateDefaults, name="templateDefaults")


class _Artifact(msgspec.Struct):
    name: str = ""


class _Outputs(msgspec.Struct):
    artifacts: list[_Artifact] = []


class _Node(msgspec.Struct):
    type: str = ""
    phase: str = ""
    outputs: _Outputs = msgspec.field(default_factory=_Outputs)


class _Status(msgspec.Struct):
    nodes: dict[str, _Node] = {}


class _Workflow(msgspec.Struct):
    spec: _Spec = msgspec.field(default_factory=_Spec)
    status: _Status = msgspec.field(default_factory=_Status)


class _Runtime(msgspec.Struct):
    workflow_manifest: str = ""


class _RunWithWorkflow(msgspec.Struct):
    pipeline_runtime: _Runtime = msgspec.field(default_factory=_Runtime)


def plugins(bench: Bench) -> str:
    """Whether the plugins that KFP is configured with do their work."""
    found = _newest(bench).plugins_output
    for name, plugin in found.items():
        if plugin.state == "PLUGIN_FAILED":
            raise DiffersError(f"{name}: {plugin.state_message or plugin.state}")
    return ", ".join(found) or "no plugins"


def default_retry(bench: Bench) -> str:
    """Whether a task's own number of retries counts where its container fails."""
    strategy = _workflow(bench).spec.template_defaults.retry_strategy
    if strategy is not None and strategy.retry_policy not in _RETRIES_FAILURES:
        raise DiffersError(f"templateDefaults.retryStrategy has the policy {strategy.retry_policy}")
    return "no default retries" if strategy is None else f"default retries {strategy.retry_policy}".strip()


def log_archive(bench: Bench) -> str:
    """Whether logs are archived, and can be read after their pods are gone."""
    pods = [node for node in _workflow(bench).status.nodes.values() if node.type == "Pod" and node.phase == "Succeeded"]
    if not pods:
        raise CannotTellError("no pod of the newest run that has ended succeeded")
    archived = sum(any(one.name == _LOG for one in pod.outputs.artifacts) for pod in pods)
    if not archived:
        raise DiffersError("the newest run that has ended has no archived logs")
    return f"{archived} archived logs in the newest run that has ended"


def _newest(bench: Bench) -> _Run:
    query = (("page_size", "1"), ("sort_by", "created_at desc"), ("filter", json.dumps({"predicates": [_ENDED]})))
    answer = bench.get(f"{V2}/runs", *query, *bench.scope)
    if answer.status != HTTPStatus.OK:
        raise CannotTellError(f"HTTP {answer.status}")
    runs = _decoded(answer.body, _Runs).runs
    if not runs:
        raise CannotTellError("no run has ended there yet")
    return runs[0]


def _workflow(bench: Bench) -> _Workflow:
    answer = bench.get(f"/apis/v1beta1/runs/{segment(_newest(bench).run_id)}")
    text = ""
    if answer.status == HTTPStatus.OK:
        text = _decoded(answer.body, _RunWithWorkflow).pipeline_runtime.workflow_manifest
    if not text:
        raise CannotTellError("this Kubeflow Pipelines shows no workflow of its runs")
    return _decoded(text.encode(), _Workflow)


def _decoded(text: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise CannotTellError(f"it cannot be read: {error}") from None
