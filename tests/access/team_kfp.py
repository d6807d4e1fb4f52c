"""A KFP that holds the same in two namespaces and in none, and that no call changes.

It responds as a multi-user KFP does to an adapter that may do everything. So what a caller gets depends on the adapter
alone. It may also refuse what its user may not do, in the words of 2.17.0. Without a namespace its lists hold
everything, which is more than any KFP lists: so nothing depends on that.
"""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.runs_kfp import refused
from tests.scripted_kfp import ScriptedKfp, answers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.scripted_kfp import Behaviour, Connection, Received

OWN, OTHER, SHARED = "team-a", "team-b", ""
NAMESPACES = (OWN, OTHER, SHARED)
ABSENT = "absent"
"""Stands for a namespace of which KFP holds nothing."""
ORPHAN = "orphan"
"""Stands for the namespace of a run whose experiment was deleted."""
TASK, ARTIFACT, POD = "학습", "a-1", "pod-1"
LOG, FILE = b"loss 0.5\n", b"model"
AT = "2026-01-02T03:04:05Z"
_V2 = "/apis/v2beta1"
_KINDS = {"pipelines": "pipeline", "runs": "run", "experiments": "experiment", "recurringruns": "recurring_run"}
_NAMED = {"pipelines": "Pipeline", "runs": "Run", "experiments": "Experiment", "recurringruns": "Job"}


