"""KFP's JSON of the tasks of runs."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

from .bodies import rfc3339, without_empty
from .execution import State
from .progress_store import WHOLE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from .records import Outputs, Run, Status, Task

OUTPUTS_KEY: Final = "kfadapter_outputs"
"""Where a task says what it has put out: KFP's messages have no place for values, and its clients pass this over."""
WHOLE_NAME: Final = "root-driver-dag"
"""What KFP calls the task that stands for the whole pipeline."""
_NOT_ENDED = "0001-01-01T00:00:00Z"
# Go's code for what failed for a reason of its own.
_UNKNOWN = 2
_FIRST_POD = 1001


def task_bodies(run: Run, tasks: Sequence[Task], outputs: Mapping[str, Outputs] | None) -> list[dict[str, object]]:
    """The tasks of a run in v2beta1, each with its driver.

    Args:
        run: the run.
        tasks: its tasks.
        outputs: what they have put out; `None` leaves that away.
    """
    children = _children(run, tasks)
    found = []
    for task in tasks:
        body = _task(task, task.name or WHOLE_NAME, children.get(task.name, []))
        if outputs and task.name in outputs:
            body |= _outputs(task, outputs[task.name])
        found.append(body)
        if task.name != WHOLE and (began := _began(task)):
            found.append(_driver(task, began))
    return found


def task_id(run_id: str, name: str) -> str:
    """The id of a task: the same whenever the run is asked for."""
    digest = hashlib.sha256(json.dumps([run_id, name]).encode()).hexdigest()
    return "-".join((digest[:8], digest[8:12], f"4{digest[13:16]}", f"8{digest[17:20]}", digest[20:32]))


def pod_names(run: Run, task: Task) -> tuple[str, str]:
    """What the pods of a task and of its driver would be called on a cluster."""
    number = _FIRST_POD + 2 * task.position
    return f"{run.workflow}-{number}", f"{run.workflow}-{number + 1}"


def error_body(words: str) -> dict[str, object]:
    """Why something failed; empty if it did not."""
    return {"code": _UNKNOWN, "message": words} if words else {}


def history_body(history: Sequence[Status]) -> list[dict[str, str]]:
    """The states that something went through."""
    return [{"update_time": rfc3339(status.at), "state": status.state.value} for status in history]


def _task(task: Task, shown_name: str, children: list[dict[str, str]]) -> dict[str, object]:
    return without_empty(
        run_id=task.run_id,
        task_id=task_id(task.run_id, task.name),
        display_name=shown_name,
        create_time=rfc3339(task.created_at),
        start_time=rfc3339(_began(task) or task.created_at),
        end_time=rfc3339(task.ended_at) if task.ended_at else _NOT_ENDED,
        state=task.state.value,
        error=error_body(task.error),
        state_history=history_body(task.history),
        child_tasks=children,
    )


def _driver(task: Task, began: int) -> dict[str, object]:
    """KFP's driver of a task, which is over as soon as the task begins."""
    name, at = f"{task.name}-driver", rfc3339(began)
    return {
        "run_id": task.run_id,
        "task_id": task_id(task.run_id, name),
        "display_name": name,
        **dict.fromkeys(("create_time", "start_time", "end_time"), at),
        "state": State.SUCCEEDED.value,
        "state_history": [{"update_time": at, "state": State.SUCCEEDED.value}],
    }


def _children(run: Run, tasks: Sequence[Task]) -> dict[str, list[dict[str, str]]]:
    """The pods below each task; what is in no task that is known is below the whole pipeline."""
    names = {task.name for task in tasks}
    children: dict[str, list[dict[str, str]]] = {}
    for task in tasks:
        if task.name != WHOLE:
            parent = next((name for name in _ancestors(task.name) if name in names), WHOLE)
            children.setdefault(parent, []).extend({"pod_name": name} for name in pod_names(run, task))
    return children


def _ancestors(name: str) -> Iterator[str]:
    """The tasks that one may be in, from the nearest: `a[0]/b` is in `a[0]`, which is an iteration of `a`."""
    while name := name.rpartition("/")[0]:
        yield name
        if name.endswith("]"):
            yield name.rpartition("[")[0]


def _began(task: Task) -> int:
    """When a task began for the last time; 0 if it waits."""
    running = [status.at for status in task.history if status.state is State.RUNNING]
    return running[-1] if running else task.ended_at


def _outputs(task: Task, outputs: Outputs) -> dict[str, object]:
    artifacts = [
        {
            "artifact_id": _artifact_id(task, artifact["name"]),
            "name": artifact["name"],
            "type": artifact["type"],
            "uri": Path(artifact["path"]).as_uri() if artifact["path"].startswith("/") else artifact["path"],
            "metadata": artifact["metadata"],
        }
        for artifact in json.loads(outputs.artifacts)
    ]
    ids = {each["name"]: {"artifact_ids": [each["artifact_id"]]} for each in artifacts}
    values = {"parameters": json.loads(outputs.parameters), "artifacts": artifacts}
    return without_empty(outputs=ids) | {OUTPUTS_KEY: values}


def _artifact_id(task: Task, name: str) -> str:
    """A number of 63 bits, which is what KFP's ids of artifacts are."""
    digest = hashlib.sha256(json.dumps([task.run_id, task.name, name]).encode()).digest()
    return str(int.from_bytes(digest[:8], "big") >> 1)
