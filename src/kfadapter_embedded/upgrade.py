"""Upgrades a database of an older version to the current schema.

Schema 1 had only pipelines, 2 had a column per field, 3 had the tasks as KFP 2 lists them, 4 had recurring runs that
never started a run.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from .document_kinds import ARTIFACT_TASKS, ARTIFACTS, EXPERIMENTS, PIPELINES, RUNS, TASKS, VERSIONS
from .execution import State, TaskReport, task_name
from .json_text import rfc3339, to_json, without_empty
from .run_tasks import artifacts_of, changed_task, error_body, link_of, new_task, parent_of, task_id
from .schedules import add_recurring_run
from .store import Documents

_FORMER: Final = {
    1: ("pipelines", "versions", "specs"),
    2: ("pipelines", "versions", "specs", "experiments", "run_specs", "runs", "tasks", "outputs", "recurring_runs"),
    3: ("tasks", "jobs"),
    4: ("jobs",),
}
_NOT_ENDED = "0001-01-01T00:00:00Z"
_KINDS = (("for-loop-", "LOOP"), ("condition-branches-", "DAG"), ("condition-", "CONDITION_BRANCH"))


def set_aside(documents: Documents, version: int) -> None:
    """Renames those tables of an older version that are created again."""
    for (index,) in documents.execute("SELECT name FROM sqlite_master WHERE type = 'index' AND sql > ''").fetchall():
        documents.execute(f"DROP INDEX {index}")
    for table in _FORMER.get(version, ()):
        documents.execute(f"ALTER TABLE {table} RENAME TO former_{table}")


def migrate(documents: Documents, version: int) -> None:
    """Converts all rows to documents, and drops the old tables."""
    if version in {1, 2}:
        _migrate_pipelines(documents)
    if version == 2:  # noqa: PLR2004
        _migrate_experiments(documents)
        _migrate_runs(documents)
        _migrate_recurring_runs(documents)
        query = "SELECT * FROM former_tasks LEFT JOIN former_outputs USING (run_id, name) ORDER BY run_id, position"
        for row in _rows(documents, query):
            row["outputs"] = {key: json.loads(row[key]) for key in ("parameters", "artifacts") if row[key] is not None}
            row["end_time"] = rfc3339(row["ended_at"]) if row["ended_at"] else ""
            _migrate_task(documents, {**row, "create_time": rfc3339(row["created_at"]), "state_history": _history(row)})
    if version == 3:  # noqa: PLR2004
        for row in _rows(documents, "SELECT * FROM former_tasks ORDER BY run_id, position"):
            task = json.loads(row["document"])
            task["error"] = task.get("error", {}).get("message", "")
            task["end_time"] = task["end_time"] if task["end_time"] != _NOT_ENDED else ""
            row["outputs"] = json.loads(row["outputs"] or "{}").get("kfadapter_outputs", {})
            _migrate_task(documents, {**task, **row})
    if version in {3, 4}:
        for row in _rows(documents, "SELECT document FROM former_jobs ORDER BY rowid"):
            _migrate_recurring_run(documents, json.loads(row["document"]))
    for table in reversed(_FORMER.get(version, ())):
        documents.execute(f"DROP TABLE former_{table}")


def _rows(documents: Documents, query: str) -> Iterator[dict[str, Any]]:
    """Rows by column name, one at a time: specs may be large."""
    cursor = documents.cursor()
    cursor.row_factory = sqlite3.Row
    for row in cursor.execute(query):
        yield dict(row)


def _migrate_pipelines(documents: Documents) -> None:
    for row in _rows(documents, "SELECT * FROM former_pipelines ORDER BY rowid"):
        documents.add(PIPELINES, without_empty(pipeline_id=row["id"], **_described(row, "name", "tags")))
    versions = "SELECT * FROM former_versions JOIN former_specs ON version_id = id ORDER BY former_versions.rowid"
    for row in _rows(documents, versions):
        version = without_empty(
            pipeline_id=row["pipeline_id"],
            pipeline_version_id=row["id"],
            code_source_url=row["code_source_url"],
            **_described(row, "name", "tags"),
        )
        documents.add(VERSIONS, version, spec=documents.store_spec(row["spec"]))


def _described(row: dict[str, Any], *more: str) -> dict[str, object]:
    fields = {name: row[name] for name in ("display_name", "description", *more)}
    if "tags" in fields:
        fields["tags"] = json.loads(row["tags"])
    return {**fields, "created_at": rfc3339(row["created_at"])}


def _migrate_experiments(documents: Documents) -> None:
    for row in _rows(documents, "SELECT *, name AS display_name FROM former_experiments ORDER BY rowid"):
        experiment = without_empty(
            experiment_id=row["id"],
            storage_state=row["storage_state"],
            last_run_created_at=rfc3339(row["last_run_created_at"]),
            **_described(row),
        )
        documents.add(EXPERIMENTS, experiment)


def _requested(row: dict[str, Any]) -> dict[str, object]:
    """The fields that runs and recurring runs share."""
    config = without_empty(parameters=json.loads(row["parameters"]), pipeline_root=row["pipeline_root"])
    reference = without_empty(pipeline_id=row["pipeline_id"], pipeline_version_id=row["version_id"])
    return {
        **_described(row),
        "experiment_id": row["experiment_id"],
        "pipeline_version_reference": reference,
        "runtime_config": config,
        "service_account": row["service_account"],
    }


def _history(row: dict[str, Any]) -> list[dict[str, str]]:
    return [{"update_time": rfc3339(at), "state": state} for at, state in json.loads(row["history"])]


def _error(row: dict[str, Any]) -> dict[str, object]:
    return error_body(row["error"]) if row["error"] else {}


def _migrate_runs(documents: Documents) -> None:
    for row in _rows(documents, "SELECT * FROM former_runs JOIN former_run_specs ON digest = spec_digest"):
        run = without_empty(
            run_id=row["id"],
            **_requested(row),
            storage_state=row["storage_state"],
            scheduled_at=rfc3339(row["scheduled_at"]),
            finished_at=rfc3339(row["finished_at"]),
            state=row["state"],
            error=_error(row),
            state_history=_history(row),
        )
        more = {name: row[name] for name in ("workflow", "submission", "file_bytes")}
        documents.add(RUNS, run, spec=documents.store_spec(row["spec"]), **more)


def _migrate_task(documents: Documents, row: dict[str, Any]) -> None:
    """Converts a task as far as it was recorded: inputs were not, and groups are recognized by their names."""
    run_id, path, name = row["run_id"], row["name"], task_name(row["name"])
    known = {path for (path,) in documents.execute("SELECT path FROM tasks WHERE owner = ?", (run_id,))}
    title = documents.one("SELECT DisplayName FROM run_details WHERE id = ?", run_id)
    kind = next((kind for begin, kind in _KINDS if name.startswith(begin)), "RUNTIME") if path else "ROOT"
    values = row["outputs"].get("parameters", {}).items()
    made = [_artifact(run_id, path, one, row["create_time"]) for one in row["outputs"].get("artifacts", ())]
    producer = {"task_name": name}
    details = {
        "type": kind,
        "outputs": without_empty(
            parameters=[
                {"value": value, "type": "OUTPUT", "parameter_key": key, "producer": producer} for key, value in values
            ],
            artifacts=[
                {"artifacts": [one], "type": "OUTPUT", "artifact_key": one["name"], "producer": producer}
                for one in made
            ],
        ),
    }
    attempts = int(kind == "RUNTIME" and bool(row["end_time"]))
    report = TaskReport(path, State(row["state"]), row["error"], row["error"], attempts, details=details)
    workflow = documents.one("SELECT workflow FROM run_details WHERE id = ?", run_id)
    task = changed_task(new_task(run_id, path, title, parent_of(path, known), 0), report, workflow, 0)
    task.update(without_empty(**{key: row[key] for key in ("create_time", "end_time", "state_history")}))
    began = kind in {"CONDITION_BRANCH", "LOOP"} or row["state"] not in {State.SKIPPED, State.PENDING}
    documents.add(TASKS, task, path=path, position=row["position"], error=row["error"], began=began)
    for one in made:
        documents.add(ARTIFACTS, one)
    for entry, one in artifacts_of(task, "outputs"):
        documents.add(ARTIFACT_TASKS, link_of(task, entry, one))


def _artifact(run_id: str, path: str, former: dict[str, Any], created: str) -> dict[str, Any]:
    kind = former["type"].removeprefix("system.")
    uri = former.get("uri") or former["path"]
    return {
        "artifact_id": task_id(run_id, f"{path}:{former['name']}"),
        "name": former["name"],
        "type": kind.removesuffix("s") if kind.endswith("Metrics") else kind,
        "uri": Path(uri).as_uri() if uri.startswith("/") else uri,
        **without_empty(metadata=former["metadata"]),
        "created_at": created,
    }


def _migrate_recurring_runs(documents: Documents) -> None:
    for row in _rows(documents, "SELECT * FROM former_recurring_runs ORDER BY rowid"):
        recurring_run = without_empty(
            recurring_run_id=row["id"],
            **_requested(row),
            pipeline_spec=json.loads(row["spec"]) if row["spec"] else None,
            max_concurrency=str(row["max_concurrency"]),
            mode="ENABLE" if row["enabled"] else "DISABLE",
            status="ENABLED" if row["enabled"] else "DISABLED",
            no_catchup=bool(row["no_catchup"]),
            namespace="kubeflow",
            updated_at=rfc3339(row["updated_at"]),
        )
        _migrate_recurring_run(documents, {**recurring_run, "trigger": json.loads(row["schedule"])})


def _migrate_recurring_run(documents: Documents, recurring_run: dict[str, Any]) -> None:
    """Stores a recurring run; it does not catch up on starts from before runs were supported."""
    if version_id := recurring_run.get("pipeline_version_reference", {}).get("pipeline_version_id"):
        spec = documents.spec(VERSIONS, version_id) or ""
    else:
        spec = to_json(recurring_run["pipeline_spec"]) if "pipeline_spec" in recurring_run else ""
    add_recurring_run(documents, recurring_run, spec, int(time.time()))
