"""What is posted of a notice: the training manager's JSON, or a CloudEvent for Knative, Argo Events and the like."""

from __future__ import annotations

from kfadapter_grpc.codec import json_moment
from kfadapter_grpc.contract.spec import Json
from kfadapter_oran.notices.database import Notice

EVENT_CONTENT_TYPE = "application/cloudevents+json"


def job_notice(notice: Notice) -> dict[str, Json]:
    """Returns what the training manager reads, and `run_error` and `run_metrics`, which it only logs."""
    body: dict[str, Json] = {"trainingjob_id": notice.job, "run_id": notice.run_id, "run_status": notice.state}
    if error := notice.about.get("error"):
        body["run_error"] = error
    if notice.metrics:
        body["run_metrics"] = dict(notice.metrics)
    return body


def cloud_event(notice: Notice, source: str) -> dict[str, Json]:
    """Returns an event of CloudEvents 1.0; a repeated notice of the same run and state has the same `id`."""
    data: dict[str, Json] = {"run_id": notice.run_id, "state": notice.state, **notice.about}
    if notice.job:
        data["trainingjob_id"] = notice.job
    if notice.metrics:
        data["metrics"] = dict(notice.metrics)
    return {
        "specversion": "1.0",
        "id": f"{notice.run_id}:{notice.state}",
        "source": source,
        "type": f"io.kfadapter.run.{notice.state.lower()}",
        "subject": notice.run_id,
        "time": json_moment(notice.ended_at or notice.written_at),
        "datacontenttype": "application/json",
        "data": data,
    }
