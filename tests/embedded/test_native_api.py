"""The routes of tasks and artifacts, with the requests sent to the next KFP, and the tasks and artifacts it had."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, cast
from urllib.parse import urlencode

import pytest
from tests.embedded.serving import Serving, serving
from tests.transcripts import DATA, JsonObject, JsonValue

from kfadapter_embedded.document_kinds import ARTIFACT_TASKS, ARTIFACTS, TASKS
from kfadapter_embedded.document_kinds import RUNS as KEPT_RUNS
from kfadapter_embedded.run_tasks import artifacts_of

if TYPE_CHECKING:
    from collections.abc import Iterator

RUNS = json.loads((DATA / "embedded" / "native_runs.json").read_text("utf-8"))
STEPS = {
    name: json.loads((DATA / "transcripts" / "native" / f"{name}.json").read_text("utf-8"))["steps"]
    for name in ("tasks", "artifacts", "lists", "probes", "logs")
}
NOT_SERVED = ("POST", "PATCH", "PUT", "DELETE")
"""Only drivers and launchers write tasks and artifacts; here the runner does, without the API."""
OF_ALL = {"total_size", "next_page_token", "artifacts", "artifact_tasks"}
"""What depends on all that was on the server, of which the recordings show a part."""
OF_ALL_RUNS = {"runs, view=FULL, page_size=1", "runs, unknown parameter"}
"""Lists of all runs."""
NOT_THERE = {
    "the same, archived under /artifacts/{workflow}/{pod}/main.log": "there is no archive",
    "artifact bytes of an Argo artifact (main-logs in a node of the manifest): base64": "there is no archive",
}
"""Steps about what the embedded KFP does not have, each with its reason."""
OTHERWISE = {
    "run_details",  # the tasks for clients of KFP 2, which the embedded KFP serves as well
    "pipeline_spec",  # trimmed in the recordings
    "commit_sha",
    "tag_name",
    "error_details",  # a stack trace
}
"""What is not compared."""
OF_TASKS = {"tasks", "task_count"}
MANY = 110
"""How many runs there were whose name begins with `list-`."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server with the recorded tasks, artifacts and links."""
    with serving(tmp_path_factory.mktemp("native")) as running:
        with running.store.writing() as documents:
            for number, run in enumerate(recorded_runs()):
                spec = documents.store_spec("{}")
                documents.add(KEPT_RUNS, run, spec=spec, workflow="w", submission=number, file_bytes=0)
            for run in (stages[-1] for stages in RUNS.values()):
                for position, task in enumerate(run["tasks"]):
                    kept = {key: value for key, value in task.items() if key != "child_tasks"}
                    documents.add(TASKS, kept, path=str(position), position=position, error="", began=True)
                    for _, artifact in (*artifacts_of(task, "inputs"), *artifacts_of(task, "outputs")):
                        documents.add(ARTIFACTS, artifact, if_new=True)
            for step in STEPS["artifacts"]:
                for link in step["response"]["json"].get("artifact_tasks", ()):
                    documents.add(ARTIFACT_TASKS, link, if_new=True)
        yield running


def recorded_runs() -> Iterator[dict[str, object]]:
    """The runs as listed without their tasks: the recorded ones, and as many copies of one as there were."""
    three, *_, many = (step["response"]["json"]["runs"] for step in STEPS["lists"])
    known = {run["run_id"]: run for run in three}
    for run in (stages[-1] for stages in RUNS.values()):
        yield {key: value for key, value in {**run, **known.get(run["run_id"], {})}.items() if key not in OF_TASKS}
    for number in range(MANY):
        again = {"run_id": f"ffffffff-0000-4000-8000-{number:012}", "display_name": f"list-{number}"}
        yield {**many[0], **(again if number else {})}


def comparable(value: JsonValue) -> JsonValue:
    """An answer in a fixed order, with its tokens decoded."""
    if isinstance(value, dict):
        return {key: _token(one) if key == "next_page_token" else comparable(one) for key, one in value.items()}
    if isinstance(value, list):
        found = [comparable(one) for one in value]
        children = any(isinstance(one, dict) and one.keys() == {"task_id", "name"} for one in found)
        return sorted(found, key=str) if children else found
    return value.replace("\u00a0", " ") if isinstance(value, str) else value


def _token(text: JsonValue) -> JsonValue:
    fields: JsonValue = json.loads(base64.b64decode(str(text)))
    return fields


def compared(body: JsonObject) -> JsonObject:
    """The part of an answer that is compared."""
    kept = {key: one for key, one in body.items() if key not in OTHERWISE}
    runs, token = kept.get("runs"), kept.get("next_page_token")
    if isinstance(runs, list):
        shown: list[JsonValue] = [compared(run) for run in runs if isinstance(run, dict)]
        rest: list[JsonValue] = [{"_trimmed": f"{len(runs) - 1} more"}]
        kept["runs"] = shown[:1] + rest if len(runs) > len(STEPS["lists"]) else shown
        if isinstance(token, dict):
            kept["next_page_token"] = {**token, "SortByFieldValue": 0, "KeyFieldValue": ""}
    if isinstance(message := kept.get("error_message"), str):
        # If there is no log: the object store's message there, Kubernetes' here.
        kept["error_message"] = message.partition(": InternalServerError: Failed to read logs from")[0]
    return kept


@pytest.mark.parametrize(
    ("name", "number"),
    [
        pytest.param(name, number, id=f"{name} {number} {step['note']}"[:60])
        for name, steps in STEPS.items()
        for number, step in enumerate(steps)
        if step["request"]["method"] not in NOT_SERVED and step["note"] not in NOT_THERE
    ],
)
def test_step(server: Serving, name: str, number: int) -> None:
    """The embedded KFP answers as the next KFP did: status, keys, values, order, tokens, texts."""
    step = STEPS[name][number]
    query = urlencode(step["request"].get("query") or {}, doseq=True)
    reply = server.caller.pool.request("GET", f"{server.url}/{step['request']['path'].lstrip('/')}?{query}")
    wanted = cast("JsonObject", comparable(step["response"]["json"]))
    assert (reply.status, reply.headers["content-type"]) == (
        step["response"]["status"],
        step["response"].get("content_type", "application/json"),
    )
    found = {"_text": reply.data.decode()} if wanted.keys() == {"_text"} else comparable(reply.json())
    found, wanted = (compared(cast("JsonObject", each)) for each in (found, wanted))
    if "artifacts" in wanted or "artifact_ids" in query:
        found, wanted = ({key: one for key, one in each.items() if key not in OF_ALL} for each in (found, wanted))
    if step["note"].removeprefix("next: ") in OF_ALL_RUNS:
        found, wanted = (dict.fromkeys(each) for each in (found, wanted))
    assert found == wanted