def key(kind: str, namespace: str) -> str:
    """The id of the resource of a kind (`runs`) in a namespace."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{kind} of {namespace}"))


def name(namespace: str) -> str:
    """The name of everything in a namespace."""
    return f"모델 {namespace or 'shared'}"


@dataclass
class TeamKfp:
    """The server; enter `server` to start it.

    Attributes:
        folder: Where the artifact's file is.
        multi_user: Whether it reports that it has several users.
        allows: Whether the user named by the adapter may do something in a namespace.
    """

    folder: Path
    multi_user: bool = True
    allows: Callable[[str, str], bool] = lambda _, __: True
    server: ScriptedKfp = field(default_factory=ScriptedKfp)

    def __post_init__(self) -> None:
        (self.folder / "model").write_bytes(FILE)
        for method in ("GET", "POST", "PATCH", "DELETE"):
            self.server.on(method, "^/", self._serve)

    def _serve(self, connection: Connection, received: Received) -> bool:
        parts = urlsplit(received.path)
        path, query = unquote(parts.path), dict(parse_qsl(parts.query))
        user, namespace = received.headers.get("kubeflow-userid", ""), _concerned(received, path, query)
        if namespace and not self.allows(user, namespace):
            text = f"User '{user}' is not authorized (request: &ResourceAttributes{{Namespace:{namespace},Verb:get,}})"
            return refused(403, 7, text)(connection, received)
        for method, pattern, serve in self._routes():
            found = re.fullmatch(pattern, path)
            if found and received.method in method.split("|"):
                return serve(received, query, *found.groups())(connection, received)
        return answers(404, {"code": 5, "message": "Not Found", "details": []})(connection, received)

    def _routes(self) -> list[tuple[str, str, Callable[..., Behaviour]]]:
        kinds = "|".join(_KINDS)
        return [
            ("GET", rf"{_V2}/healthz", lambda *_: answers(200, {"multi_user": self.multi_user})),
            ("GET", rf"{_V2}/pipelines/names/(.+)", self._pipeline_named),
            ("POST", rf"{_V2}/pipelines/upload_version", self._uploaded),
            ("GET", rf"{_V2}/pipelines/([^/]+)/versions", self._versions),
            ("GET|PATCH|DELETE", rf"{_V2}/pipelines/([^/]+)/versions/([^/]+)", self._version),
            ("GET", "/apis/v1beta1/pipeline_versions", self._cheap_versions),
            ("GET", rf"{_V2}/artifact_tasks", lambda *_: refused(400, 3, "At least one filter is required")),
            ("GET", rf"{_V2}/runs/([^/:]+)/tasks", self._tasks),
            ("GET", r"/apis/v1alpha1/runs/([^/]+)/nodes/([^/]+)/log", self._log),
            ("GET", rf"{_V2}/({kinds})", self._list),
            ("POST", rf"{_V2}/({kinds})", self._create),
            ("GET|PATCH|DELETE", rf"{_V2}/({kinds})/([^/:]+)", self._one),
            ("POST", rf"{_V2}/({kinds})/([^/:]+):\w+", self._one),
        ]

    # --- pipelines and versions -------------------------------------------------------------------------------------

    def _pipeline_named(self, _: Received, query: dict[str, str], wanted: str) -> Behaviour:
        namespace = query.get("namespace", "")
        if wanted != name(namespace):
            return refused(404, 5, f"Namespace/Pipeline {namespace}/{wanted} not found")
        return answers(200, _resource("pipelines", namespace))

    def _versions(self, _: Received, __: dict[str, str], pipeline_id: str) -> Behaviour:
        namespace = _namespace_of("pipelines", pipeline_id)
        if namespace is None:
            return refused(404, 5, f"Pipeline {pipeline_id} not found")
        return answers(200, {"pipeline_versions": [_version_in(namespace)], "total_size": 1})

    def _version(self, _: Received, __: dict[str, str], ___: str, version_id: str) -> Behaviour:
        # As KFP, by the version's id alone.
        namespace = _namespace_of("versions", version_id)
        if namespace is None:
            return refused(404, 5, f"PipelineVersion {version_id} not found")
        return answers(200, _version_in(namespace))

    def _cheap_versions(self, _: Received, query: dict[str, str]) -> Behaviour:
        pipeline_id = query["resource_key.id"]
        namespace = _namespace_of("pipelines", pipeline_id)
        if namespace is None:
            return refused(404, 5, f"Pipeline {pipeline_id} not found")
        return answers(200, {"versions": [{"id": key("versions", namespace), "name": "1"}], "total_size": 1})

    def _uploaded(self, _: Received, query: dict[str, str]) -> Behaviour:
        namespace = _namespace_of("new pipelines", query["pipelineid"])
        assert namespace is not None, "a version was added to a pipeline that was there before"
        return answers(200, {**_version_in(namespace), "pipeline_id": query["pipelineid"]})

    # --- all kinds --------------------------------------------------------------------------------------------------

    def _one(self, received: Received, _: dict[str, str], kind: str, wanted: str) -> Behaviour:
        namespace = _namespace_of(kind, wanted)
        if (kind, wanted) == ("runs", key("runs", ORPHAN)):
            namespace = ORPHAN
        if namespace is None and kind == "pipelines" and (made := _namespace_of("new pipelines", wanted)) is not None:
            return answers(200, _resource(kind, made) | {"pipeline_id": wanted})
        if namespace is None:
            return refused(404, 5, f"{_NAMED[kind]} {wanted} not found")
        return answers(200, {} if received.method in {"POST", "DELETE"} else _resource(kind, namespace))

    def _create(self, received: Received, _: dict[str, str], kind: str) -> Behaviour:
        body = json.loads(received.body)
        namespace = body.get("namespace", "")
        if kind in {"runs", "recurringruns"}:
            found = _namespace_of("experiments", body["experiment_id"])
            if found is None:
                return refused(404, 5, f"Experiment {body['experiment_id']} not found")
            namespace = found
        made = _resource(kind, namespace) | body
        if kind == "pipelines":
            made |= {"pipeline_id": key("new pipelines", namespace)}
        return answers(200, made)

    def _list(self, _: Received, query: dict[str, str], kind: str) -> Behaviour:
        predicates = json.loads(query.get("filter", '{"predicates": []}'))["predicates"]
        found = [_resource(kind, one) for one in NAMESPACES if query.get("namespace", one) == one]
        if experiment_id := query.get("experiment_id"):
            found = [_resource(kind, one) for one in NAMESPACES if key("experiments", one) == experiment_id]
        for one in predicates:
            if one["key"] == "name":
                found = [item for item in found if item["display_name"] == one["string_value"]]
            if one["operation"] == "IN":
                found = [item for item in found if item[f"{_KINDS[kind]}_id"] in one["string_values"]["values"]]
            if one["operation"] == "EQUALS" and one["key"] == "storage_state":
                found = []
        name_of = {"recurringruns": "recurringRuns"}.get(kind, kind)
        size = int(query.get("page_size", "20"))
        start = int(query.get("page_token", "0"))
        more = {"next_page_token": str(start + size)} if start + size < len(found) else {}
        page = {name_of: found[start : start + size], "total_size": len(found), **more}
        return answers(200, page if found else {})

    # --- runs -------------------------------------------------------------------------------------------------------

    def _tasks(self, _: Received, __: dict[str, str], run_id: str) -> Behaviour:
        if run_id not in {key("runs", one) for one in (*NAMESPACES, ORPHAN)}:
            return refused(404, 5, f"Run {run_id} not found")
        stored = {"artifact_id": ARTIFACT, "name": "model", "type": "Model", "uri": f"file://{self.folder}/model"}
        task = {
            "name": TASK,
            "task_id": "t-1",
            "state": "SUCCEEDED",
            "type": "RUNTIME",
            "pods": [{"name": POD, "type": "EXECUTOR"}],
            "outputs": {"artifacts": [{"artifacts": [stored], "type": "OUTPUT", "artifact_key": "model"}]},
        }
        return answers(200, {"tasks": [task]})

    def _log(self, _: Received, __: dict[str, str], run_id: str, pod: str) -> Behaviour:
        # As KFP, which checks no right here.
        del run_id, pod
        return answers(200, LOG, content_type="text/plain")


def _concerned(received: Received, path: str, query: dict[str, str]) -> str:
    """The namespace in which a request does something; empty if that is none, or unknown."""
    if "/log" in path:
        return ""  # as KFP, which checks no right here
    body = json.loads(received.body) if received.body.startswith(b"{") else {}
    shown = (*re.split("[/:]", path)[::-1], query.get("resource_key.id"), query.get("pipelineid"))
    shown += (query.get("experiment_id"), body.get("experiment_id"))
    kinds = (*_KINDS, "versions", "new pipelines")
    found = (one for text in shown for kind in kinds for one in (OWN, OTHER) if text == key(kind, one))
    return next(found, query.get("namespace") or body.get("namespace", ""))


def _namespace_of(kind: str, wanted: str) -> str | None:
    return next((one for one in NAMESPACES if key(kind, one) == wanted), None)


def _resource(kind: str, namespace: str) -> dict[str, Any]:
    """A resource, whose spec and state allow every call."""
    made: dict[str, Any] = {
        f"{_KINDS[kind]}_id": key(kind, namespace),
        "display_name": name(namespace),
        "created_at": AT,
    }
    if kind in {"pipelines", "experiments"}:
        made["namespace"] = namespace
    if kind == "pipelines":
        made["name"] = name(namespace)
    if kind in {"runs", "recurringruns"}:
        made["experiment_id"] = key("experiments", namespace)
        made["pipeline_version_reference"] = {
            "pipeline_id": key("pipelines", namespace),
            "pipeline_version_id": key("versions", namespace),
        }
    if kind == "recurringruns":
        made |= {"namespace": "kubeflow", "mode": "ENABLE", "trigger": {"cron_schedule": {"cron": "0 0 4 * * *"}}}
    if kind == "runs":
        made |= {"state": "SUCCEEDED", "finished_at": AT, "task_count": 1}
    return made


def _version_in(namespace: str) -> dict[str, Any]:
    return {
        "pipeline_id": key("pipelines", namespace),
        "pipeline_version_id": key("versions", namespace),
        "name": "1",
        "display_name": "1",
        "created_at": AT,
        "pipeline_spec": {
            "pipelineInfo": {"name": "p"},
            "root": {"dag": {"tasks": {}}},
            "components": {},
            "deploymentSpec": {"executors": {}},
            "schemaVersion": "2.1.0",
            "sdkVersion": "kfp-2.17.0",
        },
    }
