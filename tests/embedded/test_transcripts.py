from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.embedded.runs import a_pipeline, a_run
from tests.embedded.serving import Serving, serving
from tests.transcripts import Replayer, load

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OTHERWISE = {
    # The release's own config names an MLflow that is not there, so each of its runs says that this failed.
    "runs": {"plugins_output"},
    "seams": {"plugins_output"},
    # The release drops it from what is uploaded; master and the embedded KFP keep it, because people look for it.
    "versions": {"code_source_url"},
}
"""What the embedded KFP serves otherwise than KFP 2.17.0, on purpose."""


@pytest.fixture
def still(tmp_path: Path) -> Iterator[Serving]:
    """A server that executes nothing, as the one whose answers were recorded, with what was left on that one."""
    with serving(tmp_path) as running:
        a_run(running.caller)
        pipeline = a_pipeline(running.caller)
        for name in ("rn-0a3ae0",):
            body = {"display_name": name, "pipeline_version_reference": pipeline, "max_concurrency": "1"}
            made = running.caller.call("POST", "/recurringruns", json_body={**body, "mode": "ENABLE"})
            assert made.status == 200, made.text
        yield running


@pytest.mark.parametrize(
    "name",
    [
        *("pipelines", "versions", "bad_uploads", "seams", "experiments", "runs", "recurring_runs"),
        *("master/versions", "master/bad_uploads"),
    ],
)
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


def test_what_the_release_never_answers() -> None:
    """The files that make KFP 2.17.0 hang are refused by master, as which the embedded KFP answers."""
    hanging = {step.note for step in load("bad_uploads").steps if not step.was_answered}
    refused = {step.note: step.response["status"] for step in load("master/bad_uploads").steps if step.note in hanging}
    assert refused == {"not YAML": 400, "binary": 400}
