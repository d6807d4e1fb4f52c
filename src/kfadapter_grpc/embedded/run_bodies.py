"""KFP's JSON of runs, their tasks, experiments and recurring runs."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

from .bodies import rfc3339, to_json, without_empty
from .execution import State
from .experiment_store import ARCHIVED, AVAILABLE
from .progress_store import WHOLE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from .records import Experiment, Origin, Outputs, RecurringRun, Run, RuntimeConfig, Status, Task

OUTPUTS_KEY: Final = "kfadapter_outputs"
"""Where a task says what it has put out: KFP's messages have no place for values, and its clients pass this over."""
WHOLE_NAME: Final = "root-driver-dag"
"""What KFP calls the task that stands for the whole pipeline."""
_NAMESPACE = "kubeflow"
_NOT_ENDED = "0001-01-01T00:00:00Z"
# Go's codes for what failed for a reason of its own, and for what was ended from outside.
_UNKNOWN = 2
_FIRST_POD = 1001


def run_body(run: Run, spec: str, tasks: Sequence[Task], outputs: Mapping[str, Outputs] | None = None) -> str:
    """A run in v2beta1, as JSON text.

    Args:
        run: the run.
        spec: what it executes, as JSON text; shown unless it is a version's.
        tasks: its tasks.
        outputs: what they have put out; `None` leaves that away.
    """
    details = {"task_details": _tasks(run, tasks, outputs)} if tasks else {}
    fields = without_empty(
        experiment_id=run.experiment_id,
        run_id=run.id,
        display_name=run.display_name,
        storage_state=ARCHIVED if run.archived else AVAILABLE,
        description=run.description,
        pipeline_version_reference=_reference(run.origin),
        runtime_config=_config(run.config),
        service_account=run.service_account,
        created_at=rfc3339(run.created_at),
        scheduled_at=rfc3339(run.scheduled_at),
        finished_at=rfc3339(run.finished_at),
        state=run.state.value,
        error=_error(run.error),
        run_details=details,
        state_history=_history(run.history),
    )
    return _with_spec(fields, "" if run.origin.version_id else spec)


def experiment_body(experiment: Experiment) -> dict[str, object]:
    """An experiment in v2beta1."""
    return without_empty(
        experiment_id=experiment.id,
        display_name=experiment.name,
        description=experiment.description,
        created_at=rfc3339(experiment.created_at),
        storage_state=ARCHIVED if experiment.archived else AVAILABLE,
        last_run_created_at=rfc3339(experiment.last_run_created_at),
    )


def recurring_run_body(recurring: RecurringRun) -> str:
    """A recurring run in v2beta1, as JSON text."""
    new = recurring.new
    fields = without_empty(
        recurring_run_id=recurring.id,
        display_name=new.display_name,
        description=new.description,
        pipeline_version_reference=_reference(new.origin),
        runtime_config=_config(new.config),
        service_account=new.service_account,
        max_concurrency=str(new.max_concurrency),
        mode="ENABLE" if new.enabled else "DISABLE",
        created_at=rfc3339(recurring.created_at),
        updated_at=rfc3339(recurring.updated_at),
        status="ENABLED" if new.enabled else "DISABLED",
        no_catchup=new.no_catchup,
        namespace=_NAMESPACE,
        experiment_id=new.experiment_id,
    )
    return _with_spec({**fields, "trigger": json.loads(new.schedule)}, new.spec)


def task_id(run_id: str, name: str) -> str:
    """The id of a task: the same whenever the run is asked for."""
    digest = hashlib.sha256(json.dumps([run_id, name]).encode()).hexdigest()
    return "-".join((digest[:8], digest[8:12], f"4{digest[13:16]}", f"8{digest[17:20]}", digest[20:32]))


def pod_names(run: Run, task: Task) -> tuple[str, str]:
    """What the pods of a task and of its driver would be called on a cluster."""
    number = _FIRST_POD + 2 * task.position
    return f"{run.workflow}-{number}", f"{run.workflow}-{number + 1}"


def _tasks(run: Run, tasks: Sequence[Task], outputs: Mapping[str, Outputs] | None) -> list[dict[str, object]]:
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


def _task(task: Task, shown_name: str, children: list[dict[str, str]]) -> dict[str, object]:
    return without_empty(
        run_id=task.run_id,
        task_id=task_id(task.run_id, task.name),
        display_name=shown_name,
        create_time=rfc3339(task.created_at),
        start_time=rfc3339(_began(task) or task.created_at),
        end_time=rfc3339(task.ended_at) if task.ended_at else _NOT_ENDED,
        state=task.state.value,
        error=_error(task.error),
        state_history=_history(task.history),
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


def _reference(origin: Origin) -> dict[str, object]:
    return without_empty(pipeline_id=origin.pipeline_id, pipeline_version_id=origin.version_id)


def _config(config: RuntimeConfig) -> dict[str, object]:
    return without_empty(parameters=json.loads(config.parameters), pipeline_root=config.pipeline_root)


def _error(words: str) -> dict[str, object]:
    return {"code": _UNKNOWN, "message": words} if words else {}


def _history(history: Sequence[Status]) -> list[dict[str, str]]:
    return [{"update_time": rfc3339(status.at), "state": status.state.value} for status in history]


def _with_spec(fields: dict[str, object], spec: str) -> str:
    """The fields as JSON text; the spec is JSON text already, and goes in as it is."""
    text = to_json(fields)
    return f'{text[:-1]},"pipeline_spec":{spec}}}' if spec else text
