"""Runs whose nodes Argo's own controller made, stage by stage, as KFP served them (tests/data/run_nodes)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.transcripts import DATA

if TYPE_CHECKING:
    from collections.abc import Mapping

_RUN_STATES = {"Succeeded": "SUCCEEDED", "Failed": "FAILED"}


def names() -> list[str]:
    """The names of all recorded runs."""
    return sorted(path.stem for path in (DATA / "run_nodes").glob("*.json"))


def recorded(name: str) -> list[dict[str, Any]]:
    """The stages of a run: `stage`, `run` as v2beta1 has it, and `manifest`, None where it was not recorded."""
    stages: list[dict[str, Any]] = json.loads((DATA / "run_nodes" / f"{name}.json").read_text("utf-8"))["stages"]
    known = next(stage["run"] for stage in stages if stage["run"])
    for stage in stages:
        if stage["run"] is None:  # only its nodes were recorded
            state = _RUN_STATES.get(stage["manifest"]["status"]["phase"], "RUNNING")
            stage["run"] = {**known, "state": state, "state_history": [{"state": state}]}
    return stages


def in_v1beta1(stage: Mapping[str, Any]) -> dict[str, Any]:
    """A run as v1beta1 has it: with its manifest as text, which is absent before the first report."""
    runtime = {"workflow_manifest": json.dumps(stage["manifest"])} if stage["manifest"] else {}
    return {"run": {"id": stage["run"]["run_id"]}, "pipeline_runtime": {"pipeline_manifest": "{}", **runtime}}
