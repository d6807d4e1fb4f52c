"""The Argo Workflow of a run, which only v1beta1 returns, with the fields that clients need to find running pods."""

from __future__ import annotations

import json

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from .document_kinds import RUNS
from .errors import json_response
from .execution import WHOLE, task_name
from .json_text import to_json
from .requests import Resource
from .run_tasks import attempts_of, executor_pod, pod_number

_PHASES = {"RUNNING": "Running", "FAILED": "Failed"}


class Workflows(Resource):
    def routes(self) -> list[Route]:
        return [Route("/apis/v1beta1/runs/{run_id}", self._get, methods=["GET"])]

    def _get(self, request: Request) -> Response:
        run_id = request.path_params["run_id"]
        with self._store.reading() as documents:
            failed = ("Failed to get run", f"Failed to fetch run {run_id}")
            run = json.loads(documents.found(RUNS, run_id, *failed))
            name = documents.one("SELECT workflow FROM run_details WHERE id = ?", run_id)
            query = "SELECT path, error, document FROM tasks WHERE owner = ? AND began ORDER BY position"
            tasks = documents.execute(query, (run_id,)).fetchall()
        nodes = _Nodes(name)
        for path, error, text in tasks:
            nodes.add(path, json.loads(text), error)
        workflow = {"metadata": {"name": name}, "status": {"nodes": nodes.found}}
        shown = {"id": run_id, "name": run["display_name"], "created_at": run["created_at"]}
        return json_response({"run": shown, "pipeline_runtime": {"workflow_manifest": to_json(workflow)}})


class _Nodes:
    """The nodes of a Workflow, by id: a task's node is inside its group's node, and contains the nodes of its pods."""

    def __init__(self, workflow: str) -> None:
        self._workflow = workflow
        self.found: dict[str, dict[str, str]] = {}

    def add(self, path: str, task: dict[str, object], error: str) -> None:
        """Adds the nodes of a task; the error is in its last pod."""
        kind, name, phase = task["type"], task_name(path), _PHASES.get(str(task["state"]), "Succeeded")
        if path == WHOLE:
            self._node((self._workflow, self._workflow, "entrypoint"), "", phase)
            self._node((self._id("driver"), "root-driver", "system-dag-driver"), self._workflow, "Succeeded", "Pod")
            self._node((self._id("root"), "root", "root"), self._workflow, phase)
        elif kind not in {"RUNTIME", "IMPORTER"}:
            template = f"comp-{name}-iterator" if kind == "LOOP" else f"comp-{name}"
            self._node((self._id(path), name, template), self._around(path), phase)
        else:
            around = self._around(path)
            if kind == "RUNTIME":
                self._node((self._id(path), name, "system-container-executor"), around, phase)
            attempts = attempts_of(task) + (phase == "Running")
            for attempt in range(attempts):
                pod = executor_pod(self._workflow, path, attempt, kind).removeprefix(f"{self._workflow}-")
                template, _, number = pod.rpartition("-")
                inside = self._id(path) if kind == "RUNTIME" else around
                shown = f"executor({attempt})" if kind == "RUNTIME" else name
                ended = phase if attempt == attempts - 1 else "Failed"
                node = self._node((f"{self._workflow}-{number}", shown, template), inside, ended, "Pod")
                if error and ended == "Failed":
                    node["message"] = error

    def _around(self, path: str) -> str:
        """The id of the node that a task is in: of a group, or of an iteration, which is added with its first task."""
        group = path.rpartition("/")[0]
        if group.endswith("]"):
            loop, _, index = group.removesuffix("]").rpartition("[")
            iteration, item = self._id(f"{group}/iterations"), self._id(group)
            self._node((iteration, f"iteration-iterations({index}:{index})", "comp"), self._id(loop), "Running")
            self._node((item, "iteration-item", "comp"), iteration, "Running")
            return item
        return self._id(group or "root")

    def _id(self, path: str) -> str:
        return f"{self._workflow}-{pod_number(path, 'node')}"

    def _node(self, known_by: tuple[str, str, str], inside: str, phase: str, kind: str = "DAG") -> dict[str, str]:
        """Adds a node of this id, name and template inside another one."""
        node_id, name, template = known_by
        node = self.found[node_id] = {
            "id": node_id,
            "name": f"{inside}.{name}" if inside else name,
            "displayName": name,
            "type": kind,
            "templateName": template,
            "phase": phase,
            "boundaryID": inside,
        }
        return node
