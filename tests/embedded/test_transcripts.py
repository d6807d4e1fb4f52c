from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.embedded.runs import a_pipeline, a_run
from tests.embedded.serving import Serving, serving
from tests.transcripts import Replayer, load

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BEYOND_KFP = ".error: added, {'code': 2, 'message': 'the embedded KFP keeps recurring runs, but starts none"


@pytest.fixture
def still(tmp_path: Path) -> Iterator[Serving]:
    """A server that executes nothing, as the one whose answers were recorded, with what was left on that one."""
    with serving(tmp_path) as running:
        a_run(running.caller)
        pipeline = a_pipeline(running.caller)
        for name in ("rn-9b06ee", "rn-aad31a"):
            body = {"display_name": name, "pipeline_version_reference": pipeline, "max_concurrency": "1"}
            made = running.caller.call("POST", "/recurringruns", json_body={**body, "mode": "ENABLE"})
            assert made.status == 200, made.text
        yield running


@pytest.mark.parametrize(
    "name", ["pipelines", "versions", "bad_uploads", "seams", "experiments", "runs", "recurring_runs"]
)
def test_replay(still: Serving, name: str) -> None:
    """The embedded KFP answers a recorded scenario as KFP did, step by step."""
    transcript = load(name)
    replayer = Replayer(still.url, transcript)
    found = [
        f"{name} step {step.number} ({step.note}){line}"
        for step in transcript.steps
        for line in replayer.differences(step)
        if not line.startswith(BEYOND_KFP)
    ]
    assert not found, "\n".join(found)
