"""How a KFP was installed, by the newest finished run there."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

import msgspec

from kfadapter_grpc.kfp.probes.session import DiffersError, InconclusiveError, ProbeSession, decoded
from kfadapter_grpc.kfp.rest import ListQuery, segment

_ENDED = {"operation": "IN", "key": "state", "string_values": {"values": ["SUCCEEDED", "FAILED"]}}
_RETRIES_FAILURES = {"", "OnFailure", "Always"}
"""Argo's retry policies that let a task with a failed container run again."""


class _Runs(msgspec.Struct):
    runs: list[dict[str, object]] = []


def default_retry(session: ProbeSession) -> str:
    strategy = _at(_workflow(session), "spec", "templateDefaults", "retryStrategy")
    if strategy is None:
        return "no default retries"
    policy = str(_at(strategy, "retryPolicy") or "")
    if policy not in _RETRIES_FAILURES:
        raise DiffersError(f"templateDefaults.retryStrategy has the policy {policy}")
    return f"default retries {policy}".strip()


def plugins(session: ProbeSession) -> str:
    found = _members(_at(_newest(session), "plugins_output"))
    for name, plugin in found.items():
        if _at(plugin, "state") == "PLUGIN_FAILED":
            raise DiffersError(f"{name}: {_at(plugin, 'state_message') or 'PLUGIN_FAILED'}")
    return ", ".join(found) or "no plugins"


def log_archive(session: ProbeSession) -> str:
    """Whether logs are kept after their pods are deleted: in Argo's archive, or by the next KFP as artifacts."""
    if _newest(session).get("task_count"):
        return "each task's log is an artifact, executor-logs"
    nodes = _members(_at(_workflow(session), "status", "nodes")).values()
    pods = [node for node in nodes if (_at(node, "type"), _at(node, "phase")) == ("Pod", "Succeeded")]
    if not pods:
        raise InconclusiveError("no pod of the newest run that has ended succeeded")
    archived = sum("main-logs" in _names(_at(pod, "outputs", "artifacts")) for pod in pods)
    if not archived:
        raise DiffersError("the newest run that has ended has no archived logs")
    return f"{archived} archived logs in the newest run that has ended"


def _newest(session: ProbeSession) -> Mapping[str, object]:
    query = ListQuery(1, sort_by="created_at desc", predicates=(_ENDED,)).pairs(namespace=session.namespace)
    response = session.get("/runs", *query)
    if response.status != HTTPStatus.OK:
        raise InconclusiveError(f"HTTP {response.status}")
    runs = decoded(response.body, _Runs).runs
    if not runs:
        raise InconclusiveError("no run has ended there yet")
    return runs[0]


def _workflow(session: ProbeSession) -> Mapping[str, object]:
    response = session.get(f"/apis/v1beta1/runs/{segment(str(_newest(session).get('run_id')))}")
    run = decoded(response.body, dict[str, object]) if response.status == HTTPStatus.OK else {}
    text = _at(run, "pipeline_runtime", "workflow_manifest")
    if not isinstance(text, str) or not text:
        raise InconclusiveError("this Kubeflow Pipelines shows no workflow of its runs")
    return decoded(text.encode(), dict[str, object])


def _at(value: object, *keys: str) -> object:
    """Returns the value at a path of keys; None if something is missing."""
    for key in keys:
        value = _members(value).get(key)
    return value


def _members(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _names(value: object) -> list[object]:
    return [_at(one, "name") for one in value] if isinstance(value, list) else []
