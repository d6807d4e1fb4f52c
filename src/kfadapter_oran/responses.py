"""The Flask adapter's responses, made from this project's records: statuses, and bodies for the training manager."""

from __future__ import annotations

import json
from email.utils import format_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING

from kfadapter_grpc.client.errors import HTTP_STATUS
from kfadapter_grpc.client.metrics import named_metrics

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from kfadapter_grpc.contract.errors import AdapterError
    from kfadapter_grpc.contract.experiments import Experiment
    from kfadapter_grpc.contract.pipelines import Pipeline, PipelineVersion
    from kfadapter_grpc.contract.runs import Run
    from kfadapter_grpc.contract.spec import Json

CONTENT_TYPE = "application/json"
"""The content type, exactly as the training manager compares it."""
SCHEDULED = "scheduled"
"""The only `run_status` that the training manager accepts for a run that was started."""
_BY_REASON: dict[str, int] = {
    "UPLOAD_TOO_LARGE": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "STORAGE_FULL": HTTPStatus.INSUFFICIENT_STORAGE,
    "KFP_ERROR": HTTPStatus.BAD_GATEWAY,
    "KFP_REJECTED_CREDENTIALS": HTTPStatus.BAD_GATEWAY,
}
"""Where HTTP distinguishes what gRPC's codes do not."""


def http_status(error: AdapterError) -> int:
    """Returns the HTTP status of a failed call."""
    return int(_BY_REASON.get(error.reason) or HTTP_STATUS.get(error.code, HTTPStatus.INTERNAL_SERVER_ERROR))


def error_body(status: int, message: str, reason: str, request_id: str) -> dict[str, Json]:
    """A failure: the message, the stable reason, and the request id in the adapter's log."""
    return {"message": message, "status": status, "reason": reason, "request_id": request_id}


def pipelines_body(pipelines: Iterable[Pipeline]) -> dict[str, Json]:
    """All pipelines, on one page. `display_name` is the name that the other calls expect."""
    items = [
        {
            "pipeline_id": pipeline.pipeline_id,
            "display_name": pipeline.name,
            "description": pipeline.description,
            "created_at": format_datetime(pipeline.created_at, usegmt=True) if pipeline.created_at else None,
        }
        for pipeline in pipelines
    ]
    return {"pipelines": items, "next_page_token": None, "total_size": len(items)}


def versions_body(versions: Iterable[PipelineVersion]) -> dict[str, Json]:
    """The names of all versions, newest first."""
    return {"versions_list": [version.name for version in versions]}


def experiments_body(experiments: Iterable[Experiment]) -> dict[str, Json]:
    """The ids of all experiments by name."""
    return {experiment.name: experiment.experiment_id for experiment in experiments}


def pipeline_body(pipeline: Pipeline) -> dict[str, Json]:
    """A pipeline; `arguments` are the parameters of its latest version with their defaults, as strings."""
    latest = pipeline.latest_version
    declared = latest.spec.parameters if latest and latest.spec else ()
    return {
        "id": pipeline.pipeline_id,
        "name": pipeline.name,
        "description": pipeline.description,
        "arguments": {one.name: _text(one.default) if one.has_default else None for one in declared},
    }


def run_body(run: Run) -> dict[str, Json]:
    """A run, in KFP's terms, with its error and its metrics if any."""
    optional: dict[str, Json] = {"run_error": run.error} if run.error else {}
    if run.metrics:
        optional["run_metrics"] = named_metrics(run.metrics)
    return {"run_id": run.run_id, "run_name": run.display_name, "run_status": run.state.value, **optional}


def runs_body(runs: Iterable[Run], pipelines: Mapping[str, str], experiments: Mapping[str, str]) -> dict[str, Json]:
    """All runs by name; of several with the same name, the first keeps it, and the others have their ids appended.

    Args:
        runs: The runs.
        pipelines: The names of pipelines by id.
        experiments: The names of experiments by id.
    """
    body: dict[str, Json] = {}
    for run in runs:
        entry: dict[str, Json] = {
            "run_id": run.run_id,
            "run_description": run.description,
            "run_status": run.state.value,
            "experiment_name": experiments.get(run.experiment_id, ""),
            "experiment_id": run.experiment_id,
        }
        if run.pipeline_id:
            entry |= {"pipeline_name": pipelines.get(run.pipeline_id, ""), "pipeline_id": run.pipeline_id}
        name = run.display_name
        body[f"{name} ({run.run_id})" if name in body else name] = entry
    return body


def execution_body(
    trainingjob_id: str,
    run: Run,
    version: PipelineVersion,
    *,
    pipeline_name: str,
    experiment_name: str,
    omitted: Sequence[str],
) -> dict[str, Json]:
    """A run that was started; `arguments_left_out` are those that the pipeline does not declare."""
    return {
        "trainingjob_id": trainingjob_id,
        "run_id": run.run_id,
        "run_name": run.display_name,
        "experiment_name": experiment_name,
        "experiment_id": run.experiment_id,
        "pipeline_name": pipeline_name,
        "pipeline_id": version.pipeline_id,
        "run_status": SCHEDULED,
        "arguments_left_out": list(omitted),
    }


def _text(value: Json) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
