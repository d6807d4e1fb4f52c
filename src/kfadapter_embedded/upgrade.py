"""Brings a database of an older program to today's: schemas 1 (pipelines alone) and 2, which had a column per field."""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING, Any, Final

from .execution import Artifact, State, TaskReport
from .json_text import rfc3339, to_json, without_empty
from .kinds import EXPERIMENTS, PIPELINES, RECURRING_RUNS, RUNS, VERSIONS
from .run_tasks import error_body, new_task, outputs_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .store import Documents

_FORMER: Final = (
    *("pipelines", "versions", "specs"),
    *("experiments", "run_specs", "runs", "tasks", "outputs", "recurring_runs"),
)
_NOT_ENDED = "0001-01-01T00:00:00Z"


def set_aside(documents: Documents) -> set[str]:
    """Gives the tables of an older program other names; returns those that there are, by their former names."""
    query = "SELECT name FROM sqlite_master WHERE type = 'table'"
    former = {name for (name,) in documents.execute(query)} & set(_FORMER)
    for (index,) in documents.execute("SELECT name FROM sqlite_master WHERE type = 'index' AND sql > ''").fetchall():
        documents.execute(f"DROP INDEX {index}")
    for table in former:
        documents.execute(f"ALTER TABLE {table} RENAME TO former_{table}")
    return former


def take_over(documents: Documents, former: set[str]) -> None:
    """Makes documents of all rows, and drops the tables."""
    if "pipelines" in former:
        _take_pipelines(documents)
    if "runs" in former:
        _take_experiments(documents)
        _take_runs(documents)
        _take_tasks(documents)
        _take_recurring_runs(documents)
    for table in reversed(_FORMER):
        documents.execute(f"DROP TABLE IF EXISTS former_{table}")


def _rows(documents: Documents, query: str) -> Iterator[dict[str, Any]]:
    """Rows by column, one at a time: specs may be large."""
    cursor = documents.cursor()
    cursor.row_factory = sqlite3.Row
    for row in cursor.execute(query):
        yield dict(row)


def _take_pipelines(documents: Documents) -> None:
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
        documents.add(VERSIONS, version, spec=documents.keep_spec(row["spec"]))


def _described(row: dict[str, Any], *more: str) -> dict[str, object]:
    fields = {name: row[name] for name in ("display_name", "description", *more)}
    if "tags" in fields:
        fields["tags"] = json.loads(row["tags"])
    return {**fields, "created_at": rfc3339(row["created_at"])}


def _take_experiments(documents: Documents) -> None:
    for row in _rows(documents, "SELECT *, name AS display_name FROM former_experiments ORDER BY rowid"):
        experiment = without_empty(
            experiment_id=row["id"],
            storage_state=row["storage_state"],
            last_run_created_at=rfc3339(row["last_run_created_at"]),
            **_described(row),
        )
        documents.add(EXPERIMENTS, experiment)


def _requested(row: dict[str, Any]) -> dict[str, object]:
    """What runs and recurring runs have in common."""
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


def _take_runs(documents: Documents) -> None:
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
        documents.add(RUNS, run, spec=documents.keep_spec(row["spec"]), **more)


def _take_tasks(documents: Documents) -> None:
    query = "SELECT * FROM former_tasks LEFT JOIN former_outputs USING (run_id, name)"
    for row in _rows(documents, query):
        running = [at for at, state in json.loads(row["history"]) if state == State.RUNNING]
        began = running[-1] if running else row["ended_at"] or row["created_at"]
        task = without_empty(
            **new_task(row["run_id"], row["name"], row["created_at"]),
            start_time=rfc3339(began),
            end_time=rfc3339(row["ended_at"]) if row["ended_at"] else _NOT_ENDED,
            state=row["state"],
            error=_error(row),
            state_history=_history(row),
        )
        values = (row["run_id"], row["name"], row["position"], to_json(task), _outputs(row))
        documents.execute("INSERT INTO tasks VALUES (?, ?, ?, ?, ?)", values)


def _outputs(row: dict[str, Any]) -> str:
    if row["parameters"] is None:
        return ""
    artifacts = tuple(Artifact(**artifact) for artifact in json.loads(row["artifacts"]))
    report = TaskReport(row["name"], State.SUCCEEDED, parameters=json.loads(row["parameters"]), artifacts=artifacts)
    return outputs_text(row["run_id"], report)


def _take_recurring_runs(documents: Documents) -> None:
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
        documents.add(RECURRING_RUNS, {**recurring_run, "trigger": json.loads(row["schedule"])})
