"""The routes of tasks and artifacts, asked what the next KFP was asked, about the tasks and artifacts that it had."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest
from tests.embedded.serving import Serving, serving
from tests.transcripts import DATA, JsonValue

from kfadapter_embedded.kinds import ARTIFACT_TASKS, ARTIFACTS, TASKS
from kfadapter_embedded.run_tasks import artifacts_of

if TYPE_CHECKING:
    from collections.abc import Iterator

RUNS = json.loads((DATA / "embedded" / "native_runs.json").read_text("utf-8"))
STEPS = {
    name: json.loads((DATA / "transcripts" / "native" / f"{name}.json").read_text("utf-8"))["steps"]
    for name in ("tasks", "artifacts")
}
NOT_SERVED = ("POST", "PATCH", "PUT", "DELETE")
"""Only drivers and launchers write tasks and artifacts; here the runner does, without the API."""
OF_ALL = {"total_size", "next_page_token", "artifacts", "artifact_tasks"}
"""What depends on all that was on the server, of which the recordings show a part."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server with the recorded tasks, artifacts and links."""
    with serving(tmp_path_factory.mktemp("native")) as running:
        with running.store.writing() as documents:
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


def comparable(value: JsonValue) -> JsonValue:
    """An answer whose order is fixed, with its tokens decoded."""
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


@pytest.mark.parametrize(
    ("name", "number"),
    [
        pytest.param(name, number, id=f"{name} {number} {step['note']}"[:60])
        for name, steps in STEPS.items()
        for number, step in enumerate(steps)
        if step["request"]["method"] not in NOT_SERVED
    ],
)
def test_step(server: Serving, name: str, number: int) -> None:
    """The embedded KFP answers as the next KFP did: status, keys, values, order, tokens, texts."""
    step = STEPS[name][number]
    query = urlencode(step["request"].get("query") or {}, doseq=True)
    reply = server.caller.pool.request("GET", f"{server.url}/{step['request']['path'].lstrip('/')}?{query}")
    found, wanted = comparable(reply.json()), comparable(step["response"]["json"])
    assert reply.status == step["response"]["status"]
    if isinstance(wanted, dict) and ("artifacts" in wanted or "artifact_ids" in query):
        assert isinstance(found, dict)
        found, wanted = ({key: one for key, one in each.items() if key not in OF_ALL} for each in (found, wanted))
    assert found == wanted
