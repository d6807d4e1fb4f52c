"""A KFP with one pipeline that keeps runs in memory and responds as in the recordings.

Run ids are unique, as in KFP's database. The result of a POST can be set in advance: whether the run is
stored, and the response.
"""

from __future__ import annotations

import json
import re
import threading
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit

import yaml
from tests.scripted_kfp import ScriptedKfp, answers
from tests.transcripts import PIPELINES

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.scripted_kfp import Behaviour, Connection, Received

NAME = "모든 종류"
PIPELINE = "11111111-1111-4111-8111-111111111111"
VERSION = "22222222-2222-4222-8222-222222222222"
OLDER = "33333333-3333-4333-8333-333333333333"
EXPERIMENT = "44444444-4444-4444-8444-444444444444"
DEFAULT = "55555555-5555-4555-8555-555555555555"
NOBODY = "99999999-9999-4999-8999-999999999999"
AT = "2026-01-02T03:04:05Z"
NEVER = "1970-01-01T00:00:00Z"
_OVER = {"SUCCEEDED", "FAILED", "SKIPPED", "CANCELED"}


def spec_of(stem: str) -> dict[str, object]:
    """Returns one of the sample pipelines, as KFP serves it."""
    documents = list(yaml.safe_load_all((PIPELINES / f"{stem}.yaml").read_text("utf-8")))
    return documents[0] if len(documents) == 1 else {"pipeline_spec": documents[0], "platform_spec": documents[1]}


def refused(status: int, code: int, text: str) -> Behaviour:
    """Returns a failure in KFP's words."""
    return answers(status, {"code": code, "message": f"Failed: {text}", "details": [{"message": text}]})


@dataclass(frozen=True)
class Fault:
    """The result of a POST: whether the run is stored, and the response; None for the normal response."""

    stored: bool
    behaviour: Behaviour | None


