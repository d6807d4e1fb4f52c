"""The tasks of runs as KFP's API serves them.

A task with an empty name stands for the whole pipeline; it is shown as `root-driver-dag`, as with KFP.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

from .execution import OVER, WHOLE, State
from .json_text import rfc3339, without_empty, written_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .execution import TaskReport
    from .store import Documents

_OUTPUTS_KEY: Final = "kfadapter_outputs"
"""Where a task shows what it has put out: KFP's messages have no place for values, and its clients ignore this."""
_WHOLE_NAME: Final = "root-driver-dag"
_NOT_ENDED = "0001-01-01T00:00:00Z"
# Go's code for what failed for a reason of its own.
_UNKNOWN = 2
_FIRST_POD = 1001


def new_task(run_id: str, name: str, now: int) -> dict[str, object]:
    """A task that was not reported before."""
    return {
        "run_id": run_id,
        "task_id": task_id(run_id, name),
        "display_name": name or _WHOLE_NAME,
        "create_time": rfc3339(now),
    }


def changed_task(task: dict[str, object], state: State, error: str, now: int) -> dict[str, object]:
    """A task in a state that it was reported to be in."""
    changed = with_state(task, state, now)
    running = [each["update_time"] for each in history_of(changed) if each["state"] == State.RUNNING]
    ended = rfc3339(now) if state in OVER else ""
    changed["start_time"] = running[-1] if running else ended or task["create_time"]
    changed["end_time"] = ended or _NOT_ENDED
    changed.pop("error", None)
    return changed | ({"error": error_body(error)} if error else {})


def with_state(document: dict[str, object], state: State, now: int) -> dict[str, object]:
    """A run or a task in another state, which its history then ends with."""
    history = history_of(document)
    if not history or history[-1]["state"] != state:
        history = [*history, {"update_time": rfc3339(now), "state": state.value}]
    return {**document, "state": state.value, "state_history": history}


def history_of(document: dict[str, object]) -> list[dict[str, str]]:
    """The states that a run or a task went through."""
    history = document.get("state_history")
    return history if isinstance(history, list) else []


def error_body(words: str) -> dict[str, object]:
    """Why something failed."""
    return {"code": _UNKNOWN, "message": words}


def outputs_text(run_id: str, report: TaskReport) -> str:
    """What a task has put out, as JSON of the fields that show it."""
    artifacts = [
        {
            "artifact_id": _artifact_id(run_id, report.name, artifact.name),
            "name": artifact.name,
            "type": artifact.type,
            "uri": Path(artifact.path).as_uri() if artifact.path.startswith("/") else artifact.path,
            "metadata": dict(artifact.metadata),
        }
        for artifact in report.artifacts
    ]
    ids = {each["name"]: {"artifact_ids": [each["artifact_id"]]} for each in artifacts}
    values = {"parameters": dict(report.parameters), "artifacts": artifacts}
    return written_json(without_empty(outputs=ids) | {_OUTPUTS_KEY: values})


def _artifact_id(run_id: str, task: str, name: str) -> str:
    """A number of 63 bits, which is what KFP's ids of artifacts are."""
    digest = hashlib.sha256(json.dumps([run_id, task, name]).encode()).digest()
    return str(int.from_bytes(digest[:8], "big") >> 1)


def task_id(run_id: str, name: str) -> str:
    """The id of a task: the same whenever the run is read."""
    digest = hashlib.sha256(json.dumps([run_id, name]).encode()).hexdigest()
    return "-".join((digest[:8], digest[8:12], f"4{digest[13:16]}", f"8{digest[17:20]}", digest[20:32]))


def pod_names(workflow: str, position: int) -> tuple[str, str]:
    """What the pods of a task and of its driver would be called on a cluster."""
    number = _FIRST_POD + 2 * position
    return f"{workflow}-{number}", f"{workflow}-{number + 1}"


def task_details(documents: Documents, run_ids: Sequence[str], *, outputs: bool = False) -> dict[str, list[object]]:
    """The tasks of runs, each with its driver, in the order in which they were first reported."""
    found: dict[str, list[tuple[int, str, str, str, str]]] = {run_id: [] for run_id in run_ids}
    put_out = "outputs" if outputs else "''"
    query = (
        f"SELECT run_id, position, name, workflow, tasks.document, {put_out} FROM tasks "  # noqa: S608
        f"JOIN run_details ON id = run_id WHERE run_id IN ({', '.join('?' * len(found))}) ORDER BY run_id, position"
    )
    for run_id, *row in documents.execute(query, list(found)):
        found[run_id].append(tuple(row))
    return {run_id: list(_details(run_id, rows)) for run_id, rows in found.items()}


def _details(run_id: str, rows: Sequence[tuple[int, str, str, str, str]]) -> Iterator[object]:
    """The tasks of one run; what is in no task that is known is below the whole pipeline."""
    names = {name for _, name, *_ in rows}
    children: dict[str, list[dict[str, str]]] = {}
    for position, name, workflow, *_ in rows:
        if name != WHOLE:
            parent = next((one for one in _ancestors(name) if one in names), WHOLE)
            children.setdefault(parent, []).extend({"pod_name": pod} for pod in pod_names(workflow, position))
    for _, name, _, text, outputs in rows:
        task = json.loads(text)
        yield {
            **task,
            **without_empty(child_tasks=children.get(name)),
            **(json.loads(outputs) if outputs else {}),
        }
        if name != WHOLE and task["state"] != State.PENDING:
            yield _driver(run_id, f"{name}-driver", task["start_time"])


def _driver(run_id: str, name: str, began: str) -> dict[str, object]:
    """KFP's driver of a task, which has finished as soon as the task begins."""
    return {
        "run_id": run_id,
        "task_id": task_id(run_id, name),
        "display_name": name,
        **dict.fromkeys(("create_time", "start_time", "end_time"), began),
        "state": State.SUCCEEDED.value,
        "state_history": [{"update_time": began, "state": State.SUCCEEDED.value}],
    }


def _ancestors(name: str) -> Iterator[str]:
    """The tasks that one may be in, from the nearest: `a[0]/b` is in `a[0]`, which is an iteration of `a`."""
    while name := name.rpartition("/")[0]:
        yield name
        if name.endswith("]"):
            yield name.rpartition("[")[0]
