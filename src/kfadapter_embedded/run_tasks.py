"""The tasks of runs: as documents of the next KFP's task API, and as `task_details` of KFP 2.

A task with an empty path represents the whole run: ROOT in the former, `root-driver-dag` in the latter.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from .execution import EXECUTOR_LOGS, OVER, WHOLE, State, TaskReport, iteration_of, task_name
from .json_text import rfc3339, to_json, without_empty

if TYPE_CHECKING:  # the processes of runs import this module, and need neither store nor Starlette
    from .store import Documents

_WHOLE_NAME: Final = "root-driver-dag"
_NOT_ENDED = "0001-01-01T00:00:00Z"
# gRPC's code for errors that have no other.
_UNKNOWN = 2
_FIRST_POD = 1001
_STATES: Final = {State.CACHED.value: State.SUCCEEDED.value}
_KEYS = (
    *("name", "display_name", "task_id", "run_id", "pods", "cache_fingerprint", "create_time", "end_time", "state"),
    *("status_metadata", "state_history", "type", "type_attributes", "parent_task_id", "child_tasks", "inputs"),
    *("outputs", "scope_path"),
)
"""KFP's fields of a task, in its order."""
GROUPS = frozenset({"ROOT", "DAG", "LOOP", "CONDITION_BRANCH"})
"""The types of tasks that other tasks are in."""


def with_state(document: dict[str, object], state: State, now: int) -> dict[str, object]:
    """A run or a task in another state, which is appended to its history."""
    history = history_of(document)
    if not history or history[-1]["state"] != state:
        history = [*history, {"update_time": rfc3339(now), "state": state.value}]
    return {**document, "state": state.value, "state_history": history}


def history_of(document: dict[str, object]) -> list[dict[str, str]]:
    history = document.get("state_history")
    return history if isinstance(history, list) else []


def error_body(words: str) -> dict[str, object]:
    return {"code": _UNKNOWN, "message": words}


def task_id(run_id: str, path: str) -> str:
    """The id of a task: the same for every execution of the run."""
    return _uuid(run_id, path)


def _uuid(*parts: object) -> str:
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    return "-".join((digest[:8], digest[8:12], f"4{digest[13:16]}", f"8{digest[17:20]}", digest[20:32]))


def new_task(run_id: str, path: str, title: str, parent: str, now: int) -> dict[str, object]:
    """A task as KFP's driver creates it; `parent` is the path of its parent task, `title` the name of the run."""
    iteration = iteration_of(path)
    names = [task_name(one) for one in path.split("/")] if path else []
    return {
        "name": task_name(path),
        "display_name": task_name(path) if path else title,
        "task_id": task_id(run_id, path),
        "run_id": run_id,
        "create_time": rfc3339(now),
        "type": "RUNTIME" if path else "ROOT",
        **({} if path else {"type_attributes": {}}),
        **({} if iteration is None else {"type_attributes": {"iteration_index": str(iteration)}}),
        **({"parent_task_id": task_id(run_id, parent)} if path else {}),
        "inputs": {},
        "outputs": {},
        "scope_path": ".".join(["root", *names]),
    }


def changed_task(task: dict[str, Any], report: TaskReport, workflow: str, now: int) -> dict[str, object]:
    """A task with its reported state."""
    details = dict[str, Any](report.details)
    changed = with_state({**task, **details}, report.state, now)
    attributes = [each["type_attributes"] for each in (task, details) if "type_attributes" in each]
    if attributes:
        changed["type_attributes"] = {key: one for each in attributes for key, one in each.items()}
    changed["pods"] = list(_pods(changed, report, workflow))
    told = without_empty(message=report.message, custom_properties=without_empty(warnings=list(report.warnings)))
    if told or report.state is State.CACHED:
        changed["status_metadata"] = {**task.get("status_metadata", {}), **told}
    changed.pop("end_time", None)
    if report.state in OVER:
        changed["end_time"] = rfc3339(now)
    return {key: changed[key] for key in _KEYS if key in changed}


def reset_task(task: dict[str, object], now: int) -> dict[str, object]:
    """A task that is executed again in a retry of its run."""
    kept = {key: value for key, value in task.items() if key not in {"end_time", "status_metadata"}}
    return with_state({**kept, "pods": [], "outputs": {}}, State.RUNNING, now)


def executor_pod(workflow: str, path: str, attempt: int, kind: object = "RUNTIME") -> str:
    """The name of the pod of an attempt, which Argo makes of the template's name and a number."""
    template = "importer" if kind == "IMPORTER" else "container-impl"
    return f"{workflow}-system-{template}-{pod_number(path, attempt)}"