@dataclass
class RunsKfp:
    """The server; enter `server` to start it.

    Attributes:
        runs: The runs by id, as KFP serves them.
        faults: The results of the next POSTs of runs; later ones get responses as KFP does.
        before_look: Called before a run is looked up.
        spec: The spec of both versions.
        experiments: The names of the experiments by id.
        logs: The logs of pods, by pod name.
        manifests: The v1beta1 records of runs, by id; if empty, that route is not served.
        tasks: The tasks of runs in the native API, by run id; None if this KFP is too old for it.
    """

    runs: dict[str, dict[str, object]] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    before_look: Callable[[], object] = lambda: None
    spec: dict[str, object] = field(default_factory=lambda: spec_of("all_parameter_types"))
    experiments: dict[str, str] = field(default_factory=lambda: {DEFAULT: "Default", EXPERIMENT: "실험"})
    versions: list[str] = field(default_factory=lambda: [VERSION, OLDER])
    manifests: dict[str, object] = field(default_factory=dict)
    logs: dict[str, str] = field(default_factory=dict)
    tasks: dict[str, list[object]] | None = None

    def __post_init__(self) -> None:
        self._lock = threading.RLock()
        self.server = ScriptedKfp()
        for method in ("GET", "POST", "DELETE"):
            self.server.on(method, "^/", self.serve)

    @property
    def url(self) -> str:
        """The URL it serves."""
        return self.server.url

    def posts(self) -> list[dict[str, object]]:
        """Returns the bodies of all POSTs of runs, in order."""
        return [json.loads(one.body) for one in self.server.requests if (one.method, one.path) == ("POST", _RUNS)]

    def queries(self) -> list[dict[str, str]]:
        """Returns the queries of all lists of runs, in order."""
        return [
            dict(parse_qsl(urlsplit(path).query)) for path in self.server.paths("GET") if path.startswith(_RUNS + "?")
        ]

    def add(self, **fields: object) -> str:
        """Stores a new run with these fields changed; returns its id."""
        run = _new_run({"display_name": "r", **fields})
        self.runs[str(run["run_id"])] = run
        return str(run["run_id"])

    def serve(self, connection: Connection, received: Received) -> bool:
        """Answers a request as KFP does."""
        parts = urlsplit(received.path)
        path, query = unquote(parts.path), dict(parse_qsl(parts.query))
        for method, pattern, serve in self._routes():
            found = re.fullmatch(pattern, path)
            if found and method == received.method:
                return serve(received, query, *found.groups())(connection, received)
        return answers(599, {"message": f"no route for {received.method} {path}"})(connection, received)

    def _routes(self) -> list[tuple[str, str, Callable[..., Behaviour]]]:
        v2 = "/apis/v2beta1"
        return [
            ("GET", rf"{v2}/pipelines/names/(.+)", self._pipeline_named),
            ("GET", rf"{v2}/pipelines/([^/]+)", self._pipeline),
            ("GET", rf"{v2}/pipelines/([^/]+)/versions/([^/]+)", self._version),
            ("GET", rf"{v2}/pipelines/([^/]+)/versions", self._find_version),
            ("GET", "/apis/v1beta1/pipeline_versions", self._cheap_versions),
            ("GET", rf"{v2}/experiments", self._list_experiments),
            ("POST", rf"{v2}/experiments", self._create_experiment),
            ("GET", rf"{v2}/experiments/([^/]+)", self._experiment),
            ("POST", _RUNS, self._create),
            ("GET", _RUNS, self._list),
            ("GET", "/apis/v1beta1/runs/([^/]+)", self._get_v1beta1),
            ("GET", "/apis/v1alpha1/runs/([^/]+)/nodes/([^/]+)/log", self._log),
            ("GET", rf"{_RUNS}/([^/:]+)", self._get),
            ("GET", rf"{_RUNS}/([^/:]+)/tasks", self._list_tasks),
            ("GET", rf"{v2}/artifact_tasks", self._artifact_tasks),
            ("DELETE", rf"{_RUNS}/([^/:]+)", self._delete),
            ("POST", rf"{_RUNS}/([^/:]+):(\w+)", self._change),
        ]

    # --- pipelines and experiments ------------------------------------------------------------------------------

    def _pipeline_named(self, _: Received, __: dict[str, str], name: str) -> Behaviour:
        return _PIPELINE if name == NAME else refused(404, 5, f"Namespace/Pipeline /{name} not found")

    def _pipeline(self, _: Received, __: dict[str, str], pipeline_id: str) -> Behaviour:
        return _PIPELINE if pipeline_id.lower() == PIPELINE else refused(404, 5, f"Pipeline {pipeline_id} not found")

    def _version(self, _: Received, __: dict[str, str], ___: str, version_id: str) -> Behaviour:
        if version_id not in self.versions:
            return refused(404, 5, f"PipelineVersion {version_id} not found")
        return answers(200, {**_version(version_id), "pipeline_spec": self.spec})

    def _find_version(self, _: Received, query: dict[str, str], __: str) -> Behaviour:
        wanted = json.loads(query["filter"])["predicates"][0]["string_value"]
        found = [_version(one) for one in self.versions if _version(one)["name"] == wanted]
        return answers(200, {"pipeline_versions": found} if found else {})

    def _cheap_versions(self, _: Received, query: dict[str, str]) -> Behaviour:
        if query["resource_key.id"].lower() != PIPELINE:
            return refused(404, 5, f"Pipeline {query['resource_key.id']} not found")
        known = map(_version, self.versions)
        found = [{"id": one["pipeline_version_id"], **one} for one in known]
        return answers(200, {"versions": found, "total_size": len(found)} if found else {})

    def _list_experiments(self, _: Received, query: dict[str, str]) -> Behaviour:
        wanted = json.loads(query["filter"])["predicates"][0]["string_value"]
        namespace = query.get("namespace", "")
        found = [_experiment(key, name, namespace) for key, name in self.experiments.items() if name == wanted]
        return answers(200, {"experiments": found} if found else {})

    def _create_experiment(self, received: Received, _: dict[str, str]) -> Behaviour:
        body = json.loads(received.body)
        key = str(uuid.uuid4())
        self.experiments[key] = body["display_name"]
        return answers(200, _experiment(key, body["display_name"], body.get("namespace", "")))

    def _experiment(self, _: Received, __: dict[str, str], key: str) -> Behaviour:
        if key not in self.experiments:
            return refused(404, 5, f"Experiment {key} not found")
        return answers(200, _experiment(key, self.experiments[key], ""))

    # --- runs ---------------------------------------------------------------------------------------------------

    def _create(self, received: Received, _: dict[str, str]) -> Behaviour:
        body = json.loads(received.body)
        with self._lock:
            fault = self.faults.pop(0) if self.faults else Fault(stored=True, behaviour=None)
            if fault.stored:
                problem = self._problem(body)
                if problem is not None:
                    return problem
                self.runs[body["run_id"]] = _new_run(body)
        return fault.behaviour or answers(200, self.runs[body["run_id"]])

    def _problem(self, body: dict[str, str]) -> Behaviour | None:
        if body["run_id"] in self.runs:
            text = f"Failed to store run x to table: Error 1062 (23000): Duplicate entry '{body['run_id']}'"
            return answers(500, {"code": 13, "message": text, "details": [{"message": "Internal Server Error"}]})
        if body.get("experiment_id", DEFAULT) not in self.experiments:
            return refused(404, 5, f"Experiment {body['experiment_id']} not found")
        return None

    def _get(self, _: Received, __: dict[str, str], run_id: str) -> Behaviour:
        self.before_look()
        return answers(200, self.runs[run_id]) if run_id in self.runs else _no_run(run_id)

    def _get_v1beta1(self, _: Received, __: dict[str, str], run_id: str) -> Behaviour:
        if not self.manifests:
            return _NO_ROUTE
        return answers(200, self.manifests[run_id]) if run_id in self.manifests else _no_run(run_id)

    def _list_tasks(self, _: Received, query: dict[str, str], run_id: str) -> Behaviour:
        if self.tasks is None:
            return _NO_ROUTE
        found = self.tasks.get(run_id, [])
        start, size = int(query.get("page_token", "0")), min(int(query.get("page_size", "20")), 200)
        page = {"tasks": found[start : start + size]} if found else {}
        return answers(200, {**page, **({"next_page_token": str(start + size)} if start + size < len(found) else {})})

    def _artifact_tasks(self, _: Received, __: dict[str, str]) -> Behaviour:
        if self.tasks is None:
            return _NO_ROUTE
        return refused(400, 3, "At least one filter is required (task_ids, run_ids, or artifact_ids)")

    def _log(self, _: Received, __: dict[str, str], run_id: str, pod: str) -> Behaviour:
        if pod in self.logs:
            return answers(200, self.logs[pod].encode(), content_type="text/plain")
        words = f"BadRequestError: Failed to read logs for run {run_id}: no log"
        body = json.dumps({"error_message": words, "error_details": f"{words}: stack"}, separators=(",", ":"))
        return answers(200, body.encode(), content_type="text/plain")

    def _list(self, _: Received, query: dict[str, str]) -> Behaviour:
        scope = query.get("experiment_id", "")
        found = [run for run in self.runs.values() if scope in {"", run["experiment_id"]}]
        start, size = int(query.get("page_token", "0")), int(query["page_size"])
        listed = found[start : start + size]
        if self.tasks is not None and query.get("view") == "FULL":
            listed = [{**run, "tasks": self.tasks.get(str(run["run_id"]), [])} for run in listed]
        page = {"runs": listed, "total_size": len(found)} if found else {}
        return answers(200, {**page, "next_page_token": str(start + size) if start + size < len(found) else ""})

    def _delete(self, _: Received, __: dict[str, str], run_id: str) -> Behaviour:
        return answers(200, {}) if self.runs.pop(run_id, None) else _no_run(run_id)

    def _change(self, _: Received, __: dict[str, str], run_id: str, verb: str) -> Behaviour:
        run = self.runs.get(run_id)
        if run is None:
            return _no_run(run_id)
        if verb == "terminate" and run["state"] in {*_OVER, "CANCELING"}:
            return refused(400, 3, f"Failed to terminate a run {run_id}. Row not found")
        if verb == "retry" and run["state"] != "FAILED":
            return refused(409, 10, f"Failed to retry run {run_id} due to error fetching workflow manifest")
        run.update(_AFTER[verb])
        return answers(200, {})


