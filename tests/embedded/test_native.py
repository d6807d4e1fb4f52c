"""The tasks of real pipelines, as the next KFP's drivers and launchers wrote them (data/embedded/native_runs.json)."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.embedded.runs import a_pipeline, a_run
from tests.transcripts import DATA

if TYPE_CHECKING:
    from tests.embedded.conftest import Caller

pytestmark = pytest.mark.slow
RECORDED: dict[str, list[dict[str, Any]]] = json.loads((DATA / "embedded" / "native_runs.json").read_text("utf-8"))
SOURCE = Path(__file__).with_name("native_pipelines.py")
RUNS = {
    "outputs": "outputs",
    "loop": "loop-collect",
    "conditions": "conditions",
    "nested": "nested",
    "exits": "exits",
    "fails": "fails",
    "retries": "retries",
    "loops": "loop-nested",
    "loop_fails": "loop-fails",
    "empty_loop": "empty-loop",
    "odd_types": "odd-types",
    "imports": "imports",
}
"""Recordings, and the pipelines that they are of."""
OTHER_VALUES = {
    "exits": {"status"},  # steps behave as 2.17.0's, whose final status differs
}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled pipelines."""
    folder = tmp_path_factory.mktemp("compiled")
    subprocess.run([sys.executable, SOURCE, folder], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def runs(caller: Caller, compiled: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The ids of a run of each pipeline, with the parameters of the recorded one."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "a.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    given = {"odd_types": {"n": 1000}}
    made = {}
    for name, pipeline in RUNS.items():
        parameters = RECORDED[name][-1].get("runtime_config", {}).get("parameters", {}) | given.get(name, {})
        if "marker" in parameters:
            parameters["marker"] = str(folder / name)
        reference = a_pipeline(caller, (compiled / f"{pipeline}.yaml").read_bytes().replace(b"/FOLDER", bytes(folder)))
        config = {"parameters": parameters}
        made[name] = a_run(caller, display_name=name, pipeline_version_reference=reference, runtime_config=config)
    return made


def ended(caller: Caller, run_id: str) -> dict[str, Any]:
    """The whole run, once it has finished."""
    deadline = time.monotonic() + 120
    while (run := caller.get(f"/runs/{run_id}", view="FULL").json)["finished_at"] == "1970-01-01T00:00:00Z":
        assert time.monotonic() < deadline, run
        time.sleep(0.1)
    return run


def shapes(tasks: list[dict[str, Any]], other_values: set[str]) -> list[dict[str, Any]]:
    """The properties of tasks that the pipeline determines, in the order of their scopes."""
    by_id = {task["task_id"]: task for task in tasks}
    return sorted((shape(task, by_id, other_values) for task in tasks), key=lambda one: json.dumps(one["place"]))


def shape(task: dict[str, Any], by_id: dict[str, dict[str, Any]], other_values: set[str]) -> dict[str, Any]:
    """The properties of a task that the pipeline determines; a cached task equals an executed one."""
    cached = task["state"] == "CACHED"
    states = [each["state"].replace("CACHED", "SUCCEEDED") for each in task["state_history"]]
    message = re.sub(r"/\S+", "FILE", task.get("status_metadata", {}).get("message", ""))
    # Warnings exist only here.
    warned = task.get("status_metadata", {}).keys() == {"custom_properties"}
    return {
        "place": [*places(task, by_id), task["scope_path"]],
        "keys": sorted(task.keys() - {"cache_fingerprint"} - ({"status_metadata"} if cached or warned else set())),
        "names": [task["name"], task["display_name"] if task["type"] != "ROOT" else "", task["type"]],
        "state": task["state"].replace("CACHED", "SUCCEEDED"),
        "states": ["RUNNING", "SUCCEEDED"] if states == ["SUCCEEDED"] else states,
        "pods": [pod["type"] for pod in task.get("pods", ())]
        + (["EXECUTOR"] if cached and task["type"] == "RUNTIME" else []),
        "message": message,
        "attributes": task.get("type_attributes"),
        "children": sorted(child["name"] for child in task.get("child_tasks", ())),
        "inputs": ports(task["inputs"], other_values),
        "outputs": ports(task["outputs"], other_values),
    }


def places(task: dict[str, Any], by_id: dict[str, dict[str, Any]]) -> list[str]:
    """The iterations of a task, outermost first."""
    index = task.get("type_attributes", {}).get("iteration_index", "")
    parent = by_id.get(task.get("parent_task_id", ""))
    return [*(places(parent, by_id) if parent else ()), index]


def ports(found: dict[str, Any], other_values: set[str]) -> list[str]:
    """Inputs or outputs in a fixed order: values, types, producers, and artifacts."""
    parameters = [
        {**one, "value": shortened(one)} | ({"value": "?"} if one["parameter_key"] in other_values else {})
        for one in found.get("parameters", ())
    ]
    artifacts = [
        {**one, "artifacts": sorted((artifact(each) for each in one["artifacts"]), key=json.dumps)}
        for one in found.get("artifacts", ())
    ]
    return sorted(json.dumps(one, sort_keys=True, ensure_ascii=False) for one in [*parameters, *artifacts])


def shortened(parameter: dict[str, Any]) -> object:
    """The value of a parameter; long texts and paths are replaced by their kind."""
    value = parameter["value"]
    if isinstance(value, str) and re.match(r"x{100}|/|file://", value):
        return value[:1]
    return 1000 if value == 299976 else value


def artifact(one: dict[str, Any]) -> dict[str, Any]:
    """An artifact without its id and time, with the end of its URI."""
    kept = {key: value for key, value in one.items() if key not in {"artifact_id", "created_at"}}
    for number in ("number_value", "metadata"):
        kept[number] = json.loads(json.dumps(kept.get(number)).replace("299976", "1000"))
    return {**kept, "uri": one.get("uri", "").rpartition("/")[2]}


@pytest.mark.parametrize("name", RUNS)
def test_tasks_of_a_run(caller: Caller, runs: dict[str, str], name: str) -> None:
    """A pipeline has the tasks, inputs, outputs and artifacts that it had in the next KFP."""
    wanted, run = RECORDED[name][-1], ended(caller, runs[name])
    other = OTHER_VALUES.get(name, set())
    assert (run["state"], run["task_count"]) == (wanted["state"], wanted["task_count"])
    found = shapes(run["tasks"], other)
    for one, expected in zip(found, shapes(wanted["tasks"], other), strict=True):
        assert one == expected
    listed = caller.get(f"/runs/{runs[name]}/tasks", page_size=200).json
    assert listed == {"tasks": run["tasks"], "total_size": run["task_count"]}


def test_cached(caller: Caller, runs: dict[str, str], compiled: Path) -> None:
    """A run whose tasks are all cached is as recorded, with the artifacts of the earlier run."""
    parameters = RECORDED["outputs"][-1]["runtime_config"]["parameters"]
    ended(caller, runs["outputs"])
    reference = a_pipeline(caller, (compiled / "outputs.yaml").read_bytes())
    run_id = a_run(caller, pipeline_version_reference=reference, runtime_config={"parameters": parameters})
    former, run = (ended(caller, each) for each in (runs["outputs"], run_id))
    assert shapes(run["tasks"], set()) == shapes(RECORDED["outputs"][-1]["tasks"], set())
    assert (run["state"], {task["state"] for task in run["tasks"]}) == ("SUCCEEDED", {"CACHED"})
    assert all(task["status_metadata"] == {} for task in run["tasks"] if task["type"] == "RUNTIME")
    assert _artifacts_of(run) == _artifacts_of(former)
    details = caller.get(f"/runs/{run_id}").json["run_details"]["task_details"]  # type: ignore[index]
    assert {each["state"] for each in details} == {"SUCCEEDED"}


def _artifacts_of(run: dict[str, Any]) -> dict[str, Any]:
    return {task["name"]: task["outputs"].get("artifacts") for task in run["tasks"]}


def test_retry(caller: Caller, compiled: Path, tmp_path: Path) -> None:
    """A retried run keeps what succeeded, and the rest are the same tasks, reset at once."""
    reference = a_pipeline(caller, (compiled / "retry-run.yaml").read_bytes())
    config = {"parameters": {"marker": str(tmp_path / "marker")}}
    run_id = a_run(caller, pipeline_version_reference=reference, runtime_config=config)
    failed = ended(caller, run_id)
    before = shapes(failed["tasks"], set())
    assert before == shapes(RECORDED["retried"][0]["tasks"], set())
    assert caller.call("POST", f"/runs/{run_id}:retry").status == 200
    again = ended(caller, run_id)
    assert shapes(again["tasks"], set()) == shapes(RECORDED["retried"][-1]["tasks"], set())
    ids = {task["scope_path"]: task["task_id"] for task in again["tasks"]}
    assert all(ids[task["scope_path"]] == task["task_id"] for task in failed["tasks"])
    kept = [[task for task in run["tasks"] if task["name"] == "tell"] for run in (failed, again)]
    assert kept[0] == kept[1]


def test_termination(caller: Caller, compiled: Path) -> None:
    """A killed task keeps its state, as nothing closes it in the next KFP."""
    reference = a_pipeline(caller, (compiled / "naps.yaml").read_bytes())
    config = {"parameters": {"seconds": 60}}
    run_id = a_run(caller, pipeline_version_reference=reference, runtime_config=config)
    while not any(task["name"] == "nap" for task in caller.get(f"/runs/{run_id}/tasks").json.get("tasks", ())):  # type: ignore[attr-defined]
        time.sleep(0.1)
    assert caller.call("POST", f"/runs/{run_id}:terminate").status == 200
    run = ended(caller, run_id)
    assert shapes(run["tasks"], set()) == shapes(RECORDED["terminated"][0]["tasks"], set())