def pod_uid(run_id: object, pod: str) -> str:
    return _uuid(run_id, pod)


def pod_number(path: str, attempt: int | str) -> int:
    """The number at the end of the names of a task's pods."""
    return int(hashlib.sha256(json.dumps([path, attempt]).encode()).hexdigest()[:8], 16)


def _pods(task: dict[str, object], report: TaskReport, workflow: str) -> Iterator[dict[str, str]]:
    """The pods: the driver's from the beginning, the executor's when an attempt has ended."""
    before, kind, path = task.get("pods"), task["type"], report.name
    if isinstance(before, list):
        yield from before
    elif kind != "IMPORTER":
        name = f"{workflow}-system-{'dag' if kind in GROUPS else 'container'}-driver-{pod_number(path, 'driver')}"
        yield {"name": name, "uid": pod_uid(task["run_id"], name), "type": "DRIVER"}
    known = {each["name"] for each in before} if isinstance(before, list) else set()
    for attempt in range(report.attempts):
        name = executor_pod(workflow, path, attempt, kind)
        if name not in known:
            yield {"name": name, "uid": pod_uid(task["run_id"], name), "type": "EXECUTOR"}


def attempts_of(task: Mapping[str, object]) -> int:
    """How many times the command of a task has been executed, according to its pods."""
    pods = task.get("pods")
    return sum(each["type"] == "EXECUTOR" for each in pods) if isinstance(pods, list) else 0