_RUNS = "/apis/v2beta1/runs"
_NO_ROUTE = answers(404, {"code": 5, "message": "Not Found", "details": []})
_AFTER: dict[str, dict[str, str]] = {
    "terminate": {"state": "CANCELING"},
    "retry": {"state": "RUNNING", "finished_at": NEVER},
    "archive": {"storage_state": "ARCHIVED"},
    "unarchive": {"storage_state": "AVAILABLE"},
}
_PIPELINE = answers(200, {"pipeline_id": PIPELINE, "name": NAME, "display_name": NAME, "created_at": AT})


def _version(version_id: str) -> dict[str, str]:
    name, at = ("2", AT) if version_id == VERSION else ("1", "2026-01-01T00:00:00Z")
    return {
        "pipeline_id": PIPELINE,
        "pipeline_version_id": version_id,
        "name": name,
        "display_name": name,
        "created_at": at,
    }


def _experiment(key: str, name: str, namespace: str) -> dict[str, str]:
    return {"experiment_id": key, "display_name": name, "created_at": AT, "namespace": namespace}


def _new_run(body: dict[str, object]) -> dict[str, object]:
    """Returns a run as KFP serves it when it is new."""
    return {
        "experiment_id": DEFAULT,
        "run_id": str(uuid.uuid4()),
        "storage_state": "AVAILABLE",
        "service_account": "pipeline-runner",
        "created_at": AT,
        "scheduled_at": AT,
        "finished_at": NEVER,
        "state": "PENDING",
        "state_history": [{"update_time": AT, "state": "PENDING"}],
        **body,
    }


def _no_run(run_id: str) -> Behaviour:
    return refused(404, 5, f"Run {run_id} not found")
