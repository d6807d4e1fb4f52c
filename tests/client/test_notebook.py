"""Records as notebooks show them."""

from __future__ import annotations

from datetime import datetime, timezone
from xml.etree import ElementTree as ET

from kfadapter_grpc.client import Pipeline, PipelineVersion, Run, RunState, RunTask, SpecSummary, Task
from kfadapter_grpc.client.metrics import Rows
from kfadapter_grpc.contract.run_outputs import RunMetric

HOSTILE = "<img src=x onerror=alert(1)>"
AT = datetime(2026, 11, 30, 12, 0, tzinfo=timezone.utc)


def shown(record: object) -> str:
    """Returns the HTML of a record, which must be well formed."""
    html: str = record._repr_html_()  # type: ignore[attr-defined]
    ET.fromstring(f"<div>{html.replace('<br>', '<br/>')}</div>")  # noqa: S314  our own
    assert HOSTILE not in html
    return html


def test_a_run() -> None:
    """A run has its state, why it failed, parameters, metrics, and its tasks as a picture."""
    task = RunTask(name="학습", task_id="t", state=RunState.FAILED)
    run = Run(
        run_id="r1",
        display_name=HOSTILE,
        state=RunState.FAILED,
        error="task '학습' failed",
        created_at=AT,
        parameters={"이름": HOSTILE, "epochs": 3},
        metrics=(RunMetric(task="학습", output="m", name="accuracy", value=0.5),),
        tasks=(task,),
    )
    html = shown(run)
    for text in ("FAILED", "task &#x27;학습&#x27; failed", "2026-11-30 12:00:00 UTC", "accuracy", "0.5", "epochs"):
        assert text in html
    assert '<svg xmlns="http://www.w3.org/2000/svg" class="graph"' in html
    assert "task failed" in html
    assert "<svg" not in shown(Run(run_id="r2", state=RunState.RUNNING))


def test_a_pipeline() -> None:
    """A pipeline has the parameters and the graph of its latest version."""
    spec = SpecSummary(tasks=(Task(name="train"), Task(name="test", depends_on=("train",))))
    version = PipelineVersion(pipeline_version_id="v", pipeline_id="p", name=HOSTILE, spec=spec)
    html = shown(Pipeline(pipeline_id="p", name="훈련", description="두\n줄", latest_version=version))
    assert "훈련" in html
    assert "두<br>줄" in html
    assert html.count("<svg") == 1


def test_metrics() -> None:
    """A table of metrics is a table, and stays a list of rows."""
    rows = Rows(
        [{"run_id": "r1", "created_at": AT, "accuracy": 0.5}, {"run_id": HOSTILE, "created_at": None, "accuracy": 1}]
    )
    assert shown(rows).count("<tr>") == 3
    assert rows[0]["accuracy"] == 0.5
    assert "No rows" in shown(Rows())