def artifacts_of(task: Mapping[str, Any], part: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """The artifacts among the inputs or the outputs of a task, each with its entry."""
    for entry in task.get(part, {}).get("artifacts", ()):
        for artifact in entry["artifacts"]:
            yield entry, artifact


def link_of(task: Mapping[str, Any], entry: Mapping[str, Any], artifact: Mapping[str, Any]) -> dict[str, object]:
    """The link between a task and one of its input or output artifacts."""
    return {
        "id": _uuid(task["task_id"], entry["type"], entry["artifact_key"], artifact["artifact_id"]),
        "artifact_id": artifact["artifact_id"],
        "run_id": task["run_id"],
        "task_id": task["task_id"],
        "type": entry["type"],
        "producer": dict(entry["producer"]),
        "key": entry["artifact_key"],
    }


def tasks_of(documents: Documents, run_ids: Sequence[str]) -> dict[str, list[str]]:
    """The tasks of runs as KFP's task API returns them, in its order, as JSON texts."""
    found: dict[str, list[str]] = {run_id: [] for run_id in run_ids}
    query = f"SELECT owner, document FROM tasks WHERE owner IN ({_marks(found)}) AND began ORDER BY CreatedAtInSec, id"  # noqa: S608
    rows = documents.execute(query, list(found)).fetchall()
    children = children_of(documents, run_ids)
    for run_id, text in rows:
        found[run_id].append(with_children(text, children))
    return found


def counts_of(documents: Documents, run_ids: Sequence[str]) -> dict[str, str]:
    """The number of tasks in each run."""
    query = (
        f"SELECT owner, CAST(count(*) AS TEXT) FROM tasks WHERE owner IN ({_marks(run_ids)}) AND began GROUP BY owner"  # noqa: S608
    )
    return dict(documents.execute(query, list(run_ids)).fetchall())


def children_of(documents: Documents, run_ids: Sequence[str]) -> dict[str, list[dict[str, str]]]:
    """The children of the tasks of runs, by the parent's id."""
    found: dict[str, list[dict[str, str]]] = {}
    query = f"SELECT ParentTaskUUID, id, Name FROM tasks WHERE owner IN ({_marks(run_ids)}) AND began ORDER BY position"  # noqa: S608
    for parent, child, name in documents.execute(query, list(run_ids)):
        found.setdefault(parent, []).append({"task_id": child, "name": name})
    return found


def with_children(text: str, children: Mapping[str, list[dict[str, str]]]) -> str:
    """A task as KFP returns it."""
    task = json.loads(text)
    if below := children.get(task["task_id"]):
        task["child_tasks"] = below
    return to_json({key: task[key] for key in _KEYS if key in task and (key != "pods" or task[key])})


def _marks(values: Collection[str]) -> str:
    return ", ".join("?" * len(values))


def old_pods(workflow: str, position: int) -> tuple[str, str]:
    """The names of the pods of a task and of its driver in KFP 2."""
    number = _FIRST_POD + 2 * position
    return f"{workflow}-{number}", f"{workflow}-{number + 1}"


def task_details(documents: Documents, run_ids: Sequence[str], *, outputs: bool = False) -> dict[str, list[object]]:
    """The tasks of runs as KFP 2 lists them, each with its driver, in the order in which they were first reported."""
    found: dict[str, list[tuple[Any, ...]]] = {run_id: [] for run_id in run_ids}
    query = (
        "SELECT tasks.owner, position, path, workflow, run_details.State, FinishedAtInSec, error, tasks.document "  # noqa: S608
        f"FROM tasks JOIN run_details ON run_details.id = tasks.owner WHERE tasks.owner IN ({_marks(found)}) "
        "ORDER BY tasks.owner, position"
    )
    for run_id, *row in documents.execute(query, list(found)):
        found[run_id].append(tuple(row))
    return {run_id: list(_details(run_id, rows, outputs=outputs)) for run_id, rows in found.items()}


def _details(run_id: str, rows: Sequence[tuple[Any, ...]], *, outputs: bool) -> Iterator[object]:
    """The tasks of one run; a task whose groups are all unknown is a child of the whole pipeline."""
    paths = {path for _, path, *_ in rows}
    children: dict[str, list[dict[str, str]]] = {}
    for position, path, workflow, *_ in rows:
        if path != WHOLE:
            children.setdefault(parent_of(path, paths), []).extend(
                {"pod_name": pod} for pod in old_pods(workflow, position)
            )
    for _, path, _, run_state, finished, error, text in rows:
        task = _as_kfp_2(json.loads(text))
        if run_state in OVER and task["state"] not in OVER:
            # KFP's task API does not update a task when its pod is killed.
            task = {**with_state(task, State.FAILED, finished), "end_time": rfc3339(finished)}
        began = [each["update_time"] for each in history_of(task) if each["state"] == State.RUNNING]
        start = began[-1] if began else task.get("end_time") or task["create_time"]
        yield {
            **{key: task[key] for key in ("run_id", "task_id", "create_time", "state", "state_history")},
            "display_name": path or _WHOLE_NAME,
            "start_time": start,
            "end_time": task.get("end_time", _NOT_ENDED),
            **without_empty(error=error_body(error) if error else None, child_tasks=children.get(path)),
            **without_empty(outputs=_artifact_ids(task) if outputs else None),
        }
        if path != WHOLE:
            yield _driver(run_id, f"{path}-driver", start)


def _as_kfp_2(task: dict[str, Any]) -> dict[str, Any]:
    """The same with the states of KFP 2, where a task that was found in the cache has succeeded."""
    history = [{**each, "state": _STATES.get(each["state"], each["state"])} for each in history_of(task)]
    return {**task, "state": _STATES.get(task["state"], task["state"]), "state_history": history}


def _artifact_ids(task: Mapping[str, Any]) -> dict[str, dict[str, list[str]]]:
    """The ids of a task's output artifacts in KFP 2, which does not return parameter values."""
    ids: dict[str, dict[str, list[str]]] = {}
    for entry, one in artifacts_of(task, "outputs") if task["type"] not in GROUPS else ():
        if entry["artifact_key"] != EXECUTOR_LOGS:
            number = artifact_number(one["artifact_id"])
            ids.setdefault(entry["artifact_key"], {"artifact_ids": []})["artifact_ids"].append(number)
    return ids


def artifact_number(artifact_id: str) -> str:
    """The id of an artifact in KFP 2, as stored by ML Metadata: a number of 63 bits."""
    return str(int(artifact_id.replace("-", ""), 16) >> 65)


def _driver(run_id: str, name: str, began: str) -> dict[str, object]:
    """KFP's driver of a task, which has finished when the task begins."""
    return {
        "run_id": run_id,
        "task_id": task_id(run_id, name),
        "display_name": name,
        **dict.fromkeys(("create_time", "start_time", "end_time"), began),
        "state": State.SUCCEEDED.value,
        "state_history": [{"update_time": began, "state": State.SUCCEEDED.value}],
    }


def ancestors(path: str) -> Iterator[str]:
    """The tasks that may contain this one, innermost first: `a[0]/b` is in `a[0]`, which is an iteration of `a`."""
    while path := path.rpartition("/")[0]:
        yield path
        if path.endswith("]"):
            yield path.rpartition("[")[0]


def parent_of(path: str, known: Container[str]) -> str:
    """The innermost of the known tasks that contain this one."""
    return next((one for one in ancestors(path) if one in known), WHOLE)
