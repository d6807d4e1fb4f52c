from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.embedded.runs import a_pipeline, a_run
from tests.embedded.serving import Serving, serving
from tests.transcripts import DATA, Replayer, load

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REPLAYED = (
    *("pipelines", "versions", "bad_uploads", "seams", "experiments", "runs", "recurring_runs", "recurring_more"),
    *("health", "master/versions", "master/bad_uploads"),
)
OTHERWISE = {
    # The release's own config names an MLflow that does not exist, so each of its runs reports that this failed.
    "runs": {"plugins_output"},
    "seams": {"plugins_output"},
    # The release drops it from uploads; master and the embedded KFP keep it, because users filter for it.
    "versions": {"code_source_url"},
}
"""What the embedded KFP serves otherwise than KFP 2.17.0, on purpose."""


@pytest.fixture
def still(tmp_path: Path) -> Iterator[Serving]:
    """A server that executes nothing, like the recorded one, with the objects that existed on that one."""
    with serving(tmp_path) as running:
        a_run(running.caller)
        pipeline = a_pipeline(running.caller)
        for name in ("rn-0a3ae0",):
            body = {"display_name": name, "pipeline_version_reference": pipeline, "max_concurrency": "1"}
            made = running.caller.call("POST", "/recurringruns", json_body={**body, "mode": "ENABLE"})
            assert made.status == 200, made.text
        yield running


@pytest.mark.parametrize("name", REPLAYED)
def test_replay(still: Serving, name: str) -> None:
    """The embedded KFP answers a scenario as KFP 2.17.0 did, step by step, and as master where that differs."""
    transcript = load(name)
    replayer = Replayer(still.url, transcript, frozenset(OTHERWISE.get(name, ())))
    found = [
        f"{name} step {step.number} ({step.note}){line}"
        for step in transcript.steps
        if step.was_answered
        for line in replayer.differences(step)
    ]
    assert not found, "\n".join(found)


NOT_REPLAYED = {
    "hanging_uploads": "2.17.0 does not answer; the embedded KFP refuses them as master does (400), in `bad_uploads`",
    "multi_user": "the embedded KFP knows no users",
    "multi_user_roles": "the embedded KFP knows no users",
    "logs_multi_user": "the embedded KFP knows no users",
    "logs": "2.17.0 rewrites archived logs; the embedded KFP serves them as they were written (test_run_logs.py)",
    "run_states": "played by an executor (test_run_states.py)",
    "run_nodes": "nodes are Argo's; what v1beta1 shows in their place is in test_run_logs.py",
}
"""Recordings of 2.17.0 that are not replayed here, each with its reason.

Of `recurring_more` are left out: `/apis/v1beta1/jobs` and v1beta1's list of runs, which nothing here asks for; the
object that the API server writes to Kubernetes, and the controller's reports of it: the scheduler is in the server.
"""


def test_all_recordings_are_accounted_for() -> None:
    """A recording of the release is replayed, or the reason is given why not."""
    recorded = {path.stem for path in (DATA / "transcripts").glob("*.json")}
    assert recorded <= {*REPLAYED, *NOT_REPLAYED}


def test_that_a_query_parameter_filters_no_runs(still: Serving) -> None:
    """`recurring_run_id` is a key of filters; as a query parameter it is ignored, as by 2.17.0 (recurring_more)."""
    assert still.caller.get("/runs", recurring_run_id="x").json["total_size"] == 1


def test_what_the_release_never_answers() -> None:
    """The files that hang KFP 2.17.0 are rejected by master, which the embedded KFP follows."""
    hanging = {step.note for step in load("bad_uploads").steps if not step.was_answered}
    refused = {step.note: step.response["status"] for step in load("master/bad_uploads").steps if step.note in hanging}
    assert refused == {"not YAML": 400, "binary": 400}
