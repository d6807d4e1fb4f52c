"""Recorded runs, stage by stage, and the notation of the tables of expected results.

tests/data/run_nodes: runs of 2.17.0 whose nodes Argo's own controller created; tests/data/native_runs: runs of the
KFP that follows it, whose tasks its own drivers and launchers wrote.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.transcripts import DATA

from kfadapter_grpc.contract.run_paths import TaskPaths

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kfadapter_grpc.contract.runs import Run, RunTask

_RUN_STATES = {"Succeeded": "SUCCEEDED", "Failed": "FAILED"}


@dataclass(frozen=True)
class Said:
    """What is expected of a run: its state, its tasks (`path STATE kind, further words`), and why it failed."""

    state: str
    tasks: str = ""
    error: str = ""
    warning: str = ""


def said_of(run: Run) -> Said:
    """Returns the state, tasks and errors of a run in the notation of the tables."""
    paths = TaskPaths(run.tasks)
    lines = "\n".join(f"{paths.of(task)} {_words(task)}" for task in run.tasks)
    return Said(run.state.value, lines, run.error.replace(run.run_id, "{run}"), "; ".join(run.warnings))


def _words(task: RunTask) -> str:
    words = f"{task.state.value} {task.kind.value}"
    words += f" x{task.attempts}" if task.attempts else ""
    words += " cached" if task.cached else ""
    shown_already = task.display_name in {"", task.name} or task.kind.value in {"dag", "loop", "condition"}
    words += "" if shown_already else f" ({task.display_name})"
    words += f": {task.error}" if task.error else ""
    return words + "".join(f"! {warning}" for warning in task.warnings)


def names(folder: str = "run_nodes") -> list[str]:
    """Returns the names of all recorded runs."""
    return sorted(path.stem for path in (DATA / folder).glob("*.json"))


def recorded_native(name: str) -> list[dict[str, Any]]:
    """Returns the stages of a run of the KFP that follows 2.17: as `recorded`, and `tasks` of its native API."""
    stages: list[dict[str, Any]] = json.loads((DATA / "native_runs" / f"{name}.json").read_text("utf-8"))["stages"]
    return stages


def recorded(name: str) -> list[dict[str, Any]]:
    """Returns the stages of a run: `stage`, `run` in v2beta1, and `manifest`, None where it was not recorded."""
    stages: list[dict[str, Any]] = json.loads((DATA / "run_nodes" / f"{name}.json").read_text("utf-8"))["stages"]
    known = next(stage["run"] for stage in stages if stage["run"])
    for stage in stages:
        if stage["run"] is None:  # only its nodes were recorded
            state = _RUN_STATES.get(stage["manifest"]["status"]["phase"], "RUNNING")
            stage["run"] = {**known, "state": state, "state_history": [{"state": state}]}
    return stages


def in_v1beta1(stage: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a run in v1beta1: with its manifest as text, which is absent before the first report."""
    runtime = {"workflow_manifest": json.dumps(stage["manifest"])} if stage["manifest"] else {}
    return {"run": {"id": stage["run"]["run_id"]}, "pipeline_runtime": {"pipeline_manifest": "{}", **runtime}}
