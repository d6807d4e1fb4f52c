"""How a KFP was installed, by the newest run that has ended there."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

import msgspec

from kfadapter_grpc.kfp.probes.bench import CannotTellError, DiffersError, decoded
from kfadapter_grpc.kfp.rest import ListQuery, segment

if TYPE_CHECKING:
    from kfadapter_grpc.kfp.probes.bench import Bench

_ENDED = {"operation": "IN", "key": "state", "string_values": {"values": ["SUCCEEDED", "FAILED"]}}
_RETRIES_FAILURES = {"", "OnFailure", "Always"}
"""Argo's retry policies that let a task with a failed container run again."""


class _Plugin(msgspec.Struct):
    state: str = ""
    state_message: str = ""


class _RunJson(msgspec.Struct):
    run_id: str
    plugins_output: dict[str, _Plugin] = {}


class _Runs(msgspec.Struct):
    runs: list[_RunJson] = []


class _RetryStrategy(msgspec.Struct, rename="camel"):
    retry_policy: str = ""


class _TemplateDefaults(msgspec.Struct, rename="camel"):
    retry_strategy: _RetryStrategy | None = None


class _Spec(msgspec.Struct, rename="camel"):
    template_defaults: _TemplateDefaults = msgspec.field(default_factory=_TemplateDefaults)


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


def default_retry(bench: Bench) -> str:
    """Whether a task's own number of retries counts where its container fails."""
    strategy = _workflow(bench).spec.template_defaults.retry_strategy
    if strategy is not None and strategy.retry_policy not in _RETRIES_FAILURES:
        raise DiffersError(f"templateDefaults.retryStrategy has the policy {strategy.retry_policy}")
    return "no default retries" if strategy is None else f"default retries {strategy.retry_policy}".strip()


def plugins(bench: Bench) -> str:
    """Whether the plugins that KFP is configured with work."""
    found = _newest(bench).plugins_output
    for name, plugin in found.items():
        if plugin.state == "PLUGIN_FAILED":
            raise DiffersError(f"{name}: {plugin.state_message or plugin.state}")
    return ", ".join(found) or "no plugins"


def log_archive(bench: Bench) -> str:
    """Whether logs are archived, and can be read after their pods are gone."""
    pods = [node for node in _workflow(bench).status.nodes.values() if node.type == "Pod" and node.phase == "Succeeded"]
    if not pods:
        raise CannotTellError("no pod of the newest run that has ended succeeded")
    archived = sum(any(one.name == "main-logs" for one in pod.outputs.artifacts) for pod in pods)
    if not archived:
        raise DiffersError("the newest run that has ended has no archived logs")
    return f"{archived} archived logs in the newest run that has ended"


def _newest(bench: Bench) -> _RunJson:
    query = ListQuery(1, sort_by="created_at desc", predicates=(_ENDED,)).pairs(namespace=bench.namespace)
    answer = bench.get("/runs", *query)
    if answer.status != HTTPStatus.OK:
        raise CannotTellError(f"HTTP {answer.status}")
    runs = decoded(answer.body, _Runs).runs
    if not runs:
        raise CannotTellError("no run has ended there yet")
    return runs[0]


def _workflow(bench: Bench) -> _Workflow:
    text = ""
    run_id = segment(_newest(bench).run_id)
    answer = bench.get_any(f"/apis/v1beta1/runs/{run_id}")
    if answer.status == HTTPStatus.OK:
        text = decoded(answer.body, _RunWithWorkflow).pipeline_runtime.workflow_manifest
    if not text:
        raise CannotTellError("this Kubeflow Pipelines shows no workflow of its runs")
    return decoded(text.encode(), _Workflow)
