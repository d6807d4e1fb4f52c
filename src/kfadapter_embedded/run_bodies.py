"""KFP's JSON of runs, experiments and recurring runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from .bodies import rfc3339, to_json, without_empty
from .experiment_store import ARCHIVED, AVAILABLE
from .task_bodies import error_body, history_body, task_bodies

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .records import Experiment, Origin, Outputs, RecurringRun, Run, RuntimeConfig, Task

_NAMESPACE = "kubeflow"
_NEVER_FIRES = "the embedded KFP keeps recurring runs, but starts none: that takes Kubeflow Pipelines on Kubernetes"


def run_body(run: Run, spec: str, tasks: Sequence[Task], outputs: Mapping[str, Outputs] | None = None) -> str:
    """A run in v2beta1, as JSON text.

    Args:
        run: the run.
        spec: what it executes, as JSON text; shown unless it is a version's.
        tasks: its tasks.
        outputs: what they have put out; `None` leaves that away.
    """
    details = {"task_details": task_bodies(run, tasks, outputs)} if tasks else {}
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
        error=error_body(run.error),
        run_details=details,
        state_history=history_body(run.history),
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
    """A recurring run in v2beta1, as JSON text; its error is that it never fires."""
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
        error=error_body(_NEVER_FIRES),
    )
    return _with_spec({**fields, "trigger": json.loads(new.schedule)}, new.spec)


def _reference(origin: Origin) -> dict[str, object]:
    return without_empty(pipeline_id=origin.pipeline_id, pipeline_version_id=origin.version_id)


def _config(config: RuntimeConfig) -> dict[str, object]:
    return without_empty(parameters=json.loads(config.parameters), pipeline_root=config.pipeline_root)


def _with_spec(fields: dict[str, object], spec: str) -> str:
    """The fields as JSON text; the spec is JSON text already, and goes in as it is."""
    text = to_json(fields)
    return f'{text[:-1]},"pipeline_spec":{spec}}}' if spec else text
